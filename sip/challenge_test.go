package sip

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestChallengeIsRepeated challenges an INVITE from where a device is registered until the ACK comes, one at a time; elsewhere,
// and for other methods, once.
func TestChallengeIsRepeated(t *testing.T) {
	var registered atomic.Pointer[netip.AddrPort]
	a := start(t, func(o *Options) {
		o.Registered = func(login string, f Flow) bool {
			return login == "alice" && f.Remote == *registered.Load()
		}
	})
	device := dial(t, "udp", "", a.Addrs()["udp"])
	at, _ := addrOf(device)
	registered.Store(&at)
	stranger := dial(t, "udp", "", a.Addrs()["udp"])
	for what, w := range map[string]*wire{"from a stranger": stranger, "from somebody else": device, "that is no INVITE": device} {
		m := msg{method: "INVITE", callID: strings.ReplaceAll(what, " ", "-")}
		switch what {
		case "from somebody else":
			m.from = "bob"
		case "that is no INVITE":
			m.method = "OPTIONS"
		}
		w.send(m.String())
		w.expect(401)
		if data, err := w.read(6 * quick.t1); err == nil {
			t.Errorf("a challenge to what is %s is repeated:\n%s", what, data)
		}
	}
	first := msg{method: "INVITE", callID: "first", branch: magic + "first"}
	device.send(first.String())
	answer := device.expect(401)
	device.send(msg{method: "INVITE", callID: "second"}.String())
	seen := map[string]int{}
	for end := time.Now().Add(8 * quick.t1); time.Now().Before(end); {
		if data, err := device.read(time.Until(end)); err == nil {
			m, _ := parse(data, Flow{})
			seen[m.(*Response).CallID()]++
		}
	}
	if seen["first"] < 2 || seen["second"] != 1 {
		t.Errorf("within 8 T1 came %v", seen)
	}
	device.send(msg{method: "ACK", callID: "first", branch: magic + "first", toTag: answer.ToTag()}.String())
	soon(t, "the repeating has ended", func() bool { _, err := device.read(10 * quick.t1); return err == errQuiet })
	device.send(msg{method: "INVITE", callID: "third"}.String())
	device.expect(401)
	if _, err := device.read(6 * quick.t1); err != nil {
		t.Error("the next challenge is not repeated")
	}
	soon(t, "nothing is kept of it", func() bool {
		a.challenges.mu.Lock()
		defer a.challenges.mu.Unlock()
		return len(a.challenges.by) == 0
	})
}

// TestByeGoesOn gives up waiting for the answer to a BYE and to an OPTIONS: the BYE is sent until it is answered.
func TestByeGoesOn(t *testing.T) {
	a := start(t)
	d := newDevice(t, a, "udp")
	dialog, _ := call2(d.flow)
	dialog.RemoteTag = "d"
	for _, method := range []string{"BYE", "OPTIONS"} {
		ctx, cancel := context.WithTimeout(context.Background(), 2*quick.t1)
		_, err := a.Do(ctx, dialog.NewRequest(method, Body{}))
		cancel()
		if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("%s came to %v", method, err)
		}
		for { // what was sent meanwhile
			if _, err := d.read(time.Millisecond); err != nil {
				break
			}
		}
		if method == "OPTIONS" {
			d.never("OPTIONS", 10*quick.t1)
			continue
		}
		r := d.next("BYE")
		d.answer(r, 200, "")
		soon(t, "no repeats after the answer", func() bool { _, err := d.read(12 * quick.t1); return err == errQuiet })
	}
	soon(t, "no transaction is left", func() bool { return a.tables() == 0 })
}
