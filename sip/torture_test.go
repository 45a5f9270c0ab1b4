package sip

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"baton/test/torture"
)

// cases are the messages of RFC 4475 and RFC 5118, where a checkout has them beside it.
func cases(t testing.TB) []torture.Case {
	t.Helper()
	all, err := torture.Cases()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Skip("the torture messages are not here")
	}
	return all
}

// probe is a request whose answer shows that everything sent before it has been dealt with.
func probe(transport string) string {
	return msg{method: "OPTIONS", callID: "probe", transport: transport}.String()
}

// TestTortureUDP has a stranger send each message to an agent that knows nobody.
func TestTortureUDP(t *testing.T) {
	a := start(t)
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			if !c.Known() {
				t.Fatal("the table does not have this message")
			}
			w := dial(t, "udp", "", a.Addrs()["udp"])
			w.send(string(c.Data))
			if got := answers(t, w); !slices.Equal(got, c.Datagram) {
				t.Errorf("answers %v, want %v", got, c.Datagram)
			}
		})
	}
}

// answers sends the probe until it is answered, and gives the codes that came beside it.
func answers(t testing.TB, w *wire) []int {
	t.Helper()
	time.Sleep(5 * time.Millisecond) // the queues of two Call-IDs run side by side
	w.send(probe("UDP"))
	var codes []int
	for {
		data, err := w.read(5 * time.Second)
		if err != nil {
			t.Fatalf("the agent does not answer any more: %v", err)
		}
		if bytes.Contains(data, []byte("Call-ID: probe")) {
			return codes
		}
		codes = append(codes, statusOf(t, data))
	}
}

// statusOf reads the status line alone: an answer to a broken request repeats what was broken.
func statusOf(t testing.TB, data []byte) int {
	t.Helper()
	var code int
	if _, err := fmt.Sscanf(string(data), "SIP/2.0 %d", &code); err != nil {
		t.Fatalf("no status line: %q", data)
	}
	return code
}

func TestTortureTCP(t *testing.T) {
	a := start(t)
	for _, c := range cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			w := dial(t, "tcp", "", a.Addrs()["tcp"])
			w.send(string(c.Data))
			var codes []int
			for range c.Stream {
				got, err := w.read(5 * time.Second)
				if err != nil {
					t.Fatalf("after %v: %v", codes, err)
				}
				codes = append(codes, statusOf(t, got))
			}
			slices.Sort(codes) // what is refused at once overtakes what is queued
			if !slices.Equal(codes, c.Stream) {
				t.Fatalf("answers %v, want %v", codes, c.Stream)
			}
			switch c.After {
			case torture.Closed:
				if _, err := w.read(5 * time.Second); err == nil || err == errQuiet {
					t.Errorf("the connection stays open (%v)", err)
				}
			case torture.Waits:
				w.quiet(50 * time.Millisecond)
			default:
				w.send(probe("TCP"))
				if r := w.response(); r.CallID() != "probe" {
					t.Errorf("after the message: %d for %s", r.code, r.CallID())
				}
			}
		})
	}
}

func TestTortureRepeatedIsOneAnswerEach(t *testing.T) {
	a := start(t)
	for _, c := range cases(t) {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		for range 5 {
			w.send(string(c.Data))
		}
		if got := len(answers(t, w)); got > 5 {
			t.Errorf("%s: %d answers to 5 messages", c.Name, got)
		}
	}
	if n := a.tables(); n != 0 {
		t.Errorf("%d entries are remembered of requests without a password", n)
	}
}

func TestTortureValues(t *testing.T) {
	all := cases(t)
	parseOne := func(name string) *Request {
		i := slices.IndexFunc(all, func(c torture.Case) bool { return c.Name == name })
		r, err := ParseRequest(all[i].Data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return r
	}
	if r := parseOne("wsinv"); r.ToTag() != "1918181833n" || r.FromTag() != "98asjd8" || len(r.Headers("Via")) != 3 ||
		r.CSeq() != 9 || r.From().Name != `J Rosenberg \"` {
		t.Errorf("wsinv: to-tag %q from-tag %q vias %q cseq %d name %q", r.ToTag(), r.FromTag(), r.Headers("Via"), r.CSeq(), r.From().Name)
	}
	if r := parseOne("semiuri"); r.RequestURI().User != "user;par=u@example.net" || len(r.RequestURI().Params) != 0 {
		t.Errorf("semiuri: %+v", r.RequestURI())
	}
	if r := parseOne("esc01"); r.RequestURI().User != "sips:user@example.com" || r.RequestURI().Scheme != "sip" ||
		r.RequestURI().String() != "sip:sips%3Auser%40example.com@example.net" {
		t.Errorf("esc01: %+v", r.RequestURI())
	}
	if c := parseOne("escnull").Contacts(); len(c) != 2 || c[0].URI.User != "\x00" || c[1].URI.User != "\x00\x00" {
		t.Errorf("escnull: %+v", c)
	}
	if r := parseOne("esc02"); len(r.Contacts()) != 2 || r.Method() != "RE%47IST%45R" {
		t.Errorf("esc02: %s %v", r.Method(), r.Contacts())
	}
	c1, _ := parseOne("cparam01").Contact()
	c2, _ := parseOne("cparam02").Contact()
	if _, ok := c1.Params.Get("unknownparam"); !ok || len(c1.URI.Params) != 0 {
		t.Errorf("cparam01: %+v", c1)
	}
	if _, ok := c2.URI.Params.Get("unknownparam"); !ok || len(c2.Params) != 0 {
		t.Errorf("cparam02: %+v", c2)
	}
	if u := parseOne("port-ambiguous").RequestURI(); u.Port != 0 || u.Host != "2001:db8::10:5070" {
		t.Errorf("port-ambiguous: %+v", u)
	}
	if u := parseOne("port-unambiguous").RequestURI(); u.Port != 5070 || u.Host != "2001:db8::10" {
		t.Errorf("port-unambiguous: %+v", u)
	}
	if r := parseOne("dblreq"); r.Method() != "REGISTER" || len(r.Body().Data) != 0 {
		t.Errorf("dblreq: %s with a body of %d", r.Method(), len(r.Body().Data))
	}
}
