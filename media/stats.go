package media

import "time"

// SpliceReport is what the last switch of a stream's source came to, seen by its peer.
type SpliceReport struct {
	At         time.Time     `json:"at"`          // when the new source's first packet was sent; zero = no switch yet
	Gap        time.Duration `json:"gap"`         // longest time between two packets sent, from 100 ms before to 500 ms after
	Lost       int           `json:"lost"`        // frame slots skipped
	Overlap    time.Duration `json:"overlap"`     // how long both sources were heard
	FirstHeard time.Time     `json:"first_heard"` // first packet of the new source
}

// Stats are the counters of one stream.
type Stats struct {
	Local  string `json:"local"`
	Remote string `json:"remote"`
}
