package sip

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"baton/config"
)

// What one source, one user and all strangers together may send (docs/operate.md, Limits). A message is judged before it is
// read, by where it comes from alone:
//
//	a flow that somebody has logged in on, or that has answered a request of ours ──▶ the flow's own bucket
//	another flow of such a source                                                ──▶ the source's
//	a stranger                                                 ──▶ his source's, then that of all strangers
//
// so that neither strangers nor a neighbour behind the same NAT use up what a device needs for its calls. The first few
// beyond the limit are answered 503, the rest is dropped.

// excess is why a message was not served.
type excess int

const (
	within excess = iota
	overDevice
	overSource
	overStranger
	overStrangers
	overUser
	overCalls
	overLoad
	overQueue
	allExcesses
)

// excesses are the names under which each is counted.
var excesses = [allExcesses]string{
	overDevice:    "device", // a flow of somebody who has logged in
	overSource:    "source", // another of its address
	overStranger:  "stranger",
	overStrangers: "strangers",
	overUser:      "user",
	overCalls:     "calls",
	overLoad:      "busy",
	overQueue:     "queue",
}

func (e excess) String() string { return excesses[e] }

const (
	// provenFor is how long at least a flow or source is known after its last proof: a registration may last an hour.
	provenFor = 65 * time.Minute
	// sourcesHeld is how many strangers' sources can be told apart.
	sourcesHeld = 16_384
	usersHeld   = 4096
)

var (
	refusals503 = rate{every: int64(time.Second) / 3, burst: int64(time.Second)} // of one source or user
	allRefusals = perSecond(100)                                                 // of all that are judged before they are read
)

type limits struct {
	// set once
	began                         time.Time
	source, stranger, user, calls rate
	strangers                     rate // all together; REGISTER and the rest each
	busy                          func() bool
	sources, users                *table
	proven                        *proven
	guesses                       *guesses

	waiting          atomic.Int64 // bytes of the messages in queues
	dropped, refused [allExcesses]atomic.Uint64

	// guarded by mu: debts of what all share
	mu                         sync.Mutex
	registers, others, answers int64
}

func newLimits(c config.Limits, busy func() bool) *limits {
	if c == (config.Limits{}) {
		c = config.Default().Limits
	}
	l := &limits{
		began: time.Now(), source: perSecond(c.Source), stranger: perSecond(c.Stranger), user: perSecond(c.User),
		calls: perSecond(c.Calls), strangers: perSecond(c.Strangers), busy: busy, sources: newTable(sourcesHeld),
		users: newTable(usersHeld), proven: newProven(provenFor),
	}
	l.strangers.burst = 2 * int64(time.Second) // what matters sends again, and audio is not to wait for the rest
	l.guesses = newGuesses(l)
	return l
}

// now is the clock of all buckets.
func (l *limits) now() int64 { return int64(time.Since(l.began)) }

// learn notes that a user has logged in on a flow.
func (l *limits) learn(f Flow, user string) {
	now := l.now()
	l.proven.learn(flowKey(f).hash(), now)
	l.proven.learn(sourceKey(f).hash(), now)
	l.proven.learn(loginKey(f, user).hash(), now)
}

// answered notes that a request of ours was answered over a flow: its branch is nothing that a stranger could guess.
func (l *limits) answered(f Flow) {
	now := l.now()
	l.proven.learn(flowKey(f).hash(), now)
	l.proven.learn(sourceKey(f).hash(), now)
}

// knows says whether somebody has proved himself on a flow.
func (l *limits) knows(f Flow) bool { return l.proven.has(flowKey(f).hash(), l.now()) }

// judge holds a message against the limits of where it comes from.
func (l *limits) judge(data []byte, f Flow, now int64) excess {
	if known, ok := l.proven.take(flowKey(f).hash(), l.source, now); known {
		return unless(ok, overDevice)
	}
	source := sourceKey(f).hash()
	if known, ok := l.proven.take(source, l.source, now); known {
		return unless(ok, overSource)
	}
	if !l.sources.take(source, l.stranger, now) {
		return overStranger
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	share := &l.others
	if bytes.HasPrefix(data, []byte("REGISTER ")) { // so that a flood of calls does not keep phones from registering
		share = &l.registers
	}
	next, ok := l.strangers.take(*share, now)
	*share = next
	return unless(ok, overStrangers)
}

func unless(ok bool, e excess) excess {
	if ok {
		return within
	}
	return e
}

// answersOne says whether a message beyond the limit is still worth reading: to serve what belongs to a call, and to answer
// the rest.
func (l *limits) answersOne(data []byte, f Flow, now int64) bool {
	if bytes.HasPrefix(data, []byte("SIP/2.0 ")) || bytes.HasPrefix(data, []byte("ACK ")) {
		return false
	}
	k := sourceKey(f)
	k.kind = ofAnswer
	if !l.sources.take(k.hash(), refusals503, now) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	next, ok := allRefusals.take(l.answers, now)
	l.answers = next
	return ok
}

// admits says whether a message that has just come is to be read at all. It costs the same for each, and knows nothing
// but its first word and where it came from. Any number of readers may call it.
func (a *Agent) admits(data []byte, f Flow) bool {
	l := a.limits
	now := l.now()
	why := l.judge(data, f, now)
	switch {
	case why == within:
		return true
	case l.answersOne(data, f, now):
		a.turnAway(data, f, why)
	default:
		l.dropped[why].Add(1)
	}
	return false
}

// turnAway reads a message beyond the limit, and refuses it unless it belongs to something that goes on.
func (a *Agent) turnAway(data []byte, f Flow, why excess) {
	defer a.survive()
	m, _ := parse(data, f)
	r, ok := m.(*Request)
	if !ok {
		a.limits.dropped[why].Add(1)
		return
	}
	s := a.shard(r.callID)
	a.enqueue(s, len(data), quarter, func() {
		switch {
		case s.belongs(r):
			s.request(r)
		case r.method == "CANCEL":
			a.limits.dropped[why].Add(1)
		default:
			s.tooMuch(r, why)
		}
	})
}

// belongs says whether a request is part of a transaction or a dialog that is there.
func (s *shard) belongs(r *Request) bool {
	method := r.method
	if method == "CANCEL" {
		method = "INVITE"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, d := serverKey(r, method), s.dialogs[DialogID{r.callID, r.ToTag(), r.FromTag()}]
	return s.servers[key] != nil || s.answers.find(key) != nil || d != nil && d.flow.Remote.Addr() == r.flow.Remote.Addr()
}

// tooMuch answers 503, statelessly; when the sender may try again is drawn, so that not all do it at once.
func (s *shard) tooMuch(r *Request, why excess) {
	s.agent.limits.refused[why].Add(1)
	s.stateless(r, Reply{Code: 503, Headers: []Header{RetryAfter(5, 15)}})
}

// RetryAfter is the header (RFC 3261 §20.33) with a number of seconds drawn from low to high.
func RetryAfter(low, high int) Header {
	return Header{"Retry-After", strconv.Itoa(low + rand.IntN(high-low+1))}
}

// shed answers a request outside dialogs that a node under load does not take: all but registrations, and whether
// it is there at all. true if it did.
func (s *shard) shed(r *Request) bool {
	busy := s.agent.limits.busy
	if busy == nil || r.method == "REGISTER" || r.method == "OPTIONS" || !busy() {
		return false
	}
	s.tooMuch(r, overLoad)
	return true
}

// exceeds answers a request outside dialogs of a user who sends too many of them; true if it is not to be served.
func (s *shard) exceeds(r *Request) bool {
	l := s.agent.limits
	key, most, why, now := bucketKey{kind: ofUser, user: r.user}, l.user, overUser, l.now()
	if r.method == "INVITE" {
		key.kind, most, why = ofCaller, l.calls, overCalls
	}
	if l.users.take(key.hash(), most, now) {
		return false
	}
	if key.kind = ofAnswer; l.users.take(key.hash(), refusals503, now) {
		s.tooMuch(r, why)
	} else {
		l.dropped[why].Add(1)
	}
	if more, ok := s.agent.seldom.allow(why.String()); ok {
		s.agent.log.Warn("a user sends too much", "user", r.user, "from", r.flow.String(), "limit", why, "unsaid", more)
	}
	return true
}

// Traffic counts what was not served since the start, by reason (docs/operate.md, Limits), and what is known of senders.
type Traffic struct {
	Dropped map[string]uint64 `json:"dropped"` // without an answer
	Refused map[string]uint64 `json:"refused"` // with 503
	Kernel  uint64            `json:"kernel"`  // datagrams that came while the socket's buffer was full
	Waiting int64             `json:"waiting"` // bytes in queues, now
	Known   int               `json:"known"`   // flows, sources and logins that have proved themselves
	Failed  uint64            `json:"failed"`  // logins
	Unread  uint64            `json:"unread"`  // logins that were not looked at, because somebody guesses
}

// Traffic counts at this moment. Reasons that never occurred are left out.
func (a *Agent) Traffic() Traffic {
	l := a.limits
	t := Traffic{
		Dropped: map[string]uint64{}, Refused: map[string]uint64{}, Waiting: l.waiting.Load(), Known: l.proven.len(),
		Failed: l.guesses.count.Load(), Unread: l.guesses.unread.Load(),
	}
	for e := range allExcesses {
		if n := l.dropped[e].Load(); n > 0 {
			t.Dropped[e.String()] = n
		}
		if n := l.refused[e].Load(); n > 0 {
			t.Refused[e.String()] = n
		}
	}
	if a.udp != nil {
		t.Kernel = kernelDrops(a.udp.conn)
	}
	return t
}
