package call_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/config"
	"baton/test/phone"
)

// subscribe makes a subscription and waits for its first NOTIFY.
func (r *rig) subscribe(p *phone.Phone, to string, headers ...phone.Header) *phone.Subscription {
	r.t.Helper()
	s, _, err := p.Subscribe(to, time.Hour, headers...)
	must(r.t, err)
	r.t.Cleanup(func() { checkTold(r.t, s) })
	_, err = s.Await(3*time.Second, func(phone.Notice) bool { return true })
	must(r.t, err)
	return s
}

// told waits for a NOTIFY with live dialogs in these states, in order.
func (r *rig) told(s *phone.Subscription, states ...string) []phone.Dialog {
	r.t.Helper()
	n, err := s.Await(5*time.Second, func(n phone.Notice) bool {
		var got []string
		for _, d := range n.Info.Live() {
			got = append(got, d.State)
		}
		return slices.Equal(got, states)
	})
	if err != nil {
		r.t.Fatalf("want dialogs %v: %v", states, err)
	}
	return n.Info.Live()
}

// checkTold holds all that a subscription was told to its RFCs: documents that can be read and are valid, full, with rising
// versions, Event and Subscription-State in each, and no two within less than the pace.
func checkTold(t *testing.T, s *phone.Subscription) {
	t.Helper()
	last, first := -1, true
	for _, n := range s.Told() {
		if n.Bad != nil {
			t.Errorf("%v: %s\n%s", n.Bad, n.Line(), n.Body)
			continue
		}
		if !strings.HasPrefix(n.Get("Event"), "dialog") || n.Get("Subscription-State") == "" || n.Get("Contact") == "" {
			t.Errorf("Event %q, Subscription-State %q, Contact %q", n.Get("Event"), n.Get("Subscription-State"), n.Get("Contact"))
		}
		if err := valid(n.Body); err != nil {
			t.Errorf("%v: %s", err, n.Body)
		}
		version := int(*n.Info.Version)
		if version <= last || first && last == -1 && version%1000 != 0 || n.Info.State != "full" || len(n.Info.Dialogs) == 0 {
			t.Errorf("version %d after %d: %s", version, last, n.Body)
		}
		last, first = version, false
	}
}

// dialogInfoSchema is the part of RFC 4235 §4.4 that is used: the children of each element in their order, and its attributes; those
// with a star must be there.
var dialogInfoSchema = map[string]struct{ children, attrs string }{
	"dialog-info": {"dialog", "version* state* entity* xmlns"},
	"dialog":      {"state* local remote", "id* call-id local-tag remote-tag direction"},
	"state":       {"", ""},
	"local":       {"identity target", ""},
	"remote":      {"identity target", ""},
	"identity":    {"", "display"},
	"target":      {"param", "uri*"},
	"param":       {"", "pname* pval*"},
}

// valid holds a document to the schema.
func valid(doc []byte) error {
	d := xml.NewDecoder(strings.NewReader(string(doc)))
	type open struct {
		name string
		at   int // which of its children came last
		seen map[string]bool
	}
	var path []open
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch e := token.(type) {
		case xml.StartElement:
			rule, ok := dialogInfoSchema[e.Name.Local]
			if !ok || e.Name.Space != "urn:ietf:params:xml:ns:dialog-info" {
				return fmt.Errorf("unknown element %v", e.Name)
			}
			if len(path) > 0 {
				up := &path[len(path)-1]
				at := slices.Index(strings.Fields(strings.ReplaceAll(dialogInfoSchema[up.name].children, "*", "")), e.Name.Local)
				if at < up.at {
					return fmt.Errorf("%s in %s is not in its place", e.Name.Local, up.name)
				}
				up.at = at
				up.seen[e.Name.Local] = true
			}
			has := map[string]bool{}
			for _, a := range e.Attr {
				has[a.Name.Local] = true
				if !slices.Contains(strings.Fields(strings.ReplaceAll(rule.attrs, "*", "")), a.Name.Local) || a.Value == "" {
					return fmt.Errorf("attribute %s=%q of %s", a.Name.Local, a.Value, e.Name.Local)
				}
			}
			for _, a := range strings.Fields(rule.attrs) {
				if name, must := strings.CutSuffix(a, "*"); must && !has[name] {
					return fmt.Errorf("%s has no %s", e.Name.Local, name)
				}
			}
			path = append(path, open{name: e.Name.Local, seen: map[string]bool{}})
		case xml.EndElement:
			top := path[len(path)-1]
			for _, c := range strings.Fields(dialogInfoSchema[top.name].children) {
				if name, must := strings.CutSuffix(c, "*"); must && !top.seen[name] {
					return fmt.Errorf("%s has no %s", top.name, name)
				}
			}
			path = path[:len(path)-1]
		}
	}
}

// replaces is the header that a phone builds from what it was told of a dialog, in the order of RFC 3891 from the view of the
// watched phone.
func replaces(d phone.Dialog) string {
	return d.CallID + ";to-tag=" + d.RemoteTag + ";from-tag=" + d.LocalTag
}

// TestOwnCall: a key on one's own extension shows the live call as the phone that has it knows it, and who is on the other side,
// through ringing, talk, hold and end.
func TestOwnCall(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	soft := r.phone("bob", 2)
	soft.Behave(phone.Behaviour{Reject: 486})
	for _, to := range []string{"102", "bob"} {
		s := r.subscribe(soft, to)
		if d := s.Last().Info.Dialogs; len(d) != 1 || d[0].State != "terminated" {
			t.Errorf("before any call: %+v", d)
		}
		out, err := alice.Dial("102")
		must(t, err)
		in, err := bob.Ringing(3 * time.Second)
		must(t, err)
		early := r.told(s, "early")[0]
		if replaces(early) != in.Replaces() || early.Direction != "recipient" {
			t.Errorf("told %+v of a phone that rings for %s", early, in.Replaces())
		}
		must(t, in.Answer())
		d := r.told(s, "confirmed")[0]
		if replaces(d) != in.Replaces() || d.ID != early.ID || d.Rendering() != "yes" {
			t.Errorf("told %+v of %s", d, in.Replaces())
		}
		for name, p := range map[string]*phone.Party{"alice 101": d.Remote, "bob 102": d.Local} {
			user := phone.UserPart(p.Identity.URI)
			if got := p.Identity.Display + " " + user; got != name || phone.UserPart(p.Target.URI) != user {
				t.Errorf("%s is told as %q", name, got)
			}
		}
		must(t, in.Hold(phone.HoldSendonly))
		if _, err := s.Await(3*time.Second, func(n phone.Notice) bool { return n.Info.Dialogs[0].Rendering() == "no" }); err != nil {
			t.Error(err)
		}
		must(t, in.Resume())
		must(t, out.Hangup())
		n, err := s.Await(3*time.Second, func(n phone.Notice) bool { return len(n.Info.Live()) == 0 })
		must(t, err)
		if d := n.Info.Dialogs; len(d) != 1 || d[0].ID != early.ID || n.Info.Entity != "sip:"+to+"@127.0.0.1" {
			t.Errorf("at the end: %s", n.Body)
		}
		_, err = s.Refresh(0)
		must(t, err)
		r.eventually("the subscription is gone", 3*time.Second, func() bool { return r.b.Subscriptions() == 0 })
	}
	r.nothingLeft()
}

// TestCallerIsWatched: the phone that calls is told too, from its first moment.
func TestCallerIsWatched(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	second := r.phone("alice", 2)
	s := r.subscribe(second, "101")
	out, err := alice.Dial("102")
	must(t, err)
	d := r.told(s, "early")[0]
	if d.CallID != out.ID() || d.RemoteTag == "" || d.Direction != "initiator" || d.Remote.Identity.Display != "bob" {
		t.Errorf("told %+v of %s", d, out.Replaces())
	}
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, in.Answer())
	c := r.told(s, "confirmed")[0]
	must(t, out.Await(3*time.Second)) // the watcher may hear of the answer first
	if replaces(c) != out.Replaces() || c.RemoteTag != d.RemoteTag {
		t.Errorf("told %+v of %s", c, out.Replaces())
	}
	if first := s.Told()[1].Info.Live(); len(first) != 1 || first[0].Direction != "initiator" {
		t.Errorf("first told %+v", first)
	}
	must(t, in.Hangup())
	r.told(s)
	r.nothingLeft()
}

// TestEveryDeviceThatRings has its own entry, and one that has answered is the only one left.
func TestEveryDeviceThatRings(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	phones := []*phone.Phone{bob, r.phone("bob", 2), r.phone("bob", 3)}
	s := r.subscribe(phones[0], "102")
	out, err := alice.Dial("102")
	must(t, err)
	var rings []string
	var calls []*phone.Call
	for _, p := range phones {
		in, err := p.Ringing(3 * time.Second)
		must(t, err)
		rings, calls = append(rings, in.Replaces()), append(calls, in)
	}
	var told []string
	for _, d := range r.told(s, "early", "early", "early") {
		told = append(told, replaces(d))
	}
	slices.Sort(told)
	slices.Sort(rings)
	if !slices.Equal(told, rings) {
		t.Errorf("told %q, ringing are %q", told, rings)
	}
	must(t, calls[1].Answer())
	if d := r.told(s, "confirmed")[0]; replaces(d) != calls[1].Replaces() {
		t.Errorf("told %+v, the call is %s", d, calls[1].Replaces())
	}
	must(t, out.Hangup())
	r.told(s)
	r.nothingLeft()
}

// TestMoveIsWatched: while a call moves both devices are told, then the new one.
func TestMoveIsWatched(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	s := r.subscribe(bob, "102")
	_, in := r.connect(alice, bob)
	soft := r.phone("bob", 2)
	old := r.told(s, "confirmed")[0]
	ref, err := in.Refer("102")
	must(t, err)
	next, err := soft.Ringing(3 * time.Second)
	must(t, err)
	both := r.told(s, "early", "confirmed")
	if replaces(both[0]) != next.Replaces() || both[1].ID != old.ID {
		t.Errorf("in the move: %+v", both)
	}
	must(t, next.Answer())
	if code, err := ref.Wait(5 * time.Second); code != 200 {
		t.Fatal(code, err)
	}
	d := r.told(s, "confirmed")[0]
	if replaces(d) != next.Replaces() || d.ID != both[0].ID {
		t.Errorf("after the move: %+v", d)
	}
	must(t, next.Hangup())
	r.told(s)
	r.nothingLeft()
}

// TestTwoCallsAreWatched: the talking one first, then the held one.
func TestTwoCallsAreWatched(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol := r.phone("carol", 1)
	s := r.subscribe(r.phone("bob", 2), "bob")
	_, first := r.connect(alice, bob)
	must(t, first.Hold(phone.HoldSendonly))
	second, _ := carol.Dial("bob*1")
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, second.Await(3*time.Second))
	d := r.told(s, "confirmed", "confirmed")
	if replaces(d[0]) != in.Replaces() || replaces(d[1]) != first.Replaces() || d[1].Rendering() != "no" {
		t.Errorf("told %+v", d)
	}
	must(t, in.Hold(phone.HoldSendonly))
	must(t, first.Resume())
	swapped := func(n phone.Notice) bool {
		d := n.Info.Live()
		return len(d) == 2 && replaces(d[0]) == first.Replaces() && d[0].Rendering() == "yes" && d[1].Rendering() == "no"
	}
	if _, err := s.Await(3*time.Second, swapped); err != nil {
		t.Error(err)
	}
	must(t, in.Hangup())
	if d := r.told(s, "confirmed"); replaces(d[0]) != first.Replaces() {
		t.Errorf("told %+v", d)
	}
	must(t, first.Hangup())
	r.told(s)
	if n := s.Last(); len(n.Info.Dialogs) < 2 { // also the one that had ended before the lamp went out
		t.Errorf("at the end: %s", n.Body)
	}
	r.nothingLeft()
}

// TestColleague: watching others is a right, and with whom they talk is not part of it; of a call that may be picked up all is told
// that a phone needs for that.
func TestColleague(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		c.Groups = config.Lists{"office": {"bob", "103"}}
		c.Watch = config.Lists{"dave": {"102"}}
	})
	for i, name := range []string{"alice", "bob", "carol", "dave"} {
		r.user(name, fmt.Sprint(101+i))
	}
	alice, bob, carol, dave := r.phone("alice", 1), r.phone("bob", 1), r.phone("carol", 1), r.phone("dave", 1)
	for _, c := range []struct {
		who  *phone.Phone
		whom string
		code int
	}{{alice, "102", 403}, {dave, "101", 403}, {dave, "103", 403}, {bob, "104", 403}, {bob, "199", 404}, {bob, "*40", 404}} {
		if code := refusedWith(c.who.Subscribe(c.whom, time.Hour)); code != c.code {
			t.Errorf("%s watches %s: %d, want %d", c.who.Config().User, c.whom, code, c.code)
		}
	}
	picker, watcher := r.subscribe(carol, "102"), r.subscribe(dave, "bob")
	out, err := alice.Dial("bob")
	must(t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	if d := r.told(picker, "early")[0]; replaces(d) != in.Replaces() || d.Remote == nil || d.Remote.Identity.Display != "alice" {
		t.Errorf("who may pick up is told %+v", d)
	}
	if d := r.told(watcher, "early")[0]; d.CallID+d.LocalTag+d.RemoteTag != "" || d.Remote != nil || d.Local == nil || d.Direction != "recipient" {
		t.Errorf("who may watch is told %+v", d)
	}
	must(t, in.Answer())
	for _, s := range []*phone.Subscription{picker, watcher} {
		if d := r.told(s, "confirmed")[0]; d.CallID+d.LocalTag+d.RemoteTag != "" || d.Remote != nil {
			t.Errorf("of a colleague's talk is told %+v", d)
		}
	}
	must(t, out.Hangup())
	r.told(picker)
	r.told(watcher)
	must(t, r.reg.RemoveUser("bob"))
	_, err = picker.Refresh(time.Hour)
	must(t, err)
	if _, err := picker.Await(3*time.Second, terminated("noresource")); err != nil {
		t.Error(err)
	}
	r.nothingLeft()
}

func terminated(reason string) func(phone.Notice) bool {
	return func(n phone.Notice) bool { return n.Get("Subscription-State") == "terminated;reason="+reason }
}

// refusedWith is the status of a refusal, 200 if there was none.
func refusedWith(_ *phone.Subscription, _ *phone.Message, err error) int {
	var status *phone.Status
	if errors.As(err, &status) {
		return status.Code
	}
	return 200
}

// TestRingingFirst: of a phone that shows one dialog alone it is the ringing one, also if another call is newer.
func TestRingingFirst(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	r.user("carol", "103")
	carol, soft := r.phone("carol", 1), r.phone("bob", 2)
	s := r.subscribe(soft, "102")
	rings, err := alice.Dial("102*1")
	must(t, err)
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	r.told(s, "early")
	soft.Behave(phone.AutoAnswer)
	talks, err := carol.Dial("102*2")
	must(t, err)
	must(t, talks.Await(3*time.Second))
	if d := r.told(s, "early", "confirmed"); replaces(d[0]) != in.Replaces() {
		t.Errorf("told %+v", d)
	}
	must(t, rings.Cancel())
	must(t, talks.Hangup())
	r.told(s)
	r.eventually("the notifier holds no call that has ended", time.Second, func() bool { return r.b.WatchedCalls() == 0 }) // told before it is let go
	r.nothingLeft()
}

// TestCallerOfNobody: a phone that calls one that does not even ring is told as trying.
func TestCallerOfNobody(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.Behaviour{Silent: true})
	s := r.subscribe(r.phone("alice", 2), "101")
	out, err := alice.Dial("102")
	must(t, err)
	if d := r.told(s, "trying")[0]; d.CallID != out.ID() {
		t.Errorf("told %+v", d)
	}
	must(t, out.Cancel())
	r.told(s)
	r.nothingLeft()
}
