package e2e

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// A page that is not baton's own, by the library of its phone.
const (
	pageJsSIP = "/jssip"
	pageSIPjs = "/sipjs"
)

// allowing lets pages that a browser got elsewhere be phones.
func allowing(browsers ...*browser) string {
	var origins []string
	for _, b := range browsers {
		origins = append(origins, b.Origin)
	}
	return fmt.Sprintf("web:\n  origins: [%s]\n", strings.Join(origins, ", "))
}

// browserPhone opens a page and registers it for a user; more are settings of the page's phone.
func (w *world) browserPhone(b *browser, page, user string, more ...map[string]any) *tab {
	w.t.Helper()
	p := b.open(w.t, page)
	settings := w.settings(user)
	settings["agent"] = b.kind + "-" + strings.Trim(page, "/")
	for _, m := range more {
		maps.Copy(settings, m)
	}
	here := w.here(user)
	p.must(nil, "register", settings)
	if n := w.here(user); n != here+1 {
		w.t.Fatalf("%s has %d devices, had %d", user, n, here)
	}
	return p
}

// settings are those with which a page's phone registers for a user.
func (w *world) settings(user string) map[string]any {
	return map[string]any{"ws": fmt.Sprintf("wss://%s/sip", w.Web), "uri": w.uri(user), "password": node.Password(user)}
}

// uri is a user's as a browser dials it.
func (w *world) uri(user string) string { return fmt.Sprintf("sip:%s@%s", user, w.UDP.Addr()) }

// TestBrowserCallsAndIsCalled has each browser register, call a baresip and be called by it. Each hears the other's tone, also
// after a hold and an ICE restart; digits arrive; the browser counts no loss, and conceals next to nothing.
func TestBrowserCallsAndIsCalled(t *testing.T) {
	for _, c := range []struct{ kind, page string }{{"chromium", pageJsSIP}, {"firefox", pageJsSIP}, {"chromium", pageSIPjs}} {
		t.Run(c.kind+c.page, func(t *testing.T) {
			t.Parallel()
			chrome := theBrowser(t, c.kind)
			w := newWorld(t, node.Options{Config: allowing(chrome)})
			bob := w.startBaresip("bob", "udp", 700)
			alice := w.browserPhone(chrome, c.page, "alice")

			var id int
			alice.must(&id, "call", w.uri("bob"))
			alice.must(nil, "until", id, "up", 5000)
			w.faultlessCall(alice, id, bob)
			alice.must(nil, "dtmf", id, "15#")
			bob.heardKeys("15#")
			alice.must(nil, "hold", id)
			alice.must(nil, "unhold", id)
			hear(t, 500*time.Millisecond, ear{tab: alice, hz: bob.hz, args: []any{id}})
			alice.must(nil, "renegotiate", id, true)
			hear(t, 500*time.Millisecond, ear{tab: alice, hz: bob.hz, args: []any{id}})
			alice.must(nil, "hangup", id)
			bob.await("CALL_CLOSED", 5*time.Second)
			bob.found(alice.hz, 2*time.Second)

			bob.dial("alice")
			var in struct {
				ID   int
				From string
			}
			alice.must(&in, "incoming", 5000)
			if in.From != "102" && in.From != "bob" {
				t.Errorf("the call is shown as from %q", in.From)
			}
			alice.must(nil, "answer", in.ID)
			alice.must(nil, "until", in.ID, "up", 5000)
			w.faultlessCall(alice, in.ID, bob)
			bob.do("hangup", "")
			alice.must(nil, "until", in.ID, "over", 5000)
			bob.found(alice.hz, 1200*time.Millisecond)
			alice.must(nil, "unregister")
			if n := w.here("alice"); n != 0 {
				t.Errorf("alice still has %d devices here", n)
			}
		})
	}
}

// faultlessCall listens for a second and a half: the browser hears baresip, and its figures show no fault.
func (w *world) faultlessCall(p *tab, id int, far *baresip) {
	w.t.Helper()
	pause(500 * time.Millisecond) // until the jitter buffer is settled
	faultless(w.t, 1500*time.Millisecond, ear{tab: p, hz: far.hz, args: []any{id}})
	if w.t.Failed() {
		p.story(id)
	}
}

// story shows what has become of a call.
func (p *tab) story(id int) {
	p.t.Helper()
	var state struct {
		State, Cause string
		Changes      []string
	}
	p.must(&state, "state", id)
	p.t.Logf("%s: the call is %s %s\n%s", p.kind, state.State, state.Cause, strings.Join(state.Changes, "\n"))
	var sdp struct{ Local, Remote string }
	p.must(&sdp, "descriptions", id)
	p.t.Logf("ours:\n%s\nbaton's:\n%s", sdp.Local, sdp.Remote)
}

// TestBrowserOfAnotherOrigin keeps a page out whose origin nobody has allowed, however right its password is.
func TestBrowserOfAnotherOrigin(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"chromium", "firefox"} {
		b := theBrowser(t, kind)
		w := newWorld(t, node.Options{Config: "web:\n  origins: [https://phone.example.org]\n"})
		p := b.open(t, pageJsSIP)
		err := p.run(nil, "register", w.settings("alice"))
		if err == nil || !strings.Contains(err.Error(), "the socket: 1006") {
			t.Errorf("%s: a page of %s was not refused: %v", kind, b.Origin, err)
		}
		if n := w.here("alice"); n != 0 {
			t.Errorf("%s: alice has %d devices", kind, n)
		}
	}
}
