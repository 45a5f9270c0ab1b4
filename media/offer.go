package media

import (
	"net/netip"
	"slices"
)

// NewOffer returns an offer of one audio of local, protected as local offers it. Codecs keep their order; a payload type that is taken, or
// cannot stand for another codec than its static one, is replaced by a free dynamic one.
func NewOffer(o Origin, codecs []Codec, local Local, dir Direction) Description {
	at := local.Addr
	l := Line{Kind: "audio", Proto: "RTP/AVP", Addr: at, RTCP: next(at), Direction: dir}
	l.Codecs = numbered(atSoundRates(slices.DeleteFunc(slices.Clone(codecs), Codec.nested)))
	d := Description{Origin: o, Addr: at.Addr()}
	keyed := l
	keyed.Crypto = local.Crypto
	switch local.Offers {
	case Opportunistic:
		d.Lines = []Line{keyed}
	case Twofold:
		keyed.Proto = "RTP/SAVP"
		d.Lines = []Line{keyed, l}
	case SDES:
		keyed.Proto = "RTP/SAVP"
		d.Lines = []Line{keyed}
	case DTLS:
		l.Proto = "UDP/TLS/RTP/SAVPF"
		d.Lines, d.Bundle = []Line{l.browserLine(local, "0", "actpass")}, []string{"0"}
	default:
		d.Lines = []Line{l}
	}
	return d
}

// Reoffer returns d as a new offer of these codecs, in their order. What d has already keeps its payload type, which nothing else takes:
// its meaning holds for the whole session (RFC 3264 §8.3.2). The error is ErrNoAudio or ErrNoCodec.
func (d Description) Reoffer(codecs []Codec) (Description, error) {
	l, _, ok := d.Audio()
	if !ok {
		return d, d.noAudio()
	}
	all := slices.Clone(l.Codecs)
	for _, c := range codecs {
		if !slices.ContainsFunc(all, c.Is) && !c.nested() {
			all = append(all, c)
		}
	}
	numbered(all)
	var chosen []Codec
	for _, c := range codecs {
		if at := slices.IndexFunc(all, c.Is); at >= 0 && !slices.ContainsFunc(chosen, c.Is) {
			chosen = append(chosen, all[at])
		}
	}
	if l.Codecs = atSoundRates(chosen); !hasSound(l.Codecs) {
		return d, ErrNoCodec
	}
	d.Lines = slices.Clone(d.Lines)
	for i := range d.Lines {
		if d.Lines[i].audio() { // one, or two of the same audio
			d.Lines[i].Codecs = l.Codecs
		}
	}
	return d.WithDirection(SendRecv), nil
}

// Moved returns d with what local has to say of its place by now: address, source, and with DTLS all that a new association takes
// (RFC 8842 §5.5). Codecs and keys stay.
func (d Description) Moved(local Local) Description {
	d.Addr, d.Lines = local.Addr.Addr(), slices.Clone(d.Lines)
	for i, l := range d.Lines {
		if l.Addr.Port() == 0 {
			d.Lines[i].Addr = netip.AddrPortFrom(local.Addr.Addr(), 0)
			continue
		}
		l.Addr, l.RTCP = local.Addr, next(local.Addr)
		if l.dtls() {
			l = l.browserLine(local, l.Mid, "actpass")
		}
		d.Lines[i] = l
	}
	return d
}

// Rekeyed returns d with these keys in the places of those that it had for the same suites (RFC 4568): what was sealed with the old ones is over.
func (d Description) Rekeyed(keys []Crypto) Description {
	d.Lines = slices.Clone(d.Lines)
	for i := range d.Lines {
		d.Lines[i].Crypto = slices.Clone(d.Lines[i].Crypto)
		for j, c := range d.Lines[i].Crypto {
			if k := slices.IndexFunc(keys, func(k Crypto) bool { return k.Suite == c.Suite }); k >= 0 {
				d.Lines[i].Crypto[j] = keys[k]
				d.Lines[i].Crypto[j].Tag = c.Tag
			}
		}
	}
	return d
}

// numbered gives every codec a payload type of its own.
func numbered(codecs []Codec) []Codec {
	var taken [128]bool
	for i, c := range codecs {
		s, fixed := static[c.PT]
		if c.PT < 128 && !taken[c.PT] && !(fixed && !s.Is(c)) && !(c.PT >= 64 && c.PT < 96) {
			taken[c.PT] = true
			continue
		}
		codecs[i].PT = freePT(codecs, &taken)
		taken[codecs[i].PT] = true
	}
	return codecs
}

// freePT returns a dynamic payload type (RFC 3551 §6) that no codec wants.
func freePT(codecs []Codec, taken *[128]bool) uint8 {
	for pt := uint8(96); pt < 128; pt++ {
		wanted := slices.ContainsFunc(codecs, func(c Codec) bool { return c.PT == pt })
		if !taken[pt] && !wanted {
			return pt
		}
	}
	for pt := uint8(127); pt > 34; pt-- {
		if !taken[pt] {
			return pt
		}
	}
	return 127
}

// NewAnswer answers offer (RFC 3264 §6) with those of its codecs that are in codecs, in the offer's order and with its payload types. Every
// m-line of the offer has its line in the answer; all but one audio line are refused with port 0: the best protected that local can serve,
// of equals the first. The direction is dir as far as the offer allows it. The error is ErrNoAudio, ErrSecure, ErrClear or ErrNoCodec.
func NewAnswer(o Origin, offer Description, codecs []Codec, local Local, dir Direction) (Description, error) {
	at := local.Addr
	index, security := offer.best(local)
	if index < 0 {
		return Description{}, offer.noAudio()
	}
	theirs := offer.Lines[index]
	ours := common(theirs.Codecs, codecs)
	if !hasSound(ours) {
		return Description{}, ErrNoCodec
	}
	d := Description{Origin: o, Addr: at.Addr()}
	for _, l := range offer.Lines {
		no := refused(l, at.Addr())
		if security == DTLS { // RFC 9429 §5.3.1
			no.Mid = l.Mid
		}
		d.Lines = append(d.Lines, no)
	}
	answer := Line{
		Kind: theirs.Kind, Proto: theirs.Proto, Addr: at, RTCP: next(at), Codecs: ours,
		Direction: dir.and(theirs.willing().Reverse()), Ptime: theirs.Ptime, RTCPMux: theirs.RTCPMux,
	}
	switch security {
	case SDES:
		c, _ := chooseCrypto(theirs.Crypto, local.Crypto)
		answer.Crypto = []Crypto{c}
	case DTLS:
		answer = answer.browserLine(local, theirs.Mid, theirs.roleTowards(local.Active))
		if slices.Contains(offer.Bundle, theirs.Mid) {
			d.Bundle = []string{theirs.Mid}
		}
	}
	d.Lines[index] = answer
	return d, nil
}

// best returns the index of the audio line of an offer that local answers, and how it is protected; -1 = none.
func (d Description) best(local Local) (index int, security Security) {
	index = -1
	for i, l := range d.Lines {
		if s, ok := l.security(local); ok && l.audio() && (index < 0 || s > security) {
			index, security = i, s
		}
	}
	return index, security
}

// security is how an offered line is protected if it is local who answers; false: it cannot be taken.
func (l Line) security(local Local) (Security, bool) {
	_, keys := chooseCrypto(l.Crypto, local.Crypto)
	switch {
	case l.dtls() && l.RTCPMux && local.ICE != nil && len(local.Fingerprints) > 0:
		return DTLS, true
	case keys:
		return SDES, true
	}
	return Clear, !l.secure() && !local.Required
}

// common returns the codecs of offer that are in codecs, in offer's order and with the parameters of codecs. Of PCMU and PCMA the one that
// stands first in codecs comes first: it is the one that need not be converted.
func common(offer, codecs []Codec) []Codec {
	pairs := match(offer, codecs)
	slices.SortFunc(pairs, func(a, b pair) int { return a.offer - b.offer })
	var out []Codec
	for _, p := range pairs {
		c := offer[p.offer]
		c.Fmtp = p.fmtp
		out = append(out, c)
	}
	mu, a := slices.IndexFunc(out, pcmu.Is), slices.IndexFunc(out, pcma.Is)
	if mu >= 0 && a >= 0 && (mu < a) != (slices.IndexFunc(codecs, pcmu.Is) < slices.IndexFunc(codecs, pcma.Is)) {
		out[mu], out[a] = out[a], out[mu]
	}
	return atSoundRates(out)
}

// refused is a line's answer with port 0 (RFC 3264 §6).
func refused(l Line, at netip.Addr) Line {
	return Line{Kind: l.Kind, Proto: l.Proto, Addr: netip.AddrPortFrom(at, 0), Formats: l.formats(), Direction: Inactive}
}

// next is where RTCP lives unless something else is said (RFC 3550 §11).
func next(at netip.AddrPort) netip.AddrPort {
	if at.Port() == 0 || at.Port() == 0xffff {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(at.Addr(), at.Port()+1)
}

// Agreement is what an offer and its answer come to, seen by the local side: where the peer wants RTP and RTCP, the codecs to send with the
// peer's payload types and to receive with ours, in the peer's order.
type Agreement struct {
	Remote     netip.AddrPort `json:"remote"`
	RemoteRTCP netip.AddrPort `json:"remote_rtcp"`
	Send       []Codec        `json:"send"`
	Recv       []Codec        `json:"recv"`
	Direction  Direction      `json:"direction"` // ours
	Ptime      int            `json:"ptime,omitempty"`

	Security     Security      `json:"security,omitempty"` // Clear, SDES or DTLS
	In           Crypto        `json:"in,omitzero"`        // SDES: the peer's key
	Out          Crypto        `json:"out,omitzero"`       // and ours
	Mux          bool          `json:"mux,omitempty"`      // RTCP comes and goes with RTP (RFC 5761)
	ICE          ICE           `json:"ice,omitzero"`       // the peer's
	Fingerprints []Fingerprint `json:"fingerprints,omitempty"`
	Active       bool          `json:"active,omitempty"` // we begin the DTLS handshake (RFC 5763 §5)
}

// Agree says what local and remote come to; either may be the offer. The error is ErrNoAudio, ErrSecure or ErrNoCodec.
func Agree(local, remote Description) (Agreement, error) {
	ours, theirs, err := commonLine(local, remote)
	if err != nil {
		return Agreement{}, err
	}
	a := Agreement{Remote: theirs.Addr, RemoteRTCP: theirs.RTCP, Ptime: theirs.Ptime}
	if err = a.protect(ours, theirs); err != nil {
		return Agreement{}, err
	}
	if a.Mux = ours.RTCPMux && theirs.RTCPMux || a.Security == DTLS; a.Mux {
		a.RemoteRTCP = theirs.Addr
	}
	a.Direction = ours.Direction.and(theirs.willing().Reverse())
	for _, p := range match(ours.Codecs, theirs.Codecs) {
		a.Recv = append(a.Recv, ours.Codecs[p.offer])
	}
	for _, c := range theirs.Codecs {
		if slices.ContainsFunc(a.Recv, c.Is) {
			a.Send = append(a.Send, c)
		}
	}
	if !hasSound(a.Recv) {
		return Agreement{}, ErrNoCodec
	}
	return a, nil
}

// commonLine finds the audio line that neither has refused: of two of the same audio the answer leaves one.
func commonLine(local, remote Description) (ours, theirs Line, err error) {
	if _, _, ok := local.Audio(); !ok {
		return ours, theirs, local.noAudio()
	}
	for i, l := range local.Lines[:min(len(local.Lines), len(remote.Lines))] {
		if l.audio() && remote.Lines[i].audio() {
			return l, remote.Lines[i], nil
		}
	}
	return ours, theirs, ErrNoAudio
}

// protect says how two lines that are each other's offer and answer are protected, and takes the keys. What was to be protected never is
// not: a peer that answers SRTP in the clear is not understood.
func (a *Agreement) protect(ours, theirs Line) error {
	if ours.dtls() && theirs.dtls() {
		a.Security, a.ICE, a.Fingerprints, a.Active = DTLS, *theirs.ICE, theirs.Fingerprints, ours.begins(theirs)
		return nil
	}
	out, in, ok := pairCrypto(ours.Crypto, theirs.Crypto)
	switch {
	case ok:
		a.Security, a.Out, a.In = SDES, out, in
	case ours.secure() || theirs.secure() || len(ours.Crypto) > 0 && theirs.Keyed:
		return ErrSecure
	}
	return nil
}

// Straight returns d as an offer that has the peer's audio go straight to whom other describes, in these codecs, and its RTCP to control (RFC 3605).
// Payload types stay those of d. The error is ErrNoAudio or ErrNoCodec.
func (d Description) Straight(other Description, codecs []Codec, control netip.AddrPort) (Description, error) {
	to, _, ok := other.Audio()
	if !ok {
		return d, other.noAudio()
	}
	d, err := d.Reoffer(codecs)
	if err != nil {
		return d, err
	}
	for i, l := range d.Lines {
		if l.audio() {
			l.Addr, l.RTCP = to.Addr, control
			d.Lines[i] = l
		}
	}
	return d, nil
}

// Controlled returns d with its RTCP at another address.
func (d Description) Controlled(control netip.AddrPort) Description {
	d.Lines = slices.Clone(d.Lines)
	for i, l := range d.Lines {
		if l.audio() {
			d.Lines[i].RTCP = control
		}
	}
	return d
}

// Home returns d with its audio at a stream of ours again, and its RTCP with it.
func (d Description) Home(at netip.AddrPort) Description {
	d.Addr, d.Lines = at.Addr(), slices.Clone(d.Lines)
	for i, l := range d.Lines {
		if l.audio() {
			d.Lines[i].Addr, d.Lines[i].RTCP = at, next(at)
		}
	}
	return d
}
