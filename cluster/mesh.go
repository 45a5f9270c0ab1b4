// Package cluster joins the nodes that have the same cluster key: it knows who they are, who of them lives, and carries
// messages between them. It knows nothing of SIP or of calls; to it a message is a kind and bytes.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options is what a Mesh needs.
type Options struct {
	ID        string // this node's name, no other node's
	Listen    string // host:port, of TCP and UDP both
	Key       Key
	Directory Directory // nil = nobody is known; others may know this node
	Load      func() Load
	Log       *slog.Logger
}

// timing holds the times of a mesh; tests make some shorter.
type timing struct {
	beat      time.Duration // between heartbeats, and between two looks at all peers
	missed    int           // heartbeats in a row until a peer is suspect
	probe     time.Duration // for each step of a probe
	handshake time.Duration
	first     time.Duration // between two tries to connect, doubled
	last      time.Duration // up to here
	poll      time.Duration // of the directory
	ping      time.Duration
	stuck     time.Duration // a connection over which nothing comes
	write     time.Duration
	bye       time.Duration // until a goodbye is written and read
	forget    time.Duration // a node that is dead or has left
}

var usual = timing{
	beat: 100 * time.Millisecond, missed: 5, probe: 400 * time.Millisecond, handshake: 2 * time.Second,
	first: 100 * time.Millisecond, last: 2 * time.Second, poll: time.Second, ping: time.Second, stuck: 4 * time.Second,
	write: 4 * time.Second, bye: 2 * time.Second, forget: time.Hour,
}

const (
	maxHandshakes = 64 // at the same time
	maxOfOne      = 16 // of them from one address, so that a stranger does not keep nodes out
	maxPeers      = 256
	maxRequests   = 256 // of one peer, served at the same time
)

// Mesh is this node's place among the others.
type Mesh struct {
	// set once
	self     Node
	started  int64 // unix milliseconds
	opt      Options
	log      *slog.Logger
	timing   timing
	tls      *tls.Config
	listener *net.TCPListener
	udp      *net.UDPConn
	at       netip.AddrPort
	messages map[string]func(from string, payload []byte)
	requests map[string]func(ctx context.Context, from string, payload []byte) ([]byte, error)
	done     chan struct{}
	wg       sync.WaitGroup
	counts   counters

	// guarded by mu, which is never held while anything waits
	mu          sync.Mutex
	ctx         context.Context
	running     bool
	stopped     bool
	leaving     bool
	peers       map[string]*peer
	seeds       map[string]*seed
	beats       map[uint64]*beating
	subscribers map[int]func(Event)
	lastSub     int
	mail        []Event // not told yet
	telling     bool
	ticked      time.Time // of the last look; how late it was tells whether this process itself stood still
	stalls      int
	shaking     map[netip.Addr]int // handshakes under way, by where they come from
	greeting    int                // the same where this node has dialled for a connection that stays
	polling     bool
	polled      time.Time
	unread      bool // the directory, when it was last asked
}

// beating is a key of heartbeats and whose it is.
type beating struct {
	*beats
	peer     *peer
	instance string
}

// seed is an address whose node is not known yet.
type seed struct {
	asking bool
	known  string // who was found there
	retry
}

type counters struct {
	badBeats, replayed, strayBeats, handshakes, refused, dropped, badFrames, unserved atomic.Uint64
}

// Counts tells what was refused or lost since the start.
type Counts struct {
	BadHeartbeats uint64 `json:"bad_heartbeats"` // forged, or no heartbeats at all
	Replayed      uint64 `json:"replayed"`       // right, but not new
	Stray         uint64 `json:"stray"`          // of a connection that is not known (any more)
	Handshakes    uint64 `json:"bad_handshakes"` // connections of somebody without the key
	Refused       uint64 `json:"refused"`        // connections there was no room for
	Dropped       uint64 `json:"dropped"`        // messages there was no room for
	BadFrames     uint64 `json:"bad_frames"`
	Unserved      uint64 `json:"unserved"` // messages of a kind that nobody here takes
}

// New opens the mesh's port, TCP and UDP. Nothing runs yet: handlers and subscribers are set before Run.
func New(o Options) (*Mesh, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Load == nil {
		o.Load = func() Load { return Load{} }
	}
	if o.Directory == nil {
		o.Directory = Static(nil)
	}
	if o.ID == "" || len(o.ID) > maxID || o.Key == (Key{}) {
		return nil, fmt.Errorf("cluster: a node needs a key, and a name of at most %d bytes", maxID)
	}
	identity, err := o.Key.identity()
	if err != nil {
		return nil, err
	}
	m := &Mesh{
		opt: o, log: o.Log, timing: usual, tls: identity, started: time.Now().UnixMilli(),
		messages: make(map[string]func(string, []byte)), requests: make(map[string]func(context.Context, string, []byte) ([]byte, error)),
		shaking: make(map[netip.Addr]int), ctx: context.Background(), done: make(chan struct{}),
		peers: make(map[string]*peer), seeds: make(map[string]*seed), beats: make(map[uint64]*beating), subscribers: make(map[int]func(Event)),
	}
	if err := m.listen(); err != nil {
		return nil, err
	}
	m.self = Node{ID: o.ID, Instance: newInstance(), Addr: announced(m.at)}
	m.HandleCall(kindHears, m.answerHears)
	return m, nil
}

const maxID = 64

// newInstance names one run of a node.
func newInstance() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// listen opens TCP, and UDP on the same port.
func (m *Mesh) listen() error {
	lc := net.ListenConfig{KeepAlive: -1} // pings of our own see more
	var err error
	for range 8 { // of ports that the kernel has chosen; another may have the same on UDP
		var l net.Listener
		if l, err = lc.Listen(context.Background(), "tcp", m.opt.Listen); err != nil {
			return fmt.Errorf("cluster.listen: %w", err)
		}
		m.listener, m.at = l.(*net.TCPListener), l.Addr().(*net.TCPAddr).AddrPort()
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", m.at.String()); err == nil {
			m.udp = c.(*net.UDPConn)
			return nil
		}
		_ = l.Close()
		if _, port, _ := net.SplitHostPort(m.opt.Listen); port != "0" {
			break
		}
	}
	return fmt.Errorf("cluster.listen: %w", err)
}

// announced is where others reach a listener: where it listens on all addresses, the machine's first that is not its own alone.
func announced(at netip.AddrPort) string {
	if !at.Addr().IsUnspecified() {
		return at.String()
	}
	all, _ := net.InterfaceAddrs()
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap().IsGlobalUnicast() {
			return netip.AddrPortFrom(p.Addr().Unmap(), at.Port()).String()
		}
	}
	return at.String()
}

// Self is this node.
func (m *Mesh) Self() Node { return m.self }

// Addr is where the mesh listens.
func (m *Mesh) Addr() netip.AddrPort { return m.at }

// Handle has the messages of a kind go to fn, in the order in which their sender sent them. It must not block; payload
// is its only until it returns. It is set before Run.
func (m *Mesh) Handle(kind string, fn func(from string, payload []byte)) { m.messages[kind] = fn }

// HandleCall has the requests of a kind answered by fn, in a goroutine of its own. It is set before Run.
func (m *Mesh) HandleCall(kind string, fn func(ctx context.Context, from string, payload []byte) ([]byte, error)) {
	m.requests[kind] = fn
}

// Run is the mesh's life. At its end the others are told that this node leaves.
func (m *Mesh) Run(ctx context.Context) error {
	works, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until all is said
	defer cancel()
	m.mu.Lock()
	m.ctx, m.running, m.ticked = works, true, time.Now()
	m.mu.Unlock()
	m.wg.Go(m.accept)
	m.wg.Go(m.hearBeats)
	m.look(time.Now())
	tick := time.NewTicker(m.timing.beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			m.leave()
			cancel()
			m.Close()
			m.wg.Wait()
			return nil
		case <-tick.C:
			m.look(time.Now())
		}
	}
}

func (m *Mesh) sessions() []*session {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []*session
	for _, p := range m.peers {
		if p.session != nil {
			all = append(all, p.session)
		}
	}
	return all
}

// spawn runs fn in a goroutine that Run waits for, unless the mesh has stopped.
func (m *Mesh) spawn(fn func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.spawnLocked(fn)
}

func (m *Mesh) spawnLocked(fn func()) bool {
	if m.running && !m.stopped {
		m.wg.Go(func() { m.guard(fn) })
		return true
	}
	return false
}

// guard keeps a panic of a handler from ending the node.
func (m *Mesh) guard(fn func()) {
	defer func() {
		if p := recover(); p != nil {
			m.log.Error("panic in the mesh", "err", p)
		}
	}()
	fn()
}

// Subscribe has fn told of every change of a peer's state, one after the other, from now on.
func (m *Mesh) Subscribe(fn func(Event)) (cancel func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lastSub++
	n := m.lastSub
	m.subscribers[n] = fn
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.subscribers, n)
	}
}

// tell has all subscribers told of an event, in the order in which events happen. mu is held.
func (m *Mesh) tell(e Event) {
	m.mail = append(m.mail, e)
	if m.telling {
		return
	}
	m.telling = m.spawnLocked(m.deliver)
}

// deliver tells of events until there are none left.
func (m *Mesh) deliver() {
	for {
		m.mu.Lock()
		if len(m.mail) == 0 {
			m.telling = false
			m.mu.Unlock()
			return
		}
		e := m.mail[0]
		m.mail = m.mail[1:]
		all := slices.Collect(maps.Values(m.subscribers))
		m.mu.Unlock()
		for _, fn := range all {
			m.guard(func() { fn(e) })
		}
	}
}

// Peers are all nodes that are known, this one first, the others by name.
func (m *Mesh) Peers() []Peer {
	now := time.Now()
	m.mu.Lock()
	all := make([]Peer, 0, len(m.peers)+1)
	for _, p := range m.peers {
		all = append(all, p.describe(now))
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	self := Peer{Node: m.self, State: Alive, Self: true, Linked: true, Load: m.opt.Load(), Since: time.UnixMilli(m.started)}
	return append([]Peer{self}, all...)
}

// Peer is one node as this one sees it; false: it is not known.
func (m *Mesh) Peer(id string) (Peer, bool) {
	for _, p := range m.Peers() {
		if p.ID == id {
			return p, true
		}
	}
	return Peer{}, false
}

// Linked says whether there is a connection to a node.
func (m *Mesh) Linked(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.linked(id) != nil
}

// linked is the connection to a node, nil = there is none, or the node is about to close it, or reads nothing of it. mu is held.
func (m *Mesh) linked(id string) *session {
	if p := m.peers[id]; p != nil && p.state != Left && !p.state.Gone() {
		return p.session
	}
	return nil
}

// Break closes the connection to a node, which is made again. It is for tests of those who work with the mesh.
func (m *Mesh) Break(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.peers[id]; p != nil && p.session != nil {
		p.session.close()
	}
}

// Counts counts at this moment.
func (m *Mesh) Counts() Counts {
	c := &m.counts
	return Counts{
		c.badBeats.Load(), c.replayed.Load(), c.strayBeats.Load(), c.handshakes.Load(), c.refused.Load(), c.dropped.Load(),
		c.badFrames.Load(), c.unserved.Load(),
	}
}

var errLeaves = errors.New("this node stops")
