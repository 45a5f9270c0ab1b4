package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"baton/call"
)

const (
	redisBatch = 256 // writes that are sent together
	// usualRetry to longestRetry is the pause before a server that was away is tried again.
	usualRetry   = 50 * time.Millisecond
	longestRetry = 500 * time.Millisecond
	replicaWait  = 50 * time.Millisecond // that a replica may take to have a write
	askReplicas  = 5 * time.Second       // how often a server is asked whether it has any
	goodbye      = 3 * time.Second       // for what is left at the end
)

var errNoReplica = errors.New("no replica has confirmed it")

// change is one write on its way. Its issue queues its commands, the last of which tells how it went: an integer, 0 = refused as stale.
type change struct {
	key   string // what it is of: a later one of the same key takes its place while the server is away; "" = nothing's
	epoch uint64 // of a call
	entry bool   // of the log
	safe  bool   // somebody waits for it: it shall survive the loss of the master
	asks  bool   // it finds out whether a replica confirms again what none has
	over  string // id of a call that it ends
	bound *bound // devices: they are merged with those of an earlier change
	issue func(ctx context.Context, p redis.Pipeliner, number uint64) *redis.Cmd
	done  func(error) // nil = nobody asks

	issued bool // the server may have it
}

func (c *change) tell(err error) {
	if c.done != nil {
		c.done(err)
	}
}

// redisQueue is the one that writes. It sends what is queued at once and together, in order, and tells of it in order. While the
// server is away it tells everybody so at once, keeps the newest of each key and sends that when the server is back.
type redisQueue struct {
	s        *Redis
	sentinel bool
	wake     chan struct{}
	laterBy  time.Duration // set before run

	mu     sync.Mutex
	queue  []*change
	timer  *time.Timer
	closed bool

	// guarded by turn, of who writes
	turn     sync.Mutex
	kept     kept
	away     bool
	pause    time.Duration
	retryAt  time.Time
	number   uint64
	hinted   map[string]bool                 // members of sets that were written since the server was last away
	gone     []any                           // ids of calls that have ended, and have yet to be taken out of the set of all
	linked   map[string]map[string]time.Time // by call, the Call-IDs that were written as its own, and when
	since    time.Time                       // when the server was last away
	replicas bool                            // the server has some
	unsure   map[string]*bound               // by user, devices that are written and that no replica has confirmed
	sure     bool                            // the last write that a replica was asked of was confirmed
	askedAt  time.Time                       // for them

	telling sync.Mutex // taken before turn is given back, so that the order is kept
}

func newRedisQueue(s *Redis, sentinel bool) *redisQueue {
	return &redisQueue{
		s: s, sentinel: sentinel, wake: make(chan struct{}, 1), laterBy: usualLaterBy,
		hinted: map[string]bool{}, linked: map[string]map[string]time.Time{}, unsure: map[string]*bound{},
	}
}

// add queues a write; it does not wait.
func (q *redisQueue) add(c *change) {
	if q.enqueue(c) {
		q.signal()
	}
}

// later queues a write that nobody waits for.
func (q *redisQueue) later(c *change) {
	if !q.enqueue(c) {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer == nil {
		q.timer = time.AfterFunc(q.laterBy, q.signal)
	}
}

func (q *redisQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *redisQueue) enqueue(c *change) bool {
	q.mu.Lock()
	err := errClosed
	if !q.closed {
		if err = nil; len(q.queue) >= maxQueue {
			err = errFull
		}
	}
	if err == nil {
		q.queue = append(q.queue, c)
	}
	q.mu.Unlock()
	if err != nil {
		c.tell(err)
	}
	return err == nil
}

func (q *redisQueue) loop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			q.flush()
			return
		case <-q.wake:
			q.flush()
		}
	}
}

// close sends what is left, if the server takes it soon, and takes nothing more.
func (q *redisQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	for end := time.Now().Add(goodbye); ; time.Sleep(usualRetry) {
		q.flush()
		q.turn.Lock()
		left := q.kept.len()
		q.turn.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			q.s.log.Error("store is out of reach at the end: changes are lost", "changes", left)
			break
		}
	}
	q.telling.Lock() // waits until everybody has been told
	defer q.telling.Unlock()
}

// caughtUp is catchUp for what must not be read while newer is kept here.
func (q *redisQueue) caughtUp() error {
	q.catchUp()
	q.turn.Lock()
	defer q.turn.Unlock()
	if q.away {
		return fmt.Errorf("store is out of reach: %w", call.ErrUnsafe)
	}
	return nil
}

func (q *redisQueue) flush() {
	for q.flushBatch() {
	}
}

// catchUp sends what is queued now, so that it can be read.
func (q *redisQueue) catchUp() {
	q.mu.Lock()
	left := len(q.queue)
	q.mu.Unlock()
	for {
		q.flushBatch() // also waits for a batch that is under way
		if left -= redisBatch; left <= 0 {
			return
		}
	}
}

// flushBatch sends a batch; false says that there was none, or that the server is not to be tried yet.
func (q *redisQueue) flushBatch() bool {
	batch, results, more := q.sendBatch()
	if len(batch) == 0 {
		return more
	}
	tell := func() {
		defer q.telling.Unlock()
		for i, err := range results {
			batch[i].tell(err)
		}
	}
	if len(batch) <= fewTold {
		tell()
	} else {
		go tell()
	}
	return true
}

// sendBatch sends what is queued, behind what was kept. If that is anything, telling is held when it returns.
func (q *redisQueue) sendBatch() (batch []*change, results []error, more bool) {
	q.turn.Lock()
	defer q.turn.Unlock()
	if q.away {
		more = q.sendKept()
	}
	if batch = q.take(); !q.away {
		batch = append(q.again(redisBatch-len(batch)), batch...)
	}
	if len(batch) == 0 {
		return nil, nil, more
	}
	if q.away {
		results = q.keepAll(batch)
	} else {
		results = q.send(batch)
	}
	q.telling.Lock()
	return batch, results, true
}

func (q *redisQueue) take() []*change {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	n := min(len(q.queue), redisBatch)
	batch := q.queue[:n:n]
	q.queue = q.queue[n:]
	return batch
}

// sendKept tries a server that was away, when it is time to, with what was kept for it; true = it is back.
func (q *redisQueue) sendKept() bool {
	if time.Now().Before(q.retryAt) {
		return false
	}
	for n := 0; ; {
		work := q.kept.first(redisBatch)
		_, failed, err := q.exec(work)
		q.kept.drop(failed)
		n += failed
		if err != nil {
			q.lost(err)
			return false
		}
		if q.kept.len() == 0 {
			q.away, q.pause = false, 0
			q.s.log.Info("what was kept for the store is written", "changes", n)
			return true
		}
	}
}

// keepAll keeps changes for a server that is away.
func (q *redisQueue) keepAll(batch []*change) []error {
	results := make([]error, len(batch))
	for i, c := range batch {
		results[i] = fmt.Errorf("store is out of reach: %w", call.ErrUnsafe)
		q.keep(c)
	}
	return results
}

// send sends a batch. From the first write on that the server did not take, all are kept: each is told how it went.
func (q *redisQueue) send(batch []*change) []error {
	results, failed, err := q.exec(batch)
	if err == nil {
		return results
	}
	for i := failed; i < len(batch); i++ {
		if errors.Is(results[i], call.ErrStale) || permanent(results[i]) {
			continue
		}
		q.keep(batch[i])
		if results[i] != nil {
			results[i] = fmt.Errorf("%w: %w", call.ErrUnsafe, results[i])
		}
	}
	q.away = true
	q.lost(err)
	return results
}

// lost notes that the server is away, and has it tried again soon.
func (q *redisQueue) lost(err error) {
	q.s.health.ill(err)
	q.pause = min(max(2*q.pause, usualRetry), longestRetry)
	q.retryAt = time.Now().Add(q.pause)
	q.hinted, q.since = map[string]bool{}, time.Now()
	q.askedAt, q.sure = time.Time{}, false
	time.AfterFunc(q.pause+time.Millisecond, q.signal)
}

// exec sends changes in one go. The error is trouble with the server, which may pass; failed is then the first change it has hit. Without
// trouble failed is their number.
func (q *redisQueue) exec(work []*change) (results []error, failed int, err error) {
	results, failed, err = q.execOnce(work)
	if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		defer cancel()
		if err = loadScripts(ctx, q.s.client); err != nil {
			return results, failed, err
		}
		results, failed, err = q.execOnce(work)
	}
	return results, failed, err
}

func (q *redisQueue) execOnce(work []*change) (results []error, failed int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	pipe := q.s.client.Pipeline()
	if len(q.gone) > 0 {
		pipe.SRem(ctx, q.s.key("calls"), q.gone...)
	}
	waits := slices.ContainsFunc(work, func(c *change) bool { return c.safe || c.asks && len(q.unsure) > 0 }) && q.waits(ctx)
	cmds := make([]*redis.Cmd, len(work))
	for i, c := range work {
		q.number++
		c.issued = true
		cmds[i] = q.whole(c).issue(ctx, pipe, q.number)
	}
	var wait *redis.Cmd
	if waits {
		wait = pipe.Do(ctx, "WAIT", 1, replicaWait.Milliseconds())
	}
	if len(work) == 0 {
		pipe.Ping(ctx)
	}
	_, whole := pipe.Exec(ctx)
	results, failed, err = q.outcomes(cmds, whole)
	if err == nil && len(work) == 0 {
		err = whole
	}
	soft := ""
	if wait != nil {
		var unsure error
		if soft, unsure = unconfirmed(wait, work, results); unsure != nil || err != nil && soft != "" {
			failed = 0 // what stands before the first failure is lost with this master
		}
		if err == nil {
			err = unsure
		}
	}
	if err == nil {
		q.gone = nil
		q.s.health.well(soft)
		if wait != nil {
			q.confirm(work, soft == "")
		}
	}
	q.ended(work[:failed], results)
	return results, failed, err
}

// ended notes which calls there are no more. They leave the set of all with the next writes, not with their end: that may be refused,
// as of a call that another node has taken over.
func (q *redisQueue) ended(work []*change, results []error) {
	for i, c := range work {
		if c.over == "" {
			continue
		}
		delete(q.hinted, hintOf(q.s.key("calls"), c.over))
		if results[i] == nil {
			q.gone = append(q.gone, c.over)
		}
	}
}

// outcomes reads the answers. Where a server or sentinel has refused the connection, whole says so and the commands have neither answer nor error.
func (q *redisQueue) outcomes(cmds []*redis.Cmd, whole error) (results []error, failed int, err error) {
	results, failed = make([]error, len(cmds)), len(cmds)
	for i, cmd := range cmds {
		v, e := cmd.Result()
		if v == nil && e == nil {
			e = fmt.Errorf("not sent: %w", whole)
		}
		switch n, refused := v.(int64); {
		case e != nil:
			results[i] = e
			if permanent(e) {
				q.s.log.Error("write to the store is refused", "err", e)
			} else if err == nil {
				failed, err = i, e
			}
		case refused && n == 0 && cmd.Name() == "evalsha":
			results[i] = call.ErrStale
		}
	}
	return results, failed, err
}

// unconfirmed tells those who wait that no replica has their writes.
func unconfirmed(wait *redis.Cmd, work []*change, results []error) (soft string, err error) {
	n, err := wait.Int()
	if err != nil || n > 0 {
		if permanent(err) {
			err = nil // a server that knows no WAIT
		}
		for i, c := range work {
			if err != nil && c.safe && results[i] == nil {
				results[i] = err
			}
		}
		return "", err
	}
	for i, c := range work {
		if c.safe && results[i] == nil {
			results[i] = fmt.Errorf("%w: %w", call.ErrUnsafe, errNoReplica)
		}
	}
	return errNoReplica.Error(), nil
}

// waits says whether a write is to be confirmed by a replica: with sentinels always, else where the server has any.
func (q *redisQueue) waits(ctx context.Context) bool {
	if q.sentinel {
		return true
	}
	if time.Since(q.askedAt) > askReplicas {
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		defer cancel()
		info, err := q.s.client.Info(ctx, "replication").Result()
		if err == nil { // else it is as it was
			q.askedAt = time.Now()
			q.replicas = strings.Contains(info, "connected_slaves:") && !strings.Contains(info, "connected_slaves:0")
		}
	}
	return q.replicas
}

// hint queues that a set has a member, if it is not known to.
func (q *redisQueue) hint(ctx context.Context, p redis.Pipeliner, set, member string) {
	if at := hintOf(set, member); !q.hinted[at] {
		q.hinted[at] = true
		p.SAdd(ctx, set, member)
	}
}

// unhint queues that a set has a member no more.
func (q *redisQueue) unhint(ctx context.Context, p redis.Pipeliner, set, member string) {
	delete(q.hinted, hintOf(set, member))
	p.SRem(ctx, set, member)
}

func hintOf(set, member string) string { return set + "\x00" + member }
