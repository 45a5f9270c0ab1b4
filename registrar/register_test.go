package registrar

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"baton/sip"
)

// S11: a Path leads requests to where it says, so that only a proxy of ours may write one.
func TestS11PathOfAStranger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		stranger := desk("alice", "Yealink SIP-T46S 66.85.0.5", "198.51.100.66:5060")
		stranger.headers = []string{"Supported: path", "Path: <sip:victim.example;lr>"}
		a := o.expect(403, stranger, "300")
		if w := values(a.reply, "Warning"); len(w) != 1 || !strings.Contains(w[0], "proxies") || len(o.Devices("alice")) != 0 {
			t.Errorf("Warning %q, devices %v", w, o.Devices("alice"))
		}
		stranger.headers = []string{"Path: <sip:victim.example;lr>"} // not asked for: passed over (RFC 3327 §5.3)
		o.expect(200, stranger, "300")
		if p := o.Devices("alice")[0].Binding.Path; len(p) != 0 {
			t.Errorf("the binding has the Path %q", p)
		}
	})
}

func TestRegister(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		yealink := desk("alice", "Yealink SIP-T46S 66.85.0.5", "198.51.100.7:5060")
		yealink.headers = []string{"Supported: path", "Path: <sip:edge.example.org;lr>"}
		a := o.expect(200, yealink, "300")
		if got := a.contacts(); !slices.Equal(got, []string{"<sip:alice@198.51.100.7:5060>;expires=300"}) {
			t.Errorf("200 lists %q", got)
		}
		if got := values(a.reply, "Path"); !slices.Equal(got, []string{"<sip:edge.example.org;lr>"}) {
			t.Errorf("200 has Path %q", got)
		}
		if date := values(a.reply, "Date"); len(date) != 1 || !strings.HasSuffix(date[0], " GMT") {
			t.Errorf("200 has Date %q", date)
		}
		softphone := app("alice", "baresip v1.0.0 (x86_64/linux)", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		a = o.expect(200, softphone, "")
		if got := a.contacts(); len(got) != 1 || !strings.Contains(got[0], "198.51.100.8") || !strings.HasSuffix(got[0], ";expires=3600") {
			t.Errorf("200 lists not just the device's own binding: %q", got)
		}
		o.want("alice", "1 yealink-t46s here, 2 baresip here")
		o.want("bob", "")
		want := []string{
			"device-new alice yealink-t46s: new device yealink-t46s is alice's device 1", "registered alice yealink-t46s",
			"device-new alice baresip: new device baresip is alice's device 2", "registered alice baresip",
		}
		if got := o.journal.lines(); !slices.Equal(got, want) {
			t.Errorf("log is %q", got)
		}
		// By number, as phones that are set up with their extension do.
		softphone.user = "101"
		o.expect(200, softphone, "600")
		d, err := o.Find("alice", "2")
		if err != nil || d.User != "alice" || d.Kind != Softphone || d.Binding.Node != "n1" || d.Binding.Flow != softphone.flow {
			t.Errorf("%+v, %v", d, err)
		}
		if lines := o.journal.lines(); len(lines) > 0 {
			t.Errorf("a refresh is logged: %q", lines)
		}
	})
}

func TestRegisterRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		p := desk("alice", "x", "198.51.100.7:5060")
		for _, c := range []struct {
			as, to string
			code   int
		}{
			{"alice", "sip:alice@example.org", 0},
			{"alice", "sip:Alice@EXAMPLE.org", 0},
			{"alice", "sip:101@192.0.2.1", 0},
			{"alice", "sip:bob@example.org", 403},
			{"alice", "sip:102@example.org", 403},
			{"", "sip:alice@example.org", 403},
			{"alice", "sip:nobody@example.org", 404},
			{"alice", "sip:example.org", 404},
			{"alice", "tel:101", 404},
		} {
			u, err := sip.ParseURI(c.to)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = o.addressed(u, c.as); code(err) != c.code {
				t.Errorf("%q registers %s: %v, want %d", c.as, c.to, err, c.code)
			}
		}
		o.Registrar.o.Domain = "example.org"
		if _, err := o.addressed(sip.URI{Scheme: "sip", User: "alice", Host: "example.com"}, "alice"); code(err) != 404 {
			t.Errorf("an address of another domain: %v", err)
		}
		p.user = "nobody"
		o.expect(404, p, "")
		o.want("alice", "")
		p.user, p.contact = "alice", "sip:alice@224.0.0.1"
		o.expect(403, p, "")
		a := o.expect(423, desk("alice", "x", "198.51.100.7:5060"), "20")
		if got := values(a.reply, "Min-Expires"); !slices.Equal(got, []string{"60"}) {
			t.Errorf("423 has Min-Expires %q", got)
		}
		o.want("alice", "")
	})
}

func TestUnregister(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		one, two := desk("alice", "Yealink SIP-T46S 1.2", "198.51.100.7:5060"), desk("alice", "snomD785/10.1", "198.51.100.8:5060")
		o.expect(200, one, "")
		o.expect(200, two, "")
		o.journal.lines()
		time.Sleep(90 * time.Second)
		if a := o.expect(200, one, "0"); len(a.contacts()) != 0 {
			t.Errorf("200 of an end lists %q", a.contacts())
		}
		o.want("alice", "2 snom-d785 here, 1 yealink-t46s away")
		if got := o.journal.lines(); !slices.Equal(got, []string{"unregistered alice yealink-t46s after 1m30s"}) {
			t.Errorf("log is %q", got)
		}
		o.expect(200, one, "0") // again: nothing to end
		if lines := o.journal.lines(); len(lines) > 0 {
			t.Errorf("log is %q", lines)
		}
		time.Sleep(10 * time.Second)
		o.expect(200, one, "")
		if got := o.journal.lines(); !slices.Equal(got, []string{"registered alice yealink-t46s after 10s"}) {
			t.Errorf("log is %q", got)
		}
		// Contact: * ends them all (RFC 3261 §10.2.2).
		o.expect(200, two, "0", "*")
		o.want("alice", "1 yealink-t46s away, 2 snom-d785 away")
		if d := o.Devices("alice")[1]; d.Reason != "unregistered" {
			t.Errorf("device is away because of %q", d.Reason)
		}
	})
}

func TestUnbindOneContact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		// A phone that changes its network ends the old contact in the REGISTER that binds the new one.
		p := app("alice", "LinphoneAndroid/5.2.5 (Pixel 6)", "urn:uuid:1", udp("198.51.100.7:5060"))
		o.expect(200, p, "")
		old := "<" + p.contact + ">" + p.params + ";expires=0"
		p.contact, p.flow = "sip:alice@203.0.113.9:5060", udp("203.0.113.9:5060")
		a := o.expect(200, p, "", old, "<"+p.contact+">"+p.params)
		if got := a.contacts(); len(got) != 1 || !strings.Contains(got[0], "203.0.113.9") {
			t.Errorf("200 lists %q", got)
		}
		o.want("alice", "1 linphone-android here")
		if d := o.Devices("alice")[0]; d.Binding.Flow != p.flow || len(d.Spare) != 0 {
			t.Errorf("device is at %+v and %+v", d.Binding, d.Spare)
		}
		// The end of a contact that is nobody's ends nothing.
		other := desk("alice", "snom320/8.7", "198.51.100.9:5060")
		o.expect(200, other, "0", "<sip:alice@198.51.100.77:5060>")
		o.want("alice", "1 linphone-android here")
	})
}

func TestFetch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		one, two := desk("alice", "Yealink SIP-T46S 1.2", "198.51.100.7:5060"), desk("alice", "snomD785/10.1", "198.51.100.8:5060")
		if a := o.expect(200, one, "", ""); len(a.contacts()) != 0 {
			t.Errorf("nothing is bound, 200 lists %q", a.contacts())
		}
		o.expect(200, one, "")
		o.expect(200, two, "")
		time.Sleep(100 * time.Second)
		if got := o.expect(200, one, "", "").contacts(); len(got) != 1 || got[0] != "<sip:alice@198.51.100.7:5060>;expires=3500" {
			t.Errorf("200 lists %q", got)
		}
		stranger := desk("alice", "", "198.51.100.9:5060")
		if got := o.expect(200, stranger, "", "").contacts(); len(got) != 2 {
			t.Errorf("who is no device is told %q", got)
		}
		o.want("alice", "1 yealink-t46s here, 2 snom-d785 here")
	})
}

func TestCSeq(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1.2", "198.51.100.7:5060")
		p.cseq = 10
		o.expect(200, p, "600") // 11
		time.Sleep(5 * time.Second)
		p.cseq = 10
		if got := o.expect(200, p, "600").contacts(); len(got) != 1 || !strings.HasSuffix(got[0], ";expires=595") {
			t.Errorf("a retransmission is told %q", got)
		}
		p.cseq = 4
		o.expect(500, p, "600")
		p.cseq = 4
		o.expect(500, p, "0")
		p.cseq = 4
		o.expect(500, p, "0", "*")
		o.want("alice", "1 yealink-t46s here")
		p.cseq = 11
		o.expect(200, p, "600") // 12
		// A client that never counts is no retransmission after 64*T1.
		time.Sleep(5 * time.Minute)
		p.cseq = 11
		if got := o.expect(200, p, "600").contacts(); len(got) != 1 || !strings.HasSuffix(got[0], ";expires=600") {
			t.Errorf("a client that never counts is told %q", got)
		}
		// After a restart it has another Call-ID.
		p.callID, p.cseq = "other", 0
		o.expect(200, p, "600")
		o.want("alice", "1 yealink-t46s here")
		// Over a connection a lower CSeq is a restart, too: nothing overtakes in TCP.
		q := app("alice", "baresip v1.0.0", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		q.cseq = 50
		o.expect(200, q, "")
		q.cseq, q.flow = 0, tcp("198.51.100.8:40001", 2)
		o.expect(200, q, "")
		o.want("alice", "1 yealink-t46s here, 2 baresip here")
	})
}

func TestAllOrNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "x1", "198.51.100.7:5060")
		o.expect(423, p, "", "<sip:alice@198.51.100.7:5060>", "<sip:alice@198.51.100.7:5062>;expires=5")
		o.expect(403, p, "", "<sip:alice@198.51.100.7:5060>", "<sip:alice@224.0.0.9>")
		o.want("alice", "")
		o.expect(200, p, "", "<sip:alice@198.51.100.7:5060>;q=0.2", "<sip:alice@198.51.100.7:5062>;expires=90;q=0.9")
		o.want("alice", "1 x1 here, 2 x1-2 here")
		if got := o.send(p, "", "<sip:alice@198.51.100.7:5060>", "<sip:alice@198.51.100.7:5062>"); got != nil {
			synctest.Wait()
			if len(got.contacts()) != 2 {
				t.Errorf("200 lists %q", got.contacts())
			}
		}
		o.want("alice", "1 x1 here, 2 x1-2 here")
		// Two contacts of one device: the one it prefers.
		const instance = `;+sip.instance="<urn:uuid:1>"`
		a := o.expect(200, desk("alice", "app", "198.51.100.9:5060"), "", "<sip:alice@198.51.100.9:5060>;q=0.5"+instance, "<sip:alice@198.51.100.9:5070>;q=0.7"+instance)
		if got := a.contacts(); len(got) != 1 || !strings.Contains(got[0], ":5070") {
			t.Errorf("200 lists %q", got)
		}
	})
}

func TestRegIDs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		one, two := tcp("198.51.100.8:40000", 1), tcp("198.51.100.8:40001", 2)
		p := app("alice", "baresip v3.5", "urn:uuid:1", one)
		instance := p.params
		p.params = instance + ";reg-id=1"
		o.expect(200, p, "")
		p.params, p.flow, p.callID = instance+";reg-id=2", two, "second"
		if got := o.expect(200, p, "").contacts(); len(got) != 2 {
			t.Errorf("200 lists %q", got)
		}
		o.want("alice", "1 baresip here")
		// One flow of two may end (RFC 5626 §5.3): the device is reached over the other.
		o.agent.set(func() { o.agent.dead[two] = true })
		o.FlowClosed(two)
		o.want("alice", "1 baresip here")
		if d := o.Devices("alice")[0]; d.Binding.Flow != one || d.Binding.RegID != 1 || len(d.Spare) != 0 {
			t.Errorf("device is at %+v", d.Binding)
		}
		o.FlowClosed(one)
		o.want("alice", "1 baresip away")
		// Without reg-id there is one binding.
		p.params, p.flow = instance, tcp("198.51.100.8:40002", 3)
		o.expect(200, p, "")
		p.flow = tcp("198.51.100.8:40003", 4)
		o.expect(200, p, "")
		if d := o.Devices("alice")[0]; d.Binding.Flow != p.flow || len(d.Spare) != 0 {
			t.Errorf("a ghost is left: %+v", d.Spare)
		}
		p.params = instance + ";reg-id=1"
		o.expect(200, p, "")
		p.params = instance + ";reg-id=2"
		o.expect(200, p, "")
		if d := o.Devices("alice")[0]; len(d.Spare) != 1 {
			t.Errorf("device is at %+v and %+v", d.Binding, d.Spare)
		}
		// One REGISTER ends the second flow and refreshes the first.
		second := "<" + p.contact + ">" + p.params + ";expires=0"
		p.params = instance + ";reg-id=1"
		o.expect(200, p, "", "<"+p.contact+">"+p.params, second)
		if d := o.Devices("alice")[0]; len(d.Spare) != 0 || !d.Here() || d.Binding.RegID != 1 {
			t.Errorf("device is at %+v and %+v", d.Binding, d.Spare)
		}
		p.params = instance
		o.expect(200, p, "")
		if d := o.Devices("alice")[0]; d.Binding.RegID != 0 || len(d.Spare) != 0 {
			t.Errorf("a ghost is left: %+v", d.Spare)
		}
	})
}

// TestCommitThenAnswer holds the store back: nobody is told, nothing is seen before it has what was asked.
func TestCommitThenAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		seen := 0
		stop := o.Watch("alice", func(Device) { seen++ })
		defer stop()
		o.store.set(func() { o.store.slow = true })
		one, two := desk("alice", "x1", "198.51.100.7:5060"), desk("alice", "x2", "198.51.100.8:5060")
		answers := []*answer{o.send(one, ""), o.send(two, ""), o.send(one, "0"), o.send(desk("bob", "y", "198.51.100.9:5060"), "")}
		synctest.Wait()
		for i, a := range answers {
			if !a.pending {
				t.Errorf("REGISTER %d is answered %d before it is written", i, a.code)
			}
		}
		if len(o.Lookup("alice")) != 0 || seen != 0 {
			t.Error("a device is seen before it is written")
		}
		o.store.release()
		synctest.Wait()
		for i, a := range answers {
			if a.pending || a.code != 200 {
				t.Errorf("REGISTER %d: %+v", i, a)
			}
		}
		o.want("alice", "2 x2 here, 1 x1 away")
		if seen != 2 {
			t.Errorf("watcher has seen %d devices", seen)
		}
		// A write that fails leaves everything as it was, and says so.
		o.store.set(func() { o.store.fail = errors.New("disk full") })
		a := o.expect(503, one, "")
		if len(values(a.reply, "Retry-After")) != 1 {
			t.Error("503 without Retry-After")
		}
		o.want("alice", "2 x2 here, 1 x1 away")
		o.store.set(func() { o.store.fail = nil })
		o.expect(200, one, "")
		o.want("alice", "1 x1 here, 2 x2 here")
	})
}

func TestTooBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		o.store.set(func() { o.store.slow = true })
		p := desk("alice", "x", "198.51.100.7:5060")
		first := o.send(p, "")
		o.waiting.Store(maxWaiting)
		o.expect(503, p, "")
		o.waiting.Store(1)
		o.store.release()
		synctest.Wait()
		if first.code != 200 || o.waiting.Load() != 0 {
			t.Errorf("%d, %d wait", first.code, o.waiting.Load())
		}
	})
}

func TestRegisterAfterRemoval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		o.expect(200, desk("alice", "x", "198.51.100.7:5060"), "")
		o.store.set(func() { o.store.slow = true })
		late := o.send(desk("alice", "y", "198.51.100.8:5060"), "")
		queued := o.send(desk("alice", "z", "198.51.100.9:5060"), "")
		synctest.Wait()
		if err := o.RemoveUser("alice"); err != nil {
			t.Fatal(err)
		}
		behind := o.send(desk("alice", "w", "198.51.100.9:5060"), "")
		o.store.release()
		synctest.Wait()
		if late.code != 200 || queued.code != 200 || behind.code != 404 {
			t.Errorf("%d, %d, %d", late.code, queued.code, behind.code)
		}
		if left, _ := o.store.Devices(); len(left) != 0 || len(o.Devices("alice")) != 0 {
			t.Errorf("devices of a removed user are left: %v", left)
		}
	})
}

// TestRegisterAcrossRemoval is a REGISTER that was let in just before its user was removed.
func TestRegisterAcrossRemoval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "x", "198.51.100.7:5060")
		a := o.directory.Load().accounts["alice"]
		req, err := readOrder(p.request(t, ""), p.flow)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.RemoveUser("alice"); err != nil {
			t.Fatal(err)
		}
		got := make(chan int, 1)
		o.submit(a, func(a *account) { o.serve(a, req, func(r sip.Reply) { got <- r.Code }) })
		synctest.Wait()
		if c := <-got; c != 404 {
			t.Errorf("answered %d", c)
		}
		if left, _ := o.store.Devices(); len(left) != 0 {
			t.Errorf("devices are left: %v", left)
		}
	})
}

func TestManyUsersAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var names []string
		for i := range 50 {
			names = append(names, fmt.Sprint("user", i))
		}
		o := newOffice(t, names...)
		var answers []*answer
		for i, name := range names {
			for j := range 3 {
				answers = append(answers, o.send(desk(name, fmt.Sprint("phone", "abc"[j:j+1]), fmt.Sprintf("198.51.100.%d:%d", i+1, 5060+j)), ""))
			}
		}
		synctest.Wait()
		for i, a := range answers {
			if a.code != 200 {
				t.Fatalf("REGISTER %d: %+v", i, a)
			}
		}
		for _, name := range names {
			if len(o.Lookup(name)) != 3 {
				t.Fatalf("%s: %s", name, o.list(name))
			}
		}
	})
}

// TestPanicCostsOneChange: what goes wrong in the agent ends neither it nor the node.
func TestPanicCostsOneChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		func() {
			defer func() {
				if p := recover(); p != nil {
					t.Error("the panic has reached who brought the change")
				}
			}()
			o.mail.Do(func() { panic("wrong") })
		}()
		o.expect(200, desk("alice", "Yealink SIP-T46S 1.2", "198.51.100.7:5060"), "300")
	})
}

// TestExpiresSpread wants what is granted to lie between 90 and 100 percent of what was asked, all over it, never below
// the shortest; and the answer to tell each device what it was given, to the second.
func TestExpiresSpread(t *testing.T) {
	for _, c := range []struct{ asked, least time.Duration }{
		{0, 0},
		{minExpires, minExpires},
		{61 * time.Second, minExpires},
		{10 * time.Minute, 9 * time.Minute},
		{maxExpires, 54 * time.Minute},
		{maxPushExpires, maxPushExpires * 9 / 10},
	} {
		low, high := c.asked, time.Duration(0)
		for range 20_000 {
			got := spread(c.asked)
			low, high = min(low, got), max(high, got)
			if got > c.asked || got < c.least || got%time.Second != 0 {
				t.Fatalf("asked for %v, granted %v", c.asked, got)
			}
		}
		if part := (c.asked - c.least) / 100; low > c.least+part || high < c.asked-part {
			t.Errorf("asked for %v, granted %v to %v, want all from %v on", c.asked, low, high, c.least)
		}
	}
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		o.o.Grant = spread
		seen := map[string]bool{}
		for range 50 {
			p := desk("alice", "Phone/1", "198.51.100.7:5060")
			got := o.expect(200, p, "3600").contacts()
			d := o.Lookup("alice")
			left := d[0].Binding.Expires.Sub(o.now())
			if want := fmt.Sprintf("<sip:alice@198.51.100.7:5060>;expires=%d", left/time.Second); len(got) != 1 || got[0] != want {
				t.Fatalf("told %v, kept %s", got, want)
			}
			seen[got[0]] = true
			time.Sleep(time.Minute)
		}
		if len(seen) < 10 {
			t.Errorf("50 registrations were granted %v", seen)
		}
	})
}

// TestRetryAfterIsDrawn wants those who are sent away not to come again all at once.
func TestRetryAfterIsDrawn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		o.waiting.Store(maxWaiting)
		seen := map[string]bool{}
		for i := range 50 {
			p := desk("alice", "Phone/1", fmt.Sprintf("198.51.100.7:%d", 5060+i))
			for _, h := range o.expect(503, p, "3600").reply.Headers {
				if h.Name == "Retry-After" {
					seen[h.Value] = true
				}
			}
		}
		o.waiting.Store(0)
		if len(seen) < 4 || seen["0"] || seen[""] {
			t.Errorf("Retry-After is one of %v", seen)
		}
	})
}
