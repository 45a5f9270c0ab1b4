package media

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"
)

// StreamOptions says whom a stream is for.
type StreamOptions struct {
	Peer    netip.Addr         // signalling IP of the device
	WebRTC  bool               // ICE and DTLS on the port that all such streams share, instead of a port pair
	OnHeard func(at time.Time) // once per Apply, at the first packet from the negotiated or latched source; must not block

	// OnConsentLost is told when the last way to a WebRTC peer has gone: its connection was closed, or no valid check came for 30 s. Nothing is
	// sent any more until one comes. It must not block.
	OnConsentLost func(at time.Time)

	// Resume is what the stream goes on with that another process has begun, on the same port if that is free; nil = it begins.
	Resume *Resumption

	// OnKey is told of each key that the peer has sent as telephone-event, with the clock rate of that, if it could not be passed to every
	// stream that this one is fed to; must not block.
	OnKey func(k Key, rate int)
}

// Stream is one audio stream of one leg: a port pair, an ear for the peer's packets and one unbroken outgoing line.
type Stream struct {
	// set once
	engine    *Engine
	rtp, rtcp conn
	endpoint  netip.AddrPort
	ice       *agent // of a WebRTC stream, and then its sockets too; nil = it has a port pair

	path atomic.Pointer[path] // all that receive needs to know; replaced whole, nil until Apply
	told atomic.Pointer[told] // who is told what was heard; replaced whole
	lost atomic.Pointer[func(time.Time)]

	ear  ear           // what is heard: owned by the reader of the RTP socket, its figures by anybody
	line line          // what is sent
	done chan struct{} // closed with the stream
	ctrl ctrl          // RTCP

	watchman watchman // who looks when the peer falls silent

	past      atomic.Pointer[Stream] // whose peer hears this one straight; nil = nobody's
	elsewhere atomic.Bool            // its peer's sound goes by a connection of the peer's own that leads elsewhere
	under     atomic.Int32           // streams whose peers this one's hears straight
	straight  atomic.Uint32          // the source that it hears so

	// guarded by engine.mu
	peer    netip.Addr
	terms   *terms
	guards  guards
	sinks   []*Stream
	feeders []*Stream // the streams that have this one among their sinks
	player  *player   // of the last tone
	closed  bool
	mixer   *mixer           // what it sends, if that is a mix
	taps    map[*mixer]*pool // of the mixes that it is part of
	aside   bool             // nobody follows it yet
	leaves  bool             // another stream has taken its place
	handed  bool             // another process goes on with it
	resumed *Place           // where another process had it, until the first Apply
}

// told is who is told of what the packet path hears.
type told struct {
	heard func(time.Time)
	key   func(Key, int)
}

func newStream(e *Engine, o StreamOptions) *Stream {
	s := &Stream{engine: e, peer: o.Peer.Unmap().WithZone(""), done: make(chan struct{})}
	s.Tell(o.OnHeard, o.OnKey)
	s.TellLost(o.OnConsentLost)
	s.line.init(s)
	s.ctrl.init(e.clock())
	if o.Resume != nil {
		s.resume(o.Resume)
	}
	return s
}

// Tell has others told from now on, in place of StreamOptions' OnHeard and OnKey. The packet that is on its way may still be told of to those
// before.
func (s *Stream) Tell(heard func(at time.Time), key func(k Key, rate int)) {
	s.told.Store(&told{heard, key})
}

// TellLost has another told from now on in place of StreamOptions' OnConsentLost.
func (s *Stream) TellLost(lost func(at time.Time)) {
	if lost == nil {
		s.lost.Store(nil)
		return
	}
	s.lost.Store(&lost)
}

// Endpoint returns the address to announce in SDP.
func (s *Stream) Endpoint() netip.AddrPort { return s.endpoint }

// Apply takes what an offer and its answer came to: where to send, codecs and direction. A changed address opens the latch for a new source.
func (s *Stream) Apply(a Agreement) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed {
		return
	}
	if s.ice != nil {
		a.Security = DTLS // whatever was agreed, it sends nothing in the clear
	}
	s.terms = newTerms(a, s.peer, e.clock())
	s.agreeOn(a)
	again := s.latchAgain()
	if s.ice != nil {
		s.ice.agree(a.ICE)
		s.ice.dtls.agree(a.Fingerprints, a.Active)
	}
	s.rebuild()
	for _, f := range s.feeders {
		f.rebuild()
	}
	s.line.apply(s.terms, s.guards.sealer)
	s.ctrl.apply(s.terms, s.guards)
	s.ctrl.latchAgain(again)
}

// Expect lets the peer send the codecs of an offer that it has not answered yet, with the payload types of that: it may do so as soon as it
// has read it (RFC 3264 §8.3). The next Apply ends that.
func (s *Stream) Expect(offered []Codec) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.terms == nil || s.closed {
		return
	}
	t := *s.terms
	t.codecs = slices.Clone(t.codecs)
	t.learn(offered)
	s.terms = &t
	s.rebuild()
}

// Leave tells that another stream goes on in the place of this one: a key that its peer holds down is told (OnKey) as it is.
func (s *Stream) Leave() {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.leaves = true
	s.rebuild()
}

// Aside tells that nobody follows this stream yet, or that somebody may from now on. A key that ends meanwhile is told (OnKey).
func (s *Stream) Aside(on bool) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if s.aside != on {
		s.aside = on
		s.rebuild()
	}
}

// SetPeer tells that the device's signalling now comes from ip, and opens the latch for it. The caller has proof that it does.
func (s *Stream) SetPeer(ip netip.Addr) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	peer := ip.Unmap().WithZone("")
	if peer == s.peer {
		return
	}
	s.peer = peer
	if s.terms == nil || s.closed {
		return
	}
	t := *s.terms
	t.peer, t.at = s.peer, e.clock()
	s.terms = &t
	s.rebuild()
	s.line.apply(&t, s.guards.sealer)
	s.ctrl.apply(&t, s.guards)
}

// Feed says where what s hears goes: to each of sinks that follows s.
func (s *Stream) Feed(sinks ...*Stream) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	if s.closed {
		return
	}
	s.feed(sinks)
}

func (s *Stream) feed(sinks []*Stream) {
	for _, t := range s.sinks {
		t.feeders = slices.DeleteFunc(t.feeders, func(f *Stream) bool { return f == s })
	}
	s.sinks = nil
	for _, t := range sinks {
		if t != nil && !t.closed && !slices.Contains(s.sinks, t) {
			s.sinks = append(s.sinks, t)
			t.feeders = append(t.feeders, s)
		}
	}
	s.rebuild()
}

// rebuild makes the path anew from what was agreed here and at the sinks; under engine.mu.
func (s *Stream) rebuild() {
	if s.terms != nil && !s.closed {
		p := newPath(s.terms, s.sinks)
		p.opener = s.guards.opener
		p.leaves, p.aside, p.muted = s.leaves, s.aside, s.mixer != nil
		if s.terms.direction.receives() {
			for _, q := range s.taps {
				p.taps = append(p.taps, newTap(q, s.terms.codecs))
			}
		}
		s.path.Store(p)
		s.recall()
	}
}

// Follow says whose media s sends out, from src's next packet on; until then the present source goes on. nil is nobody, at once.
func (s *Stream) Follow(src *Stream) {
	s.endMix()
	if src == nil {
		s.line.follow(nil, s.engine.clock())
		return
	}
	s.line.follow(&src.ear.source, s.engine.clock())
}

func (s *Stream) endMix() {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	s.unmix()
}

// Play sends a tone on the same unbroken line until the next Follow or Play; one that is playing goes on. ToneNone is silence: nothing is
// sent.
func (s *Stream) Play(t Tone) {
	s.endMix()
	if t == ToneNone || int(t) >= len(tones) {
		s.line.follow(nil, s.engine.clock())
		return
	}
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed || e.closed || s.player != nil && s.player.tone == t && s.line.next() == &s.player.source {
		return
	}
	s.player = newPlayer(s, t)
	s.line.follow(&s.player.source, e.clock())
	e.readers.Go(s.player.run)
}

// InUse returns the codec last heard from the peer.
func (s *Stream) InUse() (Codec, bool) {
	if c := s.ear.inUse.Load(); c != nil {
		return *c, true
	}
	return Codec{}, false
}

// LastHeard returns when RTP, RTCP or a valid ICE check was last heard from the peer; zero = never.
func (s *Stream) LastHeard() time.Time {
	s.ear.catchUp()
	return s.engine.wall(s.lastHeard())
}

// lastHeard is that on the engine's clock, 0 = never.
func (s *Stream) lastHeard() time.Duration {
	last := max(s.ear.source.last.Load(), s.ctrl.last.Load())
	if s.ice != nil {
		last = max(last, s.ice.last.Load())
	}
	return time.Duration(last)
}

// FirstSent returns when the first packet was sent to the peer; zero = never.
func (s *Stream) FirstSent() time.Time { return s.engine.wall(time.Duration(s.line.first.Load())) }

// Keys counts the keys that the peer has pressed as telephone-event, whoever was told of them.
func (s *Stream) Keys() uint64 { return s.ear.keys.Load() }

// Lost counts the packets heard from this peer that were for other streams (Feed) and reached none of them.
func (s *Stream) Lost() uint64 { return s.ear.lost.Load() }

// wall turns a time of the engine's clock into one for people; zero stays zero.
func (e *Engine) wall(at time.Duration) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return e.epoch.Add(at)
}

// Close says BYE by RTCP and ends the stream; its ports rest.
func (s *Stream) Close() {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	if s.closed {
		return
	}
	if !s.handed {
		s.goodbye(e.clock())
	}
	s.unmix()
	s.feed(nil)
	if far := s.past.Swap(nil); far != nil {
		far.under.Add(-1)
	}
	for _, f := range slices.Clone(s.feeders) {
		f.feed(slices.DeleteFunc(slices.Clone(f.sinks), func(t *Stream) bool { return t == s }))
	}
	s.closed = true
	s.path.Store(nil)
	s.recall()
	s.line.close()
	close(s.done)
	delete(e.streams, s)
	s.hangUp()
}

// hangUp closes the sockets, which ends their readers, and lets the ports rest; under engine.mu.
func (s *Stream) hangUp() {
	if s.ice != nil {
		s.ice.Close()
		return
	}
	s.rtp.Close()
	s.rtcp.Close()
	s.engine.ports.rest(s.endpoint.Port(), s.engine.clock())
}
