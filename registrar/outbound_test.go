package registrar

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"baton/sip"
)

// page is a browser that registers over a WebSocket, as JsSIP does: host and user of its Contact are made up at each start.
func page(user, instance string, flow sip.Flow, start int) *phone {
	flow.Transport = "wss"
	p := &phone{
		user: user, agent: "JsSIP 3.13.8", contact: fmt.Sprintf("sip:u%d@h%d.invalid;transport=ws", start, start),
		flow: flow, callID: fmt.Sprintf("start-%d", start), headers: []string{"Supported: path,gruu,outbound"},
	}
	if instance != "" {
		p.params = `;+sip.instance="<` + instance + `>";reg-id=1`
	}
	return p
}

// TestOutbound wants those who register by flows, and they alone, to be told so (RFC 5626 §6).
func TestOutbound(t *testing.T) {
	t.Parallel()
	const proxied = "Via: SIP/2.0/TCP edge.example.org;branch=z9hG4bKx"
	for _, c := range []struct {
		name, params, expires string
		headers               []string
		want                  bool
	}{
		{"by flow", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "", []string{"Supported: outbound"}, true},
		{"among others", `;+sip.instance="<urn:uuid:1>";reg-id=2`, "", []string{"Supported: path, Outbound"}, true},
		{"does not know it", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "", nil, false},
		{"without reg-id", `;+sip.instance="<urn:uuid:1>"`, "", []string{"Supported: outbound"}, false},
		{"without instance", ";reg-id=1", "", []string{"Supported: outbound"}, false},
		{"ends it", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "0", []string{"Supported: outbound"}, false},
		{"by a proxy that keeps no flow", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "", []string{proxied, "Supported: outbound, path", "Path: <sip:edge.example.org;lr>"}, false},
		{"by a proxy without Path", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "", []string{proxied, "Supported: outbound, path"}, false},
		{"by a proxy that keeps it", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "", []string{proxied, "Supported: outbound, path", "Path: <sip:core.example.org;lr>, <sip:t@edge.example.org;lr;ob>"}, true},
		{"behind one that does", `;+sip.instance="<urn:uuid:1>";reg-id=1`, "", []string{proxied, "Supported: outbound, path", "Path: <sip:t@edge.example.org;lr;ob>, <sip:core.example.org;lr>"}, false},
	} {
		bubble(t, func(t *testing.T) {
			o := newOffice(t, "alice")
			p := page("alice", "", tcp("198.51.100.7:40000", 1), 1)
			p.params, p.headers = c.params, c.headers
			a := o.expect(200, p, c.expires)
			if got := values(a.reply, "Require"); slices.Equal(got, []string{"outbound"}) != c.want || !c.want && len(got) > 0 {
				t.Errorf("%s: Require is %q", c.name, got)
			}
		})
	}
}

// TestBrowser wants a browser to be one device over all its starts, away as soon as its connection has closed.
func TestBrowser(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		first := page("alice", "urn:uuid:1", tcp("198.51.100.7:40000", 1), 1)
		a := o.expect(200, first, "600")
		if got := a.contacts(); len(got) != 1 || !strings.HasPrefix(got[0], `<sip:u1@h1.invalid;transport=ws>;+sip.instance="<urn:uuid:1>";reg-id=1;expires=600`) {
			t.Errorf("told %q", got)
		}
		d, err := o.Find("alice", "1")
		if err != nil || d.Kind != Browser || d.Name != "jssip" || d.Binding.Target() != "sip:u1@h1.invalid;transport=ws" || d.Binding.Flow != first.flow {
			t.Fatalf("%+v, %v", d, err)
		}
		o.FlowClosed(first.flow)
		synctest.Wait()
		o.want("alice", "1 jssip away")
		if d, _ := o.Find("alice", "1"); d.Reason != "connection closed" || !d.Since.Equal(o.now()) {
			t.Errorf("away since %v because of %q", d.Since, d.Reason)
		}
		o.expect(200, page("alice", "urn:uuid:1", tcp("203.0.113.9:40000", 2), 2), "600")
		o.want("alice", "1 jssip here")
		for _, agent := range []string{"SIP.js/0.21.1", "baton page", "Mozilla/5.0 (X11) Firefox/153"} {
			p := page("alice", "urn:uuid:"+agent, tcp("198.51.100.7:40001", 9), 9)
			p.agent = agent
			o.expect(200, p, "600")
			if d, ok := o.DeviceOf("alice", p.flow, sip.NameAddr{}); !ok || d.Kind != Browser {
				t.Errorf("%s is a %s", agent, d.Kind)
			}
		}
	})
}

// TestBrowserComesBack is a network that has changed: the browser has a new connection before the node knows that the old one is
// dead. The new one has the binding at once, nobody is asked first, and the end of the old one, however late, changes nothing.
func TestBrowserComesBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		spare  int // bindings left until the old connection is given up
		change func(p *phone)
	}{
		{"reloaded", 0, func(*phone) {}},
		{"the same page", 0, func(p *phone) { p.callID, p.contact, p.cseq = "start-1", "sip:u1@h1.invalid;transport=ws", 1 }},
		{"another reg-id", 1, func(p *phone) { p.params = strings.Replace(p.params, "reg-id=1", "reg-id=2", 1) }},
		{"no reg-id any more", 0, func(p *phone) { p.params = strings.Replace(p.params, ";reg-id=1", "", 1) }},
		{"over TCP", 0, func(p *phone) { p.flow.Transport = "tcp" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				o := newOffice(t, "alice")
				old := page("alice", "urn:uuid:1", tcp("198.51.100.7:40000", 1), 1)
				o.expect(200, old, "600")
				o.agent.set(func() { o.agent.deaf[old.contact] = true }) // the network that it was in is gone
				time.Sleep(15 * time.Second)
				back := page("alice", "urn:uuid:1", tcp("203.0.113.9:40000", 2), 2)
				c.change(back)
				begin := time.Now()
				o.expect(200, back, "600")
				if took := time.Since(begin); took != 0 {
					t.Errorf("answered after %v", took)
				}
				here := func(when string, spare int) {
					t.Helper()
					all := o.Lookup("alice")
					if len(all) != 1 || all[0].Binding.Flow != back.flow || all[0].Binding.Contact != back.contact || len(all[0].Spare) != spare {
						t.Fatalf("%s: %+v", when, all)
					}
				}
				here("back", c.spare)
				time.Sleep(25 * time.Second)
				o.agent.set(func() { o.agent.dead[old.flow] = true })
				o.FlowClosed(old.flow)
				synctest.Wait()
				here("when the old connection was given up", 0)
				o.FlowClosed(back.flow)
				synctest.Wait()
				o.want("alice", "1 jssip away")
			})
		})
	}
}
