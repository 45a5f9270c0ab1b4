package registrar

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func mustSignIn(t *testing.T, r *Registrar, who, password string) Session {
	t.Helper()
	s, err := r.SignIn(who, password, "laptop")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pass lets time pass, without the registrar's ticks in it: they would take long.
func (o *office) pass(d time.Duration) {
	o.stop()
	time.Sleep(d)
}

// TestSignIn gives a session for a right password, by name and number, and one error for everything else.
func TestSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		for _, who := range []string{"alice", "101", "ALICE"} {
			s := mustSignIn(t, o.Registrar, who, "secret")
			if b, ok := o.Bear(s.Text); !ok || b.Token.User != "alice" || b.Token.Kind != UserToken || b.Token.Label != "laptop" {
				t.Errorf("%s has %+v, %v", who, b, ok)
			}
			secret, ok := o.Secret(s.Token.Login)
			if want := ha1(s.Token.Login, "baton", s.Password); !ok || secret.User != "alice" || secret.MD5 != want.MD5 || secret.SHA256 != want.SHA256 ||
				!slices.Equal(secret.Identities, []string{"alice", "101"}) {
				t.Errorf("%s logs in as %+v, %v", s.Token.Login, secret, ok)
			}
			if got, want := time.Until(s.Token.Expires), tokenLife; got != want {
				t.Errorf("good for %v, want %v", got, want)
			}
		}
		for _, wrong := range [][2]string{{"alice", "wrong"}, {"zoe", "secret"}, {"alice", ""}, {"", ""}, {"zoe", ""}, {"102", "Secret"}, {"alice~x", "secret"}} {
			if _, err := o.SignIn(wrong[0], wrong[1], ""); err != ErrPassword {
				t.Errorf("%v: %v", wrong, err)
			}
		}
		if _, err := o.SignIn("alice", "secret", "a\x1b]0;b"); !errors.Is(err, ErrInvalid) {
			t.Errorf("a label that a terminal obeys: %v", err)
		}
		for _, text := range []string{"", "x", "alice"} {
			if _, ok := o.Bear(text); ok {
				t.Errorf("%q is a token", text)
			}
		}
	})
}

// TestTokensEnd: a token and its login are good no more, at once and after a restart, when it is revoked, its user is removed or
// gets another password, and 30 days after its last use.
func TestTokensEnd(t *testing.T) {
	for name, end := range map[string]func(o *office, s Session) error{
		"revoked":     func(o *office, s Session) error { return o.RevokeToken(s.Token.ID) },
		"all revoked": func(o *office, _ Session) error { _, err := o.RevokeTokens("alice"); return err },
		"removed":     func(o *office, _ Session) error { return o.RemoveUser("alice") },
		"password": func(o *office, _ Session) error {
			_, err := o.SetPassword("alice", "secret")
			return err
		},
		"unused": func(o *office, _ Session) error { o.pass(tokenLife); return nil },
		"removed while no node ran": func(o *office, _ Session) error {
			o.stop()
			err := o.store.RemoveUser("alice")
			o.open()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOffice(t, "alice", "bob")
				s, other := mustSignIn(t, o.Registrar, "alice", "secret"), mustSignIn(t, o.Registrar, "bob", "secret")
				b, _ := o.Bear(s.Text)
				ctx, cancel := b.AsLong(t.Context())
				defer cancel()
				good := func() bool {
					_, bears := o.Bear(s.Text)
					_, logsIn := o.Secret(s.Token.Login)
					if bears != logsIn || bears != o.Still(b) {
						t.Errorf("token %v, login %v, still %v", bears, logsIn, o.Still(b))
					}
					return bears
				}
				if !good() {
					t.Fatal("a new token is not good")
				}
				if err := end(o, s); err != nil {
					t.Fatal(err)
				}
				if good() {
					t.Error("the token is good yet")
				}
				synctest.Wait()
				if name != "unused" && !strings.HasPrefix(name, "removed while") && ctx.Err() == nil {
					t.Error("what goes on as long as the token was not ended")
				}
				o.restart()
				if good() {
					t.Error("the token is good again after a restart")
				}
				if _, ok := o.Bear(other.Text); ok == (name == "unused") {
					t.Errorf("another user's token: %v", ok)
				}
				if name == "unused" && len(o.store.tokens) != 0 {
					t.Errorf("%d tokens are kept that nobody can use", len(o.store.tokens))
				}
			})
		})
	}
}

// TestTokenUse: use prolongs a user's token, is written down once an hour, and survives a restart; an operator's ends when it was said to.
func TestTokenUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		s := mustSignIn(t, o.Registrar, "alice", "secret")
		admin, text, err := o.AddAdminToken("ops", time.Now().Add(40*24*time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			o.pass(24 * time.Hour)
			if _, ok := o.Bear(s.Text); !ok {
				t.Fatal("a token that is used every day has expired")
			}
			o.restart()
			_, ok := o.Bear(text)
			if want := !time.Now().After(admin.Created.Add(40*24*time.Hour - 1)); ok != want {
				t.Fatalf("after %v the operator's token is good: %v", time.Since(admin.Created), ok)
			}
		}
		b, _ := o.Bear(s.Text)
		before := o.store.tokens[s.Token.ID]
		time.Sleep(59 * time.Minute)
		if !o.Still(b) || o.store.tokens[s.Token.ID] != before {
			t.Error("each use is written")
		}
		time.Sleep(time.Minute)
		if !o.Still(b) || !o.store.tokens[s.Token.ID].Used.Equal(time.Now()) {
			t.Error("the use is not written after an hour")
		}
		o.store.set(func() { o.store.fail = errors.New("disk full") })
		time.Sleep(2 * time.Hour)
		if _, ok := o.Bear(s.Text); !ok {
			t.Error("a token whose use cannot be written is refused")
		}
		o.store.set(func() { o.store.fail = nil })
		if _, _, err := o.AddAdminToken("for ever", time.Time{}); err != nil {
			t.Fatal(err)
		}
		o.pass(10 * 365 * 24 * time.Hour)
		all := o.Tokens()
		if len(all) != 1 || all[0].Label != "for ever" || all[0].Hash != "" {
			t.Errorf("tokens left: %+v", all)
		}
	})
}

// TestTokenFloor: a user who signs in again and again has as many tokens as is allowed, and the longest unused is the one that goes.
func TestTokenFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		first := mustSignIn(t, o.Registrar, "alice", "secret")
		second := mustSignIn(t, o.Registrar, "alice", "secret")
		for range maxTokens - 1 {
			o.pass(2 * usedEvery)
			if _, ok := o.Bear(first.Text); !ok {
				t.Fatal("a token in use was given up")
			}
			mustSignIn(t, o.Registrar, "alice", "secret")
		}
		if _, ok := o.Bear(second.Text); ok || len(o.Tokens()) != maxTokens || len(o.store.tokens) != maxTokens {
			t.Errorf("%d tokens, the unused one is good: %v", len(o.Tokens()), ok)
		}
	})
}

// TestStoreRefuses: what the store does not take is not in force, and what it does not give up stays.
func TestStoreRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		s := mustSignIn(t, o.Registrar, "alice", "secret")
		o.store.set(func() { o.store.fail = errors.New("disk full") })
		if _, err := o.SignIn("alice", "secret", ""); err == nil || errors.Is(err, ErrPassword) {
			t.Errorf("sign in: %v", err)
		}
		if _, _, err := o.AddAdminToken("", time.Time{}); err == nil {
			t.Error("an operator's token was made")
		}
		if err := o.RevokeToken(s.Token.ID); err == nil {
			t.Error("a token that is stored was revoked")
		}
		if _, err := o.SetPassword("alice", "new"); err == nil {
			t.Error("a password was set")
		}
		if _, ok := o.Bear(s.Text); !ok || len(o.Tokens()) != 1 {
			t.Errorf("tokens %+v", o.Tokens())
		}
		o.store.set(func() { o.store.fail = nil })
		if _, _, err := o.AddAdminToken("", time.Now()); !errors.Is(err, ErrInvalid) {
			t.Errorf("a token that is over: %v", err)
		}
		if err := o.RevokeToken("nobody"); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoke what is not there: %v", err)
		}
	})
}

// TestRevokedDeviceIsAway: what is registered by a session's login, over a real connection, is accepted as its user's, and is away and
// cut off when that is revoked; other devices stay, and the login is a wrong password from then on.
func TestRevokedDeviceIsAway(t *testing.T) {
	s := newStation(t, time.Hour)
	session := mustSignIn(t, s.Registrar, "101", "secret")
	desk, page := s.dial(t, "tcp"), s.dial(t, "tcp")
	desk.register("alice", "secret", "<sip:desk@192.168.77.7;transport=tcp>")
	session2 := mustSignIn(t, s.Registrar, "101", "secret")
	for _, wrong := range [][2]string{{session.Token.Login, "secret"}, {session.Token.Login, session2.Password}, {"alice", session.Password}, {"alice~", session.Password}} {
		if got := page.registerAs("alice", wrong[0], wrong[1], "<sip:page@192.168.77.7;transport=tcp>"); !strings.HasPrefix(got, "SIP/2.0 401 ") {
			t.Fatalf("%v gets\n%s", wrong, got)
		}
	}
	if got := page.registerAs("bob", session.Token.Login, session.Password, "<sip:page@192.168.77.7;transport=tcp>"); !strings.HasPrefix(got, "SIP/2.0 403 ") {
		t.Fatalf("in another's name:\n%s", got)
	}
	for _, from := range []string{"alice", "101"} {
		if got := page.registerAs(from, session.Token.Login, session.Password, "<sip:page@192.168.77.7;transport=tcp>"); !strings.HasPrefix(got, "SIP/2.0 200 ") {
			t.Fatalf("%s by %s gets\n%s", from, session.Token.Login, got)
		}
	}
	here := func() (names []string) {
		for _, d := range s.Lookup("alice") {
			names = append(names, d.Trace.User)
		}
		slices.Sort(names)
		return names
	}
	s.until(t, "both are here", func() bool { return slices.Equal(here(), []string{"desk", "page"}) })
	if err := s.RevokeToken(session.Token.ID); err != nil {
		t.Fatal(err)
	}
	s.until(t, "the page is away", func() bool { return slices.Equal(here(), []string{"desk"}) })
	if d, err := s.Find("alice", "2"); err != nil || d.Reason != "signed out" {
		t.Errorf("%+v, %v", d, err)
	}
	_ = page.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := page.in.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the connection of the revoked session: %v", err)
	}
	again := s.dial(t, "tcp")
	if got := again.registerAs("alice", session.Token.Login, session.Password, "<sip:page@192.168.77.7;transport=tcp>"); !strings.HasPrefix(got, "SIP/2.0 401 ") {
		t.Errorf("a revoked login gets\n%s", got)
	}
	s.until(t, "the connection is counted as signed out", func() bool { return s.agent.Connections().Closed["signed_out"] == 1 })
}

// TestRevokedWhileItRegisters: a REGISTER that was under way when its login was revoked does not stay.
func TestRevokedWhileItRegisters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		s := mustSignIn(t, o.Registrar, "alice", "secret")
		p := desk("alice", "Firefox", "192.0.2.7:5060")
		o.expect(200, p, "3600")
		if !o.registersBy(s.Token.Login, p.flow) || !o.registersBy("alice", p.flow) {
			t.Fatal("a login that is good is not")
		}
		if err := o.RevokeToken(s.Token.ID); err != nil {
			t.Fatal(err)
		}
		o.want("alice", "1 firefox away")
		if o.registersBy(s.Token.Login, p.flow) {
			t.Error("a revoked login registers")
		}
		s = mustSignIn(t, o.Registrar, "alice", "secret")
		for i := range 3 * maxFlows { // those of UDP live for ever
			o.registersBy(s.Token.Login, udp(fmt.Sprintf("192.0.2.7:%d", 6000+i)))
		}
		if n := len(o.tokens.with(s.Token.ID).flows); n != maxFlows {
			t.Errorf("%d flows are remembered", n)
		}
	})
}

// TestUnknownTakesAsLong compares, of many sign-ins, the middle time of an unknown user and of a wrong password (S9).
func TestUnknownTakesAsLong(t *testing.T) {
	s := newStation(t, time.Hour)
	const n = 2001
	times := map[string][]time.Duration{}
	for range n {
		for _, who := range []string{"alice", "zoe55"} {
			began := time.Now()
			if _, err := s.SignIn(who, "wrong", ""); err != ErrPassword {
				t.Fatal(err)
			}
			times[who] = append(times[who], time.Since(began))
		}
	}
	middle := func(who string) time.Duration {
		slices.Sort(times[who])
		return times[who][n/2]
	}
	known, unknown := middle("alice"), middle("zoe55")
	t.Logf("wrong password %v, unknown user %v", known, unknown)
	if diff := (known - unknown).Abs(); diff > 2*time.Millisecond {
		t.Errorf("wrong password %v, unknown user %v", known, unknown)
	}
}

// TestChanges: who looks at a user's devices is told of each change of theirs, once for what came together, and of nobody else's.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, "alice", "bob")
		changed, stop := o.Changes("alice")
		told := func() int {
			synctest.Wait()
			n := len(changed)
			for range n {
				<-changed
			}
			return n
		}
		o.expect(200, desk("bob", "Snom", "192.0.2.8:5060"), "3600")
		if told() != 0 {
			t.Error("told of bob's device")
		}
		o.expect(200, desk("alice", "Yealink", "192.0.2.7:5060"), "3600")
		o.expect(200, desk("alice", "Snom", "192.0.2.9:5060"), "3600")
		if told() != 1 {
			t.Error("not told once of two devices")
		}
		if err := o.Rename("alice", "1", "hall"); err != nil {
			t.Fatal(err)
		}
		if told() != 1 {
			t.Error("not told of another name")
		}
		stop()
		o.expect(200, desk("alice", "Yealink", "192.0.2.7:5060"), "0")
		if told() != 0 || len(o.seen.by) != 0 {
			t.Error("told after all")
		}
	})
}
