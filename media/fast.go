package media

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"baton/media/fastpath"
)

// The fast path (docs/fastpath.md): the steady part of a stream is left to the kernel, which forwards its packets as the packet path would.
//
//	reader: 25 plain packets ──▶ ask ──▶ look (the engine's tick): the route ──▶ way ──▶ reader: give, at the next plain packet
//	                                                                                    │
//	reader, at whatever packet reaches it; follow, apply, rebuild, close, key … ──▶ recall: the flow is ours again, and
//	ear and line stand where they would had every packet come here
//
// What belongs to the reader (ear) and to the line (line.mu) alike belongs to who holds line.mu while the flow is with the kernel: the reader
// takes it back before it looks at a packet.

const (
	plainFirst = 25              // packets in a row, before a flow is given to the kernel
	plainMost  = 400             // the same of one that keeps coming back
	fastBeat   = 2 * time.Second // how long the kernel goes on without a sign of life of the engine's
)

// fast is the engine's part in the kernel.
type fast struct {
	// set once
	e       *Engine
	kernel  *fastpath.Path
	changes *fastpath.Changes

	generation atomic.Uint32 // of routes and interfaces
	listening  sync.WaitGroup

	mu     sync.Mutex // one deadline at a time
	closed bool
}

// kernelWay is how a stream's packets can go through the kernel.
type kernelWay struct {
	from       netip.AddrPort // whence they come
	to         netip.AddrPort
	line       *line
	slot       *fastpath.Slot
	flow       fastpath.Flow // addresses and interface
	generation uint32
	err        error // why they cannot
}

// flow is a stream's packets while the kernel forwards them.
type flow struct {
	source *Stream
	line   *line
	slot   *fastpath.Slot
	seen   fastpath.State // what ear and line have been brought to
}

// fastEar is what a stream's ear knows of the kernel.
type fastEar struct {
	flow   atomic.Pointer[flow]      // that is with the kernel; changed under its line's mutex
	ask    atomic.Pointer[kernelWay] // from and line: look for the rest
	way    atomic.Pointer[kernelWay]
	kernel counter // packets that the kernel has forwarded

	// owned by the reader
	plain  int  // packets in a row
	need   int  // of them, 0 = plainFirst
	behind bool // packets waited in the socket when the flow could have been given
}

// openFast begins to use the kernel as the configuration has it: it says in one line if it cannot.
func (e *Engine) openFast() {
	mode := e.fastpath
	if mode != "auto" && mode != "on" {
		return
	}
	k, err := newFast(e)
	switch {
	case err == nil:
		e.fast.Store(k)
		k.beat(e.clock())
		e.log.Info("the kernel forwards what is plain RTP (media.fastpath)")
	case mode == "on":
		e.log.Error("media.fastpath: the kernel cannot forward, so the node does", "err", err)
	default:
		e.log.Info("media.fastpath: the kernel cannot forward, so the node does", "err", err)
	}
}

func newFast(e *Engine) (*fast, error) {
	changes, err := fastpath.WatchRoutes()
	if err != nil {
		return nil, fmt.Errorf("watch the routes: %w", err)
	}
	kernel, err := fastpath.Open(e.ports.first, e.ports.last, e.clock)
	if err != nil {
		changes.Close()
		return nil, err
	}
	k := &fast{e: e, kernel: kernel, changes: changes}
	k.listening.Go(k.listen)
	return k, nil
}

// listen takes everything back when a route or an interface has changed: the way may be another one.
func (k *fast) listen() {
	for k.changes.Next() {
		k.generation.Add(1)
		k.e.recallAll()
		if err := k.kernel.Attach(); err != nil {
			k.e.log.Warn("media.fastpath", "err", err)
		}
	}
}

// closeFast ends it; the streams are closed.
func (e *Engine) closeFast() {
	k := e.fast.Swap(nil)
	if k == nil {
		return
	}
	k.changes.Close()
	k.listening.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if err := k.kernel.Close(); err != nil {
		e.log.Warn("media.fastpath", "err", err)
	}
}

// beat lets the kernel go on: for a while, and never beyond the time for which streams may send.
func (k *fast) beat(now time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	until := now + fastBeat
	if speak := k.e.until.Load(); speak != 0 {
		until = min(until, time.Duration(speak))
	}
	k.kernel.Until(until)
}

// beatFast is beat, where there is a kernel to tell.
func (e *Engine) beatFast(now time.Duration) {
	if k := e.fast.Load(); k != nil {
		k.beat(now)
	}
}

// recallAll takes every flow back.
func (e *Engine) recallAll() {
	for _, s := range e.open() {
		s.recall()
	}
}

// lookFast beats, and looks for the ways that were asked for.
func (e *Engine) lookFast() {
	k := e.fast.Load()
	if k == nil {
		return
	}
	k.beat(e.clock())
	for _, s := range e.open() {
		if ask := s.ear.fast.ask.Load(); ask != nil {
			w := k.look(s, ask)
			if w.err != nil {
				e.log.Debug("media.fastpath: this stream stays with the node", "from", w.from, "to", w.to, "err", w.err)
			}
			s.ear.fast.way.Store(w)
			s.ear.fast.ask.Store(nil)
		}
	}
}

// look finds out how packets come, and leave.
func (k *fast) look(s *Stream, ask *kernelWay) *kernelWay {
	w := *ask
	w.generation = k.generation.Load()
	w.slot = k.kernel.Slot(s.endpoint.Port())
	l := w.line
	switch {
	case w.slot == nil:
		w.err = fmt.Errorf("port %v is not of the range", s.endpoint.Port())
	case !w.from.Addr().Is4() || !w.to.Addr().Is4():
		w.err = fmt.Errorf("not IPv4")
	}
	if w.err != nil {
		return &w
	}
	at := s.endpoint.Addr()
	if k.e.bind.IsValid() && !k.e.bind.IsUnspecified() {
		at = k.e.bind
	} else if at == k.e.advertise { // somebody else's, who passes on what comes there
		var back fastpath.Route
		if back, w.err = fastpath.RouteTo(w.from.Addr(), netip.Addr{}); w.err != nil {
			return &w
		}
		at = back.From
	}
	bound := k.e.bind
	if bound.IsUnspecified() {
		bound = netip.Addr{}
	}
	out, err := fastpath.RouteTo(w.to.Addr(), bound)
	if err == nil && !k.kernel.Attached(out.Interface) {
		err = fmt.Errorf("interface %d is neither Ethernet nor loopback", out.Interface)
	}
	w.err = err
	w.flow = fastpath.Flow{
		From: w.from, At: netip.AddrPortFrom(at, s.endpoint.Port()),
		OutFrom: netip.AddrPortFrom(out.From, l.stream.endpoint.Port()), OutTo: w.to, Interface: out.Interface,
	}
	return &w
}

// plain says that the header of the packet is the shortest there is, and marks nothing.
func (p *packet) plain() bool { return p.sound && !p.marker && p.body == 12 && p.end == len(p.buf) }

// straight says that what the stream hears goes to one line as it is, and nowhere else.
func (t *path) straight(codec int) bool {
	return len(t.sinks) == 1 && len(t.taps) == 0 && !t.muted && !t.aside && !t.leaves && t.opener == nil && t.security == Clear &&
		t.sinks[0].out[codec].ok && t.sinks[0].out[codec].table == nil
}

// toKernel gives the stream's packets to the kernel once enough of them were plain. p is the newest, and has been sent.
func (s *Stream) toKernel(t *path, codec int, p *packet) {
	k := s.engine.fast.Load()
	if k == nil {
		return
	}
	f := &s.ear.fast
	if !p.plain() || s.ice != nil || !t.straight(codec) {
		f.plain = 0
		s.calm()
		return
	}
	if f.plain++; f.plain < max(f.need, plainFirst) || p.now-t.at < latchWindow && s.ear.latch.rank < announced {
		return
	}
	l := t.sinks[0].line
	w := f.way.Load()
	switch {
	case w == nil, w.generation != k.generation.Load(), w.from != s.ear.latch.from, w.line != l:
		s.ask(l)
	case w.err != nil: // another time, perhaps
		f.way.Store(nil)
		f.plain = -plainMost
	case s.queued(): // later
	default:
		s.give(k, w, t, codec, p)
	}
}

// queue is a socket that can tell whether more packets wait in it, and read them in one go.
type queue interface {
	waiting() bool
	hurry(on bool)
}

// queued says that more packets of the stream wait to be read, as they do where the processor is not enough for all calls. The kernel takes no
// packet but the next, so they must be passed on before it is given the flow: for that they are read in one go until calm.
func (s *Stream) queued() bool {
	q, ok := s.rtp.(queue)
	if !ok || !q.waiting() {
		return false
	}
	q.hurry(true)
	s.ear.fast.behind = true
	return true
}

// calm has the stream's packets read one at a time again, and says whether they were not.
func (s *Stream) calm() bool {
	f := &s.ear.fast
	if !f.behind {
		return false
	}
	f.behind = false
	s.rtp.(queue).hurry(false)
	return true
}

// inTime begins the mean with a packet after which none waits, where others have waited: it has come a moment ago, and what was read before it late.
func (m *steady) inTime(p *packet) {
	p.due = m.restart(p)
	m.n = steadyFull
}

// ask has it looked for a way.
func (s *Stream) ask(l *line) {
	if s.ear.fast.ask.Load() != nil {
		return
	}
	l.mu.Lock()
	to := l.to
	l.mu.Unlock()
	s.ear.fast.ask.Store(&kernelWay{from: s.ear.latch.from, to: to, line: l})
}

// give leaves the stream's packets to the kernel, if stream and line are as steady as it takes them for.
func (s *Stream) give(k *fast, w *kernelWay, t *path, codec int, p *packet) {
	l, f := w.line, &s.ear.fast
	if p.out != nil {
		p.out.flush() // the kernel's next packet must not overtake
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open() || l.to != w.to {
		f.way.Store(nil)
		return
	}
	if s.calm() {
		s.ear.steady.inTime(p)
	}
	if !s.ear.steadyAt(t, p) || !l.steadyAt(&s.ear.source, p) {
		f.plain = 0
		return
	}
	d := &flow{source: s, line: l, slot: w.slot}
	l.flow.Store(d)
	f.flow.Store(d)
	if s.path.Load() != t || s.engine.fenced.Load() || s.engine.fast.Load() != k || k.generation.Load() != w.generation {
		l.flow.Store(nil) // it has changed meanwhile, and nobody saw the flow
		f.flow.Store(nil)
		return
	}
	r, m := &s.ear.reception, &s.ear.steady
	out := w.flow
	out.SSRC, out.OutSSRC, out.PT, out.OutPT = p.ssrc, l.ssrc.Load(), p.pt, t.sinks[0].out[codec].pt
	out.SeqOff, out.TSOff, out.Frame, out.Rate = l.in.seqOff, l.in.tsOff, l.frame, l.rate
	d.slot.Give(out, fastpath.State{
		At: p.now, Due: p.due, Sum: m.sum, Offset: m.offset, Transit: r.transit, Jitter: r.jitter.Load(), Highest: r.highest.Load(), TS: p.ts,
	})
}

// steadyAt says whether the ear knows its source well: p was no exception, and the next packet will change nothing but figures.
func (e *ear) steadyAt(t *path, p *packet) bool {
	m, k := &e.steady, &e.pressed
	return m.n == steadyFull && m.sum >= 0 && m.ssrc == p.ssrc && m.ts == p.ts && m.rate == p.rate &&
		e.reception.ssrc.Load() == p.ssrc && uint16(e.reception.highest.Load()) == p.seq && e.reception.rate.Load() == p.rate &&
		e.latch.told == t.terms && e.latch.terms == t.terms && e.latch.rank > stranger && (!k.known || k.told)
}

// steadyAt says whether the line does nothing but send the packets of src with other numbers, p the last; under mu.
func (l *line) steadyAt(src *source, p *packet) bool {
	return l.cur.Load() == src && l.want.Load() == nil && len(l.kept) == 0 && l.hold <= p.now && l.key == nil && !l.event.open && !l.back &&
		l.sealer == nil && l.terms.security == Clear && l.stream.ice == nil && !l.stream.mute(p.now) &&
		!l.in.broken && l.in.ssrc == p.ssrc && l.in.seq == p.seq && l.in.ts == p.ts && l.seq == p.seq+l.in.seqOff && l.ts == p.ts+l.in.tsOff &&
		l.rate == p.rate && l.frame > 0 && l.in.delta == l.frame && l.first.Load() != 0 && l.at == p.now &&
		(l.gaps.at == 0 || p.now > l.gaps.at+gapAfter)
}

// recall takes the stream's packets back from the kernel.
func (s *Stream) recall() {
	if f := s.ear.fast.flow.Load(); f != nil {
		f.line.mu.Lock()
		defer f.line.mu.Unlock()
		if f.line.flow.Load() == f {
			f.line.recall()
		}
	}
}

// fromKernel is recall at a packet that has come here, and says whether the packet must not be looked at further: while the peer is heard it
// cannot be somebody else's, and who sends such packets must not take the flow away with them.
func (s *Stream) fromKernel(from netip.AddrPort, now time.Duration) (foreign bool) {
	f := s.ear.fast.flow.Load()
	if f == nil {
		return false
	}
	f.line.mu.Lock()
	defer f.line.mu.Unlock()
	if f.line.flow.Load() != f {
		return false
	}
	f.settle()
	if from != s.ear.latch.from && now-s.ear.latch.last < latchSilence {
		return true
	}
	e := &s.ear.fast
	if f.line.recall(); f.seen.Packets >= plainFirst {
		e.need = plainFirst
	} else { // it was not worth it
		e.need = min(2*max(e.need, plainFirst), plainMost)
	}
	return false
}

// catchUp brings the figures of what is heard, and of what is sent, to where they are with the kernel.
func (s *Stream) catchUp() {
	s.ear.catchUp()
	if s.line.flow.Load() != nil {
		s.line.mu.Lock()
		defer s.line.mu.Unlock()
		s.line.settle()
	}
}

func (e *ear) catchUp() {
	if f := e.fast.flow.Load(); f != nil {
		f.line.mu.Lock()
		defer f.line.mu.Unlock()
		if f.line.flow.Load() == f {
			f.settle()
		}
	}
}

// unfollow takes the packets that the line sends back from the kernel; not under mu.
func (l *line) unfollow() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recall()
}

// recall is unfollow under mu.
func (l *line) recall() {
	f := l.flow.Load()
	if f == nil {
		return
	}
	s := f.slot.Take()
	f.bring(s)
	e := &f.source.ear.fast
	e.plain = 0
	l.flow.Store(nil)
	e.flow.Store(nil)
}

// settle brings the line, and the ear that it follows, to where they are with the kernel; under mu.
func (l *line) settle() {
	if f := l.flow.Load(); f != nil {
		f.settle()
	}
}

func (f *flow) settle() {
	if s, ok := f.slot.Peek(); ok {
		f.bring(s)
	}
}

// bring brings ear and line to a state, as if each packet up to it had come here; under the line's mutex.
func (f *flow) bring(s fastpath.State) {
	n, octets := s.Packets-f.seen.Packets, s.Octets-f.seen.Octets
	if n == 0 {
		return
	}
	e, l := &f.source.ear, f.line
	e.fast.kernel.add(n)
	e.hear(&s, n, octets)
	step := int(uint16(s.Highest) - l.in.seq)
	l.sent.add(n)
	l.octets.add(octets)
	for i := max(f.seen.Packets, s.Packets-min(s.Packets, uint64(len(s.Recent)))); i < s.Packets; i++ {
		l.gaps.sent(s.Recent[i%uint64(len(s.Recent))])
	}
	l.in.seq, l.in.ts, l.in.due = uint16(s.Highest), s.TS, s.Due
	l.in.reach = min(l.in.reach+step, 1<<14)
	l.seq, l.ts = l.in.seq+l.in.seqOff, l.in.ts+l.in.tsOff
	l.due, l.at = s.Due, s.At
	f.seen = s
}

// hear brings the figures of the ear to a state.
func (e *ear) hear(s *fastpath.State, n, octets uint64) {
	r := &e.reception
	r.packets.add(n)
	r.octets.add(octets)
	r.highest.Store(s.Highest)
	r.received.Store(r.received.Load() + n)
	r.jitter.Store(s.Jitter)
	r.transit = s.Transit
	e.steady.ts, e.steady.sum, e.steady.offset = s.TS, s.Sum, s.Offset
	e.source.last.Store(int64(s.At))
	e.latch.last = s.At
}
