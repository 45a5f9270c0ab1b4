package registrar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestIdentify is a series of REGISTERs, and what alice's devices are after each.
func TestIdentify(t *testing.T) {
	type step struct {
		*phone
		then string
	}
	const later = 20 * time.Second // so that a device must be asked whether it lives
	with := func(p *phone, change func(*phone)) *phone {
		q := *p
		change(&q)
		return &q
	}
	callID := func(id string) func(*phone) { return func(p *phone) { p.callID = id } }
	yealink := desk("alice", "Yealink SIP-T46S 66.85.0.5", "192.168.1.20:5060")
	nat := func(p *phone, port int) *phone {
		return with(p, func(p *phone) { p.flow, p.callID = udp(fmt.Sprint("203.0.113.1:", port)), fmt.Sprint(port) })
	}
	baresip := with(desk("alice", "baresip v1.0.0 (x86_64/linux)", "192.168.1.30:5070"), func(p *phone) {
		p.contact = "sip:alice-0x55aa01@192.168.1.30:5070"
	})
	overTCP := func(id uint64, call string) *phone {
		return &phone{
			user: "alice", agent: "MicroSIP/3.21.3", contact: fmt.Sprintf("sip:alice@192.168.1.40:%d;transport=tcp", 50000+id),
			flow: tcp(fmt.Sprint("203.0.113.1:", 30000+id), id), callID: call,
		}
	}
	browser := func(id uint64, user string) *phone {
		return &phone{
			user: "alice", agent: "SIP.js/0.21.2", contact: "sip:" + user + "@" + user + ".invalid;transport=ws",
			flow: tcp(fmt.Sprint("203.0.113.1:", 30000+id), id), callID: user,
		}
	}
	viaProxy := func(contact string) *phone {
		return &phone{
			user: "alice", agent: "snom320/8.7", contact: "sip:alice@" + contact, flow: tcp("203.0.113.5:5060", 1), callID: contact,
			headers: []string{"Via: SIP/2.0/UDP " + contact + ";branch=z9hG4bKx"}, cseq: int(time.Now().UnixMicro() % 1e6),
		}
	}
	for name, steps := range map[string][]step{
		"behind NAT whose port changes": {
			{nat(yealink, 10001), "1 yealink-t46s here"},
			{nat(yealink, 10002), "1 yealink-t46s here"},
		},
		"firmware changes": {
			{yealink, "1 yealink-t46s here"},
			{with(yealink, func(p *phone) { p.agent, p.callID = "Yealink SIP-T46S 66.86.0.15", "n" }), "1 yealink-t46s here"},
		},
		"two of one model": {
			{yealink, "1 yealink-t46s here"},
			{desk("alice", "Yealink SIP-T46S 66.85.0.5", "192.168.1.21:5060"), "1 yealink-t46s here, 2 yealink-t46s-2 here"},
			{with(yealink, callID("again")), "1 yealink-t46s here, 2 yealink-t46s-2 here"},
		},
		"another product at the same place": {
			{yealink, "1 yealink-t46s here"},
			{desk("alice", "snomD785/10.1.64.14", "192.168.1.20:5060"), "1 yealink-t46s here, 2 snom-d785 here"},
		},
		"two that live at one host": {
			{baresip, "1 baresip here"},
			{with(desk("alice", baresip.agent, "192.168.1.30:5072"), callID("b")), "1 baresip here, 2 baresip-2 here"},
		},
		"baresip starts again": {
			{baresip, "1 baresip here"},
			{with(baresip, func(p *phone) { p.contact, p.callID = "sip:alice-0x77bb02@192.168.1.30:5070", "n" }), "1 baresip here"},
		},
		"a public address is learnt": {
			{nat(yealink, 10001), "1 yealink-t46s here"},
			{with(nat(yealink, 10001), func(p *phone) { p.contact, p.cseq = "sip:alice@203.0.113.1:10001", 9 }), "1 yealink-t46s here"},
		},
		"one connection after the other": {
			{overTCP(1, "a"), "1 microsip here"},
			{with(overTCP(2, "a"), func(p *phone) { p.cseq = 5 }), "1 microsip here"}, // same Call-ID
			{with(overTCP(2, "b"), func(p *phone) {}), "1 microsip here"},             // same connection
			{overTCP(3, "c"), "1 microsip here, 2 microsip-2 here"},                   // another, and the first lives
		},
		"an instance is one device wherever it is": {
			{app("alice", "LinphoneiOS/5.2", "urn:uuid:1", tcp("203.0.113.1:1001", 1)), "1 linphone-ios here"},
			{with(app("alice", "LinphoneiOS/5.2", "urn:uuid:1", tcp("198.51.100.1:1001", 2)), callID("push")), "1 linphone-ios here"},
			{app("alice", "LinphoneiOS/5.2", "urn:uuid:2", tcp("198.51.100.1:1002", 3)), "1 linphone-ios here, 2 linphone-ios-2 here"},
			{with(app("alice", "LinphoneiOS/5.3", "URN:UUID:1", udp("198.51.100.1:1001")), callID("x")), "1 linphone-ios here, 2 linphone-ios-2 here"},
		},
		"two browsers": {
			{browser(1, "abc"), "1 sipjs here"},
			{browser(2, "def"), "1 sipjs here, 2 sipjs-2 here"},
		},
		"two behind a proxy": {
			{viaProxy("10.0.0.1:5060"), "1 snom-320 here"},
			{viaProxy("10.0.0.2:5060"), "1 snom-320 here, 2 snom-320-2 here"},
			{viaProxy("10.0.0.1:5060"), "1 snom-320 here, 2 snom-320-2 here"},
		},
		"from TCP to UDP": {
			{with(yealink, func(p *phone) { p.flow = tcp("192.168.1.20:40000", 1) }), "1 yealink-t46s here"},
			{with(yealink, callID("udp")), "1 yealink-t46s here"},
		},
		"no User-Agent, three ports": {
			{desk("alice", "", "192.168.1.50:5060"), "1 phone here"},
			{desk("alice", "", "192.168.1.50:5062"), "1 phone here, 2 phone-2 here"},
			{desk("alice", "", "192.168.1.50:5064"), "1 phone here, 2 phone-2 here, 3 phone-3 here"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOffice(t, "alice")
				for _, s := range steps {
					a := o.send(s.phone, "")
					time.Sleep(later)
					synctest.Wait()
					if a.code != 200 {
						t.Fatalf("%+v", a)
					}
					o.want("alice", s.then)
				}
			})
		})
	}
}

// TestRestartedPhone comes back with another port and Call-ID: the old one is asked, and does not answer.
func TestRestartedPhone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		old := desk("alice", "MicroSIP/3.21.3", "192.168.1.40:50001")
		o.expect(200, old, "")
		o.expect(200, desk("alice", "Yealink SIP-T46S 1", "192.168.1.41:5060"), "")
		time.Sleep(15 * time.Second)
		o.agent.set(func() { o.agent.deaf[old.contact] = true })
		asked := o.agent.count(old.contact)
		again := o.send(desk("alice", "MicroSIP/3.21.3", "192.168.1.40:50002"), "")
		behind := o.send(desk("alice", "snom320/8.7", "192.168.1.42:5060"), "")
		time.Sleep(doubtFor + time.Millisecond)
		synctest.Wait()
		if again.code != 200 || behind.code != 200 || o.agent.count(old.contact) != asked+1 {
			t.Fatalf("%+v, %+v, asked %d times", again, behind, o.agent.count(old.contact)-asked)
		}
		o.want("alice", "1 microsip here, 2 yealink-t46s here, 3 snom-320 here")
		if got := o.Devices("alice")[0].Binding.Contact; got != "sip:alice@192.168.1.40:50002" {
			t.Errorf("device is at %s", got)
		}
		// One heard just now lives, and one that says nothing of itself may be anything: nobody is asked.
		young := desk("alice", "Twinkle/1.10.2", "192.168.1.43:50001")
		mute := desk("alice", "", "192.168.1.44:50001")
		o.agent.set(func() { o.agent.deaf[young.contact], o.agent.deaf[mute.contact] = true, true })
		o.expect(200, mute, "")
		time.Sleep(15 * time.Second)
		o.expect(200, young, "")
		time.Sleep(time.Second)
		o.expect(200, desk("alice", "Twinkle/1.10.2", "192.168.1.43:50002"), "")
		o.expect(200, desk("alice", "", "192.168.1.44:50002"), "")
		o.want("alice", "1 microsip here, 2 yealink-t46s here, 3 snom-320 here, 4 phone here, 5 twinkle here, 6 twinkle-2 here, 7 phone-2 here")
		for _, ref := range []string{"7", "6", "5", "4"} {
			if err := o.Forget("alice", ref); err != nil {
				t.Fatal(err)
			}
		}
		// One that is away needs no asking, and keeps its name whatever the port.
		o.expect(200, desk("alice", "Yealink SIP-T46S 1", "192.168.1.41:5060"), "0")
		o.expect(200, desk("alice", "Yealink SIP-T46S 1", "192.168.1.41:5099"), "")
		o.want("alice", "1 microsip here, 2 yealink-t46s here, 3 snom-320 here")
		// The browser's page is loaded again: another contact, the same device.
		page := &phone{user: "alice", agent: "SIP.js/0.21.2", contact: "sip:abc@abc.invalid", flow: tcp("203.0.113.1:1", 1), callID: "1"}
		o.expect(200, page, "")
		o.FlowClosed(page.flow)
		synctest.Wait()
		page = &phone{user: "alice", agent: "SIP.js/0.21.2", contact: "sip:def@def.invalid", flow: tcp("203.0.113.1:2", 2), callID: "2"}
		o.expect(200, page, "")
		o.want("alice", "1 microsip here, 2 yealink-t46s here, 3 snom-320 here, 4 sipjs here")
	})
}

// TestLikelier starts two phones of one product at one host again, after both were killed.
func TestLikelier(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		at := func(flow string, port int) *phone {
			p := desk("alice", "baresip v1.0.0", fmt.Sprint("192.168.1.40:", port))
			if flow == "tcp" {
				p.flow = tcp(fmt.Sprint("192.168.1.40:", port), uint64(port))
			}
			return p
		}
		u, c := at("udp", 5070), at("tcp", 5072)
		o.expect(200, u, "")
		o.expect(200, c, "")
		o.want("alice", "1 baresip here, 2 baresip-2 here")
		o.agent.set(func() { o.agent.deaf[u.contact] = true })
		o.FlowClosed(c.flow)
		time.Sleep(15 * time.Second)
		again := o.send(at("udp", 5074), "")
		time.Sleep(2 * time.Second)
		o.expect(200, at("tcp", 5076), "")
		o.want("alice", "1 baresip here, 2 baresip-2 here")
		all := o.Devices("alice")
		if again.code != 200 || all[0].Binding.Flow.Transport != "udp" || all[1].Binding.Flow.Transport != "tcp" {
			t.Errorf("%+v are at %+v and %+v", again, all[0].Binding, all[1].Binding)
		}
	})
}

func TestTenthDevice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		nth := func(i int) *phone {
			return desk("alice", "model"+string(rune('a'+i)), fmt.Sprintf("192.168.1.%d:5060", i+1))
		}
		instance := func(i int) *phone {
			return app("alice", "app"+string(rune('a'+i)), fmt.Sprint("urn:uuid:", i), udp(fmt.Sprintf("192.168.2.%d:5060", i+1)))
		}
		o.expect(200, instance(0), "") // 1: with an instance, away longest
		o.expect(200, instance(0), "0")
		for i := range 8 { // 2 to 9
			time.Sleep(time.Second)
			o.expect(200, nth(i), "")
		}
		o.want("alice", "2 modela here, 3 modelb here, 4 modelc here, 5 modeld here, 6 modele here, 7 modelf here, 8 modelg here, 9 modelh here, 1 appa away")
		// All indices are taken, and none may be given away.
		o.expect(200, instance(1), "")
		if lines := o.journal.lines(); !slices.Contains(lines, "device-new alice appb: new device appb of alice is known by its name alone") {
			t.Errorf("log is %q", lines)
		}
		if d, err := o.Find("alice", "appb"); err != nil || d.Index != 0 {
			t.Errorf("%+v, %v", d, err)
		}
		// One without index that is away has no place to give.
		o.expect(200, nth(9), "")
		o.expect(200, nth(9), "0")
		time.Sleep(time.Minute)
		// Two go away; the next takes the place of the one that went first.
		o.expect(200, nth(4), "0")
		time.Sleep(time.Minute)
		o.expect(200, nth(2), "0")
		o.expect(200, nth(8), "")
		if d, err := o.Find("alice", "6"); err != nil || d.Name != "modeli" {
			t.Errorf("device 6 is %+v, %v", d, err)
		}
		if _, err := o.Find("alice", "modele"); err == nil {
			t.Error("modele is remembered, and its index is another's")
		}
		// The one known by name alone gets the next index that is free.
		if err := o.Forget("alice", "4"); err != nil {
			t.Fatal(err)
		}
		o.expect(200, instance(1), "")
		if d, err := o.Find("alice", "4"); err != nil || d.Name != "appb" {
			t.Errorf("device 4 is %+v, %v", d, err)
		}
	})
}

func TestTooManyDevices(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		nth := func(i int) *phone {
			return app("alice", "app", fmt.Sprint("urn:uuid:", i), udp(fmt.Sprintf("192.168.2.1:%d", 5060+i)))
		}
		for i := range maxDevices {
			o.expect(200, nth(i), "")
		}
		o.expect(403, nth(maxDevices), "")
		o.expect(403, desk("alice", "x", "192.168.3.1:5060"), "")
		if n := len(o.Devices("alice")); n != maxDevices {
			t.Errorf("%d devices", n)
		}
		o.expect(200, nth(3), "")
	})
}

func TestKeysAreOnes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		first := desk("alice", "MicroSIP/3.21.3", "192.168.1.40:5060")
		o.expect(200, first, "")
		o.expect(200, first, "0")
		o.expect(200, desk("alice", "MicroSIP/3.21.3", "192.168.1.40:5062"), "") // the same, elsewhere
		o.want("alice", "1 microsip here")
		key := o.Devices("alice")[0].Key
		o.expect(200, desk("alice", "MicroSIP/3.21.3", "192.168.1.40:5060"), "") // another, where the first was
		o.want("alice", "1 microsip here, 2 microsip-2 here")
		all := o.Devices("alice")
		if all[0].Key != key || all[1].Key == key || !strings.HasPrefix(all[1].Key, "microsip/") {
			t.Errorf("keys are %q and %q", all[0].Key, all[1].Key)
		}
	})
}
