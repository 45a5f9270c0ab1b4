package sip

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// attempt is a login over a wire: the challenge first, then the answer to it, and what came back.
func (w *wire) attempt(user, password string) *Response {
	w.t.Helper()
	m := msg{method: "REGISTER", callID: random(8)}
	w.send(m.String())
	nonce := nonceOf(w.expect(401))
	m.cseq, m.headers = 2, []string{login{user: user, password: password, method: "REGISTER"}.header(nonce)}
	w.send(m.String())
	return w.response()
}

// TestGuessingIsHeldUp has a guesser fail until he is held up. His right guess is answered as the wrong ones are. The owner
// is not held up: not on the phone that was registered before, not from elsewhere, and not on one that he has just
// switched on beside the guesser.
func TestGuessingIsHeldUp(t *testing.T) {
	var log bytes.Buffer
	a := start(t, handle("REGISTER", func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) }), func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	at := a.Addrs()["udp"]
	owner := dial(t, "udp", "127.0.0.9", at)
	if r := owner.attempt("alice", "pw"); r.code != 200 {
		t.Fatalf("the owner gets %d", r.code)
	}
	guesser := dial(t, "udp", "127.0.0.9", at)
	for i := range 30 {
		if r := guesser.attempt("alice", fmt.Sprint(i)); r.code != 401 {
			t.Fatalf("guess %d: %d", i, r.code)
		}
	}
	if r := guesser.attempt("alice", "pw"); r.code != 401 {
		t.Errorf("the guesser who is held up gets %d for the right password", r.code)
	}
	if r := guesser.attempt("101", "pw"); r.code != 401 {
		t.Errorf("the guesser gets %d for the same user's number", r.code)
	}
	for name, w := range map[string]*wire{
		"registered": owner, "elsewhere": dial(t, "udp", "127.0.0.10", at),
		"behind the same NAT": dial(t, "udp", "127.0.0.9", at), "the same over TCP": dial(t, "tcp", "127.0.0.9", a.Addrs()["tcp"]),
	} {
		if r := w.attempt("alice", "pw"); r.code != 200 {
			t.Errorf("the owner %s gets %d", name, r.code)
		}
	}
	if got := a.Traffic(); got.Failed != 10 || got.Unread != 22 {
		t.Errorf("%d failed and %d unread, want 10 and 22", got.Failed, got.Unread)
	}
	for range 15 { // from a port each, until those are held up, too
		dial(t, "udp", "127.0.0.9", at).attempt("alice", "no")
	}
	if r := dial(t, "udp", "127.0.0.9", at).attempt("alice", "pw"); r.code != 401 {
		t.Errorf("the sixteenth port of a guesser gets %d", r.code)
	}
	if r := owner.attempt("alice", "pw"); r.code != 200 {
		t.Errorf("the owner's phone gets %d", r.code)
	}
	if lines := strings.Count(log.String(), "somebody guesses passwords"); lines != 1 {
		t.Errorf("told %d times:\n%s", lines, log.String())
	}
}

// guessed is a flow of an address.
func guessed(addr string, port int) Flow {
	return Flow{Transport: "udp", Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))}
}

// TestGuessesInADay counts what a guesser can try in a day, by how he goes about it; each guess is as many as he likes.
func TestGuessesInADay(t *testing.T) {
	for _, c := range []struct {
		name  string
		guess func(g *guesses, i int) bool // whether the i-th was looked at
		most  int
	}{
		{"one port, one user", func(g *guesses, i int) bool { return tried(g, guessed("192.0.2.1", 5060), "alice", true) }, 10 + 2*60*24},
		{"a port for each", func(g *guesses, i int) bool { return tried(g, guessed("192.0.2.1", i%60000), "alice", true) }, 10 + 22*60*24},
		{"nonces of his own", func(g *guesses, i int) bool { return tried(g, guessed("192.0.2.1", i%60000), "alice", false) }, 10 + 2*60*24},
		{"a user for each", func(g *guesses, i int) bool { return tried(g, guessed("192.0.2.1", 5060), fmt.Sprint("u", i), true) }, 100 + 30*60*24},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, looked := newLimits(unlimited, nil).guesses, 0
				for i := range 24 * 3600 {
					if c.guess(g, i) {
						looked++
					}
					time.Sleep(time.Second)
				}
				t.Logf("%d of %d guesses were looked at", looked, 24*3600)
				if looked > c.most+c.most/10 || looked < c.most/3 {
					t.Errorf("want some %d", c.most)
				}
			})
		})
	}
}

// tried is a wrong guess; true if it was looked at.
func tried(g *guesses, f Flow, user string, ours bool) bool {
	if !g.counts(f, user, ours) {
		return false
	}
	g.failed(f, user, ours)
	return true
}

// TestForgedFailures has somebody fail with the owner's address, from every port of it, without ever seeing a nonce that
// is given there: the owner's phone logs in all the same, known or not. An hour after that all is forgotten.
func TestForgedFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(unlimited, nil)
		l.learn(guessed("192.0.2.1", 5060), "alice")
		forge := func() {
			for port := range 65535 {
				tried(l.guesses, guessed("192.0.2.1", port+1), "alice", false)
				tried(l.guesses, guessed("192.0.2.1", port+1), fmt.Sprint("u", port), false)
			}
		}
		for port := 7000; port < 7010; port++ {
			tried(l.guesses, guessed("192.0.2.1", port), "alice", false)
		}
		forge()
		if !l.guesses.counts(guessed("192.0.2.1", 5060), "alice", true) {
			t.Error("the phone that was registered is held up")
		}
		for port := 7000; port < 7010; port++ {
			if !l.guesses.counts(guessed("192.0.2.1", port), "alice", true) {
				t.Errorf("a phone on port %d is held up", port)
			}
		}
		if l.guesses.counts(guessed("192.0.2.1", 6000), "alice", false) {
			t.Error("who has no nonce of ours is looked at")
		}
		time.Sleep(time.Hour)
		if !l.guesses.counts(guessed("192.0.2.1", 6000), "alice", false) {
			t.Error("after an hour it is not forgotten")
		}
	})
}

// TestUnknownWrongAndHeldUpLookAlike compares the answers byte by byte, but for nonces, and the time that is taken to
// judge the request, for a user there is not, a wrong password, and somebody who is held up. The median is of a
// thousand each, taken in turn; each of the first two comes from another address, so that nobody is held up there.
func TestUnknownWrongAndHeldUpLookAlike(t *testing.T) {
	a := start(t)
	at := a.Addrs()["udp"]
	held := dial(t, "udp", "127.0.0.9", at)
	for i := range 20 {
		held.attempt("alice", fmt.Sprint(i))
	}
	kinds := []struct {
		name, user string
		part       time.Duration // of what a wrong password takes, by which it may be off
	}{{"wrong", "alice", 8}, {"unknown", "nobod", 8}, {"held up", "alice", 4}} // no digest: a quarter; a failure that is not counted: an eighth, and half a microsecond
	var texts [3]string
	var took [3][]time.Duration
	for round := range 2000 {
		for n := range kinds {
			i := (n + round) % len(kinds) // whoever comes first finds the cache as the round before has left it
			from, _ := addrOf(held)
			if kinds[i].name != "held up" {
				from = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(1 + i), byte(round >> 8), byte(round)}), 5999)
			}
			l := login{user: kinds[i].user, password: "no", method: "REGISTER"}
			r, err := ParseRequest([]byte(msg{method: "REGISTER", callID: "same", branch: magic + "same", headers: []string{l.header(a.auth.nonce(from.Addr(), time.Now()))}}.String()))
			if err != nil {
				t.Fatal(err)
			}
			r.flow.Remote, r.flow.Local = from, at
			if round == 0 {
				texts[i] = masked(a.reply(r, a.auth.statelessTag(r), a.auth.verify(r).challenge))
			}
			begin := time.Now()
			a.auth.verify(r)
			took[i] = append(took[i], time.Since(begin))
		}
	}
	if got := a.Traffic(); got.Failed < 4000 || got.Unread < 2000 {
		t.Errorf("%d failed and %d unread: not the three kinds", got.Failed, got.Unread)
	}
	for i, k := range kinds {
		slices.Sort(took[i])
		t.Logf("%-8s one in twenty %v, half %v", k.name, took[i][100], took[i][1000])
		if texts[i] != texts[0] {
			t.Errorf("%s:\n%s\n%s:\n%s", kinds[0].name, texts[0], k.name, texts[i])
		}
		if !alike(took[i], took[0], k.part) {
			t.Errorf("%s takes %v, a wrong password %v", k.name, quantiles(took[i]), quantiles(took[0]))
		}
	}
}

// quantiles are the durations that one in twenty, one in ten, … of them, which are sorted, are shorter than. What interrupts a process on a busy machine
// makes the long ones longer, whosever they are, and hardly reaches these.
func quantiles(took []time.Duration) (q []time.Duration) {
	for _, percent := range []int{5, 10, 20, 30, 50} {
		q = append(q, took[len(took)*percent/100])
	}
	return q
}

// alike says whether one of these quantiles, at least, is the same but for a part of it. Work that one does and the other does not moves all of them.
func alike(a, b []time.Duration, part time.Duration) bool {
	p, q := quantiles(a), quantiles(b)
	for i := range p {
		if (p[i] - q[i]).Abs() <= q[i]/part {
			return true
		}
	}
	return false
}

// masked is an answer without what every answer has of its own: the nonce, and the address of who asked.
func masked(answer []byte) string {
	return regexp.MustCompile(`nonce="[^"]*"|received=[0-9.]*|rport=[0-9]*`).ReplaceAllString(string(answer), "")
}
