package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// shots is where pictures of the page are kept.
const shots = "out"

// page opens the node's own page in a browser, by an address.
func (b *browser) page(t *testing.T, url string, more ...map[string]any) *tab {
	t.Helper()
	p := b.open(t, url, append(more, map[string]any{"watched": true})...)
	p.short = true
	return p
}

// thing is something on a page, by its role and name as a screen reader tells them.
type thing struct {
	Role string `json:"role"`
	Name string `json:"name"`
}

func button(name string) thing  { return thing{"button", name} }
func textbox(name string) thing { return thing{"textbox", name} }

func (p *tab) click(what thing) {
	p.t.Helper()
	p.obey(nil, "click", map[string]any{"what": what})
}

func (p *tab) fill(what thing, text string) {
	p.t.Helper()
	p.obey(nil, "fill", map[string]any{"what": what, "text": text})
}

func (p *tab) press(keys ...string) {
	p.t.Helper()
	for _, k := range keys {
		p.obey(nil, "press", map[string]any{"key": k})
	}
}

func (p *tab) typed(text string) {
	p.t.Helper()
	p.obey(nil, "type", map[string]any{"text": text})
}

func (p *tab) reload() {
	p.t.Helper()
	p.obey(nil, "reload", nil)
}

// coloured wants the page light and dark where its user has chosen so, whatever the system's choice.
func (p *tab) coloured() {
	p.t.Helper()
	for theme, ground := range map[string]string{"light": "rgb(245, 244, 241)", "dark": "rgb(18, 20, 23)"} {
		var got string
		p.obey(&got, "eval", map[string]any{"text": fmt.Sprintf(`(() => {
			document.documentElement.dataset.theme = %q;
			const ground = getComputedStyle(document.body).backgroundColor;
			delete document.documentElement.dataset.theme;
			return ground;
		})()`, theme)})
		if got != ground {
			p.t.Errorf("%s: the page is %s when it should be %s, want %s", p.kind, got, theme, ground)
		}
	}
}

// reloadInCall loads the page anew in the middle of its call with a baresip, and is how long after the navigation began the page heard its
// first sound and baresip was sent some again.
func (p *tab) reloadInCall(bob *baresip) (here, there time.Duration) {
	p.t.Helper()
	fed := bob.watch()
	p.reload()
	p.says("On this browser")
	p.hearing(bob.hz)
	resumed := fed()
	var first struct{ Began, Heard float64 }
	p.must(&first, "first", bob.hz)
	began := time.UnixMicro(int64(1000 * first.Began))
	all := bob.heard()
	if again := all[min(resumed.samples, len(all)):]; heardTone(again, p.hz) < 300*time.Millisecond {
		p.t.Errorf("%s: baresip heard %g Hz for only %s after the reload", p.kind, p.hz, heardTone(again, p.hz))
	}
	return time.Duration(1e6 * (first.Heard - first.Began)).Round(time.Millisecond), resumed.at.Sub(began).Round(time.Millisecond)
}

// obey has the page obey a command, without which the test cannot go on.
func (p *tab) obey(into any, command string, more map[string]any) {
	p.t.Helper()
	args := map[string]any{"page": p.n}
	for k, v := range more {
		args[k] = v
	}
	if err := p.do(into, command, args); err != nil {
		p.shot("failed")
		p.t.Fatalf("%s: %s %v: %v\nthe page shows:\n%s", p.kind, command, more, err, p.shown())
	}
}

// shown is the page's text.
func (p *tab) shown() (text string) {
	if err := p.do(&text, "text", map[string]any{"page": p.n}); err != nil {
		return err.Error()
	}
	return text
}

// says waits until the page shows all of the texts.
func (p *tab) says(texts ...string) {
	p.t.Helper()
	for deadline := time.Now().Add(8 * time.Second); ; {
		shown, missing := p.shown(), ""
		for _, text := range texts {
			if !strings.Contains(shown, text) {
				missing = text
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(deadline) {
			p.shot("failed")
			p.t.Fatalf("%s: the page does not say %q:\n%s", p.kind, missing, shown)
		}
		pause(50 * time.Millisecond)
	}
}

// shot keeps a picture of the page.
func (p *tab) shot(name string) {
	p.t.Helper()
	if err := os.MkdirAll(shots, 0o755); err != nil {
		p.t.Fatal(err)
	}
	path, _ := filepath.Abs(filepath.Join(shots, fmt.Sprintf("%s-%s.png", p.kind, name)))
	if err := p.do(nil, "shot", map[string]any{"page": p.n, "path": path}); err != nil {
		p.t.Errorf("%s: picture %s: %v", p.kind, name, err)
	}
}

// accessible wants axe to find nothing serious; only Chromium is asked.
func (p *tab) accessible(where string) {
	p.t.Helper()
	if p.kind != "chromium" {
		return
	}
	var found []struct {
		ID, Impact, Help string
		At               []string
	}
	p.obey(&found, "axe", nil)
	for _, f := range found {
		if f.Impact == "serious" || f.Impact == "critical" {
			p.t.Errorf("%s: %s %s: %s at %q", where, f.Impact, f.ID, f.Help, f.At)
		} else {
			p.t.Logf("%s: %s %s: %s at %q", where, f.Impact, f.ID, f.Help, f.At)
		}
	}
}

// hearing waits until the page hears a tone, for a second of which it then looks for nearly all.
func (p *tab) hearing(hz float64) {
	p.t.Helper()
	for deadline := time.Now().Add(8 * time.Second); ; {
		samples := p.heard()
		long := time.Duration(len(samples)) * time.Second / rate
		if got := heardTone(samples, hz); long > 500*time.Millisecond && got > long*8/10 {
			return
		} else if time.Now().After(deadline) {
			p.shot("failed")
			p.t.Fatalf("%s: heard %g Hz for %s of %s; the page shows:\n%s", p.kind, hz, got, long, p.shown())
		}
		pause(100 * time.Millisecond)
	}
}

// signIn signs a person in and waits until the page is a phone.
func (p *tab) signIn(user string) {
	p.t.Helper()
	p.fill(textbox("Name or number"), user)
	p.fill(textbox("SIP password"), node.Password(user))
	p.click(button("Sign in"))
	p.says("Ready", "this browser")
}

// call calls a number by the keypad.
func (p *tab) call(number string) {
	p.t.Helper()
	p.fill(textbox("Number or name"), number)
	p.click(button("Call"))
	p.says("On this browser")
}

// TestPage drives the page as a person would: signs in, calls, moves the call to a desk phone and back, loads the page anew, opens it
// in a second tab and goes on there, hangs up, and takes a call. The far side, a baresip, has one call the whole time.
func TestPage(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"chromium", "firefox"} {
		t.Run(kind, func(t *testing.T) {
			b := theBrowser(t, kind)
			w := newWorld(t)
			bob, desk := w.startBaresip("bob", "udp", 700), w.phone("alice", "desk")
			desk.Behave(phone.AutoAnswer)
			p := b.page(t, fmt.Sprintf("https://%s/", w.Web))
			p.says("Sign in")
			p.accessible("sign in")
			p.shot("sign-in")
			p.coloured()
			p.fill(textbox("Name or number"), "alice")
			p.fill(textbox("SIP password"), "wrong")
			p.click(button("Sign in"))
			p.says("password")
			p.signIn("alice")
			p.says("desk", "My devices", "No calls right now")
			p.accessible("no call")
			p.shot("no-call")

			p.call("102")
			p.hearing(bob.hz)
			p.accessible("in a call")
			p.shot("call")
			w.t.Logf("%s: %s", kind, p.figures())
			w.Eventually(time.Minute, "what the page measures to stand with its leg", func() error {
				r, err := w.reportOf("alice")
				if err == nil && (r.By != "getstats" || r.Hears.Loss == nil || r.Hears.Buffer == 0 || r.Hears.Codec == "") {
					err = fmt.Errorf("it is %+v", *r)
				}
				return err
			})

			p.click(button("desk"))
			on := w.ringing(desk)
			p.says("On desk", "Move here")
			p.shot("moved-away")
			p.click(button("Move here"))
			p.says("On this browser")
			w.ended(on)
			p.hearing(bob.hz)

			here, there := p.reloadInCall(bob)
			t.Logf("%s: heard again %s after the reload began, by baresip %s", kind, here, there)

			other := b.page(t, fmt.Sprintf("https://%s/", w.Web), map[string]any{"beside": p.n})
			other.says("Another tab is your phone", "Bob")
			other.shot("second-tab")
			other.click(button("Use this tab"))
			other.says("On this browser")
			other.hearing(bob.hz)
			p.says("Another tab is your phone")

			other.click(button("Mute"))
			other.click(button("Unmute"))
			other.click(button("Hold"))
			other.says("On hold")
			other.click(button("Resume"))
			other.says("On this browser")
			other.hearing(bob.hz)
			other.click(button("Hang up"))
			other.says("No calls right now", "You called")
			bob.await("CALL_CLOSED", 5*time.Second)
			if n := len(bob.recordings()); n != 1 {
				t.Errorf("baresip had %d calls", n)
			}
			bob.found(b.hz, 3*time.Second)

			bob.dial("alice")
			desk.Behave(phone.Behaviour{})
			other.says("is calling")
			other.accessible("incoming call")
			other.shot("incoming")
			other.click(button("Answer"))
			other.says("On this browser")
			other.hearing(bob.hz)
			bob.do("hangup", "")
			other.says("No calls right now", "Called you")
			other.shot("history")
			other.click(button("Sign out"))
			other.says("Sign in")
			p.says("Sign in")
		})
	}
}

// TestPageReloads loads the page anew five times in one call. Both sides hear each other within a second of each beginning, and the far
// side, a baresip, keeps its call. On a machine with much other work some take longer, for the page's script alone then takes a second.
func TestPageReloads(t *testing.T) {
	for _, kind := range []string{"chromium", "firefox"} {
		t.Run(kind, func(t *testing.T) {
			b := theBrowser(t, kind)
			w := newWorld(t)
			bob := w.startBaresip("bob", "udp", 700)
			p := b.page(t, fmt.Sprintf("https://%s/", w.Web))
			p.signIn("alice")
			p.call("102")
			p.hearing(bob.hz)
			var times []time.Duration
			for range 5 {
				here, there := p.reloadInCall(bob)
				t.Logf("%s: hears %s after the reload began, baresip %s", kind, here, there)
				times = append(times, max(here, there))
			}
			if best, worst := slices.Min(times), slices.Max(times); best > time.Second || worst > 5*time.Second {
				t.Errorf("%s: both hear after %v; want that within 1s, never later than 5s", kind, times)
			}
			p.click(button("Hang up"))
			bob.await("CALL_CLOSED", 5*time.Second)
			if n := len(bob.recordings()); n != 1 {
				t.Errorf("baresip had %d calls", n)
			}
		})
	}
}

// TestPageByKeyboard signs in, calls, mutes and hangs up with nothing but keys.
func TestPageByKeyboard(t *testing.T) {
	t.Parallel()
	b := theBrowser(t, "chromium")
	w := newWorld(t)
	bob := w.startBaresip("bob", "udp", 700)
	p := b.page(t, fmt.Sprintf("https://%s/", w.Web))
	p.says("Sign in")
	p.typed("alice")
	p.press("Tab")
	p.typed(node.Password("alice"))
	p.press("Enter")
	p.says("Ready")
	p.tabTo("Number or name")
	p.typed("102")
	p.press("Enter")
	p.says("On this browser")
	p.hearing(bob.hz)
	p.tabTo("Mute", "Hang up") // one of a group in which the arrow keys go
	p.press("Home", "Enter")
	p.says("Unmute")
	p.press("ArrowRight", "Enter") // hold
	p.says("On hold")
	p.press("Enter", "End", "Enter") // resume, hang up
	p.says("No calls right now")
	bob.await("CALL_CLOSED", 5*time.Second)
}

// focused is what has the keyboard, by its label or text.
func (p *tab) focused() (name string) {
	p.t.Helper()
	p.obey(&name, "eval", map[string]any{"text": `(() => {
		const e = document.activeElement;
		return e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText ?? e.innerText ?? '';
	})()`})
	return strings.TrimSpace(name)
}

// tabTo presses Tab until one of them has the keyboard.
func (p *tab) tabTo(names ...string) {
	p.t.Helper()
	var passed []string
	for range 30 {
		p.press("Tab")
		at := p.focused()
		if slices.Contains(names, at) {
			return
		}
		passed = append(passed, at)
	}
	p.t.Fatalf("%s: Tab does not lead to %q, but to %q", p.kind, names, passed)
}

// TestPageOnASmallScreen looks at the page on a phone's screen, light and dark: nothing lies beyond its edge, axe finds nothing serious.
func TestPageOnASmallScreen(t *testing.T) {
	t.Parallel()
	b := theBrowser(t, "chromium")
	w := newWorld(t)
	bob := w.startBaresip("bob", "udp", 700)
	for user, colours := range map[string]string{"alice": "light", "carol": "dark"} {
		looks := map[string]any{"viewport": map[string]int{"width": 360, "height": 740}, "colorScheme": colours, "hasTouch": true, "isMobile": true}
		p := b.page(t, fmt.Sprintf("https://%s/", w.Web), map[string]any{"looks": looks})
		p.signIn(user)
		p.click(button("Keypad"))
		p.call("102")
		p.click(button("Calls"))
		p.hearing(bob.hz)
		p.accessible("a phone's screen, " + colours)
		p.shot("small-" + colours)
		var wide int
		p.obey(&wide, "eval", map[string]any{"text": "document.documentElement.scrollWidth"})
		if wide > 360 {
			t.Errorf("%s: the page is %d wide on a screen of 360", colours, wide)
		}
		p.click(button("Hang up"))
		p.says("No calls right now")
	}
}
