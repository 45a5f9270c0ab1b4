package media

import (
	"slices"
	"strings"
)

// Codec is one payload format as in an rtpmap line (RFC 8866 §6.6): Name is the encoding name ("PCMU", "opus", "telephone-event"), Rate
// the RTP clock in Hz, Channels 0 or 1 for mono.
type Codec struct {
	Name     string `json:"name"`
	Rate     int    `json:"rate"`
	Channels int    `json:"channels,omitempty"`
	PT       uint8  `json:"pt"`
	Fmtp     string `json:"fmtp,omitempty"`
}

var (
	opus = Codec{Name: "opus", Rate: 48000, Channels: 2, PT: 96, Fmtp: "useinbandfec=1"} // RFC 7587
	g722 = Codec{Name: "G722", Rate: 8000, PT: 9}                                        // its clock is 8000 by RFC 3551 §4.5.2
	pcmu = Codec{Name: "PCMU", Rate: 8000, PT: 0}
	pcma = Codec{Name: "PCMA", Rate: 8000, PT: 8}
	dtmf = Codec{Name: "telephone-event", Rate: 8000, PT: 101, Fmtp: "0-16"} // RFC 4733

	wideDTMF = Codec{Name: "telephone-event", Rate: 48000, PT: 102, Fmtp: "0-16"} // beside opus
)

// Known returns everything baton offers by itself, the best first, with default payload types.
func Known() []Codec {
	return []Codec{opus, g722, pcmu, pcma, dtmf, wideDTMF}
}

// static are the payload types that need no rtpmap (RFC 3551 §6).
var static = map[uint8]Codec{
	0:  pcmu,
	3:  {Name: "GSM", Rate: 8000},
	4:  {Name: "G723", Rate: 8000},
	5:  {Name: "DVI4", Rate: 8000},
	6:  {Name: "DVI4", Rate: 16000},
	7:  {Name: "LPC", Rate: 8000},
	8:  pcma,
	9:  g722,
	10: {Name: "L16", Rate: 44100, Channels: 2},
	11: {Name: "L16", Rate: 44100},
	12: {Name: "QCELP", Rate: 8000},
	13: {Name: "CN", Rate: 8000},
	15: {Name: "G728", Rate: 8000},
	16: {Name: "DVI4", Rate: 11025},
	17: {Name: "DVI4", Rate: 22050},
	18: {Name: "G729", Rate: 8000},
}

// Is says whether c and o are the same payload format: name, clock and channels; PT and fmtp are a leg's own.
func (c Codec) Is(o Codec) bool {
	return c.Rate == o.Rate && max(c.Channels, 1) == max(o.Channels, 1) && strings.EqualFold(c.Name, o.Name)
}

// event says whether c is telephone-event.
func (c Codec) event() bool { return strings.EqualFold(c.Name, "telephone-event") }

// noise says whether c is comfort noise (RFC 3389).
func (c Codec) noise() bool { return strings.EqualFold(c.Name, "CN") }

// nested says whether c's payload or fmtp names other payload types, so that it cannot be carried between legs with different ones.
func (c Codec) nested() bool {
	return strings.EqualFold(c.Name, "red") || strings.EqualFold(c.Name, "ulpfec") || strings.EqualFold(c.Name, "rtx")
}

// sound says whether c carries speech by itself.
func (c Codec) sound() bool { return !c.event() && !c.noise() && !c.nested() }

func hasSound(c []Codec) bool { return slices.ContainsFunc(c, Codec.sound) }

// WithG711 returns c with PCMA behind a PCMU that stands alone and vice versa: the two are converted by table.
func WithG711(c []Codec) []Codec {
	mu, a := slices.IndexFunc(c, pcmu.Is), slices.IndexFunc(c, pcma.Is)
	switch {
	case mu >= 0 && a < 0:
		return slices.Insert(slices.Clone(c), mu+1, pcma)
	case a >= 0 && mu < 0:
		return slices.Insert(slices.Clone(c), a+1, pcmu)
	}
	return slices.Clone(c)
}

// WithKeys returns c with telephone-event for each clock of its audio codecs, if it has none: for a peer that is told keys otherwise.
func WithKeys(c []Codec) []Codec {
	if slices.ContainsFunc(c, Codec.event) {
		return slices.Clone(c)
	}
	return atSoundRates(append(slices.Clone(c), dtmf, wideDTMF))
}

// Carries says whether c contains one, directly or by the G.711 table.
func Carries(c []Codec, one Codec) bool {
	return !one.nested() && slices.ContainsFunc(WithG711(c), one.Is)
}

// Sound returns the codecs of c that carry speech.
func Sound(c []Codec) []Codec {
	return slices.DeleteFunc(slices.Clone(c), func(one Codec) bool { return !one.sound() })
}

// Merge returns c and behind it what known has beyond it.
func Merge(c, known []Codec) []Codec {
	all := slices.Clone(c)
	for _, k := range known {
		if !slices.ContainsFunc(all, k.Is) {
			all = append(all, k)
		}
	}
	return all
}

// Names lists the codecs that carry speech for people: "opus, PCMU".
func Names(c []Codec) string {
	var names []string
	for _, k := range Sound(c) {
		names = append(names, k.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Select returns the codecs of offer that allowed carries, in allowed's order and with offer's payload types; a telephone-event or comfort
// noise stays only for a clock rate that an audio codec of the result has. Parameters (fmtp) are those of allowed, which says what the
// other side wants to receive.
func Select(offer, allowed []Codec) []Codec {
	var out []Codec
	for _, m := range match(offer, WithG711(allowed)) {
		c := offer[m.offer]
		c.Fmtp = m.fmtp
		out = append(out, c)
	}
	return atSoundRates(out)
}

// pair is an allowed codec found in an offer.
type pair struct {
	offer int    // index in the offer
	fmtp  string // of the allowed one
}

// match finds each allowed codec in the offer, in allowed's order; where the offer has one twice, the one with the same parameters is meant.
func match(offer, allowed []Codec) []pair {
	var out []pair
	taken := make([]bool, len(offer))
	for _, want := range allowed {
		at := -1
		for i, c := range offer {
			if taken[i] || c.nested() || !c.Is(want) {
				continue
			}
			if at < 0 || c.Fmtp == want.Fmtp {
				at = i
			}
			if c.Fmtp == want.Fmtp {
				break
			}
		}
		if at >= 0 {
			taken[at] = true
			out = append(out, pair{at, want.Fmtp})
		}
	}
	return out
}

// atSoundRates drops telephone-event and comfort noise whose clock no audio codec of c has: they share the SSRC and so the clock of the
// audio (RFC 4733 §2.1).
func atSoundRates(c []Codec) []Codec {
	return slices.DeleteFunc(c, func(one Codec) bool {
		return !one.sound() && !slices.ContainsFunc(c, func(a Codec) bool { return a.sound() && a.Rate == one.Rate })
	})
}
