// Package sip speaks SIP (RFC 3261 and friends): messages, transports, transactions, dialogs, digest. It knows
// nothing of users' devices, calls or media; to it a body is bytes.
package sip

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"baton/config"
)

// Options is what an Agent needs.
type Options struct {
	Listen      config.Listen
	Connections config.Connections // zero = 100 and 10000
	Advertise   config.Advertise
	Proxies     []netip.Prefix // networks of the proxies in front of the node; none = nobody's Path is good
	Resolver    *Resolver      // nil = by the name servers of the system
	TLS         *tls.Config    // for Listen.TLS
	Domain      string
	Realm       string // of every challenge; fixed for the life of the store
	Secret      []byte // keys the HMAC of nonces and stateless tags
	Credentials Credentials
	Nonces      NonceStore // nil = in memory
	Log         *slog.Logger
	Limits      config.Limits // zero = the default's
	Busy        func() bool   // whether the node has too much to do for new calls; nil = never. It must not block

	// Handlers take the requests outside dialogs, by method, after validation and authentication; they run on the
	// ordered queue of the request's Call-ID and must not block. A method without handler gets 405 with a true Allow,
	// SUBSCRIBE 489, OPTIONS 200 from the agent itself.
	Handlers map[string]func(*Exchange)
	// InDialog names the methods, beside INVITE, ACK, CANCEL, BYE and PRACK, that those who Attach to a dialog serve: for
	// Allow, and refused with 405 when not named. nil = REFER, NOTIFY, INFO, UPDATE.
	InDialog []string
	// Events names the event packages that the handler of SUBSCRIBE serves (RFC 6665): for Allow-Events.
	Events []string
	// Accept names the media types, beside SDP, of the bodies that handlers and those who Attach understand: for OPTIONS.
	Accept []string
	// Registered says whether a device of a user, by name or number, is registered over a flow. It answers from memory;
	// nil = none is.
	Registered func(login string, f Flow) bool
	// FlowClosed is told when a connection has closed. It must not block.
	FlowClosed func(Flow)

	Node  string // this node's name in its cluster
	Nodes Nodes  // the others; nil = there is no cluster
	// Place finds out which node is to serve a new INVITE, which has proved its user, and has decided called with that, once, at once or later;
	// false: this one. It must not block. nil = this one serves all.
	Place func(r *Request, decided func(Place)) bool
}

// The timers of RFC 3261 §17 and Timer C of §16.6.
const (
	timerT1 = 500 * time.Millisecond
	timerT2 = 4 * time.Second
	timerC  = 180 * time.Second
	// cancelWait is how long Invite waits for the final answer to what it has cancelled.
	cancelWait = 5 * time.Second
)

// timing holds the timers of one agent; tests make them shorter.
type timing struct{ t1, t2, c, cancel time.Duration }

// life is how long a transaction can be heard of: Timers B, F, H, J, L and M of RFC 3261 §17 and RFC 6026.
func (t timing) life() time.Duration { return 64 * t.t1 }

// back is how long a phone that rings may be without a connection: it may be changing its network.
func (t timing) back() time.Duration { return 8 * t.t1 }

// Agent is a SIP element: its listeners, its transactions, and the index of the dialogs it was told of.
type Agent struct {
	// set once
	opt       Options
	log       *slog.Logger
	auth      *authenticator
	allow     string
	accepts   string
	events    string
	inDialog  []string
	edge      *edge
	mark      string // of this node in branches and tags
	resolver  *Resolver
	timing    timing
	patience  patience
	places    config.Connections
	shards    []*shard
	limits    *limits
	udp       *udpListener
	listeners []*streamListener
	refusals  sparing       // of the log
	seldom    seldom        // of the log: what concerns connections
	done      chan struct{} // closed when Run ends
	wg        sync.WaitGroup

	challenges   challenges
	silence      silence
	kept         kept
	away         away
	placements   placements
	ended        endCounts
	acceptErrors atomic.Uint64

	// guarded by mu
	mu         sync.Mutex
	stopped    bool
	streams    map[uint64]*stream
	sources    map[netip.Prefix]int
	lastStream uint64
}

// NewAgent opens the listeners. It starts nothing: that is Run's part.
func NewAgent(o Options) (*Agent, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Nonces == nil {
		o.Nonces = newNonceWindows(nonceLife)
	}
	if o.InDialog == nil {
		o.InDialog = []string{"REFER", "NOTIFY", "INFO", "UPDATE"}
	}
	if o.Resolver == nil {
		o.Resolver = NewResolver()
	}
	if len(o.Secret) == 0 {
		return nil, errors.New("sip: an agent needs a secret")
	}
	a := &Agent{
		opt: o, log: o.Log, inDialog: o.InDialog, resolver: o.Resolver, limits: newLimits(o.Limits, o.Busy),
		auth:     &authenticator{realm: o.Realm, node: o.Node, secret: o.Secret, credentials: o.Credentials, nonces: o.Nonces},
		timing:   timing{timerT1, timerT2, timerC, cancelWait},
		patience: usualPatience, places: placesFor(o.Connections, descriptors()),
		challenges: challenges{by: make(map[netip.AddrPort]*serverTx)},
		done:       make(chan struct{}), streams: make(map[uint64]*stream), sources: make(map[netip.Prefix]int),
		lastStream: firstStream(), silence: silence{began: time.Now()},
	}
	a.mark = markOf(o)
	a.allow, a.accepts = allowed(o), strings.Join(append([]string{typeSDP}, o.Accept...), ", ")
	a.events = strings.Join(o.Events, ", ")
	a.auth.guesses = a.limits.guesses
	if o.Nodes != nil {
		a.limits.guesses.tell = o.Nodes.Failed
	}
	a.shards = newShards(a)
	if err := a.listen(); err != nil {
		a.closeListeners()
		return nil, err
	}
	a.edge = newEdge(a)
	return a, nil
}

// firstStream gives this run's connections numbers that no other run's have.
func firstStream() uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return uint64(binary.BigEndian.Uint32(b[:])) << 32
}

// allowed is the true Allow: what the agent, its handlers and those attached to dialogs serve.
func allowed(o Options) string {
	all := []string{"INVITE", "ACK", "CANCEL", "BYE", "PRACK", "OPTIONS"}
	var more []string
	for m := range o.Handlers {
		more = append(more, m)
	}
	slices.Sort(more)
	for _, m := range append(more, o.InDialog...) {
		if !slices.Contains(all, m) {
			all = append(all, m)
		}
	}
	return strings.Join(all, ", ")
}

// Run serves until ctx ends, then closes every connection and waits for all that was started.
func (a *Agent) Run(ctx context.Context) error {
	if a.udp != nil {
		a.wg.Go(a.serveUDP)
	}
	for _, l := range a.listeners {
		a.wg.Go(func() { a.accept(ctx, l) })
	}
	a.wg.Go(a.sweep)
	<-ctx.Done()
	a.Close()
	a.wg.Wait()
	return nil
}

// Close closes listeners and connections. Run does it itself: Close is for an agent that never ran.
func (a *Agent) Close() {
	a.mu.Lock()
	was := a.stopped
	a.stopped = true
	a.mu.Unlock()
	if was {
		return
	}
	close(a.done)
	a.closeListeners()
	for _, s := range a.shards {
		s.queue.Close()
		s.stopTimers()
	}
}

// over says that the agent has stopped.
func (a *Agent) over() bool {
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

// spawn runs fn in a goroutine that Run waits for, unless the agent has stopped.
func (a *Agent) spawn(fn func()) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped {
		a.wg.Go(func() { a.guard(fn) })
	}
	return !a.stopped
}

// guard runs what may fail for one call.
func (a *Agent) guard(fn func()) {
	defer a.survive()
	fn()
}

// survive, when deferred, keeps a panic from taking the node along: one message or one call may be lost by it.
func (a *Agent) survive() {
	if p := recover(); p != nil {
		a.log.Error("panic in a handler", "err", p, "stack", string(debug.Stack()))
	}
}

// sweep forgets transactions whose time is over.
func (a *Agent) sweep() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-a.done:
			return
		case now := <-t.C:
			for _, s := range a.shards {
				s.expire(now)
			}
			a.silence.tidy(now)
			a.placements.tidy(now)
		}
	}
}
