package call_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
)

// trio is alice in a call with bob, which she has on hold, and in a second one with carol.
type trio struct {
	*rig
	alice, bob, carol *phone.Phone
	first, bobs       *phone.Call
	second, carols    *phone.Call
}

// updates is a phone that says that it can be told whom it talks with.
func updates(c *phone.Config) {
	c.Allow = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, REFER, NOTIFY, INFO"
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	tr := &trio{rig: newRig(t, nil)}
	for i, name := range []string{"alice", "bob", "carol"} {
		tr.user(name, fmt.Sprint(101+i))
	}
	tr.alice, tr.bob, tr.carol = tr.phone("alice", 1), tr.phone("bob", 1, updates), tr.phone("carol", 1, updates)
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	must(t, tr.first.Hold(phone.HoldSendonly))
	return tr
}

// consult makes the second call, answered.
func (tr *trio) consult() {
	tr.t.Helper()
	tr.second, tr.carols = tr.connect(tr.alice, tr.carol)
}

// ringCarol makes the second call, which rings.
func (tr *trio) ringCarol() {
	tr.t.Helper()
	tr.carol.Behave(phone.Behaviour{})
	tr.second = mustDial(tr.t, tr.alice, "103")
	var err error
	tr.carols, err = tr.carol.Ringing(3 * time.Second)
	must(tr.t, err)
	tr.eventually("alice hears that it rings", 3*time.Second, func() bool { return !tr.second.Times().Ringing.IsZero() })
}

// together checks that two phones talk with each other, in one call, each on the one stream that it has heard from the
// beginning, and are told whom they talk with.
func (tr *trio) together(a, b *phone.Call) {
	tr.t.Helper()
	if !a.Hears(b, 3*time.Second) || !b.Hears(a, 3*time.Second) {
		tr.t.Fatalf("%s and %s do not hear each other", a.Phone().Config().User, b.Phone().Config().User)
	}
	for _, c := range []*phone.Call{a, b} {
		tr.unbroken(c)
	}
	tr.eventually("theirs is the only call", 3*time.Second, func() bool { return len(tr.b.Calls("")) == 1 })
}

func (tr *trio) unbroken(c *phone.Call) {
	tr.t.Helper()
	if r := phone.Analyse(c.Media().Heard(), 8000); len(r.SSRCs) != 1 || r.Missing != 0 {
		tr.t.Errorf("what %s hears is broken: %v", c.Phone().Config().User, r)
	}
}

// shown checks that the phone was told, in the end, that it talks with a user.
func (tr *trio) shown(c *phone.Call, user string) {
	tr.t.Helper()
	tr.eventually(c.Phone().Config().User+" is shown "+user, 3*time.Second, func() bool {
		all := requestsTo(c.Phone(), "UPDATE")
		return len(all) > 0 && strings.Contains(all[len(all)-1].Get("P-Asserted-Identity"), `"`+user+`"`)
	})
}

// only checks that a phone got nothing but the methods named since its call was answered.
func (tr *trio) only(c *phone.Call, allowed ...string) {
	tr.t.Helper()
	for _, m := range c.Phone().Received(c.Times().Answered) {
		if m.Method != "" && m.Method != "ACK" && !strings.Contains(strings.Join(allowed, " "), m.Method) {
			tr.t.Errorf("%s was sent %s", c.Phone().Config().User, m.Line())
		}
	}
}

func (tr *trio) done(code int, ref *phone.Referral) {
	tr.t.Helper()
	if got, err := ref.Wait(5 * time.Second); err != nil || got != code {
		tr.t.Errorf("the transferor was told %d, %v; want %d", got, err, code)
	}
}

// notified are the statuses and states that a phone was told of its REFERs, in order.
func notified(p *phone.Phone) (all []string) {
	for _, m := range requestsTo(p, "NOTIFY") {
		all = append(all, strings.Fields(string(m.Body))[1]+" "+m.Get("Subscription-State"))
	}
	return all
}

// TestAttended is the ordinary one: both calls are answered, the transferor holds the first, or both; bob or carol may hold
// too. The REFER may be in either call.
func TestAttended(t *testing.T) {
	for _, c := range []struct {
		name   string
		within string // the call of the REFER
		hold   bool   // alice holds the second as well
		away   string // who has alice on hold
		called bool   // carol called alice, not she her
	}{
		{name: "in the first"},
		{name: "in the second", within: "second"},
		{name: "both held", hold: true},
		{name: "carol holds", away: "carol"},
		{name: "bob holds", away: "bob"},
		{name: "carol called", called: true},
		{name: "carol called, in the second", called: true, within: "second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			if c.called {
				tr.carols, tr.second = tr.connect(tr.carol, tr.alice)
			} else {
				tr.consult()
			}
			if c.hold {
				must(t, tr.second.Hold(phone.HoldSendonly))
			}
			holder := map[string]*phone.Call{"carol": tr.carols, "bob": tr.bobs}[c.away]
			if holder != nil {
				must(t, holder.Hold(phone.HoldInactive))
			}
			with, named := tr.first, tr.second
			if c.within == "second" {
				with, named = named, with
			}
			ref, err := with.ReferTo(named)
			must(t, err)
			tr.done(200, ref)
			if holder != nil {
				must(t, holder.Resume())
			}
			tr.together(tr.bobs, tr.carols)
			tr.shown(tr.bobs, "carol")
			tr.shown(tr.carols, "bob")
			must(t, tr.first.AwaitEnd(3*time.Second))
			must(t, tr.second.AwaitEnd(3*time.Second))
			tr.only(tr.bobs, "UPDATE")
			tr.only(tr.carols, "UPDATE")
			told := notified(tr.alice)
			if len(told) != 2 || told[0] != "100 active;expires=60" || told[1] != "200 terminated;reason=noresource" {
				t.Errorf("NOTIFYs: %q", told)
			}
			info := tr.b.Calls("")[0]
			if info.Seats[0].User == "alice" || info.Seats[1].User == "alice" {
				t.Errorf("alice has a seat still: %+v", info.Seats)
			}
			tr.stillServed(tr.carols)
			tr.stillServed(tr.bobs)
			must(t, tr.carols.Hangup())
			must(t, tr.bobs.AwaitEnd(3*time.Second))
			tr.nothingLeft()
			if c.within == "second" { // carol's call goes on
				tr.given("alice", "bob")
			} else {
				tr.given("alice", "carol")
			}
		})
	}
}

// stillServed has a phone hold and resume in its dialog: the call that has it now answers.
func (tr *trio) stillServed(c *phone.Call) {
	tr.t.Helper()
	must(tr.t, c.Hold(phone.HoldSendonly))
	must(tr.t, c.Resume())
}

// TestAttendedNamesTheDialog has every way in which phones name the dialog: the tags the other way round, or none.
func TestAttendedNamesTheDialog(t *testing.T) {
	id := func(c *phone.Call) (call, to, from string) {
		parts := strings.Split(c.Replaces(), ";")
		return parts[0], strings.TrimPrefix(parts[1], "to-tag="), strings.TrimPrefix(parts[2], "from-tag=")
	}
	for name, write := range map[string]func(c *phone.Call) string{
		"swapped": func(c *phone.Call) string {
			call, to, from := id(c)
			return call + ";to-tag=" + from + ";from-tag=" + to
		},
		"Call-ID only": func(c *phone.Call) string { call, _, _ := id(c); return call },
		"one tag":      func(c *phone.Call) string { call, to, _ := id(c); return call + ";to-tag=" + to },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			tr.consult()
			ref, err := tr.first.Refer(tr.carol.URI() + "?Replaces=" + url.QueryEscape(write(tr.second)))
			must(t, err)
			tr.done(200, ref)
			tr.together(tr.bobs, tr.carols)
			must(t, tr.bobs.Hangup())
			tr.nothingLeft()
		})
	}
}

// TestAttendedRefused has every REFER that names what it must not: the answer says why, nobody is moved, both calls go on.
func TestAttendedRefused(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	tr.user("eve", "104")
	tr.user("mallory", "105")
	eve, mallory := tr.phone("eve", 1), tr.phone("mallory", 1)
	evil, victim := tr.connect(eve, mallory)
	for _, c := range []struct {
		what string
		by   *phone.Call
		to   string
		code int
	}{
		{"another's dialog", evil, tr.second.Replaces(), 481},
		{"another's dialog, by Call-ID", evil, strings.Split(tr.second.Replaces(), ";")[0], 481},
		{"the dialog of whom she talks with", tr.first, tr.bobs.Replaces(), 481},
		{"no dialog", tr.first, "nothing;to-tag=a;from-tag=b", 481},
		{"a wrong tag", tr.first, strings.Replace(tr.second.Replaces(), "to-tag=", "to-tag=x", 1), 481},
		{"itself", tr.first, tr.first.Replaces(), 403},
		{"only if it rings", tr.first, tr.second.Replaces() + ";early-only", 486},
		{"no Call-ID", tr.first, ";to-tag=a", 400},
	} {
		_, err := c.by.Refer(tr.carol.URI() + "?Replaces=" + url.QueryEscape(c.to))
		var refused *phone.Status
		if !errors.As(err, &refused) || refused.Code != c.code || refused.Get("Warning") == "" {
			t.Errorf("%s: %v, want %d with a Warning", c.what, err, c.code)
		}
	}
	if len(notified(tr.alice))+len(notified(eve)) > 0 {
		t.Error("there was a NOTIFY of what was refused")
	}
	if !victim.Hears(evil, time.Second) || !tr.carols.Hears(tr.second, time.Second) {
		t.Error("a call was disturbed")
	}
	must(t, tr.first.Resume())
	if !tr.bobs.Hears(tr.first, time.Second) {
		t.Error("the first call was disturbed")
	}
	for _, c := range []*phone.Call{tr.first, tr.second, evil} {
		must(t, c.Hangup())
	}
	tr.nothingLeft()
}

// TestAttendedNoCodec has two who cannot understand each other: refused, and both calls are as they were.
func TestAttendedNoCodec(t *testing.T) {
	t.Parallel()
	g722 := phone.Codec{PT: 9, Name: "G722", Rate: 8000}
	r := newRig(t, nil)
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, fmt.Sprint(101+i))
	}
	knows := func(k ...phone.Codec) func(*phone.Config) { return func(c *phone.Config) { c.Codecs = k } }
	tr := &trio{rig: r, alice: r.phone("alice", 1, knows(phone.PCMU, g722)), bob: r.phone("bob", 1), carol: r.phone("carol", 1, knows(g722))}
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	tr.consult()
	_, err := tr.first.ReferTo(tr.second)
	var refused *phone.Status
	if !errors.As(err, &refused) || refused.Code != 488 || !strings.Contains(refused.Get("Warning"), "codec") {
		t.Errorf("%v", err)
	}
	if !tr.bobs.Hears(tr.first, time.Second) || !tr.carols.Hears(tr.second, time.Second) {
		t.Error("a call was disturbed")
	}
	must(t, tr.first.Hangup())
	must(t, tr.second.Hangup())
	tr.nothingLeft()
}

// TestAttendedAgrees has two who talk different codecs but have one in common: one re-INVITE, and they understand each other.
func TestAttendedAgrees(t *testing.T) {
	t.Parallel()
	g722 := phone.Codec{PT: 9, Name: "G722", Rate: 8000}
	r := newRig(t, nil)
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, fmt.Sprint(101+i))
	}
	both := func(c *phone.Config) { c.Codecs = []phone.Codec{g722, phone.PCMU} }
	tr := &trio{rig: r, alice: r.phone("alice", 1, both), bob: r.phone("bob", 1, both), carol: r.phone("carol", 1)}
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	tr.consult()
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestAttendedHangsUpAtOnce: a phone that ends both of its calls as soon as it has the 202.
func TestAttendedHangsUpAtOnce(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	var both sync.WaitGroup
	both.Go(func() { _ = tr.first.Hangup() })
	both.Go(func() { _ = tr.second.Hangup() })
	both.Wait()
	_ = ref
	tr.together(tr.bobs, tr.carols)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAttendedNoBye: a phone that waits for us to end its calls: it has its NOTIFY before, and a second for its own BYEs.
func TestAttendedNoBye(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	told := time.Now()
	for _, c := range []*phone.Call{tr.first, tr.second} {
		must(t, c.AwaitEnd(5*time.Second))
		if why, _ := c.Why(); why != "remote" || c.Times().Ended.Sub(told) < 500*time.Millisecond {
			t.Errorf("a call ended by %s, %v after the NOTIFY", why, c.Times().Ended.Sub(told))
		}
	}
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestAttendedTwoDevices: the two calls of the user are on two devices of his.
func TestAttendedTwoDevices(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	mobile := tr.phone("alice", 2)
	tr.second, tr.carols = tr.connect(mobile, tr.carol)
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	must(t, tr.second.AwaitEnd(3*time.Second))
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAttendedToOwnDevice: the second call is with another device of one's own. That is a move: the seat stays alice's.
func TestAttendedToOwnDevice(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	mobile := tr.phone("alice", 2, updates)
	mobile.Behave(phone.AutoAnswer)
	tr.second = mustDial(t, tr.alice, "101*2")
	var err error
	tr.carols, err = mobile.Ringing(3 * time.Second)
	must(t, err)
	must(t, tr.second.Await(3*time.Second))
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	tr.shown(tr.carols, "bob")
	tr.only(tr.bobs)
	if s := tr.b.Calls("")[0].Seats; s[0].User != "alice" || s[0].Legs[0].Index != 2 {
		t.Errorf("seats: %+v", s)
	}
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestSemiAttended transfers while the second call still rings: bob hears ringing and gets carol when she answers. The
// phone may keep its two calls, or end them at the 202.
func TestSemiAttended(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves %v", leaves), func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			tr.ringCarol()
			ref, err := tr.first.ReferTo(tr.second)
			must(t, err)
			if leaves {
				must(t, tr.second.Cancel())
				must(t, tr.first.Hangup())
			}
			time.Sleep(200 * time.Millisecond)
			if s := tr.carols.State(); s != phone.Alerting {
				t.Fatalf("carol's phone: %s", s)
			}
			if !tr.bobs.HearsTone(time.Second) {
				t.Error("bob hears nothing")
			}
			must(t, tr.carols.Answer())
			tr.together(tr.bobs, tr.carols)
			tr.shown(tr.bobs, "carol")
			tr.shown(tr.carols, "bob")
			if !leaves {
				tr.done(200, ref)
				told := notified(tr.alice)
				if strings.Join(told, ",") != "100 active;expires=60,180 active;expires=60,200 terminated;reason=noresource" {
					t.Errorf("NOTIFYs: %q", told)
				}
			}
			must(t, tr.first.AwaitEnd(3*time.Second))
			must(t, tr.second.AwaitEnd(3*time.Second))
			must(t, tr.bobs.Hangup())
			must(t, tr.carols.AwaitEnd(3*time.Second))
			tr.nothingLeft()
			tr.missed() // by nobody
		})
	}
}

// TestSemiAttendedNobody: carol refuses. Whoever still has the call keeps it; who has hung up is rung back, and the display
// says what comes back.
func TestSemiAttendedNobody(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves %v", leaves), func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			tr.ringCarol()
			ref, err := tr.first.ReferTo(tr.second)
			must(t, err)
			if leaves {
				must(t, tr.second.Cancel())
				must(t, tr.first.Hangup())
			}
			time.Sleep(100 * time.Millisecond)
			must(t, tr.carols.Reject(486))
			talk := tr.first
			if leaves {
				talk, err = tr.alice.Ringing(3 * time.Second)
				must(t, err)
				if from := talk.Invite().Get("From"); !strings.Contains(from, `"bob (back from carol)" <sip:102@`) {
					t.Errorf("rung back from %s", from)
				}
				must(t, talk.Answer())
			} else {
				tr.done(486, ref)
				must(t, talk.Resume())
				tr.refused(tr.second, 486)
			}
			if !tr.bobs.Hears(talk, 3*time.Second) || !talk.Hears(tr.bobs, 3*time.Second) {
				t.Error("alice and bob do not hear each other")
			}
			tr.unbroken(tr.bobs)
			must(t, tr.bobs.Hangup())
			tr.nothingLeft()
		})
	}
}

// TestSemiAttendedSilent: carol's phone has never rung when the time is over. The transfer is told so at once, not only when
// the second call has had its tone.
func TestSemiAttendedSilent(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.carol.Behave(phone.Behaviour{Silent: true})
	tr.second = mustDial(t, tr.alice, "103")
	tr.eventually("carol's phone is called", 3*time.Second, func() bool { return len(requestsTo(tr.carol, "INVITE")) > 0 })
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.eventually("the second call has its tone", 9*time.Second, func() bool { return slices.Contains(tr.second.Progress(), 183) })
	if code, err := ref.Wait(1500 * time.Millisecond); err != nil || code != 480 {
		t.Errorf("told %d, %v", code, err)
	}
	must(t, tr.first.Hangup())
	must(t, tr.second.AwaitEnd(6*time.Second))
	tr.nothingLeft()
}

// TestSemiAttendedBobLeaves: whoever was to be transferred hangs up while carol's phone rings. Then alice goes on waiting for
// her, unless she has gone too.
func TestSemiAttendedBobLeaves(t *testing.T) {
	t.Parallel()
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves %v", leaves), func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			tr.ringCarol()
			_, err := tr.first.ReferTo(tr.second)
			must(t, err)
			if leaves {
				must(t, tr.second.Cancel())
				must(t, tr.first.Hangup())
			}
			must(t, tr.bobs.Hangup())
			must(t, tr.first.AwaitEnd(3*time.Second))
			if leaves {
				must(t, tr.carols.AwaitEnd(3*time.Second))
				tr.nothingLeft()
				return
			}
			must(t, tr.carols.Answer())
			must(t, tr.second.Await(3*time.Second))
			if !tr.second.Hears(tr.carols, 3*time.Second) {
				t.Error("alice does not hear carol")
			}
			must(t, tr.second.Hangup())
			tr.nothingLeft()
		})
	}
}

// TestAttendedToPush: the second call is that to *41, whose move is under way. The transfer key asks for nothing else.
func TestAttendedToPush(t *testing.T) {
	for _, within := range []string{"first", "second"} {
		t.Run(within, func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			mobile := tr.phone("alice", 2)
			tr.second = mustDial(t, tr.alice, "*41")
			must(t, tr.second.Await(3*time.Second))
			at, err := mobile.Ringing(3 * time.Second)
			must(t, err)
			with, named := tr.first, tr.second
			if within == "second" {
				with, named = named, with
			}
			ref, err := with.ReferTo(named)
			must(t, err)
			must(t, named.Hangup()) // no change of mind
			time.Sleep(50 * time.Millisecond)
			if at.State() != phone.Alerting {
				t.Fatal("the other device does not ring any more")
			}
			must(t, at.Answer())
			tr.done(200, ref)
			tr.together(tr.bobs, at)
			must(t, tr.first.AwaitEnd(3*time.Second))
			must(t, tr.second.AwaitEnd(3*time.Second))
			must(t, at.Hangup())
			tr.nothingLeft()
		})
	}
}

// TestAttendedMuted: carol has muted her phone. Bob, who was on hold, hears no hold tone any more.
func TestAttendedMuted(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	tr.carols.Media().Mute(true)
	time.Sleep(400 * time.Millisecond)
	if !tr.bobs.HearsTone(time.Second) {
		t.Fatal("bob is not on hold")
	}
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	time.Sleep(300 * time.Millisecond)
	if tr.bobs.HearsTone(400 * time.Millisecond) {
		t.Error("bob hears the hold tone still")
	}
	tr.carols.Media().Mute(false)
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// askedAgain is a trio in which carol's phone has refused a re-INVITE of ours with 491: it is to be asked again.
func askedAgain(t *testing.T) *trio {
	t.Helper()
	g722 := phone.Codec{PT: 9, Name: "G722", Rate: 8000}
	r := newRig(t, nil)
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, fmt.Sprint(101+i))
	}
	tr := &trio{rig: r, alice: r.phone("alice", 1), bob: r.phone("bob", 1)}
	tr.carol = r.phone("carol", 1, func(c *phone.Config) { c.Codecs = []phone.Codec{g722, phone.PCMU} })
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	tr.carol.Behave(phone.Behaviour{Answer: true, Refuse: 491})
	tr.second = mustDial(t, tr.alice, "103", phone.DialOptions{NoSDP: true}) // carol is asked to talk what alice knows
	var err error
	tr.carols, err = tr.carol.Ringing(3 * time.Second)
	must(t, err)
	must(t, tr.second.Await(3*time.Second))
	tr.eventually("carol was asked", 3*time.Second, func() bool { return len(requestsTo(tr.carol, "INVITE")) == 2 })
	return tr
}

// TestAttendedTargetLeaves: carol hangs up while her leg is waited for.
func TestAttendedTargetLeaves(t *testing.T) {
	t.Parallel()
	tr := askedAgain(t)
	gone := make(chan error, 1)
	time.AfterFunc(200*time.Millisecond, func() { gone <- tr.carols.Hangup() })
	_, err := tr.first.ReferTo(tr.second)
	var refused *phone.Status
	if !errors.As(err, &refused) || refused.Code != 481 {
		t.Errorf("%v", err)
	}
	must(t, <-gone)
	must(t, tr.second.AwaitEnd(3*time.Second))
	if !tr.bobs.Hears(tr.first, time.Second) {
		t.Error("the first call was disturbed")
	}
	must(t, tr.first.Hangup())
	tr.nothingLeft()
}

// TestAttendedGap: neither call is on hold. What bob and carol hear goes over from alice to each other without a hole, on the
// clock of before.
func TestAttendedGap(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	must(t, tr.first.Resume())
	tr.consult()
	if !tr.bobs.Hears(tr.first, time.Second) {
		t.Fatal("bob does not hear alice")
	}
	before := time.Now()
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	for _, c := range []*phone.Call{tr.bobs, tr.carols} {
		heard := c.Media().Heard()
		if gap, at := phone.LongestGap(heard, before, before.Add(time.Second)); gap > 200*time.Millisecond {
			t.Errorf("%s heard nothing for %v, %v after the REFER", c.Phone().Config().User, gap, at.Sub(before))
		}
		if r := phone.Analyse(heard, 8000); r.Drift > 60*time.Millisecond {
			t.Errorf("%s: %v", c.Phone().Config().User, r)
		}
	}
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestAttendedBeingAnswered: carol answers as alice transfers; the node is writing that down.
func TestAttendedBeingAnswered(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.ringCarol()
	tr.faults.fault(45*time.Millisecond, nil) // between carol's 200 and alice's
	must(t, tr.carols.Answer())
	tr.eventually("carol has answered", time.Second, func() bool {
		s := tr.b.Calls("alice")[1]
		return s.State == "up"
	})
	if tr.second.State() != phone.Calling {
		t.Skip("alice has her 200 already: nothing to be seen")
	}
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.faults.fault(0, nil)
	tr.done(200, ref)
	must(t, tr.second.Await(time.Second)) // her call was answered before it was handed over
	if n := len(methods(tr.carol.Received(time.Time{}), "ACK")); n == 0 {
		t.Error("carol's 200 was never acknowledged")
	}
	tr.together(tr.bobs, tr.carols)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAttendedAnswering: the same, but it is alice who answers, and transfers at once.
func TestAttendedAnswering(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.alice.Behave(phone.Behaviour{})
	tr.carols = mustDial(t, tr.carol, "101")
	var err error
	tr.second, err = tr.alice.Ringing(3 * time.Second)
	must(t, err)
	tr.faults.fault(45*time.Millisecond, nil) // between alice's 200 and carol's
	must(t, tr.second.Answer())
	tr.eventually("alice has answered", time.Second, func() bool { return tr.b.Calls("carol")[0].State == "up" })
	if tr.carols.State() != phone.Calling {
		t.Skip("carol has her 200 already: nothing to be seen")
	}
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.faults.fault(0, nil)
	tr.done(200, ref)
	must(t, tr.carols.Await(time.Second))
	tr.together(tr.bobs, tr.carols)
	must(t, tr.carols.Hangup())
	tr.nothingLeft()
}

// TestAttendedOneAtATime: while carol's leg is waited for, her seat cannot be moved: neither by herself nor by a second REFER.
func TestAttendedOneAtATime(t *testing.T) {
	t.Parallel()
	tr := askedAgain(t)
	desk := tr.phone("carol", 2)
	desk.Behave(phone.AutoAnswer)
	refered := make(chan error, 1)
	go func() {
		_, err := tr.first.ReferTo(tr.second)
		refered <- err
	}()
	time.Sleep(100 * time.Millisecond)
	_, err := tr.b.Move(t.Context(), call.MoveRequest{Call: tr.b.Calls("")[1].ID, Seat: "carol", Device: "2"})
	var refused *call.Refusal
	if !errors.As(err, &refused) || refused.Code != 491 {
		t.Errorf("moved meanwhile: %v", err)
	}
	if _, err := tr.second.ReferTo(tr.first); err == nil || !strings.Contains(err.Error(), "491") {
		t.Errorf("a second REFER meanwhile: %v", err)
	}
	<-refered
	must(t, tr.first.Hangup())
	must(t, tr.second.Hangup())
	tr.nothingLeft()
}

// TestAttendedWaitsForUs: while something of ours is under way in carol's dialog it is not given away. The transfer is
// refused, nothing changes, and it works as soon as she has answered.
func TestAttendedWaitsForUs(t *testing.T) {
	t.Parallel()
	tr := askedAgain(t)
	_, err := tr.first.ReferTo(tr.second)
	var refused *phone.Status
	if !errors.As(err, &refused) || refused.Code != 491 {
		t.Errorf("%v", err)
	}
	if !tr.bobs.Hears(tr.first, time.Second) || tr.second.State() != phone.Up {
		t.Error("a call was disturbed")
	}
	tr.carol.Behave(phone.AutoAnswer)
	if !tr.second.Hears(tr.carols, 6*time.Second) {
		t.Fatal("carol never talks what alice knows")
	}
	ref, err := tr.first.ReferTo(tr.second)
	must(t, err)
	tr.done(200, ref)
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestAttendedTwice: of two REFERs at once, in the two calls, at most one is taken, and whoever is left talks.
func TestAttendedTwice(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.consult()
	var both sync.WaitGroup
	var one, other error
	both.Go(func() { _, one = tr.first.ReferTo(tr.second) })
	both.Go(func() { _, other = tr.second.ReferTo(tr.first) })
	both.Wait()
	switch {
	case one == nil && other == nil:
		t.Error("both were taken")
	case one != nil && other != nil: // 491 both: nothing has changed
		ref, err := tr.first.ReferTo(tr.second)
		must(t, err)
		tr.done(200, ref)
	}
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestAttendedRaces: while alice transfers, one of the four hangs up, a little sooner or later each time. Nobody is left in a
// call with nobody, and nothing leaks.
func TestAttendedRaces(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	for _, who := range []string{"first", "second", "bob", "carol"} {
		for _, rings := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rings %v", who, rings), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, func(c *config.Config) { c.Call.Ring = 2 * time.Second })
				for i, name := range []string{"alice", "bob", "carol"} {
					r.user(name, fmt.Sprint(101+i))
				}
				tr := &trio{rig: r, alice: r.phone("alice", 1), bob: r.phone("bob", 1), carol: r.phone("carol", 1)}
				for i := range rounds {
					tr.race(who, rings, time.Duration(i)*time.Millisecond)
				}
			})
		}
	}
}

func (tr *trio) race(who string, rings bool, late time.Duration) {
	tr.t.Helper()
	tr.alice.Behave(phone.Behaviour{Reject: 486})
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	if rings {
		tr.ringCarol()
	} else {
		tr.consult()
	}
	calls := map[string]*phone.Call{"first": tr.first, "second": tr.second, "bob": tr.bobs, "carol": tr.carols}
	var both sync.WaitGroup
	both.Go(func() { _, _ = tr.first.ReferTo(tr.second) })
	both.Go(func() {
		time.Sleep(late)
		_ = calls[who].Hangup()
	})
	if rings && who != "carol" {
		both.Go(func() {
			time.Sleep(late)
			_ = tr.carols.Answer()
		})
	}
	both.Wait()
	time.Sleep(100 * time.Millisecond)
	tr.pairs()
	for _, c := range calls {
		_ = c.Hangup()
	}
	tr.nothingLeft()
}

// pairs checks that whoever is in a call is in one with somebody who is, too.
func (tr *trio) pairs() {
	tr.t.Helper()
	tr.eventually("everybody who is in a call talks with somebody", 8*time.Second, func() bool {
		for _, info := range tr.b.Calls("") {
			if info.State != "up" {
				return false
			}
			for _, s := range info.Seats {
				if len(s.Legs) != 1 || s.Legs[0].State != "up" {
					return false
				}
			}
		}
		up := 0
		for _, c := range []*phone.Call{tr.first, tr.second, tr.bobs, tr.carols} {
			if c.State() == phone.Up {
				up++
			}
		}
		return up == 2*len(tr.b.Calls(""))
	})
}
