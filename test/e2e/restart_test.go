package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// stops are the ways in which a node goes that is started again.
var stops = map[string]func(*world){
	"SIGTERM": func(w *world) {
		if took := w.Stop(); took > 4*time.Second {
			w.t.Errorf("SIGTERM took %s", took)
		}
	},
	"kill -9": func(w *world) { w.Kill() },
}

// TestRestartKeepsUsersAndBindings restarts a node without calls.
func TestRestartKeepsUsersAndBindings(t *testing.T) {
	for how, end := range stops {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
			w.phone("alice", "soft", over("tcp"))
			before := w.deviceOf(alice)
			out, in := w.connect(alice, "bob", bob)
			w.must(out.Hangup())
			w.ended(in)
			w.Eventually(2*time.Second, "the call's record to be gone", func() error {
				if d, err := w.Debug(); err != nil || d.Records != 0 {
					return fmt.Errorf("%d records, %v", d.Records, err)
				}
				return nil
			})
			end(w)
			w.Run()
			if after := w.deviceOf(alice); !after.Here || after.Name != before.Name || after.Index != before.Index {
				t.Errorf("was %+v, is %+v", before, after)
			}
			out, in = w.connect(bob, "101", alice)
			w.must(out.Hangup())
			w.ended(in)
			if _, err := alice.Register(time.Hour); err != nil {
				t.Error(err)
			}
			if n := len(w.callEntries()); n != 6 {
				t.Errorf("%d entries of two calls in the log", n)
			}
		})
	}
}

// callEntry is what baton log --json tells of a call.
type callEntry struct {
	Kind, Call, Text string
	Time             time.Time
	Duration         time.Duration
}

func (w *world) callEntries() []callEntry {
	w.t.Helper()
	var all []callEntry
	w.must(w.JSON(&all, "log", "--json"))
	return slices.DeleteFunc(all, func(e callEntry) bool { return !strings.HasPrefix(e.Kind, "call-") })
}

// oneStream checks what a phone has heard over a restart: one SSRC, numbers and timestamps that only go forward. It gives the longest gap.
func oneStream(t *testing.T, c *phone.Call) time.Duration {
	t.Helper()
	heard := c.Media().Heard()
	r := phone.Analyse(heard, 8000)
	if len(r.SSRCs) != 1 || r.Reordered != 0 || r.Duplicates != 0 || r.Changed != 0 || r.Missing > 2000 {
		t.Errorf("%s has heard %v", c.Phone().Config().UserAgent, r)
	}
	for i, p := range heard[1:] {
		if p.Seq-heard[i].Seq < 50 {
			continue
		}
		clock, stamped := p.At.Sub(heard[i].At), time.Duration(int32(p.TS-heard[i].TS))*time.Second/8000
		if d := (clock - stamped).Abs(); d > 500*time.Millisecond { // each may have come late
			t.Errorf("%s: the timestamp goes on by %v in %v", c.Phone().Config().UserAgent, stamped, clock)
		}
	}
	return r.Gap
}

// TestRestartKeepsCalls stops or kills a node with a call between two phones over UDP and starts it: both hear each other again, on the same
// streams; hold, a move and the hang-up work as before, from both sides, and the log has one call.
func TestRestartKeepsCalls(t *testing.T) {
	for how, end := range stops {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, desk, bob := w.phone("alice", "soft"), w.phone("alice", "desk"), w.phone("bob", "far")
			out, in := w.connect(alice, "bob", bob)
			began := time.Now()
			pause(1500 * time.Millisecond) // its record has where they send from
			end(w)
			w.Run()
			w.talk(out, in)
			pause(300 * time.Millisecond)
			t.Logf("gap at alice %s, at bob %s", oneStream(t, out), oneStream(t, in))
			for _, c := range []*phone.Call{out, in, out} {
				w.must(c.Hold(phone.HoldSendonly))
				w.must(c.Resume())
			}
			w.talk(out, in)
			desk.Behave(phone.AutoAnswer)
			_, err := w.CLI("move", "--user", "alice", w.deviceOf(desk).Name)
			w.must(err)
			moved := w.ringing(desk)
			w.talk(moved, in)
			w.ended(out)
			w.must(in.Hangup())
			w.ended(moved)
			var kinds []string
			all := w.callEntries()
			for _, e := range all {
				kinds = append(kinds, e.Kind)
			}
			last := all[len(all)-1]
			if got := strings.Join(kinds, " "); got != "call-started call-answered call-moved call-ended" || last.Duration < time.Since(began)-2*time.Second {
				t.Errorf("the log has %s, the last %+v", got, last)
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
	took := w.Interrupt()
	w.ended(out, in, waiting)
	if took > 6*time.Second {
		t.Errorf("the node took %s", took)
	}
	w.Run()
}

// TestRestartKeepsAllCalls stops or kills a node with twenty calls: all hear each other again within a second or so.
func TestRestartKeepsAllCalls(t *testing.T) {
	t.Parallel()
	for how, end := range stops {
		t.Run(how, func(t *testing.T) {
			w := newWorld(t)
			var out, in [20]*phone.Call
			alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
			for i := range out {
				out[i], in[i] = w.connect(alice, "bob", bob)
			}
			pause(1500 * time.Millisecond) // the records have where they send from
			end(w)
			w.Run()
			for i := range out {
				w.talk(out[i], in[i])
			}
			pause(300 * time.Millisecond)
			var gaps []time.Duration
			for i := range out {
				gaps = append(gaps, oneStream(t, out[i]), oneStream(t, in[i]))
			}
			p99 := phone.Quantile(gaps, 0.99)
			t.Logf("gap p50 %s, p99 %s", phone.Quantile(gaps, 0.5), p99)
			if p99 > 5*time.Second {
				t.Errorf("gap p99 %s", p99)
			}
			for i := range out {
				w.must(out[i].Hangup())
				w.ended(in[i])
			}
		})
	}
}

// TestRestartWithSoftphones kills a node with a call between two baresips and starts it: what they have recorded has the other's tone for all
// of the time but the gap. Over TLS the keys stay, and libsrtp takes the packets of the new run.
func TestRestartWithSoftphones(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name       string
		alice, bob softphone
	}{
		{"RTP calls RTP", plain("udp", 440), plain("udp", 660)},
		{"srtp calls RTP", secured("srtp", 440), plain("udp", 660)},
		{"RTP calls srtp-mand", plain("udp", 440), secured("srtp-mand", 660)},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a, b := w.runBaresip("alice", k.alice), w.runBaresip("bob", k.bob)
			a.dial("102")
			b.await("CALL_ESTABLISHED", 10*time.Second)
			a.await("CALL_ESTABLISHED", 10*time.Second)
			pause(3 * time.Second)
			w.Kill()
			w.Run()
			pause(4 * time.Second)
			var calls []struct{ ID, State string }
			w.must(w.JSON(&calls, "calls", "--json"))
			if len(calls) != 1 || calls[0].State != "up" {
				t.Fatalf("calls after the restart: %v", calls)
			}
			if k.alice.transport == "udp" && k.bob.transport == "udp" {
				a.do("hangup", "")
				b.await("CALL_CLOSED", 10*time.Second)
			} else { // a baresip whose connection has broken says its BYE nowhere
				_, err := w.CLI("end", calls[0].ID)
				w.must(err)
			}
			a.quit()
			b.quit()
			a.found(660, 5*time.Second)
			b.found(440, 5*time.Second)
		})
	}
}

// TestRestartWithBrowsers kills a node with a call between a page and a baresip and starts it: the page connects anew, and both hear each other
// again in the same call.
func TestRestartWithBrowsers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"chromium", "firefox"} {
		t.Run(kind, func(t *testing.T) {
			b := theBrowser(t, kind)
			w := newWorld(t, node.Options{Config: allowing(b)})
			bob := w.startBaresip("bob", "udp", 700)
			settings := map[string]any{"instance": "00000000-0000-4000-8000-000000000001"}
			alice := w.browserPhone(b, pageJsSIP, "alice", settings)
			var id int
			alice.must(&id, "call", w.uri("bob"))
			alice.must(nil, "until", id, "up", 5000)
			w.faultlessCall(alice, id, bob)
			pause(1500 * time.Millisecond)
			killed := time.Now()
			w.Kill()
			w.Run()
			up := time.Now()
			here, there := alice.hearsSince(killed, bob.hz, id), bob.hearsSince(killed, alice.hz)
			t.Logf("%s: the node answered after %s; the page heard baresip after %s, baresip the page after %s", kind, up.Sub(killed), here, there)
			var calls []struct{ ID, State string }
			w.must(w.JSON(&calls, "calls", "--json"))
			if len(calls) != 1 || calls[0].State != "up" {
				t.Fatalf("calls after the restart: %v", calls)
			}
			pause(4 * time.Second) // the page is registered again, and agrees once more
			w.faultlessCall(alice, id, bob)
			alice.must(nil, "hangup", id)
			bob.await("CALL_CLOSED", 5*time.Second)
			if n := len(bob.recordings()); n != 1 {
				t.Errorf("baresip had %d calls", n)
			}
		})
	}
}

// TestRestartWithThePage is the same with baton's own page, which connects anew and restarts ICE.
func TestRestartWithThePage(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"chromium", "firefox"} {
		t.Run(kind, func(t *testing.T) {
			b := theBrowser(t, kind)
			w := newWorld(t)
			bob := w.startBaresip("bob", "udp", 700)
			p := b.page(t, fmt.Sprintf("https://%s/", w.Web))
			p.signIn("alice")
			p.call("102")
			p.says("On this browser")
			p.hearing(bob.hz)
			pause(1500 * time.Millisecond)
			w.Kill()
			w.Run()
			pause(5 * time.Second) // the page is back
			p.says("On this browser")
			p.hearing(bob.hz)
			p.click(button("Hang up"))
			p.says("No calls right now")
			bob.await("CALL_CLOSED", 5*time.Second)
			if n := len(bob.recordings()); n != 1 {
				t.Errorf("baresip had %d calls", n)
			}
		})
	}
}
