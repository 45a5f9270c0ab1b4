package media

import (
	"fmt"
	"net/netip"
	"time"
)

// A stream can go on in another process at the same address (docs/failures.md): its place says where it stands. What is written of it is older
// than what was sent last, by seconds. The line therefore goes on ahead of all that can have been sent since by the clock:
//
//	sequence number   as written + packets that fit into the time since + 100; a forward jump of some hundred numbers, which a receiver
//	                  takes for loss (RFC 3550 A.1), and far from the 2^15 at which it would count as old
//	timestamp         true to the clock, as if there had been a pause without packets
//	SSRC, CNAME       the same
//
// With SDES the keys stay and the SSRC is a new one, so that no index is sealed twice whatever was written. A browser would be silenced by an SSRC
// that nobody has told it of: it keeps that too, with its ICE credentials, its way and its keys, and the indexes go on with far more head-room (by
// 20 s of packets, and as many reports as were sent in hours).

// Place is where a stream of its own port pair stands. It is a plain value.
type Place struct {
	Written time.Time      `json:"written"`
	Port    uint16         `json:"port"` // of RTP; RTCP has the next
	SSRC    uint32         `json:"ssrc"`
	CNAME   string         `json:"cname"`
	Seq     uint16         `json:"seq"`         // sent last
	TS      uint32         `json:"ts"`          // of the last frame sent
	At      time.Time      `json:"at,omitzero"` // when that was due; zero = nothing was sent
	Rate    uint32         `json:"rate,omitempty"`
	Frame   uint32         `json:"frame,omitempty"` // ticks between packets
	Sent    uint64         `json:"sent,omitempty"`
	Octets  uint64         `json:"octets,omitempty"`
	Source  netip.AddrPort `json:"source,omitzero"`  // that was latched
	Control netip.AddrPort `json:"control,omitzero"` // where RTCP came from, on its own port
	Browser *Browser       `json:"browser,omitempty"`
}

// Fresh says that a stream can go on from here without the risk that what it sends was sealed before. One without SRTP, or with SDES, always can.
func (p *Place) Fresh() bool {
	return p.Browser == nil || time.Since(p.Written) < freshFor && time.Since(p.Written) > -sealedSlack
}

// Browser is what a WebRTC peer and the stream have agreed on beside their descriptions.
type Browser struct {
	Ufrag string `json:"ufrag"` // our ICE credentials
	Pwd   Secret `json:"pwd"`
	Their string `json:"their"` // the peer's ufrag
	In    Crypto `json:"in"`    // the keys of the DTLS handshake
	Out   Crypto `json:"out"`
}

// Resumption is what a stream goes on with that another process has begun.
type Resumption struct {
	Place Place
	SRTP  *Standing // nil = it had none
	Key   Crypto    // ours, of SDES
}

const (
	headRoom  = 100     // packets that a source may be ahead of the clock
	mostAhead = 1 << 13 // numbers: no record of a call that talks is older

	sealedRoom  = 1000             // of a browser's leg
	sealedSlack = 10 * time.Second // by which the clock may have been set back
	freshFor    = time.Minute      // mostAhead is 160 s
	reportRoom  = 10_000
)

// Place says where the stream stands; nil for one of WebRTC that has no keys yet: it begins anew in another process.
func (s *Stream) Place() *Place {
	p := s.line.place()
	p.CNAME = s.ctrl.cname
	if s.ice != nil {
		return s.ice.place(p)
	}
	p.Port = s.endpoint.Port()
	if at := s.ear.latch.source.Load(); at != nil {
		p.Source = at.from
	}
	s.ctrl.mu.Lock()
	defer s.ctrl.mu.Unlock()
	p.Control = s.ctrl.source
	return p
}

func (a *agent) place(p *Place) *Place {
	b := a.dtls.place()
	if b == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b.Ufrag, b.Pwd, b.Their = a.cur.ufrag, Secret(a.cur.pwd), a.cur.their
	if out := a.out.Load(); out != nil && out.tcp == nil {
		p.Source = out.remote
	}
	p.Browser = b
	return p
}

func (d *association) place() *Browser {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made == nil || !d.used {
		return nil
	}
	return &Browser{In: d.made.in, Out: d.made.out}
}

func (l *line) place() *Place {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settle()
	p := &Place{Written: time.Now(), SSRC: l.ssrc.Load(), Seq: l.seq, TS: l.ts, Sent: l.sent.Load(), Octets: l.octets.Load()}
	if l.started {
		p.At, p.Rate, p.Frame = p.Written.Add(l.due-l.stream.engine.clock()), l.rate, l.frame // by the clock of now: it may have been set since the start
	}
	return p
}

// resume takes over what another process has begun, before the stream has sockets.
func (s *Stream) resume(r *Resumption) {
	s.resumed = &r.Place
	s.ctrl.cname = r.Place.CNAME
	if r.Key.Usable() {
		s.ownKeys()
		s.guards.keep(r.Key)
	}
	switch {
	case r.SRTP == nil:
		s.ctrl.resumed = true
		s.line.resume(r.Place, headRoom)
	case r.Place.Browser != nil:
		s.guards.before = *r.SRTP
		s.goOnSealed(r.Place, *r.SRTP)
	default:
		s.guards.before = *r.SRTP
	}
}

// goOnSealed has line and sealer go on at the same index.
func (s *Stream) goOnSealed(p Place, at Standing) {
	s.ctrl.resumed = true
	p.Seq = uint16(at.Sealed) // as it was when the keys were looked at
	ahead := s.line.resume(p, sealedRoom)
	done := false
	s.guards.goesOn = func(k *sealer) {
		if !done && k.crypto.same(p.Browser.Out) {
			done = true
			k.startAt(p.SSRC, at.Sealed+ahead, at.RTCP+reportRoom)
		}
	}
}

// resume goes on with a line ahead of all that can have been sent, and says by how many numbers.
func (l *line) resume(p Place, room int64) (ahead uint64) {
	l.ssrc.Store(p.SSRC)
	l.sent.add(p.Sent)
	l.octets.add(p.Octets)
	rate, frame := p.Rate, p.Frame
	if p.At.IsZero() || rate == 0 || frame == 0 { // it may have begun since, with any codec: ahead of the fastest
		rate, frame = 48000, 960
	}
	age := ticks(max(time.Since(p.Written), 0), rate)
	ahead = uint64(min(age/int64(frame), mostAhead) + room)
	l.seq, l.ts = p.Seq+uint16(ahead), p.TS
	if p.At.IsZero() {
		l.ts += uint32(age)
		return ahead
	}
	l.started, l.rate, l.frame = true, rate, frame
	l.due = l.stream.engine.clock() - max(time.Since(p.At), 0)
	l.at = l.due
	return ahead
}

// latchAgain believes the source that the other process had latched, with the first terms, and gives that of RTCP; under engine.mu, before the
// path is there.
func (s *Stream) latchAgain() (control netip.AddrPort) {
	p := s.resumed
	s.resumed = nil
	if p == nil || s.ice != nil {
		return control
	}
	if p.Source.IsValid() {
		l := &s.ear.latch
		l.terms, l.from, l.rank, l.last = s.terms, p.Source, s.terms.rankOf(p.Source), s.terms.at
		l.source.Store(&latched{p.Source, s.terms})
	}
	return p.Control
}

func (c *ctrl) latchAgain(source netip.AddrPort) {
	if !source.IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.source = source
}

// keep makes a key of ours the one that is announced for its suite.
func (g *guards) keep(key Crypto) {
	for i := range g.own {
		if g.own[i].Suite == key.Suite {
			g.own[i] = key
		}
	}
}

// bindAt binds a certain port pair.
func (e *Engine) bindAt(s *Stream, home netip.Addr, port uint16) error {
	if err := e.takeThis(port); err != nil {
		return err
	}
	err := e.listenPair(s, home, port)
	if err != nil {
		e.mu.Lock()
		delete(e.ports.until, port)
		e.mu.Unlock()
	}
	return err
}

func (e *Engine) takeThis(port uint16) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if until, known := e.ports.until[port]; port == 0 || port == 0xffff || known && until > e.clock() {
		return fmt.Errorf("%w: port %d is in use", ErrNoPorts, port)
	}
	e.ports.until[port] = forever
	return nil
}

// Ended is a stream that has ended before it began: of a leg that is remembered and has no phone any more.
func (e *Engine) Ended() *Stream {
	s := newStream(e, StreamOptions{})
	s.closed = true
	s.line.close()
	close(s.done)
	return s
}

// HandOver leaves the stream for another process to go on with: it runs on until the engine ends, and its peer is told nothing then.
func (s *Stream) HandOver() {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.handed = true
}
