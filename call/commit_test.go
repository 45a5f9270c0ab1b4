package call_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/store"
	"baton/test/phone"
)

// faultyStore is the real store with the troubles that a store can have.
type faultyStore struct {
	*store.Bolt

	mu    sync.Mutex
	delay time.Duration
	err   error
	puts  int
	falls string // the call whose writes and end panic
	holds bool
	held  []func() // what waits meanwhile
	began time.Time
	slow  []slow // what is done late, in its order
	works bool   // somebody does it
}

// slow is something that a store does late.
type slow struct {
	due time.Time
	do  func()
}

// storeDelays are how long the writes of a node take from its start on, by the directory of its store.
var storeDelays sync.Map

func newFaultyStore(b *store.Bolt, dir string) *faultyStore {
	f := &faultyStore{Bolt: b}
	if d, ok := storeDelays.Load(dir); ok {
		f.delay = d.(time.Duration)
	}
	return f
}

// first is when the first write was begun.
func (f *faultyStore) first() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.began
}

// fall has every write of a call panic.
func (f *faultyStore) fall(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.falls = id
}

func (f *faultyStore) fault(delay time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay, f.err = delay, err
}

// hold lets no write and no end through until the function that it gives is called; what waits for one waits on, however long that is.
func (r *rig) hold() (release func()) {
	was := r.b.BePatient(time.Minute)
	open := r.faults.hold(r.t)
	return func() {
		open()
		r.b.BePatient(was)
	}
}

// hold lets no write and no end through until the function that it gives is called.
func (f *faultyStore) hold(t *testing.T) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds = true
	release = func() { // in their order, and what comes meanwhile behind them
		for {
			f.mu.Lock()
			held := f.held
			f.held, f.holds = nil, len(held) > 0
			f.mu.Unlock()
			if len(held) == 0 {
				return
			}
			for _, do := range held {
				do()
			}
		}
	}
	t.Cleanup(release)
	return release
}

// after does something in delay, behind what was to be done before it, or when nothing is held any more.
func (f *faultyStore) after(delay time.Duration, do func()) {
	f.mu.Lock()
	if f.holds {
		f.held = append(f.held, do)
		f.mu.Unlock()
		return
	}
	if delay == 0 && !f.works {
		f.mu.Unlock()
		do()
		return
	}
	f.slow = append(f.slow, slow{time.Now().Add(delay), do})
	begins := !f.works
	f.works = true
	f.mu.Unlock()
	if begins {
		go f.work()
	}
}

// work does what is late until nothing is left.
func (f *faultyStore) work() {
	for {
		f.mu.Lock()
		if len(f.slow) == 0 {
			f.works = false
			f.mu.Unlock()
			return
		}
		next := f.slow[0]
		f.slow = f.slow[1:]
		f.mu.Unlock()
		time.Sleep(time.Until(next.due))
		next.do()
	}
}

func (f *faultyStore) Put(s call.Stored, done func(error)) {
	f.mu.Lock()
	delay, err, falls := f.delay, f.err, s.ID == f.falls
	f.puts++
	if f.began.IsZero() {
		f.began = time.Now()
	}
	f.mu.Unlock()
	if falls {
		panic("test: the store falls over")
	}
	f.after(delay, func() {
		if err != nil {
			done(err)
			return
		}
		f.Bolt.Put(s, done)
	})
}

// End takes as long as a write.
func (f *faultyStore) End(id string, epoch uint64, done func(error)) {
	f.mu.Lock()
	delay := f.delay
	f.mu.Unlock()
	f.after(delay, func() { f.Bolt.End(id, epoch, done) })
}

func (f *faultyStore) PutLater(s call.Stored, done func(error)) {
	f.mu.Lock()
	faulty := f.holds || f.delay > 0 || f.err != nil || s.ID == f.falls
	f.mu.Unlock()
	if faulty {
		f.Put(s, done)
		return
	}
	f.Bolt.PutLater(s, done)
}

func newPair(t *testing.T) (*rig, *phone.Phone, *phone.Phone) {
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	return r, r.phone("alice", 1), r.phone("bob", 1)
}

// TestRecordBeforeAnswer reads the store at the moment the caller has its 200: the record must know the call as up, with
// both dialogs, or a crash right now would lose an answered call.
func TestRecordBeforeAnswer(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.faults.fault(20*time.Millisecond, nil)
	bob.Behave(phone.AutoAnswer)
	out, err := alice.Dial("102")
	must(t, err)
	must(t, out.Await(3*time.Second))
	stored, err := r.store.Calls()
	must(t, err)
	if len(stored) != 1 {
		t.Fatalf("%d records at the 200", len(stored))
	}
	var rec call.Record
	must(t, json.Unmarshal([]byte(recordText(t, stored[0])), &rec))
	if rec.State != call.StateUp || len(rec.Seats) != 2 || len(rec.Seats[0].Legs) != 1 || len(rec.Seats[1].Legs) != 1 {
		t.Errorf("the record at the 200 does not hold the call: %+v", rec)
	}
	for _, s := range rec.Seats {
		if d := s.Legs[0].Dialog; d.CallID == "" || d.LocalTag == "" || d.Target == "" {
			t.Errorf("%s's dialog cannot be gone on with: %+v", s.User, d)
		}
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestSlowStore has the store hang: calls are set up and moved all the same, within 50 ms more, and are marked unsafe.
func TestSlowStore(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("alice", 2)
	r.faults.fault(2*time.Second, nil)
	out, in := r.connect(alice, bob)
	if took := out.Times().Answered.Sub(out.Times().Sent); took > time.Second {
		t.Errorf("set-up took %v with a slow store", took)
	}
	calls := r.b.Calls("")
	if len(calls) != 1 || !calls[0].Unsafe {
		t.Errorf("a call that is not in the store is not marked: %+v", calls)
	}
	desk.Behave(phone.AutoAnswer)
	if _, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2"}); err != nil {
		t.Fatal(err)
	}
	r.faults.fault(0, nil)
	r.eventually("the call is safe again", 8*time.Second, func() bool { return !r.b.Calls("")[0].Unsafe })
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestStoreFails has every write refused: the calls go on, and the newest record is written once it can be.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.faults.fault(0, errors.New("disk full"))
	out, in := r.connect(alice, bob)
	stored, err := r.store.Calls()
	must(t, err)
	if len(stored) != 0 {
		t.Fatalf("the fault does not work: %d records", len(stored))
	}
	r.faults.fault(0, nil)
	r.eventually("the newest record is written", 8*time.Second, func() bool {
		stored, err := r.store.Calls()
		return err == nil && len(stored) == 1 && !r.b.Calls("")[0].Unsafe
	})
	if !out.Hears(in, time.Second) {
		t.Error("the call was disturbed")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestFencedOff has the record owned by a higher epoch: this node falls silent about the call. The phones get no BYE, for
// the call lives on elsewhere.
func TestFencedOff(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	began := time.Now()
	r.faults.fault(0, call.ErrStale)
	must(t, out.Hold(phone.HoldSendonly)) // a change that is written within a second
	r.eventually("the node lets go of the call", 5*time.Second, func() bool { return len(r.b.Calls("")) == 0 })
	if n := r.engine.OpenStreams(); n != 0 {
		t.Errorf("%d streams still send", n)
	}
	time.Sleep(50 * time.Millisecond) // a BYE would have been sent before its stream was closed
	for _, c := range []*phone.Call{out, in} {
		if c.State() != phone.Up {
			why, _ := c.Why()
			t.Errorf("%s was hung up (%s)", c.Phone().Config().User, why)
		}
	}
	for _, m := range append(alice.Received(began), bob.Received(began)...) {
		if m.Method != "" {
			t.Errorf("a fenced node sent %s", m.Line())
		}
	}
	stored, err := r.store.Calls()
	must(t, err)
	if len(stored) != 1 {
		t.Errorf("the other node's record was deleted")
	}
}
