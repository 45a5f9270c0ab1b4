// Package wire is a bad network between one phone and a node: delay, jitter, loss, duplicates and reordering, by direction
// and apart for SIP and for media, with a list of every packet and of what became of it. It stands between the two as a NAT
// with an application layer gateway does, so that neither knows of it, and it imports nothing of baton.
package wire

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Way is how one direction treats one kind of packets. Parts are of one: 0.02 is two in a hundred.
type Way struct {
	Delay     time.Duration
	Jitter    time.Duration // up to that much more; the order is kept
	Loss      float64       // part that never arrives; over TCP it arrives later
	Duplicate float64       // part that arrives twice
	Reorder   float64       // part that is held up so long that others overtake it
}

// Ways are what one direction does to SIP and to RTP with RTCP.
type Ways struct{ SIP, Media Way }

// Config says between whom the path lies.
type Config struct {
	Phone    netip.Addr     // the phone's address; the path's own ports are there as well
	UDP, TCP netip.AddrPort // the node's SIP listeners
	Up, Down Ways           // from the phone to the node, and back
	Seed     uint64         // of the dice
}

// Kind is what a packet is.
type Kind string

// The kinds of packets; SIP over TCP is not listed.
const (
	SIP  Kind = "sip"
	RTP  Kind = "rtp"
	RTCP Kind = "rtcp"
)

// Packet is one datagram as it entered the path.
type Packet struct {
	At      time.Time
	Up      bool // from the phone to the node
	Kind    Kind
	Data    []byte
	Dropped bool // never arrived
	Twice   bool // arrived twice
	Held    bool // was overtaken
}

// Path is the way between a phone and the node. All methods may be called from any goroutine.
type Path struct {
	// set once
	cfg      Config
	sip      *socket // stands for the node's SIP listener
	listener *net.TCPListener
	queue    *queue
	stop     chan struct{}
	wg       sync.WaitGroup

	mu      sync.Mutex
	outside netip.Addr // where the node sees the phone
	up      Ways
	down    Ways
	dice    *rand.Rand
	log     []Packet
	front   map[netip.AddrPort]*socket // by the node's address that it stands for
	back    map[netip.AddrPort]*socket // by the phone's
	all     []*socket
	conns   map[net.Conn]bool
	ordered map[way]time.Time // when the last packet of each way arrives
	closed  bool
}

// way names one direction of one kind.
type way struct {
	up   bool
	kind Kind
}

// HeldUp is how much later a reordered packet arrives: two packets of 20 ms overtake it.
const HeldUp = 50 * time.Millisecond

// New opens a path; the phone is to use Server as its server.
func New(cfg Config) (*Path, error) {
	p := &Path{
		cfg: cfg, outside: cfg.Phone, up: cfg.Up, down: cfg.Down, dice: rand.New(rand.NewPCG(cfg.Seed, 1)), queue: newQueue(), stop: make(chan struct{}),
		front: map[netip.AddrPort]*socket{}, back: map[netip.AddrPort]*socket{}, conns: map[net.Conn]bool{}, ordered: map[way]time.Time{},
	}
	if err := p.open(); err != nil {
		p.Close()
		return nil, fmt.Errorf("open a path for %s: %w", cfg.Phone, err)
	}
	p.wg.Go(func() { p.queue.run(p.stop) })
	return p, nil
}

// open takes one port for SIP, over UDP and TCP.
func (p *Path) open() error {
	var err error
	for range 50 {
		if p.listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.cfg.Phone, 0))); err != nil {
			return err
		}
		at := p.listener.Addr().(*net.TCPAddr).AddrPort()
		p.mu.Lock()
		p.sip, err = p.listen(at, SIP, p.cfg.UDP, true)
		p.mu.Unlock()
		if err == nil {
			p.wg.Go(p.accept)
			return nil
		}
		p.listener.Close()
	}
	return err
}

// Server is where the phone finds the node, over UDP and TCP.
func (p *Path) Server() netip.AddrPort { return p.sip.at() }

// Set changes what the path does to packets from now on.
func (p *Path) Set(up, down Ways) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.up, p.down = up, down
}

// Rebind forgets the ports under which the node knows the phone, as a NAT does that has restarted: what is sent to them is
// lost, and the phone's next packets come from new ones.
func (p *Path) Rebind() { p.RebindAt(p.cfg.Phone) }

// RebindAt is Rebind to another address of the NAT, as of a phone that has changed its network. It is for UDP; connections stay.
func (p *Path) RebindAt(outside netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.outside = outside
	for _, s := range p.back {
		s.dead = true
	}
	p.back = map[netip.AddrPort]*socket{}
}

// Forget closes the ports for the sound of calls that have ended, and forgets their packets: for runs with very many calls.
func (p *Path) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.DeleteFunc(p.all, func(s *socket) bool {
		if s.kind == SIP {
			return false
		}
		s.conn.Close()
		if p.side(s.up)[s.stands] == s {
			delete(p.side(s.up), s.stands)
		}
		return true
	})
	p.log = slices.DeleteFunc(p.log, func(k Packet) bool { return k.Kind != SIP })
}

// Packets are all that have entered so far, in order.
func (p *Path) Packets() []Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// Sockets counts the ports that the path has opened, each with a goroutine of its own.
func (p *Path) Sockets() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all)
}

// Close ends the path; what is under way is lost.
func (p *Path) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.stop)
	for _, s := range p.all {
		s.conn.Close()
	}
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
	}
	p.wg.Wait()
}

// fate notes a packet and decides what becomes of it: when it arrives, none for never. mu is held.
func (p *Path) fate(up bool, kind Kind, data []byte, now time.Time) []time.Time {
	w := p.treatment(up, kind)
	packet := Packet{At: now, Up: up, Kind: kind, Data: slices.Clone(data), Dropped: p.dice.Float64() < w.Loss}
	due := now.Add(w.Delay)
	if w.Jitter > 0 {
		due = due.Add(time.Duration(p.dice.Int64N(int64(w.Jitter))))
	}
	var arrivals []time.Time
	if !packet.Dropped {
		arrivals = p.arrivals(&packet, w, way{up, kind}, due)
	}
	p.log = append(p.log, packet)
	return arrivals
}

func (p *Path) arrivals(packet *Packet, w Way, key way, due time.Time) []time.Time {
	if packet.Held = p.dice.Float64() < w.Reorder; packet.Held {
		return []time.Time{due.Add(HeldUp)}
	}
	if last := p.ordered[key]; due.Before(last) {
		due = last
	}
	p.ordered[key] = due
	if packet.Twice = p.dice.Float64() < w.Duplicate; packet.Twice {
		return []time.Time{due, due.Add(time.Millisecond)}
	}
	return []time.Time{due}
}

func (p *Path) treatment(up bool, kind Kind) Way {
	w := p.down
	if up {
		w = p.up
	}
	if kind == SIP {
		return w.SIP
	}
	return w.Media
}
