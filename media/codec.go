package media

// Codec is one payload format as in an rtpmap line (RFC 8866 §6.6): Name is the encoding name ("PCMU", "opus", "telephone-event"), Rate
// the RTP clock in Hz, Channels 0 or 1 for mono.
type Codec struct {
	Name     string `json:"name"`
	Rate     int    `json:"rate"`
	Channels int    `json:"channels,omitempty"`
	PT       uint8  `json:"pt"`
	Fmtp     string `json:"fmtp,omitempty"`
}

// Known returns everything baton offers by itself, the best first, with default payload types.
func Known() []Codec { return nil }

// WithG711 returns c with PCMA behind a PCMU that stands alone and vice versa: the two are converted by table.
func WithG711(c []Codec) []Codec { return c }

// Carries says whether c contains one, directly or by the G.711 table.
func Carries(c []Codec, one Codec) bool { return false }

// Select returns the codecs of offer that allowed carries, in allowed's order and with offer's payload types; a telephone-event stays only
// for a clock rate that an audio codec of the result has.
func Select(offer, allowed []Codec) []Codec { return nil }
