package registrar

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"baton/sip"
)

func TestFlowClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		flow := tcp("198.51.100.8:40000", 1)
		o.expect(200, app("alice", "baresip v3", "urn:uuid:1", flow), "")
		o.expect(200, app("bob", "baresip v3", "urn:uuid:2", flow), "") // one client, two accounts
		o.journal.lines()
		time.Sleep(time.Minute)
		o.FlowClosed(tcp("198.51.100.8:40000", 2))
		o.want("alice", "1 baresip here")
		o.FlowClosed(flow)
		o.want("alice", "1 baresip away")
		o.want("bob", "1 baresip away")
		got := o.journal.lines()
		slices.Sort(got)
		want := []string{"away alice baresip: connection closed after 1m0s", "away bob baresip: connection closed after 1m0s"}
		if !slices.Equal(got, want) {
			t.Errorf("log is %q", got)
		}
		o.expect(200, app("alice", "baresip v3", "urn:uuid:1", tcp("198.51.100.8:40001", 3)), "")
		o.FlowClosed(flow) // told late
		o.want("alice", "1 baresip here")
		if n := o.followed(); n != 1 {
			t.Errorf("%d flows are followed, one is bound", n)
		}
	})
}

// TestFlowClosedMeanwhile closes the connection while its REGISTER is being written.
func TestFlowClosedMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		o.store.set(func() { o.store.slow = true })
		flow := tcp("198.51.100.8:40000", 1)
		a := o.send(app("alice", "baresip v3", "urn:uuid:1", flow), "")
		synctest.Wait()
		o.agent.set(func() { o.agent.dead[flow] = true })
		o.FlowClosed(flow)
		synctest.Wait()
		o.store.release()
		o.want("alice", "1 baresip away")
		if a.code != 200 {
			t.Errorf("%+v", a)
		}
	})
}

func TestExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "60")
		time.Sleep(40 * time.Second)
		o.expect(200, p, "60")
		time.Sleep(55 * time.Second)
		o.want("alice", "1 yealink-t46s here")
		o.journal.lines()
		time.Sleep(6500 * time.Millisecond)
		o.want("alice", "1 yealink-t46s away")
		d := o.Devices("alice")[0]
		if d.Reason != reasonExpired || d.Binding != nil || d.Spare != nil {
			t.Errorf("%+v", d)
		}
		if got := o.journal.lines(); len(got) != 1 || got[0] != "away alice yealink-t46s: registration expired after 1m41s" && got[0] != "away alice yealink-t46s: registration expired after 1m40s" {
			t.Errorf("log is %q", got)
		}
	})
}

func TestKeepAlive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		q := app("alice", "baresip v3", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		o.expect(200, p, "")
		o.expect(200, q, "")
		time.Sleep(10 * time.Minute)
		for _, c := range []string{p.contact, q.contact} {
			// Every 30 s, give or take a fifth and the tick.
			if n := o.agent.count(c); n < 15 || n > 26 {
				t.Errorf("%s was asked %d times in 10 minutes", c, n)
			}
		}
		o.agent.set(func() { o.agent.code = 481; o.agent.asked = nil })
		time.Sleep(2 * time.Minute)
		o.want("alice", "1 yealink-t46s here, 2 baresip here") // any answer will do
		// What is heard otherwise is not asked.
		o.DeviceOf("alice", p.flow, sip.NameAddr{})
		synctest.Wait()
		o.agent.set(func() { o.agent.asked = nil })
		for range 12 {
			time.Sleep(10 * time.Second)
			o.DeviceOf("alice", p.flow, sip.NameAddr{})
		}
		if n := o.agent.count(p.contact); n != 0 {
			t.Errorf("a device that speaks was asked %d times", n)
		}
		for range 12 {
			o.expect(200, p, "")
			time.Sleep(10 * time.Second)
		}
		if n := o.agent.count(p.contact); n != 0 {
			t.Errorf("a device that registers was asked %d times", n)
		}
	})
}

func TestSilentDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		o.journal.lines()
		o.agent.set(func() { o.agent.deaf[p.contact] = true })
		time.Sleep(50 * time.Second)
		o.want("alice", "1 yealink-t46s away")
		if n := o.agent.count(p.contact); n != askTries {
			t.Errorf("asked %d times before it was given up", n)
		}
		if d := o.Devices("alice")[0]; d.Reason != "does not answer OPTIONS" || len(d.Spare) != 1 {
			t.Errorf("%+v", d)
		}
		if got := o.expect(200, p, "", "").contacts(); len(got) != 0 {
			t.Errorf("a binding that does not answer is listed: %q", got)
		}
		time.Sleep(5 * time.Minute)
		o.want("alice", "1 yealink-t46s away")
		// It answers again (a cable was put back): it need not register first.
		seen := 0
		defer o.Watch("alice", func(Device) { seen++ })()
		o.agent.set(func() { o.agent.deaf[p.contact] = false })
		time.Sleep(50 * time.Second)
		o.want("alice", "1 yealink-t46s here")
		if seen != 1 {
			t.Errorf("watcher was called %d times", seen)
		}
		lines := o.journal.lines()
		if len(lines) != 2 || lines[0][:4] != "away" || lines[1][:10] != "registered" {
			t.Errorf("log is %q", lines)
		}
		// A call that is not answered says so, too; a request of the device brings it back.
		o.Unreachable("alice", o.Devices("alice")[0].Key, "did not answer INVITE")
		o.want("alice", "1 yealink-t46s away")
		if d := o.Devices("alice")[0]; d.Reason != "did not answer INVITE" {
			t.Errorf("away because of %q", d.Reason)
		}
		o.DeviceOf("alice", p.flow, sip.NameAddr{})
		time.Sleep(1500 * time.Millisecond)
		o.want("alice", "1 yealink-t46s here")
		// Silent to the end of its registration.
		o.agent.set(func() { o.agent.deaf[p.contact] = true })
		time.Sleep(time.Hour)
		o.want("alice", "1 yealink-t46s away")
		if d := o.Devices("alice")[0]; len(d.Spare) != 0 || d.Reason != reasonUnreachable {
			t.Errorf("%+v", d)
		}
	})
}

// TestUnreachable: a device that has answered nothing for long is registered no more; until then its first answer brings it back. One that
// is idle stays, and so does an app that sleeps.
func TestUnreachable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		gone := app("alice", "baresip v3", "urn:uuid:1", udp("198.51.100.7:5060"))
		idle := app("alice", "Linphone/5", "urn:uuid:2", udp("198.51.100.8:5060"))
		asleep := app("alice", "LinphoneiOS/5.2", "urn:uuid:3", udp("198.51.100.9:5060"))
		asleep.contact = "sip:alice@198.51.100.9:5060;pn-provider=fcm;pn-prid=tok"
		bound := func() (n [3]int) {
			for _, d := range o.Devices("alice") {
				for i, id := range []string{"urn:uuid:1", "urn:uuid:2", "urn:uuid:3"} {
					if strings.Contains(d.Instance, id) {
						n[i] = len(d.bindings())
					}
				}
			}
			return n
		}
		for _, p := range []*phone{gone, idle, asleep} {
			o.expect(200, p, "3600")
		}
		o.agent.set(func() { o.agent.deaf[gone.contact], o.agent.deaf[asleep.contact] = true, true })
		time.Sleep(39 * time.Minute)
		if n := bound(); n != [3]int{1, 1, 1} {
			t.Fatalf("registered after 39 minutes: %v", n)
		}
		o.agent.set(func() { o.agent.deaf[gone.contact] = false })
		time.Sleep(time.Minute)
		o.agent.set(func() { o.agent.deaf[gone.contact] = true })
		for _, p := range []*phone{gone, idle, asleep} {
			o.expect(200, p, "3600")
		}
		time.Sleep(42 * time.Minute)
		if n := bound(); n != [3]int{0, 1, 1} {
			t.Errorf("registered after 42 more minutes of silence: %v", n)
		}
		for _, d := range o.Devices("alice") {
			if strings.Contains(d.Instance, "urn:uuid:1") && d.Reason != reasonUnreachable {
				t.Errorf("away because of %q", d.Reason)
			}
		}
	})
}

// TestSpeaksWhileAsked registers while an OPTIONS goes unanswered: it is there all the same.
func TestSpeaksWhileAsked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		o.agent.set(func() { o.agent.deaf[p.contact] = true })
		for o.agent.count(p.contact) == 0 {
			time.Sleep(time.Second)
		}
		o.expect(200, p, "")
		o.journal.lines()
		time.Sleep(askTries*askTimeout + time.Second)
		o.want("alice", "1 yealink-t46s here")
		if lines := o.journal.lines(); len(lines) != 0 {
			t.Errorf("log is %q", lines)
		}
	})
}

func TestDeadConnectionIsFound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := app("alice", "baresip v3", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		o.expect(200, p, "")
		o.agent.set(func() { o.agent.dead[p.flow] = true }) // and FlowClosed is never called
		time.Sleep(40 * time.Second)
		o.want("alice", "1 baresip away")
		if d := o.Devices("alice")[0]; len(d.Spare) != 0 {
			t.Errorf("a dead connection is kept: %+v", d.Spare)
		}
	})
}

func TestKeepAliveStopsWithRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		o.agent.set(func() { o.agent.deaf[p.contact] = true })
		for o.agent.count(p.contact) == 0 {
			time.Sleep(time.Second)
		}
		o.stop() // returns although an OPTIONS is on its way, and gives nobody up for that
		if left, _ := o.store.Devices(); len(left) != 1 || left[0].Binding == nil {
			t.Errorf("%+v", left)
		}
		if err := o.Rename("alice", "1", "desk"); err == nil {
			t.Error("a registrar that has stopped renames")
		}
	})
}

func TestRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		phone := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		mobile := app("alice", "LinphoneiOS/5", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		short := desk("alice", "snom320/1", "198.51.100.9:5060")
		o.expect(200, phone, "")
		o.expect(200, mobile, "")
		o.expect(200, short, "60")
		o.expect(200, desk("bob", "snom320/1", "198.51.100.10:5060"), "")
		if err := o.Rename("alice", "1", "Desk"); err != nil {
			t.Fatal(err)
		}
		o.Learn(o.Devices("alice")[0], map[string]string{Ringless: "off"})
		synctest.Wait()
		o.stop()
		o.store.set(func() { delete(o.store.users, "bob") }) // removed while no node ran
		o.agent.set(func() { o.agent.dead[mobile.flow] = true })
		time.Sleep(2 * time.Minute)
		o.open()
		o.want("alice", "1 desk here, 2 linphone-ios away, 3 snom-320 away")
		all := o.Devices("alice")
		if all[0].Profile["ringless"] != "off" || all[1].Reason != "its connection ended with the node" || all[2].Reason != reasonExpired {
			t.Errorf("%+v", all)
		}
		if left, _ := o.store.Devices(); len(left) != 3 {
			t.Errorf("%d devices are stored", len(left))
		}
		// The phone that is still there is asked soon, all the others not at all.
		o.agent.set(func() { o.agent.asked = nil })
		time.Sleep(32 * time.Second)
		if o.agent.count(phone.contact) == 0 || o.agent.count(mobile.contact) != 0 {
			t.Errorf("asked: %q", o.agent.asked)
		}
		o.expect(200, mobile, "0")
	})
}

// TestPanicWhileAsking: a device that cannot be asked because the asking panics is away, and the node goes on.
func TestPanicWhileAsking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		o.agent.set(func() { o.agent.falls = true })
		time.Sleep(46 * time.Second)
		o.want("alice", "1 yealink-t46s away")
	})
}
