package e2e

import (
	"fmt"
	"testing"
	"time"

	"baton/test/phone"
)

func TestRestartKeepsUsersAndBindings(t *testing.T) {
	for _, how := range []string{"SIGTERM", "kill -9"} {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
			w.phone("alice", "soft", over("tcp"))
			before := w.deviceOf(alice)
			out, in := w.connect(alice, "bob", bob)
			if how == "SIGTERM" {
				took := w.Stop()
				w.ended(out, in)
				if took > 6*time.Second {
					t.Errorf("SIGTERM took %s", took)
				}
			} else {
				w.Kill()
			}
			w.Run()
			if after := w.deviceOf(alice); !after.Here || after.Name != before.Name || after.Index != before.Index {
				t.Errorf("was %+v, is %+v", before, after)
			}
			var calls []any
			w.must(w.JSON(&calls, "calls", "--json"))
			if len(calls) != 0 {
				t.Errorf("calls after the restart: %v", calls)
			}
			if how == "kill -9" { // the phones learn it by their BYE
				out.Hangup()
				in.Hangup()
			}
			out, in = w.connect(bob, "101", alice)
			w.must(out.Hangup())
			w.ended(in)
			if _, err := alice.Register(time.Hour); err != nil {
				t.Error(err)
			}
			var entries []struct{ Kind string }
			w.must(w.JSON(&entries, "log", "--json"))
			if len(entries) == 0 {
				t.Error("the log is empty after the restart")
			}
		})
	}
}

func TestKilledAtAnyMoment(t *testing.T) {
	w := newWorld(t)
	for i := range 12 {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					w.CLIWith("pw\n", "user", "add", fmt.Sprintf("u%d-%d", i, n), "--password-stdin")
				}
			}
		}()
		p := w.phone("alice", fmt.Sprintf("desk%d", i))
		time.Sleep(time.Duration(5+17*i) * time.Millisecond) // the moment of the kill
		w.Kill()
		close(stop)
		<-done
		p.Vanish()
		w.Run()
		found := false
		for _, d := range w.devices("alice") {
			found = found || d.Instance == p.Config().Instance && d.Here
		}
		if !found {
			t.Errorf("kill %d: the device that had its 200 is not in %+v", i, w.devices("alice"))
		}
		for _, d := range w.devices("alice") {
			if d.Here {
				w.CLI("devices", "forget", "alice", d.Name)
			}
		}
	}
}

func TestUsersWithoutANode(t *testing.T) {
	w := newWorld(t)
	w.Stop()
	w.AddUser("dave", "104")
	if out, err := w.CLIWith("new\n", "user", "passwd", "alice", "--password-stdin"); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	w.Run()
	dave := w.phone("dave", "desk")
	old := w.make("alice", "desk")
	if _, err := old.Register(time.Minute); err == nil {
		t.Error("the old password still works")
	}
	alice := w.phone("alice", "soft", func(c *phone.Config) { c.Password = "new" })
	out, in := w.connect(dave, "101", alice)
	w.must(out.Hangup())
	w.ended(in)
	if _, err := w.CLI("user", "remove", "dave"); err != nil {
		t.Error(err)
	}
	if _, err := dave.Register(time.Minute); err == nil {
		t.Error("a removed user can register")
	}
}

func TestStopWithCallsUp(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far", over("tls"))
	out, in := w.connect(alice, "bob", bob)
	bob.Behave(phone.Behaviour{})
	carol := w.phone("carol", "third")
	waiting := w.dial(carol, "bob")
	w.ringing(bob)
	took := w.Stop()
	w.ended(out, in, waiting)
	if took > 6*time.Second {
		t.Errorf("the node took %s", took)
	}
	w.Run()
}
