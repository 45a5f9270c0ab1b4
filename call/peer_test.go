package call_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

const peerType = "application/vnd.baton.peer+json"

// heardOf is what a page and the node tell each other of the page's connection to another.
type heardOf struct {
	Say string `json:"say"`
	ID  string `json:"id,omitempty"`
	SDP string `json:"sdp,omitempty"`
	Why string `json:"why,omitempty"`
}

// webPage is a browser with a page that can talk straight to another. Its second connection is made up: what it would do is told by the test.
type webPage struct {
	*phone.Call
	r    *rig
	from time.Time
}

func (r *rig) browser(user string, n int) *phone.Phone {
	return r.phone(user, n, func(c *phone.Config) { c.SRTP = phone.DTLS }, r.over("wss"))
}

// can has the page of a call say what it can.
func (r *rig) can(c *phone.Call) *webPage {
	p := &webPage{c, r, time.Now()}
	p.say(heardOf{Say: "can"})
	return p
}

func (p *webPage) say(m heardOf) *phone.Message {
	p.r.t.Helper()
	body, err := json.Marshal(m)
	must(p.r.t, err)
	res, err := p.Request("INFO", body, phone.Header{Name: "Content-Type", Value: peerType})
	must(p.r.t, err)
	return res
}

// all is what the page was told since it was made or has forgotten.
func (p *webPage) all() (all []heardOf) {
	for _, m := range p.Phone().Received(p.from) {
		if m.Method != "INFO" || m.Get("Content-Type") != peerType || m.Get("Call-ID") != p.ID() {
			continue
		}
		var t heardOf
		must(p.r.t, json.Unmarshal(m.Body, &t))
		all = append(all, t)
	}
	return all
}

// told waits until the page was told something and forgets it.
func (p *webPage) told(say string, limit time.Duration) (is heardOf) {
	p.r.t.Helper()
	p.r.eventually(p.Phone().Config().User+" is told "+say, limit, func() bool {
		for _, is = range p.all() {
			if is.Say == say {
				return true
			}
		}
		return false
	})
	p.from = time.Now()
	return is
}

// meet has two pages make their connection, as far as that both hear each other by it. The one that the node invites is the first.
func (r *rig) meet(a, b *webPage) (id string) {
	r.t.Helper()
	id = a.told("invite", 5*time.Second).ID
	a.say(heardOf{Say: "offer", ID: id, SDP: "v=0 of a"})
	if o := b.told("offer", 3*time.Second); o.ID != id || o.SDP != "v=0 of a" {
		r.t.Fatalf("b was told %+v", o)
	}
	b.say(heardOf{Say: "answer", ID: id, SDP: "v=0 of b"})
	if o := a.told("answer", 3*time.Second); o.ID != id || o.SDP != "v=0 of b" {
		r.t.Fatalf("a was told %+v", o)
	}
	return id
}

// direct has them be alone: neither sends anything to the node.
func (r *rig) direct(a, b *webPage) (id string) {
	r.t.Helper()
	id = r.meet(a, b)
	time.Sleep(1300 * time.Millisecond) // who has talked so long without a pause and stops is missed, as a rule
	b.say(heardOf{Say: "heard", ID: id})
	if way, why := r.mediaOf(); way != "relay" {
		r.t.Fatalf("only one has heard the other, and media is %s (%s)", way, why)
	}
	a.say(heardOf{Say: "heard", ID: id})
	for _, p := range []*webPage{a, b} {
		p.told("alone", 3*time.Second)
		p.Media().Mute(true)
	}
	r.becomes("direct", time.Second)
	return id
}

// homeward has a page do what it does when it is told to come home.
func (p *webPage) homeward(limit time.Duration) {
	p.r.t.Helper()
	p.told("home", limit)
	p.Media().Mute(false)
}

func twoBrowsers(t *testing.T) (r *rig, a, b *webPage) {
	t.Helper()
	r = directRig(t)
	out, in := r.connect(r.browser("alice", 1), r.browser("bob", 1))
	if way, why := r.mediaOf(); way != "relay" || !strings.Contains(why, "page") {
		t.Fatalf("of pages that have said nothing media is %s (%s)", way, why)
	}
	return r, r.can(out), r.can(in)
}

// TestPeers: two pages talk straight. That the node hears nothing then is no loss. For a hold they are home first, and go straight again after it.
func TestPeers(t *testing.T) {
	t.Parallel()
	r, a, b := twoBrowsers(t)
	r.direct(a, b)
	asked := time.Now()
	time.Sleep(1500 * time.Millisecond) // a phone that has stopped so long would be asked where it is
	for _, p := range []*webPage{a, b} {
		for _, m := range p.Phone().Received(asked) {
			if m.Method != "" {
				t.Errorf("%s is sent %s", p.Phone().Config().User, m.Method)
			}
		}
	}
	if way, why := r.mediaOf(); way != "direct" {
		t.Fatalf("media is %s (%s)", way, why)
	}
	a.Media().Mute(false) // a page is home before it asks for something
	must(t, a.Hold(phone.HoldSendonly))
	a.told("home", 3*time.Second)
	b.homeward(3 * time.Second)
	r.becomes("relay", 3*time.Second)
	if !b.HearsTone(3 * time.Second) {
		t.Error("bob hears no tone")
	}
	must(t, a.Resume())
	r.direct(a, b)
	must(t, a.Hangup())
	r.nothingLeft()
}

// TestPeersMove: before a move both pages are heard at the node; then the call is moved as ever, and goes straight with the new page.
func TestPeersMove(t *testing.T) {
	t.Parallel()
	r, a, b := twoBrowsers(t)
	other := r.browser("alice", 2)
	other.Behave(phone.AutoAnswer)
	r.direct(a, b)
	done := make(chan error, 1)
	go func() {
		_, err := r.b.Move(t.Context(), call.MoveRequest{User: "alice", Device: "2", Who: "test", How: "cli"})
		done <- err
	}()
	a.told("home", 3*time.Second)
	b.told("home", 3*time.Second)
	if n := invites(other); n != 0 {
		t.Errorf("the new device rings before the sound is at the node: %d", n)
	}
	a.Media().Mute(false)
	b.Media().Mute(false)
	must(t, <-done)
	moved, err := other.Ringing(time.Second)
	must(t, err)
	if !moved.Hears(b.Call, 3*time.Second) || !b.Hears(moved, 3*time.Second) {
		t.Error("bob and the new device do not hear each other")
	}
	r.direct(r.can(moved), b)
	must(t, b.Hangup())
	r.nothingLeft()
}

// TestPeersApart: pages that do not hear each other go on as they were, and it is not tried again for a while.
func TestPeersApart(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"it fails", "nothing comes of it"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r, a, b := twoBrowsers(t)
			id := r.meet(a, b)
			if how == "it fails" {
				a.say(heardOf{Say: "heard", ID: id}) // of one direction
				b.say(heardOf{Say: "broken", ID: id, Why: "the connection is\r\nfailed"})
			}
			a.told("home", 8*time.Second)
			b.told("home", time.Second)
			r.eventually("the node says why", time.Second, func() bool {
				way, why := r.mediaOf()
				return way == "relay" && (strings.Contains(why, "straight: the connection is failed") || strings.Contains(why, "straight within"))
			})
			time.Sleep(2 * time.Second)
			for _, p := range []*webPage{a, b} {
				if all := p.all(); len(all) > 0 {
					t.Errorf("it is tried again: %+v", all)
				}
			}
			if !a.Hears(b.Call, time.Second) || !b.Hears(a.Call, time.Second) {
				t.Error("they do not hear each other by the node")
			}
			must(t, a.Hangup())
			r.nothingLeft()
		})
	}
}

// TestPeersBreak: when a page hears nothing straight any more both are home. The other one is there, so that the call goes on; if it is not heard
// and does not answer, it is lost.
func TestPeersBreak(t *testing.T) {
	t.Parallel()
	r, a, b := twoBrowsers(t)
	id := r.direct(a, b)
	a.Media().Mute(false)
	a.say(heardOf{Say: "broken", ID: id, Why: "nothing is heard any more"})
	a.told("home", 3*time.Second)
	b.homeward(3 * time.Second)
	r.becomes("relay", 3*time.Second)
	if !a.Hears(b.Call, 3*time.Second) || !b.Hears(a.Call, 3*time.Second) {
		t.Fatal("they do not hear each other by the node")
	}
	id = a.told("invite", 10*time.Second).ID // tried again, after a while
	a.from = a.from.Add(-20 * time.Second)
	a.say(heardOf{Say: "offer", ID: id, SDP: "v=0"})
	b.told("offer", 3*time.Second)
	b.say(heardOf{Say: "answer", ID: id, SDP: "v=0"})
	a.say(heardOf{Say: "heard", ID: id})
	b.say(heardOf{Say: "heard", ID: id})
	r.becomes("direct", 3*time.Second)
	b.Media().Mute(true)
	b.Vanish()
	a.say(heardOf{Say: "broken", ID: id, Why: "nothing is heard any more"})
	r.eventually("bob is lost", 12*time.Second, func() bool { return r.b.Calls("")[0].Seats[1].Lost })
	must(t, a.Hangup())
}

// TestPeersNotAlone: a page that goes on sending to the node is not said to talk straight for long.
func TestPeersNotAlone(t *testing.T) {
	t.Parallel()
	r, a, b := twoBrowsers(t)
	r.direct(a, b)
	b.Media().Mute(false)
	r.becomes("relay", 20*time.Second)
	if _, why := r.mediaOf(); !strings.Contains(why, "goes on sending") {
		t.Errorf("it is relayed: %s", why)
	}
	must(t, a.Hangup())
	r.nothingLeft()
}

// TestPeersMeddle: what the node is told that has no place, is too much, or comes from another than the two does nothing.
func TestPeersMeddle(t *testing.T) {
	t.Parallel()
	r, a, b := twoBrowsers(t)
	id := r.meet(a, b)
	a.say(heardOf{Say: "offer", ID: id, SDP: "v=0 a second one"})
	b.say(heardOf{Say: "answer", ID: id, SDP: "v=0 a second one"})
	b.say(heardOf{Say: "offer", ID: id, SDP: "v=0 of the wrong one"})
	a.say(heardOf{Say: "alone", ID: id})
	a.say(heardOf{Say: "heard", ID: id})
	a.say(heardOf{Say: "heard", ID: id}) // the same again is not the other's
	for _, body := range []string{"{", "[]", `{"say":3}`, `{"say":"offer","sdp":"` + strings.Repeat("x", 17<<10) + `"}`} {
		if _, err := a.Request("INFO", []byte(body), phone.Header{Name: "Content-Type", Value: peerType}); err == nil {
			t.Errorf("%.20s is taken", body)
		}
	}
	time.Sleep(300 * time.Millisecond)
	if way, _ := r.mediaOf(); way != "relay" || len(a.all()) > 0 || len(b.all()) > 0 {
		t.Errorf("media is %s; a was told %+v, b %+v", way, a.all(), b.all())
	}
	a.say(heardOf{Say: "heard", ID: "another"})
	if m := a.told("home", time.Second); m.ID != "another" { // a page that has what the node knows nothing of comes home
		t.Errorf("told %+v", m)
	}
	desk := r.phone("bob", 2)
	desk.Behave(phone.AutoAnswer)
	must(t, a.Hangup())
	out, err := r.phone("alice", 3).Dial("102")
	must(t, err)
	must(t, out.Await(5*time.Second))
	if _, err := out.Request("INFO", []byte(fmt.Sprintf(`{"say":"can","id":%q}`, id)), phone.Header{Name: "Content-Type", Value: peerType}); err == nil {
		t.Error("a phone that is no browser is taken for a page")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestPeersRestart: a node that is killed and started again knows nothing of what stands between two pages. They go on, and come home when they are
// back with what they say of it; then they meet again.
func TestPeersRestart(t *testing.T) {
	t.Parallel()
	at, auto := addressOfOne(), func(c *config.Config) { c.Media.Mode = "auto" }
	r := openRig(t, t.TempDir(), at+":0", at1(at, auto))
	r.user("alice", "101")
	r.user("bob", "102")
	out, in := r.connect(r.browser("alice", 1), r.browser("bob", 1))
	a, b := r.can(out), r.can(in)
	id := r.direct(a, b)
	r.written("both sources", latchedBoth)
	r = r.reborn(auto)
	a.r, b.r = r, r
	for _, p := range []*webPage{a, b} {
		must(t, p.Phone().Relocate(phone.Relocation{}))
		_, err := p.Phone().Register(10 * time.Minute)
		must(t, err)
		p.say(heardOf{Say: "can", ID: id})
		p.homeward(3 * time.Second)
	}
	r.hears(out, in)
	r.direct(a, b)
	must(t, out.Hangup())
	r.nothingLeft()
}
