package call_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/media"
	"baton/registrar"
	"baton/test/phone"
)

// newTransfer is alice in a call with bob, and carol, who could be called.
func newTransfer(t *testing.T, tune func(*config.Config)) *trio {
	t.Helper()
	tr := &trio{rig: newRig(t, tune)}
	for i, name := range []string{"alice", "bob", "carol"} {
		tr.user(name, fmt.Sprint(101+i))
	}
	tr.alice, tr.bob, tr.carol = tr.phone("alice", 1), tr.phone("bob", 1, updates), tr.phone("carol", 1, updates)
	tr.first, tr.bobs = tr.connect(tr.alice, tr.bob)
	return tr
}

// ringsCarol waits for the transfer to ring at carol's.
func (tr *trio) ringsCarol() {
	tr.t.Helper()
	var err error
	tr.carols, err = tr.carol.Ringing(3 * time.Second)
	must(tr.t, err)
}

// tone is what the seat's phone is played.
func (tr *trio) tone(seat int) media.Tone {
	tr.t.Helper()
	told := make(chan media.Tone, 1)
	must(tr.t, tr.b.In(tr.b.Calls("")[0].ID, func(c *call.Call) { told <- c.Tone(seat) }))
	return <-told
}

// TestTransferShows: alice, who has called bob, transfers him to carol. Both are shown whom they talk with, and the log has it.
func TestTransferShows(t *testing.T) {
	t.Parallel()
	tr := newTransfer(t, nil)
	tr.carol.Behave(phone.Behaviour{Answer: true, After: 150 * time.Millisecond})
	ref, err := tr.first.Refer("103")
	must(t, err)
	tr.done(200, ref)
	tr.ringsCarol()
	tr.together(tr.bobs, tr.carols)
	tr.shown(tr.bobs, "carol")
	if from := tr.carols.Invite().Get("From"); !strings.Contains(from, `"bob" <sip:102@`) {
		t.Errorf("carol is called from %s", from)
	}
	if got := strings.Join(notified(tr.alice), ","); got != "100 active;expires=60,180 active;expires=60,200 terminated;reason=noresource" {
		t.Errorf("NOTIFYs: %s", got)
	}
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
	tr.given("alice", "carol")
}

// given checks that the log has one move in which a user has given a call away, and to whom.
func (tr *trio) given(by, to string) {
	tr.t.Helper()
	moved := tr.entries(journal.CallMoved)
	if len(moved) != 1 || moved[0].User != by || moved[0].Data[journal.Into] != to {
		tr.t.Errorf("the log has %+v, want that %s gave the call to %s", moved, by, to)
	}
}

// TestReferForms has every REFER that is wrong in itself or asks for what is not here: it is told what, and nothing changes.
func TestReferForms(t *testing.T) {
	t.Parallel()
	tr := newTransfer(t, nil)
	to := header("Refer-To", "<"+tr.carol.URI()+">")
	for _, c := range []struct {
		what    string
		headers []phone.Header
		code    int
		says    string // in the Warning
	}{
		{"no Refer-To", nil, 400, "no Refer-To"},
		{"two Refer-To", []phone.Header{to, header("r", "<"+tr.carol.URI()+">")}, 400, ""},
		{"a list", []phone.Header{header("Refer-To", "<sip:103@h>, <sip:102@h>")}, 400, "Refer-To"},
		{"Refer-To that is none", []phone.Header{header("Refer-To", "carol")}, 400, "Refer-To"},
		{"another method", []phone.Header{header("Refer-To", "<"+tr.carol.URI()+";method=BYE>")}, 501, "INVITE"},
		{"Referred-By that is none", []phone.Header{to, header("Referred-By", "alice")}, 400, "Referred-By"},
		{"two Referred-By", []phone.Header{to, header("Referred-By", "<sip:a@h>"), header("b", "<sip:b@h>")}, 400, ""},
		{"Refer-Sub that is none", []phone.Header{to, header("Refer-Sub", "perhaps")}, 400, "Refer-Sub"},
		{"explicitsub", []phone.Header{to, header("Require", "explicitsub")}, 420, ""},
		{"the pull code", []phone.Header{header("Refer-To", "<sip:*40@127.0.0.1>")}, 404, "pull code"},
		{"an office code", []phone.Header{header("Refer-To", "<sip:*21*103%23@127.0.0.1>")}, 404, ""},
		{"nobody", []phone.Header{header("Refer-To", "<sip:199@127.0.0.1>")}, 404, "199"},
		{"another host", []phone.Header{header("Refer-To", "<sip:103@elsewhere.example>")}, 404, "elsewhere"},
		{"no other device", []phone.Header{header("Refer-To", "<sip:101@127.0.0.1>")}, 480, "no other device"},
		{"itself", []phone.Header{header("Refer-To", "<sip:101*1@127.0.0.1>")}, 480, "already"},
		{"no such device", []phone.Header{header("Refer-To", "<sip:*417@127.0.0.1>")}, 404, "7"},
	} {
		_, err := tr.first.Request("REFER", nil, c.headers...)
		var refused *phone.Status
		if !errors.As(err, &refused) || refused.Code != c.code || !strings.Contains(refused.Get("Warning"), c.says) {
			t.Errorf("%s: %v, want %d", c.what, err, c.code)
			if refused != nil {
				t.Logf("Warning: %s", refused.Get("Warning"))
			}
		}
	}
	if n := len(requestsTo(tr.alice, "NOTIFY")); n > 0 {
		t.Errorf("%d NOTIFYs of what was refused", n)
	}
	res, err := tr.alice.Send("REFER", tr.carol.URI(), nil, header("Refer-To", "<"+tr.bob.URI()+">"))
	if res == nil || res.Code != 403 || !strings.Contains(res.Get("Warning"), "outside of a call") {
		t.Errorf("outside of a call: %v, %v", res, err)
	}
	if !tr.bobs.Hears(tr.first, time.Second) || len(requestsTo(tr.carol, "INVITE")) > 0 {
		t.Error("the call is not as it was")
	}
	must(t, tr.first.Hangup())
	tr.nothingLeft()
}

// TestReferSilent: a phone that wants no NOTIFY gets none, whichever way it says so.
func TestReferSilent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header phone.Header
		code   int
		answer string // Refer-Sub
	}{
		{header("Refer-Sub", "false"), 202, "false"},
		{header("Require", "nosub"), 200, ""},
	} {
		t.Run(c.header.Name, func(t *testing.T) {
			t.Parallel()
			tr := newTransfer(t, nil)
			tr.carol.Behave(phone.AutoAnswer)
			res, err := tr.first.Request("REFER", nil, header("Refer-To", "<"+tr.carol.URI()+">"), c.header)
			must(t, err)
			if res.Code != c.code || res.Get("Refer-Sub") != c.answer {
				t.Errorf("answered %d, Refer-Sub: %q", res.Code, res.Get("Refer-Sub"))
			}
			tr.ringsCarol()
			tr.together(tr.bobs, tr.carols)
			if n := notified(tr.alice); len(n) > 0 {
				t.Errorf("NOTIFYs: %q", n)
			}
			must(t, tr.bobs.Hangup())
			tr.nothingLeft()
		})
	}
}

// TestReferAgain: the NOTIFYs of the second REFER of a dialog name it by its CSeq (RFC 3515 §2.4.6); one beside another is
// refused.
func TestReferAgain(t *testing.T) {
	t.Parallel()
	tr := newTransfer(t, nil)
	tr.carol.Behave(phone.Behaviour{})
	ref, err := tr.first.Refer("103")
	must(t, err)
	tr.ringsCarol()
	if _, err := tr.first.Request("REFER", nil, header("Refer-To", "<"+tr.carol.URI()+">")); err == nil || !strings.Contains(err.Error(), "491") {
		t.Errorf("a second REFER meanwhile: %v", err)
	}
	must(t, tr.carols.Reject(486))
	tr.done(486, ref)
	tr.carol.Behave(phone.AutoAnswer)
	ref, err = tr.first.Refer("103")
	must(t, err)
	tr.done(200, ref)
	var cseq uint32
	for _, m := range tr.alice.Log() {
		if m.Out && m.Method == "REFER" {
			cseq, _ = m.CSeq()
		}
	}
	all := requestsTo(tr.alice, "NOTIFY")
	if first, last := all[0].Get("Event"), all[len(all)-1].Get("Event"); first != "refer" || last != fmt.Sprintf("refer;id=%d", cseq) {
		t.Errorf("Event: %s, then %s; the REFER has CSeq %d", first, last, cseq)
	}
	tr.ringsCarol()
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestReferUnsubscribed: a phone may end the subscription of its REFER, or refresh it; the transfer goes on. Other
// subscriptions are not made within a call.
func TestReferUnsubscribed(t *testing.T) {
	t.Parallel()
	tr := newTransfer(t, nil)
	tr.carol.Behave(phone.Behaviour{})
	subscribe := func(event, expires string) int {
		t.Helper()
		res, err := tr.first.Request("SUBSCRIBE", nil, header("Event", event), header("Expires", expires))
		var refused *phone.Status
		if errors.As(err, &refused) {
			return refused.Code
		}
		must(t, err)
		if got := res.Get("Expires"); got == "" || expires == "0" && got != "0" {
			t.Errorf("Expires %s is answered with %q", expires, got)
		}
		return res.Code
	}
	if code := subscribe("refer", "0"); code != 403 {
		t.Errorf("without a REFER: %d", code)
	}
	_, err := tr.first.Refer("103")
	must(t, err)
	tr.ringsCarol()
	tr.eventually("alice is told that it rings", 3*time.Second, func() bool {
		return slices.ContainsFunc(notified(tr.alice), func(s string) bool { return strings.HasPrefix(s, "180") })
	})
	if code := subscribe("presence", "60"); code != 489 {
		t.Errorf("another event: %d", code)
	}
	if code := subscribe("refer", "60"); code != 200 {
		t.Errorf("refresh: %d", code)
	}
	if code := subscribe("refer", "0"); code != 200 {
		t.Errorf("unsubscribe: %d", code)
	}
	if code := subscribe("refer", "60"); code != 403 {
		t.Errorf("refresh of what has ended: %d", code)
	}
	must(t, tr.carols.Answer())
	tr.together(tr.bobs, tr.carols)
	got := notified(tr.alice)
	if len(got) != 4 || got[2] != "180 active;expires=60" || got[3] != "180 terminated;reason=timeout" {
		t.Errorf("NOTIFYs: %q", got)
	}
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestReferredBy: whom a transfer calls is told by whom, in baton's own words; nothing else of the REFER passes.
func TestReferredBy(t *testing.T) {
	t.Parallel()
	tr := newTransfer(t, nil)
	tr.carol.Behave(phone.AutoAnswer)
	_, err := tr.first.Request("REFER", nil,
		header("Refer-To", "<"+tr.carol.URI()+"?Call-Info=%3Csip:x%3E%3Banswer-after=0&X-Evil=1>"),
		header("Referred-By", `"The boss" <sip:boss@elsewhere.example>;cid="1@h"`), header("X-Evil", "1"))
	must(t, err)
	tr.ringsCarol()
	tr.together(tr.bobs, tr.carols)
	invite := tr.carols.Invite()
	if by := invite.Get("Referred-By"); !strings.HasPrefix(by, `"alice" <sip:101@`) {
		t.Errorf("Referred-By: %s", by)
	}
	for _, name := range []string{"Call-Info", "Alert-Info", "Answer-Mode", "X-Evil"} {
		if v := invite.Get(name); v != "" {
			t.Errorf("%s: %s has passed", name, v)
		}
	}
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestTransferWays has what phones do about their own leg in a transfer to another user.
func TestTransferWays(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]func(tr *trio){
		"BYE at the 202": func(tr *trio) {
			ref, err := tr.first.Refer("103")
			must(tr.t, err)
			must(tr.t, tr.first.Hangup())
			_ = ref
		},
		"BYE after the last NOTIFY": func(tr *trio) {
			ref, err := tr.first.Refer("103")
			must(tr.t, err)
			tr.done(200, ref)
			must(tr.t, tr.first.Hangup())
		},
		"no BYE": func(tr *trio) {
			ref, err := tr.first.Refer("103")
			must(tr.t, err)
			tr.done(200, ref)
			before := time.Now()
			must(tr.t, tr.first.AwaitEnd(5*time.Second))
			if why, _ := tr.first.Why(); why != "remote" || time.Since(before) < 500*time.Millisecond {
				tr.t.Errorf("its call ended by %s after %v", why, time.Since(before))
			}
		},
		"hold, then REFER": func(tr *trio) {
			must(tr.t, tr.first.Hold(phone.HoldSendonly))
			ref, err := tr.first.Refer("103")
			must(tr.t, err)
			tr.done(200, ref)
		},
		"hold without ACK, then REFER": func(tr *trio) {
			sdp := strings.Replace(string(tr.first.Invite().Body), "a=sendrecv", "a=sendonly", 1)
			if _, err := tr.first.Request("INVITE", []byte(sdp)); err != nil {
				tr.t.Fatal(err)
			}
			ref, err := tr.first.Refer("103")
			must(tr.t, err)
			tr.done(200, ref)
		},
		"hold and REFER at once": func(tr *trio) {
			held := make(chan error, 1)
			go func() { held <- tr.first.Hold(phone.HoldSendonly) }()
			ref, err := tr.first.Refer("103")
			must(tr.t, err)
			tr.done(200, ref)
			<-held
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransfer(t, nil)
			tr.carol.Behave(phone.Behaviour{Answer: true, After: 200 * time.Millisecond})
			way(tr)
			tr.ringsCarol()
			must(t, tr.carols.Phone().Calls()[0].Await(3*time.Second))
			tr.together(tr.bobs, tr.carols)
			tr.only(tr.bobs, "UPDATE")
			must(t, tr.first.AwaitEnd(3*time.Second))
			must(t, tr.carols.Hangup())
			tr.nothingLeft()
		})
	}
}

// TestTransferTone: whoever is transferred to another user while on hold hears that it rings there, and the hold tone again
// when nobody has taken the call.
func TestTransferTone(t *testing.T) {
	t.Parallel()
	tr := newTransfer(t, nil)
	tr.carol.Behave(phone.Behaviour{})
	must(t, tr.first.Hold(phone.HoldSendonly))
	if got := tr.tone(1); got != media.ToneHold {
		t.Errorf("on hold: tone %d", got)
	}
	ref, err := tr.first.Refer("103")
	must(t, err)
	tr.ringsCarol()
	if got := tr.tone(1); got != media.ToneRing {
		t.Errorf("while carol's phone rings: tone %d", got)
	}
	must(t, tr.carols.Reject(486))
	tr.done(486, ref)
	if got := tr.tone(1); got != media.ToneHold {
		t.Errorf("afterwards: tone %d", got)
	}
	tr.unbroken(tr.bobs)
	must(t, tr.first.Hangup())
	tr.nothingLeft()
}

// TestRecall: alice has hung up at the 202, and carol does not take the call. Alice is rung back, with who waits and where
// from on the display. If she answers she has bob again; if not, he is told by tone, and the call ends.
func TestRecall(t *testing.T) {
	t.Parallel()
	for _, answers := range []bool{true, false} {
		t.Run(fmt.Sprintf("answers %v", answers), func(t *testing.T) {
			t.Parallel()
			tr := newTransfer(t, func(c *config.Config) { c.Call.Ring = 800 * time.Millisecond })
			tr.carol.Behave(phone.Behaviour{Reject: 486, After: 100 * time.Millisecond})
			_, err := tr.first.Refer("103")
			must(t, err)
			must(t, tr.first.Hangup())
			back, err := tr.alice.Ringing(3 * time.Second)
			must(t, err)
			if from := back.Invite().Get("From"); !strings.Contains(from, `"bob (back from carol)" <sip:102@`) {
				t.Errorf("rung back from %s", from)
			}
			if v := back.Invite().Get("Call-Info") + back.Invite().Get("Answer-Mode"); v != "" {
				t.Errorf("the phone is to answer by itself: %s", v)
			}
			if answers {
				must(t, back.Answer())
				if !tr.bobs.Hears(back, 3*time.Second) || !back.Hears(tr.bobs, 3*time.Second) {
					t.Error("they do not hear each other")
				}
				tr.unbroken(tr.bobs)
				must(t, tr.bobs.Hangup())
				tr.nothingLeft()
				return
			}
			must(t, back.AwaitEnd(5*time.Second))
			if !tr.bobs.HearsTone(time.Second) {
				t.Error("bob is not told")
			}
			must(t, tr.bobs.AwaitEnd(6*time.Second))
			tr.unbroken(tr.bobs)
			tr.nothingLeft()
		})
	}
}

// TestSemiAttendedForwarded: carol, whose phone still rings when the call is transferred, has calls forwarded when she is
// busy. Bob gets whoever takes it there.
func TestSemiAttendedForwarded(t *testing.T) {
	t.Parallel()
	tr := newTrio(t)
	tr.user("dave", "104")
	dave := tr.phone("dave", 1, updates)
	dave.Behave(phone.AutoAnswer)
	_, err := tr.reg.Configure("carol", func(s *registrar.Settings) { s.Forward.Busy = "104" })
	must(t, err)
	tr.ringCarol()
	_, err = tr.first.ReferTo(tr.second)
	must(t, err)
	must(t, tr.second.Cancel())
	must(t, tr.first.Hangup())
	must(t, tr.carols.Reject(486))
	got, err := dave.Ringing(3 * time.Second)
	must(t, err)
	tr.together(tr.bobs, got)
	tr.shown(tr.bobs, "dave")
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}

// TestReferDuringOurReinvite: alice's phone has refused a re-INVITE of ours with 491, which is to be asked again, and
// transfers meanwhile.
func TestReferDuringOurReinvite(t *testing.T) {
	t.Parallel()
	g722 := phone.Codec{PT: 9, Name: "G722", Rate: 8000}
	r := newRig(t, nil)
	for i, name := range []string{"alice", "bob", "carol"} {
		r.user(name, fmt.Sprint(101+i))
	}
	tr := &trio{rig: r, bob: r.phone("bob", 1), carol: r.phone("carol", 1)}
	tr.alice = r.phone("alice", 1, func(c *phone.Config) { c.Codecs = []phone.Codec{g722, phone.PCMU} })
	tr.alice.Behave(phone.Behaviour{Answer: true, Refuse: 491})
	tr.bobs = mustDial(t, tr.bob, "101", phone.DialOptions{NoSDP: true}) // alice is asked to talk what bob knows
	var err error
	tr.first, err = tr.alice.Ringing(3 * time.Second)
	must(t, err)
	must(t, tr.bobs.Await(3*time.Second))
	tr.eventually("alice was asked", 3*time.Second, func() bool { return len(requestsTo(tr.alice, "INVITE")) == 2 })
	tr.carol.Behave(phone.AutoAnswer)
	ref, err := tr.first.Refer("103")
	must(t, err)
	tr.done(200, ref)
	tr.ringsCarol()
	tr.together(tr.bobs, tr.carols)
	must(t, tr.bobs.Hangup())
	tr.nothingLeft()
}
