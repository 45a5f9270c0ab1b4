package call_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/registrar"
	"baton/test/phone"
)

// kinds are the three kinds of legs, with the way of their signalling.
var kinds = []struct {
	name      string
	transport string
	srtp      string
	secure    string // as a call shows it
	media     string // as the phone has it
}{
	{"rtp", "udp", phone.Plain, "none", ""},
	{"sdes", "tls", phone.OSRTP, "sdes", "AES_CM_128_HMAC_SHA1_80"},
	{"dtls", "wss", phone.DTLS, "dtls", phone.DTLS},
}

// ofKind has a phone be of that kind.
func (r *rig) ofKind(n int) func(*phone.Config) {
	return func(c *phone.Config) {
		r.over(kinds[n].transport)(c)
		c.SRTP = kinds[n].srtp
	}
}

// TestNinePairs has each kind of leg with each other: both hear each other, keys and hold pass, and both seats move to devices of all
// kinds while the other side hears one stream.
func TestNinePairs(t *testing.T) {
	t.Parallel()
	for a := range kinds {
		for b := range kinds {
			t.Run(kinds[a].name+" with "+kinds[b].name, func(t *testing.T) {
				t.Parallel()
				pairOfKinds(t, a, b)
			})
		}
	}
}

// side is a user in a pair: the devices by kind, and the leg that the user talks on.
type side struct {
	devices [3]*phone.Phone
	kind    int
	leg     *phone.Call
}

func pairOfKinds(t *testing.T, a, b int) {
	r := newRig(t, listensTLS)
	sides := [2]*side{{kind: a}, {kind: b}}
	for i, user := range []string{"alice", "bob"} {
		r.user(user, fmt.Sprint(101+i))
		for k := range kinds {
			sides[i].devices[k] = r.phone(user, k+1, r.ofKind(k))
			sides[i].devices[k].Behave(phone.Behaviour{})
		}
	}
	alice, bob := sides[0], sides[1]
	to := bob.devices[b]
	to.Behave(phone.AutoAnswer)
	var err error
	alice.leg, err = alice.devices[a].Dial(fmt.Sprintf("102*%d", b+1))
	must(t, err)
	bob.leg, err = to.Ringing(5 * time.Second)
	must(t, err)
	must(t, alice.leg.Await(5*time.Second))
	r.talkInKinds(alice, bob)
	must(t, alice.leg.Hold(phone.HoldSendonly))
	if !bob.leg.HearsTone(3 * time.Second) {
		t.Error("no tone is heard on hold")
	}
	must(t, alice.leg.Resume())
	r.talkInKinds(alice, bob)
	for i, s := range sides {
		far := sides[1-i]
		for range kinds { // round once, and back to the first
			since := time.Now()
			s.kind = (s.kind + 1) % len(kinds)
			was := s.leg
			s.leg, err = s.devices[s.kind].Dial("*40")
			must(t, err)
			must(t, s.leg.Await(5*time.Second))
			must(t, was.AwaitEnd(5*time.Second))
			r.talkInKinds(alice, bob)
			for _, m := range far.leg.Phone().Received(since) {
				if m.Method != "" {
					t.Errorf("the other side (%s) was sent %s", kinds[far.kind].name, m.Line())
				}
			}
			heard := phone.Between(far.leg.Media().Heard(), since, time.Now())
			if rep := phone.Analyse(heard, 8000); rep.Missing+rep.Reordered+rep.Duplicates+rep.Changed > 0 || len(rep.SSRCs) != 1 {
				t.Errorf("after the move to %s the other side's stream (%s) is broken: %s", kinds[s.kind].name, kinds[far.kind].name, rep)
			}
		}
	}
	must(t, alice.leg.Hangup())
	must(t, bob.leg.AwaitEnd(5*time.Second))
	for _, s := range sides {
		for _, p := range s.devices {
			for _, c := range p.Made() {
				if n := c.Media().Forged(); n > 0 {
					t.Errorf("%s could not open %d packets", p.Config().UserAgent, n)
				}
			}
		}
	}
	r.nothingLeft()
}

// talkInKinds checks that both hear each other, that keys pass both ways, and how each leg is protected.
func (r *rig) talkInKinds(alice, bob *side) {
	r.t.Helper()
	for _, way := range [][2]*side{{alice, bob}, {bob, alice}} {
		from, to := way[0], way[1]
		if !to.leg.Hears(from.leg, 5*time.Second) {
			r.t.Fatalf("%s is not heard at %s", kinds[from.kind].name, kinds[to.kind].name)
		}
		since := time.Now()
		from.leg.Media().Press('7', 60*time.Millisecond)
		if _, ok := to.leg.Media().Await(since, 3*time.Second, func(p phone.Packet) bool { return p.Event != nil && p.Event.End && p.Event.Digit == '7' }); !ok {
			r.t.Errorf("a key of %s does not reach %s", kinds[from.kind].name, kinds[to.kind].name)
		}
		if got := from.leg.Media().Secure(); got != kinds[from.kind].media {
			r.t.Errorf("the sound of %s is protected by %q", kinds[from.kind].name, got)
		}
	}
	for i, s := range []*side{alice, bob} {
		legs := r.b.Calls("alice")[0].Seats[i].Legs
		if legs[0].Secure != kinds[s.kind].secure || legs[0].Via != "udp" {
			r.t.Errorf("%s is shown as %q via %q", kinds[s.kind].name, legs[0].Secure, legs[0].Via)
		}
	}
}

// TestDialects calls phones that are set in all ways: each is offered audio as it takes it, at the latest the second time at once.
func TestDialects(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		transport, srtp string
		takes           []string
		offers          string // that it is made in the first call, "+" = with keys
		again           string // and in the second
		learnt          string
		secure          string
	}{
		"rtp alone":               {"tls", phone.Plain, nil, "RTP/AVP+", "RTP/AVP+", "", "none"},
		"osrtp":                   {"tls", phone.OSRTP, nil, "RTP/AVP+", "RTP/AVP+", "osrtp", "sdes"},
		"compulsory":              {"tls", phone.SAVP, []string{"RTP/SAVP+"}, "RTP/AVP+, RTP/SAVP+", "RTP/SAVP+", "savp", "sdes"},
		"compulsory, takes osrtp": {"tls", phone.SAVP, nil, "RTP/AVP+", "RTP/AVP+", "osrtp", "sdes"},
		"no keys at all":          {"tls", phone.Plain, []string{"RTP/AVP"}, "RTP/AVP+, RTP/SAVP+, RTP/AVP", "RTP/AVP", "none", "none"},
		"over udp":                {"udp", phone.OSRTP, nil, "RTP/AVP", "RTP/AVP", "", "none"},
		"over tcp":                {"tcp", phone.OSRTP, nil, "RTP/AVP", "RTP/AVP", "", "none"},
		"compulsory over udp":     {"udp", phone.SAVP, nil, "RTP/AVP", "RTP/AVP", "", ""},
		"a browser":               {"wss", phone.DTLS, nil, "UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVPF", "dtls", "dtls"},
		"a softphone over wss":    {"wss", phone.OSRTP, nil, "UDP/TLS/RTP/SAVPF, RTP/AVP+", "RTP/AVP+", "osrtp", "sdes"},
		"rtp over wss":            {"wss", phone.Plain, nil, "UDP/TLS/RTP/SAVPF, RTP/AVP+", "RTP/AVP+", "osrtp", "none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, listensTLS)
			r.user("alice", "101")
			r.user("bob", "102")
			alice := r.phone("alice", 1)
			bob := r.phone("bob", 1, r.over(c.transport), func(o *phone.Config) { o.SRTP, o.Takes = c.srtp, c.takes })
			bob.Behave(phone.AutoAnswer)
			for _, want := range []string{c.offers, c.again} {
				since := time.Now()
				out := mustDial(t, alice, "102")
				if c.secure == "" {
					r.refused(out, 488)
				} else {
					must(t, out.Await(5*time.Second))
					in, err := bob.Ringing(time.Second)
					must(t, err)
					if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
						t.Fatal("they do not hear each other")
					}
					if got := r.b.Calls("bob")[0].Seats[1].Legs[0].Secure; got != c.secure {
						t.Errorf("the leg is shown as %q", got)
					}
					must(t, out.Hangup())
					must(t, in.AwaitEnd(3*time.Second))
				}
				var offers []string
				for _, m := range bob.Received(since) {
					if m.Method == "INVITE" {
						offers = append(offers, profilesOf(m.Body))
					}
				}
				if got := strings.Join(offers, ", "); got != want {
					t.Errorf("it was offered %s, want %s", got, want)
				}
				r.nothingLeft()
				r.eventually("what it takes is known", 3*time.Second, func() bool { return r.learntSRTP("bob") == c.learnt })
			}
		})
	}
}

// TestBrowserRefuses: a browser that has once taken DTLS is called in no other way, whatever it refuses: it would ring again for nothing.
func TestBrowserRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.user("alice", "101")
	r.user("bob", "102")
	page := r.phone("bob", 1, r.ofKind(2))
	out, in := r.connect(r.phone("alice", 1), page)
	must(t, in.Hangup())
	must(t, out.AwaitEnd(3*time.Second))
	r.eventually("what it takes is known", 3*time.Second, func() bool { return r.learntSRTP("bob") == "dtls" })
	page.Behave(phone.Behaviour{Reject: 488})
	r.refused(mustDial(t, out.Phone(), "102"), 488)
	invites := 0
	for _, m := range page.Received(time.Time{}) {
		if m.Method == "INVITE" {
			invites++
		}
	}
	if invites != 2 {
		t.Errorf("it was sent %d INVITEs in two calls", invites)
	}
	r.nothingLeft()
}

// learntSRTP is what is known of how a user's first device takes SRTP.
func (r *rig) learntSRTP(user string) string {
	r.t.Helper()
	d, err := r.reg.Find(user, "1")
	must(r.t, err)
	return d.Profile[registrar.LearntSRTP]
}

// profilesOf are those of the audio lines of an SDP, with a "+" where there are keys.
func profilesOf(sdp []byte) string {
	var all []string
	for line := range strings.Lines(string(sdp)) {
		switch f := strings.Fields(line); {
		case strings.HasPrefix(line, "m="):
			all = append(all, f[2])
		case strings.HasPrefix(line, "a=crypto:") && !strings.HasSuffix(all[len(all)-1], "+"):
			all[len(all)-1] += "+"
		}
	}
	return strings.Join(all, " ")
}

// TestTwoLines: a phone that offers a line with keys and one without gets the one with, and is called in its own way.
func TestTwoLines(t *testing.T) {
	t.Parallel()
	r := newRig(t, listensTLS)
	r.user("alice", "101")
	r.user("bob", "102")
	alice := r.phone("alice", 1, r.over("tls"), func(o *phone.Config) { o.SRTP = phone.TwoFold })
	out, in := r.connect(alice, r.phone("bob", 1))
	if got := out.Final().Body; profilesOf(got) != "RTP/SAVP+ RTP/AVP" || !strings.Contains(string(got), "m=audio 0 RTP/AVP") || out.Media().Secure() == "" {
		t.Errorf("answered %q", got)
	}
	must(t, out.Hold(phone.HoldSendonly))
	must(t, out.Resume())
	if !in.Hears(out, 3*time.Second) || !out.Hears(in, 3*time.Second) {
		t.Error("after hold they do not hear each other")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.eventually("its dialect is known", 3*time.Second, func() bool { return r.learntSRTP("alice") == "savp+avp" })
	out, in = r.connect(in.Phone(), alice)
	if got := profilesOf(in.Invite().Body); got != "RTP/SAVP+ RTP/AVP" || in.Media().Secure() == "" {
		t.Errorf("offered %s", got)
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestEncryptionRequired: with call.encryption no phone has a call in the clear, and is told why.
func TestEncryptionRequired(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		listensTLS(c)
		c.Call.Encryption = "required"
	})
	r.user("alice", "101")
	r.user("bob", "102")
	desk := r.phone("alice", 1, r.ofKind(1))
	out, in := r.connect(desk, r.phone("bob", 1, r.ofKind(2)))
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	must(t, second(in.Phone().Unregister()))
	for name, tune := range map[string]func(*phone.Config){
		"over udp": r.ofKind(0), "keys over udp": func(o *phone.Config) { o.SRTP = phone.OSRTP }, "plain over tls": r.over("tls"),
	} {
		bob := r.phone("bob", 2, tune)
		bob.Behave(phone.AutoAnswer)
		if m := r.refused(mustDial(t, bob, "101"), 488); !strings.Contains(m.Get("Warning"), "required") {
			t.Errorf("%s: it is told %q", name, m.Get("Warning"))
		}
		m := r.refused(mustDial(t, desk, "102"), 488)
		if w := m.Get("Warning"); name != "plain over tls" && !strings.Contains(w, "call.encryption") {
			t.Errorf("%s: the caller is told %q", name, w)
		}
		must(t, second(bob.Unregister()))
	}
	r.nothingLeft()
}

// TestNoBrowsers has a node without a port for browsers say so to one that calls, and to who calls one.
func TestNoBrowsers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Media.WebRTC = 0 })
	r.user("alice", "101")
	r.user("bob", "102")
	browser, desk := r.phone("alice", 1, r.ofKind(2)), r.phone("bob", 1)
	if m := r.refused(mustDial(t, browser, "102"), 488); !strings.Contains(m.Get("Warning"), "media.webrtc") {
		t.Errorf("it is told %q", m.Get("Warning"))
	}
	r.refused(mustDial(t, desk, "101"), 488)
	r.nothingLeft()
}

// TestRequiredDialects: where audio must be encrypted a phone is offered first what it cannot answer in the clear.
func TestRequiredDialects(t *testing.T) {
	t.Parallel()
	for takes, offers := range map[string]string{"RTP/SAVP+": "RTP/SAVP+", "RTP/AVP+": "RTP/SAVP+, RTP/AVP+"} {
		t.Run(takes, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *config.Config) {
				listensTLS(c)
				c.Call.Encryption = "required"
			})
			r.user("alice", "101")
			r.user("bob", "102")
			bob := r.phone("bob", 1, r.over("tls"), func(o *phone.Config) { o.SRTP, o.Takes = phone.SAVP, []string{takes} })
			out, _ := r.connect(r.phone("alice", 1, r.ofKind(1)), bob)
			var got []string
			for _, m := range bob.Received(time.Time{}) {
				if m.Method == "INVITE" {
					got = append(got, profilesOf(m.Body))
				}
			}
			if s := strings.Join(got, ", "); s != offers {
				t.Errorf("it was offered %s, want %s", s, offers)
			}
			must(t, out.Hangup())
			r.nothingLeft()
		})
	}
}

// TestPageReloaded: a page that is loaded anew takes its live call back, by naming its old dialog or by the code, before the node has
// noticed that the old one is gone and after; the other side hears one stream and is sent nothing.
func TestPageReloaded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		replaces, vanishes, noticed bool
	}{
		"by Replaces, at once":          {true, false, false},
		"by Replaces, after the socket": {true, true, false},
		"by Replaces, a second later":   {true, true, true},
		"by the code":                   {false, true, false},
		"by the code, a second later":   {false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.user("alice", "101")
			r.user("bob", "102")
			page := r.phone("alice", 1, r.ofKind(2))
			out, in := r.connect(page, r.phone("bob", 1))
			id, since := r.b.Calls("alice")[0].ID, time.Now()
			dial, o := "*40", phone.DialOptions{}
			if c.replaces {
				dial, o = "101", replacing(out.Replaces())
			}
			if c.vanishes {
				page.Vanish()
			}
			if c.noticed {
				time.Sleep(1100 * time.Millisecond)
			}
			loaded := r.phone("alice", 1, r.ofKind(2))
			again := mustDial(t, loaded, dial, o)
			must(t, again.Await(3*time.Second))
			if !again.Hears(in, 3*time.Second) || !in.Hears(again, 3*time.Second) {
				t.Fatal("they do not hear each other")
			}
			r.eventually("it is the same call, which has moved", 3*time.Second, func() bool {
				calls := r.b.Calls("alice")
				return len(calls) == 1 && calls[0].ID == id && len(calls[0].Moves) == 1
			})
			for _, m := range in.Phone().Received(since) {
				if m.Method != "" {
					t.Errorf("bob's phone was sent %s", m.Line())
				}
			}
			if rep := phone.Analyse(phone.Between(in.Media().Heard(), since, time.Now()), 8000); rep.Missing+rep.Reordered+rep.Duplicates+rep.Changed > 0 || len(rep.SSRCs) != 1 {
				t.Errorf("bob's stream is broken: %s", rep)
			}
			must(t, in.Hangup())
			must(t, again.AwaitEnd(3*time.Second))
			r.eventually("the old leg is over", 8*time.Second, func() bool { return r.engine.OpenStreams() == 0 })
			r.nothingLeft()
		})
	}
}

// TestOwnCallOnSameDevice: a phone that is well on its call is told so by a tone, whatever it dials; its call stays as it is.
func TestOwnCallOnSameDevice(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	for _, o := range []phone.DialOptions{{}, replacing(out.Replaces())} {
		second := mustDial(t, alice, "*40", o)
		must(t, second.Await(3*time.Second))
		must(t, second.AwaitEnd(5*time.Second))
	}
	if len(r.b.Calls("alice")[0].Moves) != 0 || !out.Hears(in, 3*time.Second) {
		t.Error("its call was moved")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestBrowserLosesConnection: a browser whose WebSocket breaks keeps its call; it comes back, and restarts ICE.
func TestBrowserLosesConnection(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Call.Vanished = time.Second })
	r.user("alice", "101")
	r.user("bob", "102")
	page := r.phone("alice", 1, r.ofKind(2))
	out, in := r.connect(page, r.phone("bob", 1))
	out.Media().Mute(true)
	page.Disconnect()
	time.Sleep(4 * time.Second) // any other phone that is silent for so long, and cannot be asked, is gone
	if in.State() != phone.Up || out.State() != phone.Up {
		t.Fatal("the call has ended")
	}
	must(t, second(page.Register(time.Minute)))
	out.Media().Mute(false)
	if !in.Hears(out, 3*time.Second) || !out.Hears(in, 3*time.Second) {
		t.Error("after it has come back they do not hear each other")
	}
	before := out.Peer().Ufrag
	r.eventually("ICE is restarted", 5*time.Second, func() bool { return out.RestartICE() == nil }) // glare with the node's re-INVITE
	if after := out.Peer().Ufrag; after == before || after == "" {
		t.Errorf("a restart was answered with ufrag %q, before %q", after, before)
	}
	time.Sleep(time.Second)
	if !in.Hears(out, 3*time.Second) || !out.Hears(in, 3*time.Second) {
		t.Error("after the restart they do not hear each other")
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
}

// TestBrowserRefreshed: a re-INVITE that changes nothing, and a new name on its display, disturb no browser.
func TestBrowserRefreshed(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		c.Call.Session, c.Call.SessionMin, c.Call.Vanished = 2*time.Second, time.Second, 300*time.Millisecond
	})
	for name, number := range map[string]string{"alice": "101", "bob": "102", "carol": "103"} {
		r.user(name, number)
	}
	page := r.phone("alice", 1, r.ofKind(2), func(c *phone.Config) { c.Allow = "INVITE, ACK, CANCEL, BYE" })
	page.Behave(phone.Behaviour{Answer: true, Headers: []phone.Header{header("Session-Expires", "2;refresher=uac"), header("Require", "timer")}})
	bob := r.phone("bob", 1)
	out, err := bob.Dial("101")
	must(t, err)
	in, err := page.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	hearEachOther(t, out, in)
	since := time.Now()
	r.eventually("two refreshes", 10*time.Second, func() bool { return len(requestsTo(page, "INVITE")) >= 3 })
	for _, m := range requestsTo(page, "INVITE")[1:] {
		if !strings.Contains(string(m.Body), "UDP/TLS/RTP/SAVPF") || !strings.Contains(string(m.Body), "a=mid:0") {
			t.Errorf("refreshed with %s", m.Body)
		}
	}
	rep := phone.Analyse(phone.Between(in.Media().Heard(), since, time.Now()), 8000)
	if rep.Missing+rep.Reordered+rep.Duplicates+rep.Changed > 0 || len(rep.SSRCs) != 1 {
		t.Errorf("its stream is broken: %s", rep)
	}
	carol := r.phone("carol", 1)
	carol.Behave(phone.AutoAnswer)
	ref, err := out.Refer("103")
	must(t, err)
	if code, err := ref.Wait(5 * time.Second); err != nil || code != 200 {
		t.Errorf("the transfer: %d, %v", code, err)
	}
	leg, err := carol.Ringing(3 * time.Second)
	must(t, err)
	hearEachOther(t, in, leg)
	must(t, in.Hangup())
	must(t, leg.AwaitEnd(3*time.Second))
	r.nothingLeft()
}
