package sip

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"
)

// What one message may cost (S14): time and memory do not grow faster than its length.
const (
	mostTime  = 10 * time.Millisecond
	mostAlloc = 4 << 20
)

// numbered is format with 0, 1, 2, … until it is as long as a datagram can be.
func numbered(format string) string {
	var b strings.Builder
	for i := 0; b.Len() < 60_000; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// hostile are messages of some 60 KB, each with all that it has in one place.
func hostile() map[string]string {
	fill := func(s string) string { return strings.Repeat(s, 60_000/len(s)) }
	with := func(header string) string {
		return msg{method: "OPTIONS", headers: []string{header}}.String()
	}
	from := func(params string) string {
		return strings.Replace(msg{method: "OPTIONS"}.String(), ";tag=ft", ";tag=ft"+params, 1)
	}
	all := map[string]string{
		"one long value":        with("Subject: " + fill("x")),
		"a value in many lines": with("Subject: x" + fill("\r\n x")),
		"spaces":                with("Subject:" + fill(" ") + "x"),
		"many headers":          with(strings.TrimSuffix(numbered("X%d: y\r\n"), "\r\n")),
		"the same header":       with(strings.TrimSuffix(fill("Subject: y\r\n"), "\r\n")),
		"many parameters":       from(numbered(";p%d")),
		"many URI parameters":   with("Contact: <sip:a@h" + numbered(";p%d=%[1]d") + ">"),
		"many URI headers":      with("Contact: <sip:a@h?a=b" + numbered("&p%d=%[1]d") + ">"),
		"many Contacts":         with("Contact: <sip:a@h>" + fill(",<sip:a@h>")),
		"wildcards":             with("Contact: *" + fill(",*")),
		"commas":                with("Contact: " + fill(",")),
		"Vias in one line":      with("Via: SIP/2.0/UDP h" + fill(",SIP/2.0/UDP h")),
		"commas in Via":         with("Via: SIP/2.0/UDP h" + fill(",")),
		"Via parameters":        with("Via: SIP/2.0/UDP h;branch=z9hG4bKx" + numbered(";p%d")),
		"semicolons":            from(fill(";")),
		"quotes":                with(`Contact: "` + fill(`\"`) + `" <sip:a@h>`),
		"quotes that stay open": with("Contact: " + fill(`"`) + `" <sip:a@h>`),
		"brackets":              with("Contact: " + fill("<") + "sip:a@h>"),
		"escapes":               with("Contact: <sip:" + fill("%41") + "@h>"),
		"extensions":            with("Require: " + numbered("x%d,") + "y"),
		"many Accepts":          with("Accept: " + fill("a/b,") + "c/d"),
		"digest parameters":     with("Authorization: Digest " + numbered("p%d=1,") + `realm="baton-test"`),
		"many Authorizations":   with(strings.TrimSuffix(fill("Authorization: Digest a=b\r\n"), "\r\n")),
		"a long method":         strings.Replace(msg{method: "OPTIONS"}.String(), "OPTIONS", fill("A"), 1),
		"a long URI":            msg{method: "OPTIONS", uri: "sip:" + fill("a") + "@h"}.String(),
		"colons":                with("Contact: <sip:a@" + fill(":") + ">"),
		"line ends":             "OPTIONS sip:a SIP/2.0\r\n" + fill("\r\n"),
		"no line end":           fill("A"),
	}
	multi := func(body string) string {
		m := msg{method: "INVITE", body: body}.String()
		return strings.Replace(m, "application/sdp", `multipart/mixed;boundary=b`, 1)
	}
	all["parts"] = multi(fill("--b\r\n\r\nx\r\n") + "--b--\r\n")
	all["headers of a part"] = multi("--b\r\n" + numbered("X%d: y\r\n") + "\r\n--b--\r\n")
	all["half boundaries"] = multi(fill("\r\n--") + "b")
	return all
}

// TestHostileMessages: no shape of a message, before anybody has logged in, costs more than its length.
func TestHostileMessages(t *testing.T) {
	a, err := NewAgent(Options{Secret: []byte("s"), Realm: testRealm, Credentials: logins{"alice": "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	limit := mostTime
	if raced {
		limit *= 5
	}
	for name, text := range hostile() {
		took, allocated := cost(func() { a.receive([]byte(text), Flow{Transport: "udp"}) })
		if took > limit || allocated > mostAlloc {
			t.Errorf("%s (%d bytes): %v, %d KiB", name, len(text), took, allocated>>10)
		}
		t.Logf("%-24s %8v %6d KiB", name, took.Round(time.Microsecond), allocated>>10)
	}
}

// cost is what f takes at best of five times: the machine has other work too.
func cost(f func()) (took time.Duration, allocated uint64) {
	took = time.Hour
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		f()
		took = min(took, time.Since(begin))
		runtime.ReadMemStats(&after)
		allocated = after.TotalAlloc - before.TotalAlloc
	}
	return took, allocated
}

// TestBorders: what is exactly at a limit is served, which for a stranger means challenged; one more is refused.
func TestBorders(t *testing.T) {
	a := start(t)
	lines := func(n int, line string) []string { return strings.Split(strings.Repeat(line+"\n", n-1)+line, "\n") }
	plain := strings.Count(msg{method: "OPTIONS"}.String(), "\r\n") - 2 // headers of a message without any of the test's
	for _, c := range []struct {
		name  string
		limit int
		make  func(n int) msg
	}{
		{"headers", maxHeaders, func(n int) msg { return msg{headers: lines(n-plain, "Subject: x")[:n-plain]} }},
		{"Vias in lines", maxVias, func(n int) msg { return msg{headers: lines(n-1, "Via: SIP/2.0/UDP h;branch=z9hG4bK1")} }},
		{"Vias in one line", maxVias, func(n int) msg {
			return msg{via: "SIP/2.0/UDP h;branch=z9hG4bK1" + strings.Repeat(",SIP/2.0/UDP h", n-1)}
		}},
		{"Routes in one line", maxList, func(n int) msg {
			return msg{headers: []string{"Route: <sip:h;lr>" + strings.Repeat(",<sip:h;lr>", n-1)}}
		}},
		{"parameters of From", maxParams, func(n int) msg { return msg{fromTag: "x" + params(n-1)} }},
		{"parameters of Via", maxParams, func(n int) msg { return msg{via: "SIP/2.0/UDP h;branch=z9hG4bK1" + params(n-1)} }},
	} {
		for over, want := range []int{401, 400} {
			w := dial(t, "udp", "", a.Addrs()["udp"])
			m := c.make(c.limit + over)
			m.method = "OPTIONS"
			if c.name == "headers" {
				m.headers[0] = "X-First: x" // Subject may stand twice, that is not what is tried
			}
			w.send(m.String())
			if got := w.readStatus(); got != want {
				t.Errorf("%d %s: %d, want %d", c.limit+over, c.name, got, want)
			}
		}
	}
}

func params(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ";p%d", i)
	}
	return b.String()
}

// readStatus waits for an answer and gives its status: what is refused cannot always be parsed.
func (w *wire) readStatus() int {
	w.t.Helper()
	data, err := w.read(5 * time.Second)
	if err != nil {
		w.t.Fatalf("no answer: %v", err)
	}
	return statusOf(w.t, data)
}

// TestBorderOfAMessage: a message of 64 KiB is served; one that is longer, in its body or in its headers, is refused before it
// is there, and the connection is closed, because nobody knows where the next one begins.
func TestBorderOfAMessage(t *testing.T) {
	a := start(t)
	sized := func(n int) string {
		m := msg{method: "OPTIONS", transport: "TCP", body: "x"}
		m.branch = magic + "border"
		return msg{method: "OPTIONS", transport: "TCP", branch: m.branch, body: strings.Repeat("x", n-len(m.String())-len("65000")+1+len("1"))}.String()
	}
	exact := sized(MaxMessage)
	if len(exact) != MaxMessage {
		t.Fatalf("the test has made %d bytes", len(exact))
	}
	w := dial(t, "tcp", "", a.Addrs()["tcp"])
	w.send(exact)
	w.expect(401)
	w.send(probe("TCP"))
	w.expect(401)

	head, _, _ := strings.Cut(sized(MaxMessage+1), "\r\n\r\n")
	long := strings.Replace(msg{method: "OPTIONS", transport: "TCP"}.String(), "Content-Length", "Subject: "+strings.Repeat("x", 2*MaxMessage)+"\r\nContent-Length", 1)
	for name, text := range map[string]string{"body": head + "\r\n\r\n", "headers": long[:MaxMessage+4096]} {
		w := dial(t, "tcp", "", a.Addrs()["tcp"])
		w.send(text)
		if got := w.readStatus(); got != 513 {
			t.Errorf("too long by its %s: %d, want 513", name, got)
		}
		if _, err := w.read(5 * time.Second); err == nil || err == errQuiet {
			t.Errorf("too long by its %s: the connection stays open (%v)", name, err)
		}
	}
}
