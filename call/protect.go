package call

import (
	"errors"
	"slices"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// How a leg's audio is protected. What it can be is decided by the way of its signalling: keys in a description (SDES, RFC 4568) are
// only as safe as that, and go over TLS and WSS alone. An answer follows the offer. An offer of ours is made in the dialect that the
// device is known to take, and in the next one where it refuses:
//
//	wss        DTLS-SRTP over ICE; what takes that is never offered anything else
//	tls        as it offers itself or took last, else RTP/AVP with keys (RFC 8643); then RTP/SAVP; then in the clear
//	udp, tcp   in the clear
//
// Where nothing may be in the clear RTP/SAVP comes first: a phone that passes over the keys of RTP/AVP answers in the clear, and is asked no more.

// encrypted says whether signalling over the flow may carry keys.
func encrypted(f sip.Flow) bool { return f.Transport == "tls" || f.Transport == "wss" }

// mustEncrypt says whether no leg's audio may be in the clear.
func (b *B2BUA) mustEncrypt() bool { return b.Config.Encryption == "required" }

// reach is what a leg at the end of flow could do, to see whether an offer can be answered before there is a leg.
func (b *B2BUA) reach(flow sip.Flow) media.Local {
	r := media.Local{ICE: &media.ICE{}, Fingerprints: []media.Fingerprint{{}}, Required: b.mustEncrypt()}
	if encrypted(flow) {
		r.Crypto = media.Suites()
	}
	return r
}

// errUnsafe is why there is no audio with a device whose signalling can carry no keys.
var errUnsafe = refusal(488, "its audio cannot be encrypted, which is required (call.encryption): it has to register over TLS")

// dialectNames are the dialects by the words that stand for them in profiles.
var dialectNames = map[string]media.Security{
	"none": media.Clear, "osrtp": media.Opportunistic, "savp+avp": media.Twofold, "savp": media.SDES, "dtls": media.DTLS,
}

// dialects are the ways in which a device may be offered audio over a flow, the first to be tried first; none = it cannot be called.
func (b *B2BUA) dialects(d registrar.Device, flow sip.Flow) []media.Security {
	learnt, known := dialectNames[d.Profile[registrar.LearntSRTP]]
	keyed := []media.Security{media.Opportunistic, media.SDES, media.Clear}
	if b.mustEncrypt() {
		keyed = []media.Security{media.SDES, media.Opportunistic}
	}
	var all []media.Security
	switch {
	case flow.Transport == "wss" && known && learnt == media.DTLS:
		return []media.Security{media.DTLS}
	case flow.Transport == "wss":
		all = append([]media.Security{media.DTLS}, keyed...)
	case flow.Transport == "tls":
		all = keyed
	default:
		all, known = []media.Security{media.Clear}, false
	}
	if known {
		all = append([]media.Security{learnt}, slices.DeleteFunc(all, func(s media.Security) bool { return s == learnt })...)
	}
	if b.mustEncrypt() {
		all = slices.DeleteFunc(all, func(s media.Security) bool { return s == media.Clear })
	}
	return all
}

// dialectsTowards are those of a leg whose device calls us: what it offers says enough, and an offer of ours is made once.
func (b *B2BUA) dialectsTowards(d registrar.Device, flow sip.Flow, offer *media.Description) []media.Security {
	switch all := b.dialects(d, flow); {
	case offer != nil && offer.WebRTC():
		return []media.Security{media.DTLS}
	case offer != nil && len(all) > 0: // it says itself what it will be
		return []media.Security{media.Clear}
	default:
		return all[:min(len(all), 1)]
	}
}

// dialect is how the leg offers audio.
func (l *Leg) dialect() media.Security { return l.dialects[0] }

// browser says whether the leg's stream is one of ICE and DTLS. It can be nothing else then.
func (l *Leg) browser() bool { return l.dialect() == media.DTLS }

// otherDialect says whether a refusal may mean the way in which audio was offered: not acceptable here or anywhere, no such media type.
func otherDialect(code int) bool { return code == 488 || code == 606 || code == 415 }

// tookDialect notes how a phone that was called took the offer, where its own offers do not say it: it is encrypted, or what was
// thought of first was refused.
func (l *Leg) tookDialect() {
	if l.agreed.Security == media.Clear && !l.retried {
		return
	}
	for name, s := range dialectNames {
		if s == l.dialect() {
			l.traits.srtp = name
		}
	}
}

// able leaves of what a stream can what the leg may.
func (l *Leg) able(local media.Local) media.Local {
	local.Offers, local.Active = l.dialect(), l.agreed.Security == media.DTLS && l.agreed.Active
	local.Required = l.secret || l.browser()
	if !l.browser() && encrypted(l.dialog.Flow) {
		local.Crypto = l.stream.Crypto()
	}
	return local
}

// newOffer makes an offer of ours.
func (l *Leg) newOffer(codecs []media.Codec, dir media.Direction) media.Description {
	return media.NewOffer(l.origin, codecs, l.able(l.stream.Local()), dir)
}

// newAnswer makes our answer to an offer of the leg's phone.
func (l *Leg) newAnswer(offer media.Description, codecs []media.Codec, dir media.Direction) (media.Description, error) {
	return media.NewAnswer(l.origin, offer, codecs, l.able(l.stream.LocalFor(offer)), dir)
}

// errPlain says that an offer cannot be made: it has keys, and the phone's signalling is not encrypted any more.
var errPlain = errors.New("its keys would go over signalling that is not encrypted")

// speakable says whether a description may go over the flow.
func speakable(d media.Description, flow sip.Flow) bool {
	keyed := slices.ContainsFunc(d.Lines, func(l media.Line) bool { return len(l.Crypto) > 0 })
	return !keyed || encrypted(flow)
}
