package media

import (
	"crypto/rand"
	"slices"
	"time"
)

// Which guard a stream has. A stream that has agreed to be protected and has no keys takes nothing and sends nothing: it never falls back to
// plain RTP. The peer may change its key with any offer or answer; what it has sealed with the one before is believed for a second. Ours
// changes only if the peer chooses another suite. No key is forgotten while the stream lives: one that comes back goes on where it stopped,
// so that what was heard with it is a replay still, and no index is sealed twice.

const (
	rekeying = time.Second // in which packets of the key before are still on their way
	maxKeys  = 8           // remembered of either side
)

// preferred are our suites, the cheapest first: GCM costs a third of HMAC-SHA1.
var preferred = []string{"AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"}

// guards are a stream's; guarded by engine.mu.
type guards struct {
	opener  *opener
	sealer  *sealer
	inbound []*inbound // all that there were, the newest last
	sealers []*sealer
	own     []Crypto      // what Local announces
	before  Standing      // of the process that had the leg before
	goesOn  func(*sealer) // has the first sealer of a browser's leg go on behind what that has sealed
}

// Standing is where a leg's SRTP stands, so that another process can go on with its keys: it is right for as long as no source
// counts over twice, which takes 20 minutes at the least.
type Standing struct {
	In   []Rollover `json:"in,omitempty"`   // of the peer's sources
	Out  Rollover   `json:"out"`            // of ours
	RTCP uint32     `json:"rtcp,omitempty"` // our SRTCP index

	Sealed uint64 `json:"sealed,omitempty"` // index of our newest packet (RFC 3711 §3.3.1)
}

// Standing says where the stream's SRTP stands; nil = it has none.
func (s *Stream) Standing() *Standing {
	s.engine.mu.Lock()
	o, k := s.guards.opener, s.guards.sealer
	s.engine.mu.Unlock()
	if o == nil || k == nil {
		return nil
	}
	st := &Standing{In: o.cur.rolled(), Out: Rollover{SSRC: s.line.ssrc.Load()}}
	st.Sealed, st.RTCP = k.stands(s.line.ssrc.Load())
	st.Out.ROC = uint32(st.Sealed >> 16)
	return st
}

// Resume tells a stream, before its first Apply, where the SRTP of its leg stood in another process. Its own numbers begin anew, as the
// stream's SSRC does: with another SSRC no index is used twice.
func (s *Stream) Resume(at Standing) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.guards.before = at
}

// keys are the stream's own, one for each suite, made at first use and kept for life; under engine.mu.
func (s *Stream) ownKeys() []Crypto {
	g := &s.guards
	if g.own == nil {
		for i, name := range preferred {
			key := make([]byte, suites[name].key+suites[name].salt)
			_, _ = rand.Read(key) // never fails
			g.own = append(g.own, Crypto{Tag: i + 1, Suite: name, Key: key})
		}
	}
	return slices.Clone(g.own)
}

// agreeOn takes what was agreed about protection; under engine.mu, before the path is made anew. The keys of DTLS come of its handshake (dtls.go).
func (s *Stream) agreeOn(a Agreement) {
	switch a.Security {
	case SDES:
		if err := s.useKeys(a.In, a.Out); err != nil {
			s.engine.log.Error("SRTP keys", "local", s.endpoint, "err", err)
			s.guards.opener, s.guards.sealer = nil, nil
		}
	case DTLS:
	default:
		s.guards.opener, s.guards.sealer = nil, nil
	}
}

// rekeyed has the packet path take the guards that there are now; under engine.mu.
func (s *Stream) rekeyed() {
	if s.terms != nil {
		s.rebuild()
		s.line.apply(s.terms, s.guards.sealer)
		s.ctrl.apply(s.terms, s.guards)
	}
}

// useKeys is both or nothing.
func (s *Stream) useKeys(in, out Crypto) error {
	g := &s.guards
	o, err := g.openerFor(in, s.engine.clock()+rekeying)
	if err != nil {
		return err
	}
	k, err := g.sealerFor(out)
	if err != nil {
		return err
	}
	g.opener, g.sealer = o, k
	return nil
}

// openerFor is the present opener if the peer's key is, else one that takes the key before until then.
func (g *guards) openerFor(in Crypto, until time.Duration) (*opener, error) {
	if g.opener != nil && g.opener.cur.crypto.same(in) {
		return g.opener, nil
	}
	k, err := g.inboundFor(in)
	if err != nil {
		return nil, err
	}
	o := &opener{cur: k}
	k.expect(g.before.In)
	if g.opener != nil {
		o.old, o.until = g.opener.cur, until
		k.expect(o.old.rolled())
	}
	return o, nil
}

func (g *guards) inboundFor(in Crypto) (*inbound, error) {
	if i := slices.IndexFunc(g.inbound, func(k *inbound) bool { return k.crypto.same(in) }); i >= 0 {
		return g.inbound[i], nil
	}
	k, err := newInbound(in)
	if err != nil {
		return nil, err
	}
	g.inbound = lastOf(append(g.inbound, k))
	return k, nil
}

// sealerFor is the present sealer if our key is; one that comes back knows that numbers have gone by meanwhile.
func (g *guards) sealerFor(out Crypto) (*sealer, error) {
	if g.sealer != nil && g.sealer.crypto.same(out) {
		return g.sealer, nil
	}
	if i := slices.IndexFunc(g.sealers, func(k *sealer) bool { return k.crypto.same(out) }); i >= 0 {
		g.sealers[i].resume()
		return g.sealers[i], nil
	}
	k, err := newSealer(out)
	if err != nil {
		return nil, err
	}
	if g.goesOn != nil {
		g.goesOn(k)
	}
	g.sealers = lastOf(append(g.sealers, k))
	return k, nil
}

func lastOf[T any](all []T) []T { return all[max(0, len(all)-maxKeys):] }

// resume tells that packets may have been sent since that were not sealed with this key.
func (s *sealer) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.jumps = true
}

// stands returns the indexes of the packet sealed last, and of the last SRTCP packet.
func (s *sealer) stands(ssrc uint32) (rtp uint64, rtcp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rtcp, _ = s.ctx.Index(ssrc)
	return s.index.highest, rtcp
}

// startAt has the sealer go on behind these indexes.
func (s *sealer) startAt(ssrc uint32, rtp uint64, rtcp uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = index{any: true, highest: rtp, recent: ^uint64(0)}
	s.ctx.SetIndex(ssrc, rtcp)
}
