package call_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/config"
	"baton/test/phone"
)

func eventOf(v string) phone.Header { return phone.Header{Name: "Event", Value: v} }

// TestSubscribeAnswers: what is not served is refused with what would be, and says why.
func TestSubscribeAnswers(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	for _, c := range []struct {
		name, value string
		code        int
		told        string // name and value of a header of the answer
	}{
		{"Event", "presence", 489, "Allow-Events: dialog, message-summary, vq-rtcpxr"},
		{"Event", "as-feature-event", 489, "Allow-Events: dialog, message-summary, vq-rtcpxr"},
		{"Event", "", 489, "Allow-Events: dialog, message-summary, vq-rtcpxr"},
		{"Event", "dialog;call-id=x;to-tag=y", 489, "Warning"},
		{"Event", "dialog;id=;", 400, "Warning"},
		{"Expires", "59", 423, "Min-Expires: 60"},
		{"Expires", "1", 423, "Min-Expires: 60"},
		{"Expires", "soon", 400, "Warning"},
		{"Accept", "application/pidf+xml, text/plain", 406, "Accept: application/dialog-info+xml"},
		{"Require", "eventlist", 420, "Unsupported: eventlist"},
		{"Contact", "", 400, "Warning"},
		{"X-Long", strings.Repeat("x", 9000), 513, "Warning"},
	} {
		_, res, err := bob.Subscribe("102", time.Hour, phone.Header{Name: c.name, Value: c.value})
		if code := refusedWith(nil, res, err); code != c.code {
			t.Errorf("%s: %s: %d (%v), want %d", c.name, c.value, code, err, c.code)
			continue
		}
		if name, value, _ := strings.Cut(c.told, ": "); res.Get(name) == "" || value != "" && res.Get(name) != value {
			t.Errorf("%s: %s: %s is %q", c.name, c.value, c.told, res.Get(name))
		}
	}
	if code := refusedWith(alice.Subscribe("102", time.Hour, eventOf("message-summary"), phone.Header{Name: "Accept", Value: "*/*"})); code != 403 {
		t.Errorf("another's messages: %d, want 403", code)
	}
	if n := r.b.Subscriptions(); n != 0 {
		t.Errorf("%d subscriptions", n)
	}
	r.nothingLeft()
}

// TestSubscribeTerms: how long a subscription lasts, what is repeated to it, and that it goes on and ends in its dialog.
func TestSubscribeTerms(t *testing.T) {
	t.Parallel()
	r, _, bob := newPair(t)
	for _, c := range []struct {
		asked     string
		low, high int
	}{{"3600", 3240, 3600}, {"", 3240, 3600}, {"4294967296", 3240, 3600}, {"600", 540, 600}, {"60", 60, 60}} {
		s, res, err := bob.Subscribe("102", 0, phone.Header{Name: "Expires", Value: c.asked}, eventOf("dialog;sla;id=a7"))
		must(t, err)
		n, err := s.Await(3*time.Second, func(phone.Notice) bool { return true })
		must(t, err)
		granted := 0
		fmt.Sscan(res.Get("Expires"), &granted)
		left := 0
		fmt.Sscanf(n.Get("Subscription-State"), "active;expires=%d", &left)
		if granted < c.low || granted > c.high || left > granted || left < granted-2 || n.Get("Event") != "dialog;id=a7" {
			t.Errorf("asked for %q: Expires %d, Subscription-State %q, Event %q", c.asked, granted, n.Get("Subscription-State"), n.Get("Event"))
		}
		res, err = s.Refresh(0, phone.Header{Name: "Expires", Value: "120"})
		must(t, err)
		if n := res.Get("Expires"); n != "120" && (len(n) != 3 || n < "108" || n > "120") {
			t.Errorf("refreshed for %s s", n)
		}
		r.eventually("a refresh is told of", 3*time.Second, func() bool { return len(s.Told()) == 2 })
		if res, _ := s.Refresh(0, phone.Header{Name: "Expires", Value: "30"}); res.Code != 423 {
			t.Error(res.Line())
		}
		if res, _ := s.Refresh(0, phone.Header{Name: "Expires", Value: "120"}, eventOf("dialog")); res.Code != 489 {
			t.Error(res.Line())
		}
		_, err = s.Refresh(0, phone.Header{Name: "Expires", Value: "0"}, eventOf("dialog;id=a7"))
		must(t, err)
		_, err = s.Await(3*time.Second, terminated("timeout"))
		must(t, err)
		r.eventually("the subscription is gone", 3*time.Second, func() bool { return r.b.Subscriptions() == 0 })
		if res, _ := s.Refresh(0, phone.Header{Name: "Expires", Value: "120"}); res.Code != 481 {
			t.Errorf("after the end: %s", res.Line())
		}
		checkTold(t, s)
	}
	r.nothingLeft()
}

// TestPoll: who asks for no time at all is told once, and nothing is kept.
func TestPoll(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	_, in := r.connect(alice, bob)
	first := r.subscribe(bob, "102")
	s, res, err := bob.Subscribe("102", 0)
	must(t, err)
	n, err := s.Await(3*time.Second, terminated("timeout"))
	must(t, err)
	if d := n.Info.Live(); res.Get("Expires") != "0" || len(d) != 1 || replaces(d[0]) != in.Replaces() || len(s.Told()) != 1 {
		t.Errorf("Expires %s: %s", res.Get("Expires"), n.Body)
	}
	r.eventually("the other subscription alone is left", 3*time.Second, func() bool { return r.b.Subscriptions() == 1 })
	must(t, in.Hangup())
	r.told(first)
	r.nothingLeft()
}

// TestMessageSummary: a phone that asks at boot whether it has messages is told that it has none.
func TestMessageSummary(t *testing.T) {
	t.Parallel()
	r, _, bob := newPair(t)
	s, _, err := bob.Subscribe("102", time.Hour, eventOf("message-summary"), phone.Header{Name: "Accept", Value: "application/simple-message-summary"})
	must(t, err)
	n, err := s.Await(3*time.Second, func(phone.Notice) bool { return true })
	must(t, err)
	if string(n.Body) != "Messages-Waiting: no\r\nMessage-Account: sip:102@127.0.0.1\r\n" || n.Get("Content-Type") != "application/simple-message-summary" || n.Get("Event") != "message-summary" {
		t.Errorf("%s: %q", n.Get("Content-Type"), n.Body)
	}
	r.nothingLeft()
}

// TestExpiry: a subscription that nobody prolongs is told that it is over, and a removed user's do not outlive him.
func TestExpiry(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.b.QuickSubscriptions(time.Second, 100*time.Millisecond)
	s, _, err := bob.Subscribe("102", time.Second)
	must(t, err)
	other, _, err := alice.Subscribe("101", time.Hour)
	must(t, err)
	_, err = s.Await(5*time.Second, terminated("timeout"))
	must(t, err)
	r.eventually("the other subscription alone is left", 3*time.Second, func() bool { return r.b.Subscriptions() == 1 })
	must(t, r.reg.RemoveUser("alice"))
	_, err = other.Await(3*time.Second, terminated("noresource"))
	must(t, err)
	r.eventually("no subscription is left", 3*time.Second, func() bool { return r.b.Subscriptions() == 0 })
	r.nothingLeft()
}

// TestSubscribedAnew: a phone that has started anew takes the place of what it had left behind, which hears no more of it; the same
// request by two ways makes one subscription.
func TestSubscribedAnew(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	old := r.subscribe(bob, "102")
	other := r.subscribe(r.phone("bob", 2), "102")
	for range 3 {
		old.Forget()
		before := len(old.Told())
		s := r.subscribe(bob, "102")
		if n := r.b.Subscriptions(); n != 2 {
			t.Errorf("%d subscriptions", n)
		}
		out, err := alice.Dial("102*1")
		must(t, err)
		r.told(s, "early")
		must(t, out.Cancel())
		r.told(s)
		if n := len(old.Told()); n != before || len(methods(bob.Received(time.Time{}), "NOTIFY")) > 100 {
			t.Errorf("the old one was told %d times more", n-before)
		}
		old = s
	}
	r.told(other)
	out, _ := alice.Dial("102*1")
	_ = out.Cancel()
	same := []phone.Header{eventOf("dialog;id=2"), {Name: "Call-ID", Value: "once@bob"}, {Name: "From", Value: `<sip:102@127.0.0.1>;tag=x`}}
	_, _, err := bob.Subscribe("102", time.Hour, same...)
	must(t, err)
	if code := refusedWith(bob.Subscribe("102", time.Hour, same...)); code != 482 {
		t.Errorf("the same request by another way: %d, want 482", code)
	}
	r.nothingLeft()
}

// TestNotifyRefused: what a phone answers to a NOTIFY decides whether it is told more.
func TestNotifyRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code int
		ends bool
	}{{481, true}, {404, true}, {410, true}, {480, true}, {489, true}, {501, true}, {500, false}, {503, false}, {603, false}} {
		t.Run(fmt.Sprint(c.code), func(t *testing.T) {
			t.Parallel()
			r, alice, bob := newPair(t)
			s := r.subscribe(bob, "102")
			s.Answer(c.code, 0)
			out, err := alice.Dial("102")
			must(t, err)
			r.told(s, "early")
			if c.ends {
				r.eventually("the subscription has ended", 3*time.Second, func() bool { return r.b.Subscriptions() == 0 })
				must(t, out.Cancel())
				time.Sleep(300 * time.Millisecond)
				if d := s.Last().Info.Live(); len(d) != 1 {
					t.Error("it was told more")
				}
				r.nothingLeft()
				return
			}
			s.Answer(0, 0)
			must(t, out.Cancel())
			if _, err := s.Await(8*time.Second, func(n phone.Notice) bool { return len(n.Info.Live()) == 0 }); err != nil {
				t.Error(err)
			}
			if n := r.b.Subscriptions(); n != 1 {
				t.Errorf("%d subscriptions", n)
			}
			r.nothingLeft()
		})
	}
}

// TestSilentWatcher: a phone that answers no NOTIFY is told nothing more after half a minute.
func TestSilentWatcher(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	s := r.subscribe(bob, "102")
	s.Answer(-1, 0)
	out, err := alice.Dial("102")
	must(t, err)
	r.told(s, "early")
	must(t, out.Cancel())
	time.Sleep(2 * time.Second)
	if n := r.b.Subscriptions(); n != 1 {
		t.Errorf("%d subscriptions after two seconds", n)
	}
	r.eventually("the subscription has ended", 40*time.Second, func() bool { return r.b.Subscriptions() == 0 })
	r.nothingLeft()
}

// TestOneNotifyAtATime: a phone that answers late has one NOTIFY to answer, and the next one tells how things are by then; what
// changes fast is told ten times a second at most.
func TestOneNotifyAtATime(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	slow := r.subscribe(bob, "102")
	fast := r.subscribe(bob, "bob")
	time.Sleep(200 * time.Millisecond)
	slow.Answer(0, 400*time.Millisecond) // less than T1: nothing is repeated
	began := time.Now()
	_, in := r.connect(alice, bob)
	for range 10 {
		must(t, in.Hold(phone.HoldSendonly))
		must(t, in.Resume())
	}
	must(t, in.Hangup())
	r.told(slow)
	r.told(fast)
	for i, told := range slow.Told()[2:] { // each was sent after the answer to the one before
		if gap := told.At.Sub(slow.Told()[i+1].At); gap < 390*time.Millisecond {
			t.Errorf("NOTIFY %d of the slow one came %s after the one before", i+2, gap)
		}
	}
	for i, told := range fast.Told()[1:] { // the way of each may take its time, so that two come closer than they were sent
		if at := told.At.Sub(began); at < time.Duration(i)*100*time.Millisecond-10*time.Millisecond {
			t.Errorf("NOTIFY %d of the fast one came %s after everything began", i+1, at)
		}
	}
	if n := len(slow.Told()); n < 3 || n > 40 {
		t.Errorf("the slow one was told %d times", n)
	}
	r.nothingLeft()
}

// TestFlowLoss: a phone whose connection has closed is told how things stand as soon as it is back, over the new one; one that has
// started anew meanwhile says that it knows nothing of it.
func TestFlowLoss(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("bob", 2, overTCP(r))
	s := r.subscribe(desk, "102")
	desk.Disconnect()
	r.eventually("the phone is away", 3*time.Second, func() bool { return len(r.reg.Lookup("bob")) == 1 })
	out, err := alice.Dial("102")
	must(t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	time.Sleep(200 * time.Millisecond)
	if len(s.Told()) != 1 || r.b.Subscriptions() != 1 {
		t.Errorf("told %d times over a closed connection; %d subscriptions", len(s.Told()), r.b.Subscriptions())
	}
	_, err = desk.Register(10 * time.Minute)
	must(t, err)
	n, err := s.Await(3*time.Second, func(n phone.Notice) bool {
		return slices.ContainsFunc(n.Info.Live(), func(d phone.Dialog) bool { return replaces(d) == in.Replaces() })
	})
	must(t, err)
	if *n.Info.Version == 0 {
		t.Errorf("version %d", *n.Info.Version)
	}
	desk.Disconnect()
	s.Forget()
	r.eventually("the phone is away", 3*time.Second, func() bool { return len(r.reg.Lookup("bob")) == 1 })
	must(t, in.Reject(486))
	_ = out
	_, err = desk.Register(10 * time.Minute)
	must(t, err)
	r.eventually("the subscription has ended", 5*time.Second, func() bool { return r.b.Subscriptions() == 0 })
	r.nothingLeft()
}

// TestRefreshOverNewConnection: a phone that comes back with its refresh, before it has registered again, is told over that way.
func TestRefreshOverNewConnection(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	desk := r.phone("bob", 2, overTCP(r))
	s := r.subscribe(desk, "102")
	desk.Disconnect()
	r.eventually("the phone is away", 3*time.Second, func() bool { return len(r.reg.Lookup("bob")) == 1 })
	out, err := alice.Dial("102")
	must(t, err)
	_, err = bob.Ringing(3 * time.Second)
	must(t, err)
	_, err = s.Refresh(time.Hour)
	must(t, err)
	r.told(s, "early")
	must(t, out.Cancel())
	r.told(s)
	r.nothingLeft()
}

// TestLongNotify: a document too long for UDP goes over the connection that the device has as well.
func TestLongNotify(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	for n := range 4 {
		r.phone("bob", 2+n)
	}
	r.user("grace", "103")
	_ = bob
	tcp, udp := r.way("bob", "tcp", "1"), r.way("bob", "udp", "2")
	udp.Behave(phone.Behaviour{Reject: 486})
	s := r.subscribe(udp, "102")
	out, err := alice.Dial("102")
	must(t, err)
	r.eventually("the long NOTIFY has come over TCP", 5*time.Second, func() bool {
		return len(methods(tcp.Received(time.Time{}), "NOTIFY")) > 0
	})
	for _, n := range methods(udp.Received(time.Time{}), "NOTIFY") {
		if size := len(n.Bytes()); size > 1300+60 { // the phone writes long names
			t.Errorf("over UDP %d bytes were sent", size)
		}
	}
	must(t, out.Cancel())
	_ = s
	r.nothingLeft()
}

// TestQuietCalls: an announcement is no call that anybody is told of.
func TestQuietCalls(t *testing.T) {
	t.Parallel()
	r, _, bob := newPair(t)
	s := r.subscribe(r.phone("bob", 2), "102")
	out, err := bob.Dial("*40") // there is none to pull
	must(t, err)
	time.Sleep(300 * time.Millisecond)
	if n := s.Told(); len(n) != 1 {
		t.Errorf("told %s", n[1].Body)
	}
	must(t, out.Cancel())
	r.nothingLeft()
}

// TestAnotherPort: a NAT has given the phone another port; its registration from there tells where NOTIFYs go.
func TestAnotherPort(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	before := r.phone("bob", 2)
	r.subscribe(before, "102")
	before.Vanish()
	after := r.phone("bob", 2)
	out, err := alice.Dial("102*1")
	must(t, err)
	r.eventually("the NOTIFY has come to the new port", 5*time.Second, func() bool {
		return len(methods(after.Received(time.Time{}), "NOTIFY")) > 0
	})
	r.eventually("and its 481 has ended the subscription", 3*time.Second, func() bool { return r.b.Subscriptions() == 0 })
	must(t, out.Cancel())
	_ = bob
	r.nothingLeft()
}

// TestSubscriptionLimits: one user cannot take all the room.
func TestSubscriptionLimits(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	for i := range 200 {
		_, _, err := bob.Subscribe("102", time.Hour, eventOf(fmt.Sprintf("dialog;id=%d", i)))
		must(t, err)
	}
	if code := refusedWith(bob.Subscribe("102", time.Hour, eventOf("dialog;id=more"))); code != 403 {
		t.Errorf("the 201st: %d, want 403", code)
	}
	if code := refusedWith(bob.Subscribe("102", time.Hour, eventOf("dialog;id=7"))); code != 200 {
		t.Errorf("in place of one: %d, want 200", code)
	}
	if code := refusedWith(alice.Subscribe("101", time.Hour)); code != 200 {
		t.Errorf("another user's first: %d, want 200", code)
	}
	r.b.RoomForSubscriptions(201)
	_, res, err := alice.Subscribe("alice", time.Hour)
	if code := refusedWith(nil, res, err); code != 503 || res.Get("Retry-After") == "" || res.Get("Warning") == "" {
		t.Errorf("one more than the node has room for: %d", code)
	}
	r.nothingLeft()
}

// TestManyWatchers: two hundred phones that watch one extension cost its calls no time; each is told all, in order.
func TestManyWatchers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Watch = config.Lists{"carol": {"*"}} })
	r.user("alice", "101")
	r.user("bob", "102")
	r.user("carol", "103")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1)
	setup := func(during func()) (took time.Duration) {
		began := time.Now()
		out, in := r.connect(alice, bob)
		took = out.Times().Answered.Sub(began)
		during()
		must(t, out.Hangup())
		must(t, in.AwaitEnd(3*time.Second))
		return took
	}
	nothing := func() {}
	alone := max(setup(nothing), setup(nothing), setup(nothing))
	var all []*phone.Subscription
	for _, p := range []*phone.Phone{r.phone("carol", 1), bob} {
		for i := range 100 {
			s, _, err := p.Subscribe("102", time.Hour, eventOf(fmt.Sprintf("dialog;id=%d", i)))
			must(t, err)
			all = append(all, s)
		}
	}
	await := func(live int) {
		var wait sync.WaitGroup
		for _, s := range all {
			wait.Go(func() {
				if _, err := s.Await(10*time.Second, func(n phone.Notice) bool { return len(n.Info.Live()) == live }); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	time.Sleep(200 * time.Millisecond) // the first NOTIFYs are over, and the next may leave at once
	began := time.Now()
	watched := time.Hour // the shortest of three: that the machine has other things to do may come once
	for range 3 {
		watched = min(watched, setup(func() { await(1) }))
		await(0)
	}
	for _, s := range all {
		checkTold(t, s)
	}
	t.Logf("call set-up %s alone, %s with %d watchers; all told after %s", alone, watched, len(all), time.Since(began))
	if limit := 5*alone + 100*time.Millisecond; watched > limit {
		t.Errorf("call set-up took %s with watchers and %s without", watched, alone)
	}
	r.nothingLeft()
}

// ownAddress is one on loopback that no other process and no phone takes ports of: a node that has stopped finds its own again.
func ownAddress() string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:0", 64+pid>>16&63, pid>>8&255, pid&255)
}

// restart opens a node on a store at the address of one that has stopped; its users have the same passwords.
func (r *rig) restart(dir string, tune func(*config.Config)) *rig {
	r.t.Helper()
	next := openRig(r.t, dir, r.server.String(), tune)
	next.pass = r.pass
	return next
}

// TestRestartKeepsSubscriptions: a node that was stopped, or killed, goes on telling the phones that had subscribed, with versions
// that rise, and takes their refreshes.
func TestRestartKeepsSubscriptions(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			t.Parallel()
			r := openRig(t, t.TempDir(), ownAddress(), func(c *config.Config) { c.Watch = config.Lists{"alice": {"bob"}} })
			r.user("alice", "101")
			r.user("bob", "102")
			alice, bob := r.phone("alice", 1), r.phone("bob", 1)
			own, colleague := r.subscribe(bob, "102"), r.subscribe(alice, "102")
			desk := r.phone("bob", 2, overTCP(r))
			lost := r.subscribe(desk, "102")
			_, in := r.connect(alice, bob)
			r.told(own, "confirmed")
			r.told(colleague, "confirmed")
			dir := r.dir
			if killed { // what is in the files at this moment is all that is left
				dir = t.TempDir()
				for _, name := range []string{"users.db", "state.db"} {
					data, err := os.ReadFile(filepath.Join(r.dir, name))
					must(t, err)
					must(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
				}
			} else {
				must(t, in.Hangup())
				r.told(own)
			}
			if killed {
				own.Answer(0, 400*time.Millisecond)
				must(t, in.Hold(phone.HoldSendonly)) // which is told of now: the end has to wait for its answer
				r.eventually("the hold is told of", 3*time.Second, func() bool { return own.Last().Info.Dialogs[0].Rendering() == "no" })
			}
			r.stop()
			r.told(own) // also the last words of a node that stops
			own.Answer(0, 0)
			versions := map[*phone.Subscription]int{}
			for _, s := range []*phone.Subscription{own, colleague, lost} {
				versions[s] = int(*s.Last().Info.Version)
			}
			bob.Behave(phone.Behaviour{})
			next := r.restart(dir, nil) // in which alice has lost her right
			later := func(s *phone.Subscription) func(phone.Notice) bool {
				return func(n phone.Notice) bool { return int(*n.Info.Version) > versions[s] }
			}
			n, err := own.Await(5*time.Second, later(own))
			must(t, err)
			live := 0
			if killed { // the call goes on, as the record has it
				live = 1
				must(t, next.b.End(t.Context(), next.b.Calls("")[0].ID, "test"))
			}
			if len(n.Info.Live()) != live || !strings.HasPrefix(n.Get("Subscription-State"), "active") {
				t.Errorf("%s %s", n.Get("Subscription-State"), n.Body)
			}
			next.told(own)
			_, err = colleague.Await(5*time.Second, terminated("rejected"))
			must(t, err)
			if n := len(lost.Told()); int(*lost.Last().Info.Version) != versions[lost] {
				t.Errorf("told %d times over a connection that is gone", n)
			}
			next.eventually("two subscriptions are left", 3*time.Second, func() bool { return next.b.Subscriptions() == 2 })
			_, err = own.Refresh(time.Hour)
			must(t, err)
			out, err := alice.Dial("102")
			must(t, err)
			next.told(own, "early")
			must(t, out.Cancel())
			next.told(own)
			checkTold(t, own)
			checkTold(t, colleague)
			next.nothingLeft()
		})
	}
}
