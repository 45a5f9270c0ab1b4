package call_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/test/phone"
)

// TestAdoptedLegIsServedAllTheTime: the phones of both far sides ask for something all the time while their call is handed
// over. Each of their requests is answered as ever, and ours to them count on.
func TestAdoptedLegIsServedAllTheTime(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for _, c := range []*phone.Call{tr.carols, tr.bobs} {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				method := []string{"OPTIONS", "INFO", "UPDATE"}[n%3]
				if _, err := c.Request(method, nil); err != nil {
					t.Errorf("%s of %s: %v", method, c.Phone().Config().User, err)
					return
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	time.Sleep(100 * time.Millisecond)
	close(stop)
	busy.Wait()
	tr.together(tr.bobs, tr.carols)
	for _, c := range []*phone.Call{tr.carols, tr.bobs} {
		var seqs []uint32
		for _, m := range c.Phone().Received(c.Times().Answered) {
			if m.Get("Call-ID") == c.ID() && m.Method != "" && m.Method != "ACK" {
				n, _ := m.CSeq()
				seqs = append(seqs, n)
			}
		}
		if len(seqs) == 0 || !slices.IsSorted(seqs) {
			t.Errorf("CSeqs to %s: %v", c.Phone().Config().User, seqs)
		}
	}
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAdoptedKeys: a key that carol's phone presses after the hand-over is told to bob's, once, as it was before.
func TestAdoptedKeys(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	if _, err := tr.carols.Request("INFO", []byte("Signal=5\r\nDuration=100\r\n"), header("Content-Type", "application/dtmf-relay")); err != nil {
		t.Fatal(err)
	}
	tr.eventually("bob has heard the key", 3*time.Second, func() bool {
		return slices.ContainsFunc(tr.bobs.Media().Heard(), func(p phone.Packet) bool { return p.Event != nil })
	})
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAdoptedKeysByRTP: bob's phone knows keys by INFO alone. What carol presses long after the hand-over, when the call that
// she came from has ended, is told to him, once.
func TestAdoptedKeysByRTP(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, fmt.Sprint(101+i))
	}
	tr := &trio{rig: r, alice: r.phone("alice", 1), carol: r.phone("carol", 1)}
	tr.bob = r.phone("bob", 1, updates, func(c *phone.Config) { c.Codecs = []phone.Codec{phone.PCMU} })
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	tr.consult()
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	tr.carols.Media().Press('5', 100*time.Millisecond)
	tr.eventually("bob is told the key", 3*time.Second, func() bool { return len(requestsTo(tr.bob, "INFO")) > 0 })
	time.Sleep(300 * time.Millisecond)
	if n := len(requestsTo(tr.bob, "INFO")); n != 1 {
		t.Errorf("told %d times", n)
	}
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAdoptedRecord reads the store when the phone that transferred has its answer: each dialog is in one call's record, carol's
// in that with bob's.
func TestAdoptedRecord(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	tr.faults.fault(20*time.Millisecond, nil)
	_, err := tr.first.ReferTo(tr.second)
	must(t, err)
	stored, err := tr.store.Calls()
	must(t, err)
	in := map[string][]string{}
	for _, s := range stored {
		var r call.Record
		must(t, json.Unmarshal([]byte(recordText(t, s)), &r))
		for _, seat := range r.Seats {
			for _, l := range seat.Legs {
				in[l.Dialog.CallID] = append(in[l.Dialog.CallID], r.ID)
			}
		}
	}
	carols, bobs := in[tr.carols.ID()], in[tr.bobs.ID()]
	if len(carols) != 1 || len(bobs) != 1 || carols[0] != bobs[0] {
		t.Errorf("carol's dialog is in %v, bob's in %v", carols, bobs)
	}
	tr.faults.fault(0, nil)
	tr.together(tr.bobs, tr.carols)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAdoptedWithoutStore: the store fails just then. The transfer is done all the same.
func TestAdoptedWithoutStore(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	tr.faults.fault(0, errors.New("the disk is full"))
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	tr.faults.fault(0, nil)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAdoptedByNodeThatStops: the node stops while a transferred call still rings. Everybody is hung up.
func TestAdoptedByNodeThatStops(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.ringCarol()
	_, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.drain()
	for _, c := range []*phone.Call{tr.first, tr.second, tr.bobs, tr.carols} {
		if err := c.AwaitEnd(6 * time.Second); err != nil {
			t.Error(err)
		}
	}
	tr.nothingLeft()
}

// block keeps a call's agent from working until the way that it gives is called.
func (tr *trio) block(id string) (free func()) {
	tr.t.Helper()
	gate, in := make(chan struct{}), make(chan struct{})
	must(tr.t, tr.b.In(id, func(*call.Call) {
		close(in)
		<-gate
	}))
	<-in
	return func() { close(gate) }
}

// TestAdoptedRequestsOnTheirWay: requests of carol's phone that have reached the call that she leaves, but were not looked
// at before she left it, are answered by the other.
func TestAdoptedRequestsOnTheirWay(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	calls := tr.b.Calls("")
	free := tr.block(calls[1].ID)
	refered := make(chan error, 1)
	go func() {
		_, err := tr.first.ReferTo(tr.second)
		refered <- err
	}()
	time.Sleep(50 * time.Millisecond) // the REFER's call has asked
	asked := make(chan error, 1)
	go func() {
		_, err := tr.carols.Request("INFO", nil)
		asked <- err
	}()
	time.Sleep(50 * time.Millisecond)
	free()
	must(t, <-refered)
	if err := <-asked; err != nil {
		t.Errorf("INFO: %v", err)
	}
	tr.together(tr.bobs, tr.carols)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// handingOver stops both calls at the moment when that of the REFER has asked for carol's leg.
func (tr *trio) handingOver() (freeFirst, freeSecond func(), refered <-chan error) {
	tr.t.Helper()
	calls := tr.b.Calls("")
	freeSecond = tr.block(calls[1].ID)
	told := make(chan error, 1)
	go func() { told <- second(tr.first.ReferTo(tr.second)) }()
	time.Sleep(50 * time.Millisecond) // the REFER's call has asked
	return tr.block(calls[0].ID), freeSecond, told
}

// TestAdoptedOnItsWay: alice hangs her second call up while carol's leg is on its way, and the call that is to have it has
// other things to do. Until that one has written where the leg is, the record of the call that it comes from stays.
func TestAdoptedOnItsWay(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	freeFirst, freeSecond, refered := tr.handingOver()
	freeSecond()
	must(t, tr.second.Hangup())
	time.Sleep(100 * time.Millisecond)
	stored, err := tr.store.Calls()
	must(t, err)
	if len(stored) != 2 {
		t.Errorf("%d records while carol's leg is on its way", len(stored))
	}
	freeFirst()
	must(t, <-refered)
	tr.together(tr.bobs, tr.carols)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAdoptedTooLate: bob hangs up while carol's leg is on its way to his call. There is nobody left for her to talk with.
func TestAdoptedTooLate(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	freeFirst, freeSecond, refered := tr.handingOver()
	gone := make(chan error, 1)
	go func() { gone <- tr.bobs.Hangup() }()
	time.Sleep(50 * time.Millisecond) // bob's BYE is the next that his call sees
	freeSecond()
	time.Sleep(50 * time.Millisecond) // carol's leg is given
	freeFirst()
	must(t, <-gone)
	if err := <-refered; err == nil {
		t.Error("the REFER was accepted")
	}
	for _, c := range []*phone.Call{tr.first, tr.second, tr.carols} {
		must(t, c.AwaitEnd(3*time.Second))
	}
	tr.nothingLeft()
}
