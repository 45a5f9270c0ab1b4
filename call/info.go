package call

import (
	"time"

	"baton/media"
)

// Info is what people and programs are shown of a live call.
type Info struct {
	ID       string     `json:"id"` // 8 characters, can be abbreviated
	State    string     `json:"state"`
	Started  time.Time  `json:"started"`
	Up       *time.Time `json:"answered,omitempty"`
	Seats    []SeatInfo `json:"seats"`
	Moves    []MoveInfo `json:"moves"`
	Ways     []Way      `json:"ways,omitempty"`      // from each seat to each other, as far as it is measured
	Media    string     `json:"media"`               // direct: straight between the devices; relay: through the node
	MediaWhy string     `json:"media_why,omitempty"` // why it is relayed

	Unsafe bool   `json:"unsafe,omitempty"` // the store has not taken its newest record
	Node   string `json:"node,omitempty"`   // whose it is, in a cluster
}

// SeatInfo is a user's place in a call and the leg that holds it.
type SeatInfo struct {
	User   string    `json:"user"`   // name of the user
	Number string    `json:"number"` // as shown to the others
	Name   string    `json:"name"`
	Empty  bool      `json:"empty,omitempty"`
	Lost   bool      `json:"lost,omitempty"` // it is empty because its device was lost
	Legs   []LegInfo `json:"legs"`           // the one that holds it first; more while ringing or moving
}

// LegInfo is one dialog and its media.
type LegInfo struct {
	ID      string      `json:"id"`
	Device  string      `json:"device"` // device name
	Index   int         `json:"index"`
	State   string      `json:"state"`
	Held    bool        `json:"held,omitempty"`    // the phone has put the call on hold
	Listens bool        `json:"listens,omitempty"` // a companion: it hears both sides and is muted
	Remote  string      `json:"remote"`            // signalling address
	Codecs  []string    `json:"codecs"`
	Secure  string      `json:"secure"` // how its audio is encrypted: none, sdes, dtls
	Via     string      `json:"via"`    // which way its audio reaches the node: udp (also what a TURN relay sends on), tcp (ICE-TCP)
	Stats   media.Stats `json:"stats"`

	Report *media.Report `json:"report,omitempty"` // what the device itself tells, nil = nothing yet

	// Estimates of this leg alone, as if its other end were at the node; nil = not measured yet.
	In  *media.Quality `json:"in_quality,omitempty"`  // what the device says
	Out *media.Quality `json:"out_quality,omitempty"` // what the device hears
}

// Way is what one seat's user hears of another, from mouth to ear: the best that is known, and what that is taken from.
type Way struct {
	From string `json:"from"` // user
	To   string `json:"to"`
	media.Quality
	By     string         `json:"by"`               // what the figures above are: device, or node where there is no such
	Node   *media.Quality `json:"node,omitempty"`   // by what the node has measured, nil = not enough
	Device *media.Quality `json:"device,omitempty"` // by what the devices themselves tell, nil = not enough
}

// MoveInfo is one move of a seat, done or failed.
type MoveInfo struct {
	At     time.Time   `json:"at"`
	User   string      `json:"user"`
	From   string      `json:"from"`
	To     string      `json:"to"`
	How    string      `json:"how"` // refer, pull, cli, api
	Who    string      `json:"who"`
	Error  string      `json:"error,omitempty"`
	Report *MoveReport `json:"report,omitempty"`
}

// MoveReport holds the figures of one move; times in milliseconds. Far is what the far side received, Near what
// the user's devices received.
type MoveReport struct {
	Call          string  `json:"call"`
	User          string  `json:"user"`
	From          string  `json:"from"`
	To            string  `json:"to"`
	SwitchMS      float64 `json:"switch_ms"`       // trigger → both directions on the new device, less ringing
	RingMS        float64 `json:"ring_ms"`         // how long the new device rang
	AnswerToMedia float64 `json:"answer_to_media"` // 2xx → both directions on the new device
	HeldMS        float64 `json:"held_ms"`         // how long the old phone had the call on hold before the move
	OverlapMS     float64 `json:"overlap_ms"`      // both devices were connected
	AlignMS       float64 `json:"align_ms"`        // of that, how long a phone was asked for another codec
	Far           Gap     `json:"far"`
	Near          Gap     `json:"near"`
}

// Gap is the longest silence of one direction round the switch, and what it lost.
type Gap struct {
	GapMS float64 `json:"gap_ms"`
	Lost  int     `json:"lost"`
}
