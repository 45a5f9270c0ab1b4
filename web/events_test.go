package web

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/journal"
	"baton/registrar"
)

// follower reads an event stream.
type follower struct {
	t      *testing.T
	resp   *http.Response
	events chan [2]string // name, data; comments have the name ":"
	over   chan struct{}
}

func (p *portal) follow(token string) *follower {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), "GET", p.srv.URL+"/api/v1/me/events", nil)
	must(p.t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := p.srv.Client().Do(r)
	must(p.t, err)
	f := &follower{p.t, resp, make(chan [2]string, 100), make(chan struct{})}
	p.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		p.t.Fatalf("events: %d %v", resp.StatusCode, resp.Header)
	}
	go f.read()
	return f
}

func (f *follower) read() {
	defer close(f.over)
	lines, name := bufio.NewReader(f.resp.Body), ""
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, ":"):
			f.events <- [2]string{":", line}
		case strings.HasPrefix(line, "event: "):
			name = strings.TrimPrefix(line, "event: ")
		case strings.HasPrefix(line, "data: "):
			f.events <- [2]string{name, strings.TrimPrefix(line, "data: ")}
		case strings.HasPrefix(line, "retry: "):
			f.events <- [2]string{"retry", line}
		}
	}
}

// next waits for the next event of a name whose data fits.
func (f *follower) next(name, want string) string {
	f.t.Helper()
	deadline := time.After(10 * time.Second)
	var seen []string
	for {
		select {
		case e := <-f.events:
			if e[0] == name && strings.Contains(e[1], want) {
				return e[1]
			}
			seen = append(seen, fmt.Sprintf("%.100s", e))
		case <-deadline:
			f.t.Fatalf("no event %s with %s; there were %q", name, want, seen)
		}
	}
}

func (f *follower) ends(why string) {
	f.t.Helper()
	select {
	case <-f.over:
	case <-time.After(10 * time.Second):
		f.t.Fatalf("the stream goes on: %s", why)
	}
}

// TestEvents: the lists come at once, and again when something of them has changed, and not for what is others'.
func TestEvents(t *testing.T) {
	p := newPortal(t)
	token := p.signIn().Token
	p.tail.Append(journal.Entry{Kind: journal.CallStarted, User: "alice", Peer: "bob", Call: "early"})
	f := p.follow(token)
	f.next("retry", "500")
	f.next("calls", "[]")
	f.next("devices", "desk-of-alice")
	f.next("history", "[]")
	p.calls.set("alice", talk())
	if data := f.next("calls", "k3f9aaaa"); strings.Contains(data, "desk-of-bob") || strings.Contains(data, `"bob"`) {
		t.Errorf("alice is told %s", data)
	}
	must(t, p.reg.Rename("bob", "1", "hall-of-bob"))
	must(t, p.reg.Rename("alice", "1", "kitchen"))
	if data := f.next("devices", "kitchen"); strings.Contains(data, "bob") {
		t.Errorf("alice is told %s", data)
	}
	p.tail.Append(journal.Entry{Kind: journal.CallMissed, User: "bob", Peer: "carol", Call: "none"})
	p.tail.Append(journal.Entry{Kind: journal.CallEnded, User: "alice", Peer: "bob", Call: "early"})
	var past []Past
	if err := json.Unmarshal([]byte(f.next("history", "early")), &past); err != nil || len(past) != 1 || past[0].Peer != "102" || past[0].Kind != "out" {
		t.Errorf("history %+v, %v", past, err)
	}
	for _, e := range [][2]string{{"alice", "zoe"}, {"bob", "alice"}} {
		p.tail.Append(journal.Entry{Kind: journal.CallStarted, User: e[0], Peer: e[1], Call: "late" + e[0]})
		p.tail.Append(journal.Entry{Kind: journal.CallMissed, User: e[0], Peer: e[1], Call: "late" + e[0]})
		p.tail.Append(journal.Entry{Kind: journal.CallEnded, User: e[0], Peer: e[1], Call: "late" + e[0]})
	}
	f.next("history", `"kind":"missed","peer":"102"`)
	if time.Sleep(3 * eventPause); len(f.events) > 1 { // one of the two histories may be left
		t.Errorf("%d events for nothing", len(f.events))
	}
}

// TestEventsOnce: an entry that was read when the stream began and comes again with the new ones counts once.
func TestEventsOnce(t *testing.T) {
	log := episodes("0 call-started c1 alice bob\n1 call-answered c1 alice bob\n4 call-ended c1 alice bob")
	s := &eventStream{me: person{User: registrar.User{Name: "alice"}}, past: &chronicle{user: "alice"}, given: map[string]bool{}}
	for _, e := range log[:2] {
		s.past.take(e)
		s.given[keyOf(e)] = true
	}
	for _, e := range log {
		e.Time = e.Time.Local()
		s.note(e)
	}
	if len(s.past.all) != 1 || !s.newPast || s.past.all[0].Duration != 3 {
		t.Errorf("%d calls, changed %v", len(s.past.all), s.newPast)
	}
}

// TestEventsPace: however much happens, lists come ten times a second at most, and the last one is of the last change.
func TestEventsPace(t *testing.T) {
	p := newPortal(t)
	f := p.follow(p.signIn().Token)
	f.next("calls", "[]")
	began := time.Now()
	for i := 0; time.Since(began) < 600*time.Millisecond; i++ {
		c := talk()
		c.ID = fmt.Sprintf("id%d", i)
		p.calls.set("alice", c)
		time.Sleep(time.Millisecond)
	}
	last := talk()
	last.ID = "lastone"
	p.calls.set("alice", last)
	n := 0
	for deadline := time.After(10 * time.Second); ; {
		select {
		case e := <-f.events:
			if e[0] != "calls" {
				continue
			}
			if n++; !strings.Contains(e[1], "lastone") {
				continue
			}
		case <-deadline:
			t.Fatal("the last change is not told")
		}
		break
	}
	if most := int(time.Since(began)/(100*time.Millisecond)) + 2; n > most {
		t.Errorf("%d lists in %v", n, time.Since(began))
	}
}

// TestEventsEnd: a stream ends with its token, its user, and the node's side of the connection is left when the client goes.
func TestEventsEnd(t *testing.T) {
	p := newPortal(t)
	for name, end := range map[string]func(Session) error{
		"signed out": func(s Session) error {
			if code, _, body := p.ask("DELETE", "/api/v1/session", s.Token, ""); code != 204 {
				return errors.New(body)
			}
			return nil
		},
		"password": func(Session) error { _, err := p.reg.SetPassword("alice", "right"); return err },
		"revoked":  func(Session) error { _, err := p.reg.RevokeTokens("alice"); return err },
		"removed":  func(Session) error { return p.reg.RemoveUser("alice") },
	} {
		if name == "removed" {
			continue // last
		}
		s := p.signIn()
		f := p.follow(s.Token)
		f.next("history", "[]")
		must(t, end(s))
		f.ends(name)
	}
	f := p.follow(p.signIn().Token)
	f.next("history", "[]")
	f.resp.Body.Close()
	wait(t, "the stream to be left", func() bool { return p.api.streams.count() == 0 })
	f = p.follow(p.signIn().Token)
	must(t, p.reg.RemoveUser("alice"))
	f.ends("the user is gone")
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// TestEventsCrowd: a user has many streams, and not more.
func TestEventsCrowd(t *testing.T) {
	p := newPortal(t)
	token := p.signIn().Token
	var all []*follower
	for range perUser {
		all = append(all, p.follow(token))
	}
	if code, h, body := p.ask("GET", "/api/v1/me/events", token, ""); code != 429 || h.Get("Retry-After") != "5" {
		t.Errorf("one more: %d %s", code, body)
	}
	all[0].resp.Body.Close()
	wait(t, "a stream to be left", func() bool { return p.api.streams.count() == perUser-1 })
	p.follow(token).next("history", "[]")
}

// TestEventsSlow: a client that takes nothing is dropped, and nobody waits for it meanwhile.
func TestEventsSlow(t *testing.T) {
	p := newPortal(t)
	p.api.patience = 500 * time.Millisecond
	token := p.signIn().Token
	c, err := net.Dial("tcp", p.plain())
	must(t, err)
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(c, "GET /api/v1/me/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	wait(t, "the stream to begin", func() bool { return p.api.streams.count() == 1 })
	big := talk()
	for range 5000 {
		big.Moves = append(big.Moves, call.MoveInfo{User: "alice", From: "a device with a long name", To: "desk-of-alice", How: "pull"})
	}
	for i := 0; p.api.streams.count() > 0; i++ {
		if i > 1000 {
			t.Fatal("a client that reads nothing is kept")
		}
		began := time.Now()
		big.ID = fmt.Sprint("id", i)
		p.calls.set("alice", big)
		for range 100 {
			p.tail.Append(journal.Entry{Kind: journal.CallMoved, User: "alice", Call: big.ID})
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("somebody waited %v for it", took)
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.follow(token).next("calls", "id")
}

// plain is a listener without TLS for the same handler.
func (p *portal) plain() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(p.t, err)
	srv := &http.Server{Handler: p.api, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(4096)
		return ctx
	}}
	go func() { _ = srv.Serve(l) }()
	p.t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// episodes is a log as the call package writes it, in lines of "seconds kind call user peer from into".
func episodes(lines string) []journal.Entry {
	base := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	var all []journal.Entry
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		w := strings.Fields(line)
		for i := range w {
			if w[i] == "-" {
				w[i] = ""
			}
		}
		var at int
		_, _ = fmt.Sscan(w[0], &at)
		e := journal.Entry{Time: base.Add(time.Duration(at) * time.Second), Kind: journal.Kind(w[1]), Call: w[2], User: w[3], Peer: w[4]}
		if len(w) > 5 {
			e.From = w[5]
		}
		if len(w) > 6 {
			e.Data = map[string]string{journal.Into: w[6]}
		}
		all = append(all, e)
	}
	return all
}

// TestChronicle has what each of some users sees of calls that go every way, as the log has them.
func TestChronicle(t *testing.T) {
	simple := `
0 call-started c1 alice bob
5 call-answered c1 alice bob
65 call-ended c1 alice bob`
	forwarded := `
0 call-started c1 alice bob
9 call-forwarded c1 alice carol bob
12 call-answered c1 alice carol
20 call-ended c1 alice carol`
	for _, tt := range []struct{ name, log, user, want string }{
		{"answered, the caller", simple, "alice", "0 out bob 60"},
		{"answered, the called", simple, "bob", "0 in alice 60"},
		{"answered, others", simple, "carol", ""},
		{"not over yet", strings.Join(strings.Split(simple, "\n")[:3], "\n"), "bob", ""},
		{"missed", "0 call-started c1 alice bob\n30 call-missed c1 alice bob\n30 call-ended c1 alice bob", "bob", "0 missed alice 0"},
		{"nobody answered", "0 call-started c1 alice bob\n30 call-missed c1 alice bob\n30 call-ended c1 alice bob", "alice", "0 out bob 0 not answered"},
		{"forwarded, the caller", forwarded, "alice", "0 out bob 8"},
		{"forwarded, by whom", forwarded, "bob", "0 in alice 0 forwarded to carol"},
		{"forwarded, to whom", forwarded, "carol", "9 in alice 8"},
		{"forwarded and missed by both", `
0 call-started c1 alice bob
9 call-forwarded c1 alice carol bob
30 call-missed c1 alice bob
30 call-missed c1 alice carol
30 call-ended c1 alice carol`, "bob", "0 missed alice 0 forwarded to carol"},
		{"picked up, by whom", `
0 call-started c1 alice bob
4 call-picked-up c1 carol alice bob
4 call-answered c1 alice carol
10 call-ended c1 alice carol`, "carol", "4 in alice 6"},
		{"picked up, for whom", `
0 call-started c1 alice bob
4 call-picked-up c1 carol alice bob
4 call-answered c1 alice carol
10 call-ended c1 alice carol`, "bob", "0 in alice 0 answered by carol"},
		{"transferred, by whom", simple[:len(simple)-len("\n65 call-ended c1 alice bob")] + `
15 call-moved c1 alice bob desk carol
40 call-ended c1 carol bob`, "alice", "0 out bob 10 transferred to carol"},
		{"transferred, to whom", simple[:len(simple)-len("\n65 call-ended c1 alice bob")] + `
15 call-moved c1 alice bob desk carol
40 call-ended c1 carol bob`, "carol", "15 in bob 25"},
		{"transferred, who", simple[:len(simple)-len("\n65 call-ended c1 alice bob")] + `
15 call-moved c1 alice bob desk carol
40 call-ended c1 carol bob`, "bob", "0 in alice 35"},
		{"transferred away and back", simple[:len(simple)-len("\n65 call-ended c1 alice bob")] + `
15 call-moved c1 alice bob desk carol
25 call-moved c1 carol bob hall alice
40 call-ended c1 alice bob`, "alice", "25 in bob 15; 0 out bob 10 transferred to carol"},
		{"moved to an own device", simple[:len(simple)-len("\n65 call-ended c1 alice bob")] + `
15 call-moved c1 alice bob desk
40 call-ended c1 alice bob`, "alice", "0 out bob 35"},
		{"to an own device", "0 call-started c1 alice alice\n2 call-answered c1 alice alice\n9 call-ended c1 alice alice", "alice", "0 out alice 7"},
		{"two at once", simple + "\n30 call-started c2 carol alice\n50 call-missed c2 carol alice\n50 call-ended c2 carol alice", "alice", "30 missed carol 0; 0 out bob 60"},
		{"begun before the log", "5 call-answered c1 alice bob\n65 call-ended c1 alice bob\n65 call-missed c9 alice bob", "bob", ""},
	} {
		c := &chronicle{user: tt.user}
		log := episodes(tt.log)
		slices.SortStableFunc(log, func(a, b journal.Entry) int { return a.Time.Compare(b.Time) })
		base := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
		changed := false
		for _, e := range log {
			if (journal.Query{User: tt.user, Kinds: pastKinds}).Matches(e) {
				changed = c.take(e) || changed
			}
		}
		var got []string
		for _, p := range c.list(10, time.Time{}, (&UserAPI{UserOptions: UserOptions{Registrar: nobody{}}}).showPast) {
			got = append(got, strings.TrimSpace(fmt.Sprint(p.Time.Sub(base).Seconds(), " ", p.Kind, " ", p.Peer, " ", p.Duration, " ", p.Text)))
		}
		if strings.Join(got, "; ") != tt.want || changed != (tt.want != "") {
			t.Errorf("%s: %q (changed %v), want %q", tt.name, got, changed, tt.want)
		}
	}
}

// nobody knows no user.
type nobody struct{ Accounts }

func (nobody) User(string) (u registrar.User, ok bool) { return u, false }

// TestHistory: a long history is read in pages, each call once, those that are longer than a page too, whatever others do.
func TestHistory(t *testing.T) {
	p := newPortal(t)
	token := p.signIn().Token
	base := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	put := func(minute int, kind journal.Kind, user, peer, id string) {
		p.store.Append(journal.Entry{Time: base.Add(time.Duration(minute) * time.Minute), Kind: kind, User: user, Peer: peer, Call: id})
	}
	const n = 130
	for i := range n {
		id := fmt.Sprint("c", i)
		put(10*i, journal.CallStarted, "alice", "bob", id)
		put(10*i+1, journal.CallAnswered, "alice", "bob", id)
		end := 10*i + 2
		if i%7 == 0 {
			end = 10*i + 500 // over many pages
		}
		put(end, journal.CallEnded, "alice", "bob", id)
		for range 20 {
			put(10*i+3, journal.CallMoved, "bob", "carol", "other")
		}
	}
	seen, before := map[string]Past{}, ""
	for pages := 0; ; pages++ {
		path := "/api/v1/me/history?n=20"
		if before != "" {
			path += "&before=" + before
		}
		code, _, body := p.ask("GET", path, token, "")
		var page []Past
		if err := json.Unmarshal([]byte(body), &page); err != nil || code != 200 {
			t.Fatal(code, body, err)
		}
		for _, one := range page {
			if _, twice := seen[one.Call]; twice {
				t.Errorf("%s comes twice", one.Call)
			}
			seen[one.Call] = one
		}
		if len(page) < 20 {
			if pages != n/20 {
				t.Errorf("%d pages", pages)
			}
			break
		}
		before = page[19].Time.Format(time.RFC3339Nano)
	}
	if len(seen) != n {
		t.Errorf("%d of %d calls are found", len(seen), n)
	}
	if d := seen["c7"].Duration; d != 499*60 {
		t.Errorf("a long call took %v", d)
	}
	if one := seen["c1"]; one.Kind != "out" || one.Peer != "102" || one.Name != "BOB" || one.Duration != 60 {
		t.Errorf("%+v", one)
	}
}
