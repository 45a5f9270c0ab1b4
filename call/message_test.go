package call_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/registrar"
	"baton/test/phone"
)

func typed(kind string) phone.Header { return phone.Header{Name: "Content-Type", Value: kind} }

// write sends a MESSAGE to a user and gives its answer.
func (r *rig) write(from *phone.Phone, to, text string, headers ...phone.Header) *phone.Message {
	r.t.Helper()
	if !strings.Contains(to, ":") {
		to = "sip:" + to + "@" + r.server.Addr().String()
	}
	res, err := from.Send("MESSAGE", to, []byte(text), append([]phone.Header{typed("text/plain")}, headers...)...)
	must(r.t, err)
	return res
}

// messagesTo are those that a phone has received, without repeats.
func messagesTo(p *phone.Phone) (all []*phone.Message) {
	seen := map[string]bool{}
	for _, m := range methods(p.Received(time.Time{}), "MESSAGE") {
		if key := m.Get("Call-ID") + m.Get("CSeq"); !seen[key] {
			seen[key] = true
			all = append(all, m.Message)
		}
	}
	return all
}

// TestMessageToAllDevices: by name and number, to every device of the user, as the sender is shown and with nothing in it that
// was not meant to pass.
func TestMessageToAllDevices(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	soft := r.phone("bob", 2, overTCP(r))
	const text = "Grüße\r\n.\r\n"
	const date = "Sun, 06 Nov 1994 08:49:37 GMT"
	res := r.write(
		alice, "102", text, typed("Text/Plain; charset=UTF-8; evil=yes"), phone.Header{Name: "Date", Value: date}, phone.Header{Name: "Expires", Value: "60"},
		phone.Header{Name: "Max-Forwards", Value: "9"}, phone.Header{Name: "Subject", Value: "no"}, phone.Header{Name: "Call-Info", Value: "<http://evil>"},
		phone.Header{Name: "P-Asserted-Identity", Value: "<sip:boss@example.org>"},
	)
	if res.Code != 200 {
		t.Fatal(res.Line())
	}
	r.write(alice, "bob", "again", phone.Header{Name: "Date", Value: "yesterday"}, phone.Header{Name: "Expires", Value: "soon"})
	r.eventually("both devices have both", 3*time.Second, func() bool { return len(messagesTo(bob)) == 2 && len(messagesTo(soft)) == 2 })
	for _, p := range []*phone.Phone{bob, soft} {
		m := messagesTo(p)[0]
		for name, want := range map[string]string{
			"Content-Type": "text/plain; charset=UTF-8", "Date": date, "Expires": "60", "Max-Forwards": "8", "Subject": "", "Call-Info": "", "Contact": "",
		} {
			if got := m.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		from, asserted := m.Get("From"), m.Get("P-Asserted-Identity")
		if phone.DisplayName(from) != "alice" || phone.UserPart(phone.AddrURI(from)) != "101" || phone.UserPart(phone.AddrURI(asserted)) != "101" {
			t.Errorf("From: %s, P-Asserted-Identity: %s", from, asserted)
		}
		if phone.UserPart(phone.AddrURI(m.Get("To"))) != "102" || phone.Param(m.Get("To"), "tag") != "" || string(m.Body) != text || m.URI != p.Contact() {
			t.Errorf("%s, To: %s, body %q", m.Line(), m.Get("To"), m.Body)
		}
		if m := messagesTo(p)[1]; m.Get("Date") != "" || m.Get("Expires") != "" {
			t.Errorf("passed on unread: %q %q", m.Get("Date"), m.Get("Expires"))
		}
	}
}

// TestMessageToOneself goes to one's other devices, and 102*2 to one device alone.
func TestMessageToOneself(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	second, third := r.phone("alice", 2), r.phone("bob", 2)
	if res := r.write(alice, "101", "to me"); res.Code != 200 {
		t.Fatal(res.Line())
	}
	if res := r.write(alice, "102*2", "to one"); res.Code != 200 {
		t.Fatal(res.Line())
	}
	time.Sleep(200 * time.Millisecond)
	for p, want := range map[*phone.Phone]int{alice: 0, second: 1, bob: 0, third: 1} {
		if n := len(messagesTo(p)); n != want {
			t.Errorf("%s of %s has %d messages, want %d", p.Config().UserAgent, p.Config().User, n, want)
		}
	}
	if res := r.write(bob, "bob*1", "to this very phone"); res.Code != 480 {
		t.Error(res.Line())
	}
}

// TestMessageRefused: what is answered when a message is not passed on, and that nobody gets any of it.
func TestMessageRefused(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	for _, c := range []struct {
		to, text string
		headers  []phone.Header
		code     int
		why      string
	}{
		{"103", "x", nil, 480, "no device of carol is here"},
		{"nobody", "x", nil, 404, "no user"},
		{"sip:102@elsewhere.example", "x", nil, 404, "host"},
		{"*40", "x", nil, 404, "star code"},
		{"*41", "x", nil, 404, "star code"},
		{"*21*102%23", "x", nil, 404, "star code"},
		{"102", "", nil, 400, "empty"},
		{"102", "x", []phone.Header{typed("message/cpim")}, 415, "message/cpim"},
		{"102", "x", []phone.Header{typed("text/html")}, 415, "text/html"},
		{"102", "x", []phone.Header{typed("")}, 415, ""},
		{"102", strings.Repeat("x", 1300), nil, 413, "UDP"},
		{"102", strings.Repeat("x", 20000), nil, 413, "octets"},
		{"102", "x", []phone.Header{{Name: "Max-Forwards", Value: "0"}}, 483, ""},
		{"102", "x", []phone.Header{{Name: "From", Value: `<sip:102@127.0.0.1>;tag=1`}}, 403, ""},
	} {
		res := r.write(alice, c.to, c.text, c.headers...)
		if res.Code != c.code || !strings.Contains(res.Get("Warning"), c.why) {
			t.Errorf("to %s: %s, Warning: %s; want %d %q", c.to, res.Line(), res.Get("Warning"), c.code, c.why)
		}
		if accept := res.Get("Accept"); c.code == 415 && accept != "text/plain, application/im-iscomposing+xml" {
			t.Errorf("Accept: %q", accept)
		}
	}
	if got := messagesTo(bob); len(got) > 0 {
		t.Errorf("bob's phone was sent %q", got[0].Body)
	}
	typing := typed("application/im-iscomposing+xml")
	if res := r.write(alice, "102", "<isComposing/>", typing); res.Code != 200 {
		t.Errorf("a notice of typing: %s", res.Line())
	}
}

// TestLongMessage passes where the way allows it: over TCP.
func TestLongMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	alice, bob := r.phone("alice", 1, overTCP(r)), r.phone("bob", 1, overTCP(r))
	text := strings.Repeat("0123456789", 1600)
	if res := r.write(alice, "102", text); res.Code != 200 {
		t.Fatal(res.Line(), res.Get("Warning"))
	}
	if got := messagesTo(bob); len(got) != 1 || string(got[0].Body) != text {
		t.Errorf("%d messages", len(got))
	}
}

// TestMessageAnswers: one device that takes the message is enough, and of refusals the one that says something about it counts.
func TestMessageAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		devices []int
		want    int
	}{
		{[]int{-1, 200}, 200}, {[]int{603, 200}, 200}, {[]int{486, 405}, 486}, {[]int{405, 415}, 415}, {[]int{401, 500}, 480}, {[]int{302}, 480},
	} {
		t.Run(fmt.Sprint(c.devices), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.user("alice", "101")
			r.user("bob", "102")
			alice := r.phone("alice", 1)
			var devices []*phone.Phone
			for i, code := range c.devices {
				p := r.phone("bob", i+1)
				p.Behave(phone.Behaviour{Message: code})
				devices = append(devices, p)
			}
			began := time.Now()
			res := r.write(alice, "102", "hello")
			if res.Code != c.want || c.want != 200 && res.Get("Warning") == "" {
				t.Errorf("%s, Warning: %s; want %d", res.Line(), res.Get("Warning"), c.want)
			}
			if took := time.Since(began); took > 9*time.Second {
				t.Errorf("it took %s", took)
			}
			for _, p := range devices {
				r.eventually(p.Config().UserAgent+" has the message", 5*time.Second, func() bool { return len(messagesTo(p)) == 1 })
			}
		})
	}
}

// TestSilentReader: a device that does not answer costs the sender ten seconds, and never more than 32 of his messages are on
// their way at once.
func TestSilentReader(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Message: -1})
	var wait sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i := range 40 {
		wait.Go(func() {
			res := r.write(alice, "102", fmt.Sprint("message ", i))
			mu.Lock()
			defer mu.Unlock()
			codes[res.Code]++
		})
	}
	wait.Wait()
	if codes[480] != 32 || codes[503] != 8 {
		t.Errorf("answers %v, want 32 times 480 and 8 times 503", codes)
	}
	if n := len(messagesTo(bob)); n != 32 {
		t.Errorf("bob's phone was sent %d messages", n)
	}
	bob.Behave(phone.Behaviour{})
	if res := r.write(alice, "102", "and now"); res.Code != 200 {
		t.Errorf("afterwards: %s", res.Line())
	}
}

// TestMessageDespiteSettings: forwarding and do-not-disturb are about calls.
func TestMessageDespiteSettings(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol := r.phone("carol", 1)
	_, err := r.reg.Configure("bob", func(s *registrar.Settings) { s.DoNotDisturb, s.Forward.Always = true, "carol" })
	must(t, err)
	if res := r.write(alice, "102", "hello"); res.Code != 200 || len(messagesTo(bob)) != 1 || len(messagesTo(carol)) != 0 {
		t.Errorf("%s; bob has %d, carol %d", res.Line(), len(messagesTo(bob)), len(messagesTo(carol)))
	}
}

// TestMessageInACall goes on within the other side's dialog, with the same rules.
func TestMessageInACall(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	res, err := out.Request("MESSAGE", []byte("psst"), typed("text/plain"))
	must(t, err)
	got := messagesTo(bob)
	if res.Code != 200 || len(got) != 1 || string(got[0].Body) != "psst" || got[0].Get("Call-ID") != in.ID() {
		t.Fatalf("%s; bob has %d", res.Line(), len(got))
	}
	if res, _ := out.Request("MESSAGE", []byte("x"), typed("text/html")); res.Code != 415 || res.Get("Accept") == "" {
		t.Error(res.Line())
	}
	bob.Behave(phone.Behaviour{Message: 486})
	if res, _ := out.Request("MESSAGE", []byte("x"), typed("text/plain")); res.Code != 486 || !strings.Contains(res.Get("Warning"), "486") {
		t.Error(res.Line(), res.Get("Warning"))
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestServedInADialog: what is served within a call is told by OPTIONS, there and outside, and what is not gets the answer for it.
func TestServedInADialog(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, _ := r.connect(alice, bob)
	outside, err := alice.Send("OPTIONS", "sip:"+r.server.String(), nil)
	must(t, err)
	inside, err := out.Request("OPTIONS", nil)
	must(t, err)
	const allow = "INVITE, ACK, CANCEL, BYE, PRACK, OPTIONS, MESSAGE, NOTIFY, PUBLISH, REFER, REGISTER, SUBSCRIBE, UPDATE, INFO"
	const accept = "application/sdp, application/dtmf-relay, application/dtmf, application/vq-rtcpxr, text/plain, application/im-iscomposing+xml"
	for _, res := range []*phone.Message{outside, inside} {
		if res.Get("Allow") != allow || res.Get("Accept") != accept || !strings.Contains(res.Get("Supported"), "replaces") {
			t.Errorf("Allow: %s\nAccept: %s\nSupported: %s", res.Get("Allow"), res.Get("Accept"), res.Get("Supported"))
		}
	}
	for method, code := range map[string]int{"NOTIFY": 489, "SUBSCRIBE": 489, "PUBLISH": 489, "FOO": 405} {
		res, _ := out.Request(method, nil, phone.Header{Name: "Event", Value: "conference"})
		if res.Code != code || code == 405 && res.Get("Allow") != allow {
			t.Errorf("%s: %s, Allow: %s", method, res.Line(), res.Get("Allow"))
		}
	}
	if out.State() != phone.Up {
		t.Error("the call did not outlive it")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestMessagesKeepTheirOrder writes a hundred messages, each as soon as the first of two devices has taken the one before: the
// slower one gets them in their order too.
func TestMessagesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	soft := r.phone("bob", 2, overTCP(r))
	for i := range 100 {
		r.write(alice, "bob", fmt.Sprint(i))
	}
	for _, p := range []*phone.Phone{bob, soft} {
		r.eventually("all messages", 3*time.Second, func() bool { return len(messagesTo(p)) == 100 })
		for i, m := range messagesTo(p) {
			if string(m.Body) != fmt.Sprint(i) {
				t.Fatalf("%s got %q as number %d", p.Config().UserAgent, m.Body, i)
			}
		}
	}
}
