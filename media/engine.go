package media

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"baton/config"
)

// Options is what an Engine needs. A zero port range means 20000-29999.
type Options struct {
	Config    config.Media
	Advertise config.Advertise
	WebTCP    uint16 // port that gives ICE-TCP connections to ServeConn; 0 = none is announced
	Secret    []byte // the node's, of which its DTLS certificate is made; none = another one at each start. No two nodes have one: a browser knows by the certificate that its call is at another
	Log       *slog.Logger
}

// Engine owns the media ports and the streams on them.
type Engine struct {
	// set once
	log       *slog.Logger
	bind      netip.Addr // zero = every address of the machine
	advertise netip.Addr
	local     []netip.Prefix
	sockets   sockets
	epoch     time.Time
	clock     func() time.Duration // since epoch
	shared    *shared              // the port of all browsers' legs; nil = off
	fastpath  string               // whether the kernel is to forward: auto, on, else not

	until   atomic.Int64         // when nothing is sent any more, on the clock; 0 = never
	fenced  atomic.Bool          // only who is heard is spoken to
	fast    atomic.Pointer[fast] // the kernel's part; nil = it has none
	readers sync.WaitGroup       // every goroutine that a stream has started

	mu      sync.Mutex // what calls do; the packet path never takes it
	ports   ports
	streams map[*Stream]struct{}
	looked  time.Duration // when it was looked for silence last
	awake   time.Duration // since when that has been often enough
	closed  bool
}

// SpeakFor lets the streams send for so long from now; not being told again in time, they fall silent: a process that has stood still may have
// lost its calls to another. An engine that was never told sends always.
func (e *Engine) SpeakFor(d time.Duration) {
	now := e.clock()
	e.until.Store(int64(now + d))
	e.beatFast(now)
}

// mute says whether the time for which streams may send is over at a moment.
func (e *Engine) mute(now time.Duration) bool {
	until := e.until.Load()
	return until != 0 && int64(now) > until
}

// Fence has the streams send to those peers alone that are heard, until it is told the contrary: the node is cut off, and calls of it may be at
// another one by now, which their phones speak to.
func (e *Engine) Fence(on bool) {
	e.fenced.Store(on)
	if on {
		e.recallAll()
	}
}

// unheard is how long a fenced stream goes on sending to a peer that it does not hear.
const unheard = 500 * time.Millisecond

// mute says that nothing may be sent to the stream's peer at a moment.
func (s *Stream) mute(now time.Duration) bool {
	return s.engine.mute(now) || s.engine.fenced.Load() && now-s.lastHeard() > unheard
}

// NewEngine checks its options; it starts nothing.
func NewEngine(o Options) (*Engine, error) {
	e := &Engine{
		log: o.Log, local: o.Advertise.Local, epoch: time.Now(),
		ports: newPorts(o.Config.Ports), streams: map[*Stream]struct{}{}, fastpath: o.Config.Fastpath,
	}
	e.sockets = newSockets(e)
	e.clock = func() time.Duration { return time.Since(e.epoch) }
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if e.bind, err = optional(o.Config.Address); err != nil {
		return nil, fmt.Errorf("media.address: %w", err)
	}
	if e.advertise, err = optional(o.Advertise.Media); err != nil {
		return nil, fmt.Errorf("advertise.media: %w", err)
	}
	if e.ports.pairs() < 1 {
		return nil, fmt.Errorf("media.ports: %v holds no even port with its successor", e.ports)
	}
	if o.Config.WebRTC != 0 {
		if e.shared, err = newShared(e, uint16(o.Config.WebRTC), o.WebTCP, o.Secret); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func optional(s string) (netip.Addr, error) {
	if s == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err
}

// Run serves until ctx ends, then closes every stream and waits for all goroutines.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.openShared(); err != nil {
		e.log.Error("no browser can call: the port for them could not be opened, and is tried again for each of their calls", "err", err)
	}
	e.openFast()
	tick := time.NewTicker(reportTick)
	defer tick.Stop()
	look := time.NewTicker(silenceTick)
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			e.report(e.clock())
		case <-look.C:
			e.watch(e.clock())
			e.lookFast()
		}
	}
	for _, s := range e.stop() {
		s.Close()
	}
	if e.shared != nil {
		e.shared.close()
	}
	e.closeFast()
	e.readers.Wait()
	return nil
}

// openShared opens the port for browsers, if there is one and it is not open.
func (e *Engine) openShared() error {
	if e.shared == nil || !e.enter() {
		return nil
	}
	defer e.readers.Done()
	return e.shared.open()
}

// survive, when deferred, keeps a panic from taking the node along: one packet, report or tone is lost.
func (e *Engine) survive(what string) {
	if p := recover(); p != nil {
		e.log.Error(what, "err", p, "stack", string(debug.Stack()))
	}
}

// stop refuses new streams and returns those that are open.
func (e *Engine) stop() []*Stream {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	return e.open()
}

func (e *Engine) open() []*Stream {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*Stream, 0, len(e.streams))
	for s := range e.streams {
		all = append(all, s)
	}
	return all
}

// OpenStreams counts the streams that are open.
func (e *Engine) OpenStreams() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.streams)
}

// AddressFor returns the address to announce to peer: the configured one, the advertised one for peers outside the local networks, else
// that of the route to it.
func (e *Engine) AddressFor(peer netip.Addr) (netip.Addr, error) {
	peer = peer.Unmap()
	if !peer.IsValid() {
		return netip.Addr{}, fmt.Errorf("media address: no peer address")
	}
	if e.advertise.IsValid() && e.advertise.Is4() == peer.Is4() && !e.isLocal(peer) {
		return e.advertise, nil
	}
	if e.bind.IsValid() && !e.bind.IsUnspecified() {
		if e.bind.Is4() != peer.Is4() {
			return netip.Addr{}, fmt.Errorf("media address for %v: media.address %v is of the other family", peer, e.bind)
		}
		return e.bind, nil
	}
	return routeTo(peer)
}

func (e *Engine) isLocal(peer netip.Addr) bool {
	if peer.IsLoopback() || peer.IsLinkLocalUnicast() {
		return true
	}
	for _, p := range e.local {
		if p.Contains(peer.WithZone("")) {
			return true
		}
	}
	return false
}

// routeTo asks the kernel for the source address towards peer, by connecting a socket that sends nothing.
func routeTo(peer netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peer, 9)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("media address for %v: %w", peer, err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone(""), nil
}

// Open binds a port pair for a stream, or has it take part in the port of all WebRTC streams. The error is ErrNoPorts, ErrClosed, or says that
// there is no route to the peer or no port for WebRTC.
func (e *Engine) Open(o StreamOptions) (*Stream, error) {
	at, err := e.AddressFor(o.Peer)
	if err != nil {
		return nil, err
	}
	if !e.enter() {
		return nil, ErrClosed
	}
	defer e.readers.Done()
	s := newStream(e, o)
	if err := e.place(s, at, o); err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		s.hangUp()
		return nil, ErrClosed
	}
	e.streams[s] = struct{}{}
	return s, nil
}

// place gives a stream its sockets.
func (e *Engine) place(s *Stream, at netip.Addr, o StreamOptions) error {
	if !o.WebRTC {
		home := e.home(at, o.Peer)
		if o.Resume != nil && e.bindAt(s, home, o.Resume.Place.Port) == nil {
			s.endpoint = netip.AddrPortFrom(at, o.Resume.Place.Port)
			return nil
		}
		port, err := e.bindPair(s, home)
		s.endpoint = netip.AddrPortFrom(at, port)
		return err
	}
	if e.shared == nil {
		return ErrNoWebRTC
	}
	if err := e.shared.open(); err != nil {
		return err
	}
	s.endpoint = netip.AddrPortFrom(at, e.shared.port)
	s.ice = newAgent(s, e.shared)
	if o.Resume != nil && o.Resume.Place.Browser != nil {
		s.ice.resume(o.Resume.Place)
	}
	s.rtp, s.rtcp = s.ice, s.ice
	return nil
}

// enter keeps Run from ending until readers.Done, unless it is ending already.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		e.readers.Add(1)
	}
	return !e.closed
}

// home is where sockets for a peer that is told at are bound: to all addresses, but to the link of a peer that has an address
// of that alone (RFC 4007), so that packets find it among the machine's links.
func (e *Engine) home(at, peer netip.Addr) netip.Addr {
	switch {
	case e.bind.IsValid():
		return e.bind
	case at.Is4():
		return netip.IPv4Unspecified()
	case at.IsLinkLocalUnicast() && peer.Zone() != "":
		return at.WithZone(peer.Zone())
	}
	return netip.IPv6Unspecified()
}

// bindPair finds a port pair at home that nobody else has either.
func (e *Engine) bindPair(s *Stream, home netip.Addr) (uint16, error) {
	var last error
	for range e.ports.pairs() {
		port, err := e.takePair()
		if err != nil {
			return 0, errorOr(last, err)
		}
		if last = e.listenPair(s, home, port); last == nil {
			return port, nil
		}
		e.dropPair(port, e.clock())
	}
	return 0, errorOr(last, ErrNoPorts)
}

// listenPair binds a port and the next; both or none.
func (e *Engine) listenPair(s *Stream, home netip.Addr, port uint16) (err error) {
	if s.rtp, err = e.sockets.listen(netip.AddrPortFrom(home, port), s.receive); err != nil {
		return err
	}
	if s.rtcp, err = e.sockets.listen(netip.AddrPortFrom(home, port+1), s.receiveRTCP); err != nil {
		s.rtp.Close()
	}
	return err
}

// errorOr keeps what the kernel said about the last port tried beside ErrNoPorts.
func errorOr(last, err error) error {
	if last == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, last)
}

func (e *Engine) takePair() (uint16, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ports.take(e.clock(), rand.IntN)
}

func (e *Engine) dropPair(port uint16, now time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ports.rest(port, now)
}
