package call_test

import (
	"testing"
	"time"

	"baton/call"
)

// TestPanicCostsOneCall has one of two calls panic, in each place that works for a call: that call ends at both its phones and
// leaves nothing, the other goes on.
func TestPanicCostsOneCall(t *testing.T) {
	t.Parallel()
	fall := func() { panic("test") }
	for name, f := range map[string]func(r *rig, id string) error{
		"event": func(r *rig, id string) error { return r.b.In(id, func(*call.Call) { fall() }) },
		"exchange": func(r *rig, id string) error {
			return r.b.In(id, func(c *call.Call) { c.Exchange(func() func() { fall(); return nil }) })
		},
		"what follows an exchange": func(r *rig, id string) error {
			return r.b.In(id, func(c *call.Call) { c.Exchange(func() func() { return fall }) })
		},
		"two events": func(r *rig, id string) error {
			_ = r.b.In(id, func(*call.Call) { fall() })
			return r.b.In(id, func(*call.Call) { fall() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, alice, bob := newPair(t)
			r.user("carol", "103")
			r.user("dave", "104")
			carol, dave := r.phone("carol", 1), r.phone("dave", 1)
			out, in := r.connect(alice, bob)
			lives := r.b.Calls("alice")[0].ID
			first, second := r.connect(carol, dave)
			id := r.b.Calls("carol")[0].ID
			must(t, f(r, id))
			must(t, first.AwaitEnd(5*time.Second))
			must(t, second.AwaitEnd(5*time.Second))
			r.eventually("the call is gone", 5*time.Second, func() bool { return len(r.b.Calls("carol")) == 0 })
			if !out.Hears(in, time.Second) || !in.Hears(out, time.Second) || r.b.Calls("")[0].ID != lives {
				t.Error("the other call did not go on")
			}
			must(t, out.Hangup())
			r.nothingLeft()
		})
	}
}

// TestPanicWhileEnding: a call whose every write panics, its last one too, holds nothing in the end. Its phones find out by
// themselves.
func TestPanicWhileEnding(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, _ := r.connect(alice, bob)
	r.faults.fall(r.b.Calls("")[0].ID)
	must(t, out.Hangup())
	r.eventually("the call is gone", call.CrashPatience+5*time.Second, func() bool { return len(r.b.Calls("")) == 0 })
	r.nothingLeft()
}

// TestPanicAfterPanic: a call whose ending panics too, because of what it has panicked at, lets go of its ports at once.
func TestPanicAfterPanic(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.connect(alice, bob)
	id := r.b.Calls("")[0].ID
	r.faults.fall(id)
	must(t, r.b.In(id, func(*call.Call) { panic("test") }))
	r.eventually("the call is gone", call.CrashPatience/2, func() bool { return len(r.b.Calls("")) == 0 && r.engine.OpenStreams() == 0 })
	r.nothingLeft()
}

// TestLegThatNeverEnds: a call that has panicked does not wait for ever for what the panic has swallowed.
func TestLegThatNeverEnds(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	id := r.b.Calls("")[0].ID
	must(t, r.b.In(id, (*call.Call).LoseLeg))
	must(t, r.b.In(id, func(*call.Call) { panic("test") }))
	must(t, out.AwaitEnd(5*time.Second))
	must(t, in.AwaitEnd(5*time.Second))
	r.eventually("the call is gone", call.CrashPatience+5*time.Second, func() bool { return len(r.b.Calls("")) == 0 })
	r.nothingLeft()
}
