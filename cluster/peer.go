package cluster

import (
	"log/slog"
	"net/netip"
	"time"
)

// State is what this node knows of another.
//
//	unknown ──connected──▶ alive ──5 heartbeats missed, or the connection ends──▶ suspect ──proof──▶ dead, frozen
//	                        ▲ └──it says goodbye──▶ left                            │ ▲               │
//	                        └──connected and heard──────────────────────────────────┘ └──heard────────┘
//
// The state is that of one instance: a node that comes back under its name with a new instance is another one, and its coming
// is the proof that the old one is dead.
type State string

// The states of a peer.
const (
	Unknown State = "unknown" // told of, never met
	Alive   State = "alive"
	Suspect State = "suspect" // silent, but nothing is proved: it may be slow, or the network between us is at fault
	Frozen  State = "frozen"  // its machine takes connections, the node says nothing: stopped, or starved
	Dead    State = "dead"
	Left    State = "left" // it stopped in good order
)

// Why is what a state rests on.
type Why string

// What a state rests on.
const (
	Heard        Why = "heard"         // alive
	Linked       Why = "linked"        // alive: it can be given messages from now on
	Silent       Why = "silent"        // suspect: heartbeats are missing
	Disconnected Why = "disconnected"  // suspect: the connection has ended
	Answers      Why = "answers"       // suspect: it answers over TCP, only its heartbeats do not come
	HeardOf      Why = "heard by peer" // suspect: we cannot reach it, another node hears it
	Stopped      Why = "stopped"       // left
	Refused      Why = "refused"       // dead: the connection ended, and the machine refuses a new one: nobody is there
	Unreachable  Why = "unreachable"   // dead: heartbeats are missing, TCP cannot connect, and no other node hears it
	Replaced     Why = "replaced"      // dead: the node was started again
	Mute         Why = "mute"          // frozen
	Stalled      Why = "stalled"       // of this node itself: it stood still for a while
)

// Gone says that the instance is dead, or frozen, which is as good for as long as its lease in the store has run out too:
// whoever takes over its calls needs that beside it (and must count on it to wake).
func (s State) Gone() bool { return s == Dead || s == Frozen }

// Ended says that the instance runs no more, and its connections are no more: it is dead, or was stopped. A frozen one may wake.
func (s State) Ended() bool { return s == Dead || s == Left }

// Event is a change of a peer's state. One with Why Stalled is about this node itself, which did not run for Stall: what it knew of
// the others before is old, and others may have taken it for dead. One with Why Linked tells of a connection, a new one perhaps
// to a peer that was alive all the while.
type Event struct {
	Node     Node
	From, To State
	Why      Why
	At       time.Time
	Stall    time.Duration
}

// Peer is a node as this one sees it.
type Peer struct {
	Node
	Self    bool          `json:"self,omitempty"`
	State   State         `json:"state"`
	Why     Why           `json:"why,omitempty"`
	Since   time.Time     `json:"since"`   // of the state
	Age     time.Duration `json:"age"`     // since the last heartbeat
	RTT     time.Duration `json:"rtt"`     // over the connection, 0 = not known
	Load    Load          `json:"load"`    // as told last
	Told    bool          `json:"told"`    // it has told its load: none is known of who has only said that it is there
	Linked  bool          `json:"linked"`  // there is a connection
	Dropped uint64        `json:"dropped"` // messages to it there was no room for
}

// peer is what the mesh holds of a node. All is guarded by the mesh's mu.
type peer struct {
	node    Node
	started int64 // of the instance, unix milliseconds
	state   State
	why     Why
	since   time.Time
	heard   time.Time
	load    Load
	told    bool
	rtt     time.Duration
	dropped uint64

	session *session // nil = no connection
	beats   *beats   // of the last connection
	before  *beats   // the same, until there is another
	beatTo  netip.AddrPort
	dialing bool
	probing bool
	probed  time.Time
	pinged  time.Time
	listed  bool // in the directory
	retry
}

// retry says when something is tried again.
type retry struct {
	next time.Time
	wait time.Duration
}

func (r *retry) failed(now time.Time, t timing) {
	r.wait = min(max(2*r.wait, t.first), t.last)
	r.next = now.Add(r.wait)
}

func (r *retry) reset() { *r = retry{} }

func (p *peer) describe(now time.Time) Peer {
	d := Peer{
		Node: p.node, State: p.state, Why: p.why, Since: p.since, RTT: p.rtt, Load: p.load, Told: p.told, Linked: p.session != nil, Dropped: p.dropped,
	}
	if !p.heard.IsZero() {
		d.Age = now.Sub(p.heard)
	}
	return d
}

// become is the one function that changes a peer's state. mu is held.
func (m *Mesh) become(p *peer, to State, why Why) {
	from := p.state
	if from == to && (p.why == why || to != Suspect) {
		return
	}
	p.state, p.why, p.since = to, why, time.Now()
	level := slog.LevelInfo
	if to.Gone() {
		level = slog.LevelWarn
	}
	m.log.Log(m.ctx, level, "node", "node", p.node.ID, "from", string(from), "to", string(to), "why", string(why))
	if from != to {
		m.tell(Event{Node: p.node, From: from, To: to, Why: why, At: p.since})
	}
}

// hears notes a sign of life of a peer's instance. Alive is who is connected and heard: a heartbeat that was on its way when its
// sender died brings nobody back. One that comes well after a death shows that there was none. mu is held.
func (m *Mesh) hears(p *peer, now time.Time) {
	p.heard = now
	switch {
	case p.state == Alive || p.state == Left:
	case p.session != nil:
		m.become(p, Alive, Heard)
	case p.state.Gone() && now.Sub(p.since) > 2*m.timing.beat:
		m.become(p, Suspect, Disconnected)
	}
}
