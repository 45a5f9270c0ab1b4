package sip

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tortureDir holds the messages of RFC 4475 and RFC 5118, where a checkout has them beside it.
const tortureDir = "../../shared/torture"

// torture says what an agent that knows nobody answers to each message; 0 is nothing. The answers to good requests are
// 401 (everybody is challenged), 405 (a method nobody has heard of) or 481 (in a dialog that is not there).
var torture = map[string]int{
	"wsinv": 481, "intmeth": 405, "esc01": 401, "escnull": 401, "esc02": 405, "lwsdisp": 401, "longreq": 401,
	"dblreq": 401, "semiuri": 401, "transports": 401, "mpart01": 401, "unreason": 0, "noreason": 0,
	"badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "scalarlg": 0, "quotbal": 400, "ltgtruri": 400,
	"lwsruri": 400, "lwsstart": 400, "trws": 400, "escruri": 400, "baddate": 401, "regbadct": 400, "badaspec": 400,
	"baddn": 400, "badvers": 505, "mismatch01": 400, "mismatch02": 400, "bigcode": 0, "badbranch": 400, "insuf": 400,
	"unkscm": 416, "novelsc": 416, "unksm2": 400, "bext01": 420, "invut": 415, "regaut01": 401, "multi01": 400,
	"mcl01": 400, "bcast": 0, "zeromf": 401, "cparam01": 401, "cparam02": 401, "regescrt": 401, "sdp01": 406,
	"inv2543": 400, "baddn-terminated": 400, "test": 400,
	"5118-ipv4-mapped-ipv6-clfixed": 401, "5118-ipv6-in-sdp-clfixed": 401, "5118-mult-ip-in-sdp-clfixed": 401,
	"ipv6-good": 401, "ipv6-bad": 400, "port-ambiguous": 401, "port-unambiguous": 401,
	"via-received-param-with-delim": 481, "via-received-param-no-delim": 401, "ipv6-in-sdp": 401,
	"mult-ip-in-header": 481, "mult-ip-in-sdp": 401, "ipv4-mapped-ipv6": 401, "ipv6-bug-abnf-3-colons": 400,
	"ipv6-correct-abnf-2-colons": 401,
}

func tortureFiles(t testing.TB) map[string][]byte {
	files, _ := filepath.Glob(filepath.Join(tortureDir, "*", "*.dat"))
	if len(files) == 0 {
		t.Skip("the torture messages are not here")
	}
	all := make(map[string][]byte)
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".dat")] = data
	}
	return all
}

// probe is a request whose answer shows that everything sent before it has been dealt with.
func probe(transport string) string {
	return msg{method: "OPTIONS", callID: "probe", transport: transport}.String()
}

func TestTortureUDP(t *testing.T) {
	a := start(t)
	for name, data := range tortureFiles(t) {
		t.Run(name, func(t *testing.T) {
			want, ok := torture[name]
			if !ok {
				t.Fatal("the table does not have this message")
			}
			w := dial(t, "udp", "", a.Addrs()["udp"])
			w.send(string(data))
			if got := answers(t, w); fmt.Sprint(got) != fmt.Sprint(list(want)) {
				t.Errorf("answers %v, want %v", got, list(want))
			}
		})
	}
}

func list(code int) []int {
	if code == 0 {
		return nil
	}
	return []int{code}
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

// framed says what differs on a stream: messages whose end cannot be found are refused and the connection is closed;
// one that is shorter than it says is waited for.
var framed = map[string]struct {
	codes []int
	close bool
}{
	"dblreq": {[]int{400, 401}, true}, "ncl": {[]int{400}, true}, "mcl01": {[]int{400}, true},
	"inv2543": {[]int{400}, true}, "clerr": {nil, false}, "baddn": {nil, false},
	// Their Content-Length counts line ends as one octet: what is left of the body is no message.
	"ipv4-mapped-ipv6": {[]int{401}, true}, "ipv6-in-sdp": {[]int{401}, true}, "mult-ip-in-sdp": {[]int{401}, true},
}

func TestTortureTCP(t *testing.T) {
	a := start(t)
	for name, data := range tortureFiles(t) {
		t.Run(name, func(t *testing.T) {
			w := dial(t, "tcp", "", a.Addrs()["tcp"])
			w.send(string(data))
			want, special := framed[name]
			if !special {
				want.codes = list(torture[name])
			}
			var codes []int
			for range want.codes {
				got, err := w.read(5 * time.Second)
				if err != nil {
					t.Fatalf("after %v: %v", codes, err)
				}
				codes = append(codes, statusOf(t, got))
			}
			slices.Sort(codes) // what is refused at once overtakes what is queued
			if !slices.Equal(codes, want.codes) {
				t.Fatalf("answers %v, want %v", codes, want.codes)
			}
			switch {
			case want.close:
				if _, err := w.read(5 * time.Second); err == nil || err == errQuiet {
					t.Errorf("the connection stays open (%v)", err)
				}
			case special && len(want.codes) == 0:
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
	for name, data := range tortureFiles(t) {
		w := dial(t, "udp", "", a.Addrs()["udp"])
		for range 5 {
			w.send(string(data))
		}
		if got := len(answers(t, w)); got > 5 {
			t.Errorf("%s: %d answers to 5 messages", name, got)
		}
	}
	if n := a.tables(); n != 0 {
		t.Errorf("%d entries are remembered of requests without a password", n)
	}
}

func TestTortureValues(t *testing.T) {
	files := tortureFiles(t)
	parseOne := func(name string) *Request {
		r, err := ParseRequest(files[name])
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
