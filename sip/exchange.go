package sip

import (
	"fmt"
	"sync"
	"time"
)

// The server transactions (RFC 3261 §17.2, RFC 6026 §7.1):
//
//	INVITE                                           others
//	proceeding ──2xx──▶ accepted ──64·T1──▶ ended    proceeding ──final──▶ ended (its answer stays for 64·T1)
//	   │ 3xx–6xx            (2xx repeated until ACK)
//	   └──▶ completed ──ACK──▶ confirmed ──T4──▶ ended
//	          │ 64·T1 without ACK
//	          └──▶ ended
type txState uint8

const (
	proceeding txState = iota
	accepted
	completed
	confirmed
	ended
)

// serverTx is one server transaction. After its final answer it keeps nothing but that, serialised; that of another request than
// INVITE is at its end then.
type serverTx struct {
	// set once
	shard *shard
	tag   string
	merge mergeKey
	inv   bool

	// guarded by mu
	mu       sync.Mutex
	key      string
	flow     Flow // of the request, or where its sender is by now
	state    txState
	request  *Request // nil after the final answer
	last     []byte   // repeated whenever the request is
	timer    *time.Timer
	interval time.Duration
	until    time.Time
	ack      ackKey
	gotACK   bool      // of our 2xx
	rel      *reliable // provisional answers that must arrive, nil = none
	watch    *Watch
	news     []func(*Watch) // what the watch was not told yet
}

// Exchange is a request and the one way to answer it.
type Exchange struct {
	*Request
	tx *serverTx
}

// Watch tells what becomes of an INVITE. The callbacks run on the dispatcher's queue and must not block.
type Watch struct {
	Cancelled func()     // CANCEL came in time, or no PRACK: the agent has answered the INVITE itself, with 487 or 504
	Acked     func(Body) // ACK of our 2xx (with its body), once
	Unacked   func()     // our 2xx was repeated (T1 doubling to T2) for 64*T1 without ACK
}

// begin opens the transaction of a new request.
func (s *shard) begin(r *Request) *Exchange {
	tx := &serverTx{
		shard: s, key: serverKey(r, r.method), flow: r.flow, tag: r.ToTag(), request: r,
		inv: r.method == "INVITE", merge: mergeKey{r.callID, r.FromTag(), r.cseq},
	}
	if tx.tag == "" {
		tx.tag = s.agent.mark + random(10)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.servers[tx.key] = tx
	if tx.inv && r.ToTag() == "" {
		s.merged[tx.merge] = tx
	}
	if !tx.inv {
		s.open[tx] = time.Now()
	}
	return &Exchange{r, tx}
}

// LocalTag is the To-tag of our answers.
func (x *Exchange) LocalTag() string { return x.tx.tag }

// Respond answers. It never blocks; after a final answer it is ErrAnswered. To-tag, Contact, Allow and Server are
// the agent's part, and so is whether a provisional answer is sent reliably (RFC 3262): then a 2xx may leave later.
func (x *Exchange) Respond(rep Reply) error {
	tx := x.tx
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.answered() {
		return fmt.Errorf("answer %s with %d: %w", x.method, rep.Code, ErrAnswered)
	}
	return tx.answer(rep)
}

// Reroute has the answers to an INVITE go over another flow from now on, because its sender is there now; one that it has not
// acknowledged goes there at once.
func (x *Exchange) Reroute(f Flow) {
	tx := x.tx
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.rekey(f)
	tx.flow = f
	if tx.last != nil && (tx.state == accepted || tx.state == completed) {
		_ = tx.shard.agent.send(f, tx.last)
	}
}

// rekey lets the CANCEL of an INVITE come from where its sender is now. mu is held.
func (tx *serverTx) rekey(f Flow) {
	if tx.state != proceeding || !tx.inv {
		return
	}
	r := *tx.request
	r.flow = f
	s := tx.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.servers, tx.key)
	tx.key = serverKey(&r, r.method)
	s.servers[tx.key] = tx
}

// respond sends an answer and changes the state by it. mu is held.
func (tx *serverTx) respond(rep Reply) error {
	a := tx.shard.agent
	data := a.reply(tx.request, tx.tag, rep)
	tx.last = data
	if rep.Code >= 200 {
		tx.settleProvisional()
	}
	switch {
	case rep.Code < 200:
	case !tx.inv:
		tx.completeOther()
	case rep.Code < 300:
		tx.accept()
	default:
		tx.complete()
	}
	return a.send(tx.flow, data)
}

// completeOther is Timer J: 64·T1 for repeats of the request, none where nothing is lost. The answer stays that long, the
// transaction does not.
func (tx *serverTx) completeOther() {
	if s := tx.shard; !tx.flow.reliable() {
		s.mu.Lock()
		s.answers.keep(tx.key, tx.last, time.Now())
		s.mu.Unlock()
	}
	tx.finish()
}

// accept has the 2xx repeated until the ACK comes, on every transport (RFC 3261 §13.3.1.4).
func (tx *serverTx) accept() {
	r := tx.request
	tx.state, tx.request = accepted, nil
	tx.ack = ackKey{DialogID{r.callID, tx.tag, r.FromTag()}, r.cseq}
	tx.shard.mu.Lock()
	tx.shard.acks[tx.ack] = tx
	tx.shard.mu.Unlock()
	tx.repeatUntil()
}

// complete is a refusal: repeated until the ACK where it can be lost (Timers G and H).
func (tx *serverTx) complete() {
	tx.state, tx.request = completed, nil
	if !tx.flow.reliable() {
		tx.repeatUntil()
		return
	}
	tx.shard.later(tx.end)
}

func (tx *serverTx) repeatUntil() {
	t := tx.shard.agent.timing
	tx.interval = t.t1
	tx.until = time.Now().Add(t.life())
	tx.timer = time.AfterFunc(tx.interval, tx.tick)
}

// tick repeats the final answer, or gives up.
func (tx *serverTx) tick() {
	defer tx.shard.agent.survive()
	tx.mu.Lock()
	defer tx.mu.Unlock()
	switch {
	case tx.timer == nil:
		return
	case tx.state == proceeding:
		tx.repeatProvisional()
		return
	case tx.state != accepted && tx.state != completed:
		return
	}
	if !time.Now().Before(tx.until) {
		if tx.state == accepted {
			tx.tell(func(w *Watch) { call(w.Unacked) })
		}
		tx.finish()
		return
	}
	_ = tx.shard.agent.send(tx.flow, tx.last)
	tx.interval = min(2*tx.interval, tx.shard.agent.timing.t2)
	tx.timer.Reset(min(tx.interval, time.Until(tx.until)))
}

func (tx *serverTx) stopTimer() {
	if tx.timer != nil {
		tx.timer.Stop()
		tx.timer = nil
	}
}

// repeat answers a repeated request with what was answered last, to where it comes from now: another port of its sender's NAT, or a
// new connection (RFC 3261 §18.2.2).
func (tx *serverTx) repeat(from Flow) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.flow = from
	if tx.last != nil && tx.state != confirmed {
		_ = tx.shard.agent.send(tx.flow, tx.last)
	}
}

// acked is the ACK of a refusal.
func (tx *serverTx) acked() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state != completed || !tx.inv {
		return
	}
	tx.state, tx.last, tx.watch = confirmed, nil, nil
	tx.stopTimer()
	tx.shard.later(tx.end) // at least Timer I
}

// acked2xx is the ACK of our 2xx. The transaction stays to absorb late repeats of its INVITE (RFC 6026 §7.1).
func (tx *serverTx) acked2xx(r *Request) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state != accepted || tx.gotACK {
		return
	}
	tx.gotACK, tx.last = true, nil
	tx.stopTimer()
	body := r.body
	tx.tell(func(w *Watch) {
		if w.Acked != nil {
			w.Acked(body)
		}
	})
	tx.shard.later(tx.end)
}

// cancel ends an INVITE that is not answered yet. Against a final answer it comes first or not at all.
func (tx *serverTx) cancel() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state != proceeding {
		return
	}
	_ = tx.respond(Reply{Code: 487})
	tx.tell(func(w *Watch) { call(w.Cancelled) })
}

// Watch has w told what becomes of the INVITE; what has happened already is told now.
func (x *Exchange) Watch(w Watch) {
	x.tx.mu.Lock()
	defer x.tx.mu.Unlock()
	x.tx.watch = &w
	x.tx.tell()
}

// tell posts news, and what was kept while nobody watched. There is one piece of news of an INVITE, so that who has been
// told is let go: the transaction lives on for half a minute, and a call would with it. mu is held.
func (tx *serverTx) tell(news ...func(*Watch)) {
	tx.news = append(tx.news, news...)
	w := tx.watch
	if w == nil || len(tx.news) == 0 {
		return
	}
	for _, n := range tx.news {
		tx.shard.queue.Post(func() { n(w) })
	}
	tx.news, tx.watch = nil, nil
}

func call(fn func()) {
	if fn != nil {
		fn()
	}
}

// abandon ends a transaction that its handler has left without an answer.
func (tx *serverTx) abandon() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.state == proceeding {
		tx.finish()
	}
}

// end is the end of the transaction's life.
func (tx *serverTx) end() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.finish()
}

// finish takes the transaction out of the tables. mu is held.
func (tx *serverTx) finish() {
	tx.state, tx.last, tx.request = ended, nil, nil
	tx.stopTimer()
	s := tx.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, tx)
	if s.servers[tx.key] == tx {
		delete(s.servers, tx.key)
	}
	if s.merged[tx.merge] == tx {
		delete(s.merged, tx.merge)
	}
	if s.acks[tx.ack] == tx {
		delete(s.acks, tx.ack)
	}
	if tx.rel != nil {
		delete(s.early, tx.earlyKey())
	}
}
