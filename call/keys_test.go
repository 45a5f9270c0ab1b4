package call_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/test/phone"
)

const relay = "application/dtmf-relay"

// deaf is a phone that knows no telephone-event, and what it allows.
func deaf(allow string) func(*phone.Config) {
	return func(c *phone.Config) { c.Codecs, c.Allow = []phone.Codec{phone.PCMU}, allow }
}

const (
	noInfo    = "INVITE, ACK, CANCEL, BYE"
	knowsInfo = noInfo + ", INFO"
)

// info sends an INFO in a call and gives the status of its answer.
func info(t *testing.T, c *phone.Call, kind, body string, more ...phone.Header) *phone.Message {
	t.Helper()
	headers := more
	if kind != "" {
		headers = append(headers, phone.Header{Name: "Content-Type", Value: kind})
	}
	res, err := c.Request("INFO", []byte(body), headers...)
	var refused *phone.Status
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return res
}

func press(t *testing.T, c *phone.Call, keys string, ms int) {
	t.Helper()
	for _, k := range keys {
		if res := info(t, c, relay, fmt.Sprintf("Signal=%c\r\nDuration=%d\r\n", k, ms)); res.Code != 200 {
			t.Fatalf("INFO with key %c: %s", k, res.Line())
		}
	}
}

// heardKeys waits until a call has heard some keys by RTP and checks that there are no others.
func heardKeys(r *rig, c *phone.Call, want string) []phone.Packet {
	r.t.Helper()
	r.eventually("keys "+want+" are heard, not "+phone.Keys(c.Media().Heard()), 5*time.Second, func() bool {
		return len(phone.Keys(c.Media().Heard())) >= len(want)
	})
	time.Sleep(300 * time.Millisecond) // one too many would come a little later
	heard := c.Media().Heard()
	if got := phone.Keys(heard); got != want {
		r.t.Errorf("keys %q were heard, want %q", got, want)
	}
	return heard
}

// infos are the keys that a phone was told by INFO, as Signal:Duration.
func infos(p *phone.Phone) string {
	var all []string
	for _, m := range p.Received(time.Time{}) {
		if m.Method == "INFO" {
			f := strings.Fields(string(m.Body))
			all = append(all, m.Get("Content-Type")+" "+strings.Join(f, " "))
		}
	}
	return strings.Join(all, ", ")
}

func relayed(keys string, ms int) string {
	var all []string
	for _, k := range keys {
		all = append(all, fmt.Sprintf("%s Signal=%c Duration=%d", relay, k, ms))
	}
	return strings.Join(all, ", ")
}

// TestInfoBecomesEvents has a phone tell keys by INFO faster than they can be played: the other hears them one after the other
// on the one stream it has, with speech between and after them.
func TestInfoBecomesEvents(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	press(t, out, "11*#A", 80)
	heard := heardKeys(r, in, "11*#A")
	if !in.Hears(out, time.Second) {
		t.Fatal("no speech after the keys")
	}
	rep := phone.Analyse(heard, 8000)
	if len(rep.SSRCs) != 1 || rep.Missing != 0 || rep.Reordered != 0 {
		t.Errorf("the stream is not one: %s", rep)
	}
	for _, k := range events(heard) {
		if k.packets > 6 || k.ends != 3 || k.last != 640 || !k.marked {
			t.Errorf("key %c: %+v", k.digit, k)
		}
		if k.pause < 50*time.Millisecond {
			t.Errorf("key %c follows %s after the one before", k.digit, k.pause)
		}
	}
	if got := infos(bob); got != "" {
		t.Errorf("bob's phone was sent INFO too: %s", got)
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// event is one key as it was heard.
type event struct {
	digit   byte
	packets int
	ends    int
	last    uint16
	marked  bool
	pause   time.Duration // since the key before
}

func events(heard []phone.Packet) (all []event) {
	var ts uint32
	var over time.Time
	for _, p := range heard {
		if p.Event == nil {
			continue
		}
		if len(all) == 0 || p.TS != ts {
			all = append(all, event{digit: p.Event.Digit, marked: p.Marker, pause: p.At.Sub(over)})
		}
		ts, over = p.TS, p.At
		e := &all[len(all)-1]
		e.packets++
		e.last = p.Event.Duration
		if p.Event.End {
			e.ends++
		}
	}
	return all
}

// TestEventsBecomeInfo has a phone press keys to one that knows INFO alone: one INFO for each, with its length.
func TestEventsBecomeInfo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1, deaf(knowsInfo))
	out, in := r.connect(alice, bob)
	for _, k := range "5#5" {
		out.Media().Press(byte(k), 120*time.Millisecond)
	}
	want := relayed("5#5", 120)
	r.eventually("bob's phone is told "+want, 3*time.Second, func() bool { return len(infos(bob)) >= len(want) })
	time.Sleep(200 * time.Millisecond)
	if got := infos(bob); got != want {
		t.Errorf("bob's phone was told %s, want %s", got, want)
	}
	if n := phone.Analyse(in.Media().Heard(), 8000).Events; n != 0 {
		t.Errorf("%d telephone-events reached a phone that knows none", n)
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestInfoBecomesInfo: between two phones that know INFO alone, in both directions: caller and callee have said so.
func TestInfoBecomesInfo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1, deaf(knowsInfo)), r.phone("bob", 1, deaf(knowsInfo))
	out, in := r.connect(alice, bob)
	press(t, out, "12", 200)
	press(t, in, "34", 250)
	r.eventually("both are told", 3*time.Second, func() bool {
		return infos(bob) == relayed("12", 200) && infos(alice) == relayed("34", 250)
	})
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestKeyToNobody: a phone that knows no keys at all is sent nothing, and one that refuses INFO is asked once.
func TestKeyToNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1), r.phone("bob", 1, deaf(noInfo))
	out, _ := r.connect(alice, bob)
	press(t, out, "1", 50)
	out.Media().Press('2', 60*time.Millisecond)
	time.Sleep(500 * time.Millisecond)
	if got := infos(bob); got != "" {
		t.Errorf("a phone that does not allow INFO was sent %s", got)
	}
	must(t, out.Hangup())
	r.nothingLeft()
	liar := r.phone("bob", 2, deaf(knowsInfo))
	bob.Close()
	liar.Behave(phone.Behaviour{Answer: true, Info: 415})
	out, err := alice.Dial("102")
	must(t, err)
	must(t, out.Await(5*time.Second))
	press(t, out, "123", 50)
	time.Sleep(time.Second)
	if got := infos(liar); got != relayed("1", 50) {
		t.Errorf("a phone that refuses INFO was sent %s", got)
	}
	must(t, out.Hangup())
}

// TestKeyToldBothWays: a phone that tells each key by RTP and by INFO has pressed it once, whoever is at the other end.
func TestKeyToldBothWays(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	both := func() {
		for _, k := range "77" {
			out.Media().Press(byte(k), 100*time.Millisecond)
			press(t, out, string(k), 100)
		}
		done := make(chan struct{})
		go func() { defer close(done); out.Media().Press('8', 200*time.Millisecond) }()
		press(t, out, "8", 200)
		<-done
	}
	both()
	heardKeys(r, in, "778")
	must(t, out.Hangup())
	r.user("carol", "103")
	carol := r.phone("carol", 1, deaf(knowsInfo))
	out, _ = r.connect(alice, carol)
	both()
	time.Sleep(500 * time.Millisecond)
	if got, want := infos(carol), relayed("77", 100)+", "+relayed("8", 200); got != want {
		t.Errorf("carol's phone was told %s, want %s", got, want)
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestKeysAcrossMoves: keys that wait when either side moves are told by and to whoever has the call then.
func TestKeysAcrossMoves(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"alice", "bob"} {
		r, alice, bob := newPair(t)
		out, in := r.connect(alice, bob)
		next := r.phone(who, 2)
		next.Behave(phone.AutoAnswer)
		const keys = "1234567890*#1234567890*#"
		press(t, out, keys, 60)
		_, err := r.b.Move(t.Context(), call.MoveRequest{User: who, Device: "2"})
		must(t, err)
		if phone.Keys(in.Media().Heard()) == keys {
			t.Fatalf("the move of %s came when all keys were played", who)
		}
		leg, err := next.Ringing(3 * time.Second)
		must(t, err)
		want := func() bool { return len(phone.Keys(in.Media().Heard())) >= len(keys) }
		heard := func() string { return phone.Keys(in.Media().Heard()) }
		if who == "bob" { // both of his devices hear a key that is pressed while both are connected
			heard = func() string { return merge(phone.Keys(in.Media().Heard()), phone.Keys(leg.Media().Heard()), keys) }
			want = func() bool { return heard() == keys }
		}
		r.eventually("all keys are heard", 10*time.Second, want)
		time.Sleep(200 * time.Millisecond)
		if got := heard(); got != keys {
			t.Errorf("moved by %s: keys %s were heard, want %s", who, got, keys)
		}
		if who == "alice" {
			if rep := phone.Analyse(in.Media().Heard(), 8000); len(rep.SSRCs) != 1 || rep.Missing != 0 {
				t.Errorf("bob's stream is broken: %s", rep)
			}
			press(t, leg, "9", 60)
			heardKeys(r, in, keys+"9")
		}
		must(t, leg.Hangup())
		r.nothingLeft()
	}
}

// merge joins the keys that an old device heard with those of the new one, where they overlap as the whole says.
func merge(old, new, whole string) string {
	if strings.HasPrefix(whole, old) && strings.HasSuffix(whole, new) && len(old)+len(new) >= len(whole) {
		return whole
	}
	return old + "|" + new
}

// TestInfoBodies: what is answered to an INFO, by its body.
func TestInfoBodies(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	for _, c := range []struct {
		kind, body string
		more       []phone.Header
		code       int
		header     string // that the answer must have
		value      string
	}{
		{kind: relay, body: "Signal=1\r\nDuration=100\r\n", code: 200},
		{kind: "Application/DTMF-Relay ; x=y", body: " signal = * \n", code: 200},
		{kind: "application/dtmf", body: "3", code: 200},
		{kind: "application/dtmf", body: " # \r\n", code: 200},
		{kind: "", body: "", code: 200},
		{kind: relay, body: "Duration=100\r\n", code: 400, header: "Warning", value: "is no key"},
		{kind: relay, body: "Signal=E\r\n", code: 400, header: "Warning", value: `\"E\" is no key`},
		{kind: relay, body: "Signal=5\r\nDuration=soon\r\n", code: 400, header: "Warning", value: "no number"},
		{kind: "application/media_control+xml", body: "<x/>", code: 415, header: "Accept", value: relay + ", application/dtmf"},
		{kind: "application/x", body: "x", more: []phone.Header{{Name: "Info-Package", Value: "foo"}}, code: 469, header: "Recv-Info"},
	} {
		res := info(t, out, c.kind, c.body, c.more...)
		if res.Code != c.code || c.header != "" && (len(res.All(c.header)) != 1 || !strings.Contains(res.Get(c.header), c.value)) {
			t.Errorf("INFO %s %q: %s, %s: %q", c.kind, c.body, res.Line(), c.header, res.All(c.header))
		}
	}
	heardKeys(r, in, "1*3#")
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestTooManyKeys: what cannot be told in time is refused, and nothing of it is left when the call ends.
func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, _ := r.connect(alice, bob)
	refused := 0
	for range 80 {
		if res := info(t, out, relay, "Signal=1\r\nDuration=5000\r\n"); res.Code == 503 {
			refused++
		}
	}
	if refused != 80-64-1 {
		t.Errorf("%d of 80 keys were refused, want 15: one is played, 64 wait", refused)
	}
	must(t, out.Hangup())
	r.nothingLeft()
}
