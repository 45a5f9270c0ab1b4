package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a name server on loopback, over UDP and TCP.
type zone struct {
	at      string
	queries atomic.Int32
	silent  atomic.Bool
	records []dns.RR
}

func newZone(t *testing.T, lines ...string) *zone {
	t.Helper()
	z := &zone{}
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			t.Fatal(err)
		}
		z.records = append(z.records, rr)
	}
	udp, tcp := onePort(t)
	z.at = udp.LocalAddr().String()
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: z}, {Listener: tcp, Handler: z}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() { _ = s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return z
}

// onePort opens a port of loopback that is free over UDP and TCP.
func onePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if tcp, err := net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			return udp, tcp
		}
		_ = udp.Close()
	}
	t.Fatal("no port is free over both")
	return nil, nil
}

// ServeDNS answers as an authoritative server does: records, a CNAME, nothing, or that the name is not there.
func (z *zone) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	z.queries.Add(1)
	if z.silent.Load() {
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	name, exists := strings.ToLower(q.Question[0].Name), false
	if strings.HasPrefix(name, "broken.") {
		m.Rcode = dns.RcodeServerFailure
	}
	for _, rr := range z.records {
		h := rr.Header()
		if h.Name != name {
			continue
		}
		if exists = true; h.Rrtype == q.Question[0].Qtype || h.Rrtype == dns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	if !exists && m.Rcode == 0 {
		m.Rcode = dns.RcodeNameError
	}
	if _, datagram := w.RemoteAddr().(*net.UDPAddr); datagram {
		m.Truncate(1232)
	}
	_ = w.WriteMsg(m)
}

func resolve(t *testing.T, r *Resolver, uri string) (string, error) {
	t.Helper()
	u, err := ParseURI(uri)
	if err != nil {
		t.Fatal(err)
	}
	hops, err := r.Resolve(t.Context(), u)
	return strings.Trim(fmt.Sprint(hops), "[]"), err
}

// RFC 3263 §4, with one row per rule.
func TestResolve(t *testing.T) {
	z := newZone(t,
		`plain.test. 60 A 192.0.2.1`, `two.test. 60 A 192.0.2.1`, `two.test. 60 A 192.0.2.2`, `two.test. 60 AAAA 2001:db8::1`,
		`alias.test. 60 CNAME further.test.`, `further.test. 60 CNAME plain.test.`,
		`loop.test. 60 CNAME pool.test.`, `pool.test. 60 CNAME loop.test.`,
		`_sip._udp.srv.test. 60 SRV 20 0 5090 two.test.`, `_sip._udp.srv.test. 60 SRV 10 0 5080 plain.test.`,
		`_sip._tcp.srv.test. 60 SRV 10 0 5070 plain.test.`, `_sips._tcp.srv.test. 60 SRV 10 0 5071 plain.test.`, `srv.test. 60 A 192.0.2.99`,
		`_sip._udp.lame.test. 60 SRV 10 0 5060 gone.test.`, `_sip._udp.lame.test. 60 SRV 20 0 5060 plain.test.`,
		`_sip._udp.cname.test. 60 SRV 10 0 5060 alias.test.`, `_sip._udp.none.test. 60 SRV 0 0 0 .`, `none.test. 60 A 192.0.2.9`,
		`_sip._udp.dead.test. 60 SRV 0 0 5060 gone.test.`, `dead.test. 60 A 192.0.2.9`,
		`naptr.test. 60 NAPTR 20 50 "s" "SIP+D2U" "" _sip._udp.srv.test.`, `naptr.test. 60 NAPTR 10 50 "s" "SIP+D2T" "" _sip._tcp.srv.test.`,
		`naptr.test. 60 NAPTR 10 60 "s" "SIPS+D2T" "" _sips._tcp.srv.test.`, `naptr.test. 60 NAPTR 5 50 "u" "E2U+sip" "!^.*$!sip:x@y!" .`,
		`naptr.test. 60 NAPTR 1 1 "s" "SIP+D2S" "" _sip._sctp.srv.test.`, `odd.test. 60 NAPTR 1 1 "s" "SIP+D2S" "" _sip._sctp.srv.test.`, `odd.test. 60 A 192.0.2.4`,
	)
	r := NewResolver(z.at)
	for uri, want := range map[string]string{
		"sip:a@192.0.2.7":                    "udp:192.0.2.7:5060",
		"sip:a@192.0.2.7:99;transport=tcp":   "tcp:192.0.2.7:99",
		"sips:a@192.0.2.7":                   "tls:192.0.2.7:5061",
		"sips:a@[2001:db8::7];transport=tcp": "tls:[2001:db8::7]:5061",
		"sip:a@[::ffff:192.0.2.7]":           "udp:192.0.2.7:5060",
		"sip:a@plain.test:5099":              "udp:192.0.2.1:5099",
		"sip:a@srv.test:5099;transport=tcp":  "tcp:192.0.2.99:5099", // a port: no SRV (§4.2)
		"sip:a@x.test;maddr=192.0.2.8":       "udp:192.0.2.8:5060",
		"sip:a@plain.test":                   "udp:192.0.2.1:5060",
		"sips:a@plain.test":                  "tls:192.0.2.1:5061",
		"sip:a@PLAIN.test.;transport=TCP":    "tcp:192.0.2.1:5060",
		"sip:a@two.test":                     "udp:[2001:db8::1]:5060 udp:192.0.2.1:5060 udp:192.0.2.2:5060", // both families in turn
		"sip:a@alias.test":                   "udp:192.0.2.1:5060",
		"sip:a@srv.test":                     "udp:192.0.2.1:5080 udp:[2001:db8::1]:5090 udp:192.0.2.1:5090 udp:192.0.2.2:5090 tcp:192.0.2.1:5070",
		"sip:a@srv.test;transport=tcp":       "tcp:192.0.2.1:5070",
		"sips:a@srv.test":                    "tls:192.0.2.1:5071",
		"sip:a@lame.test":                    "udp:192.0.2.1:5060", // the first target has no address
		"sip:a@cname.test":                   "udp:192.0.2.1:5060",
		"sip:a@naptr.test":                   "tcp:192.0.2.1:5070 tls:192.0.2.1:5071 udp:192.0.2.1:5080 udp:[2001:db8::1]:5090 udp:192.0.2.1:5090 udp:192.0.2.2:5090",
		"sips:a@naptr.test":                  "tls:192.0.2.1:5071", // never UDP, whatever comes first
		"sip:a@naptr.test;transport=udp":     "udp:192.0.2.1:5060", // a transport: no NAPTR (§4.1)
		"sip:a@odd.test":                     "udp:192.0.2.4:5060", // nothing that we speak
		"sip:a@nowhere.test":                 "",
		"sip:a@none.test":                    "", // "." is no: no address is looked up
		"sip:a@dead.test":                    "",
		"sip:a@loop.test":                    "",
	} {
		if uri == "sip:a@naptr.test;transport=udp" { // it has no address either
			want = ""
		}
		got, err := resolve(t, r, uri)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v\n want %s", uri, got, err, want)
		}
		if want == "" && uri != "sip:a@loop.test" && !errors.Is(err, ErrNoHost) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if got, err := resolve(t, r, "sip:a@broken.test"); err == nil || errors.Is(err, ErrNoHost) || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("a name server that fails: %s %v", got, err)
	}
}

// Weights are shares: of 100 choices 70 in the mean fall to a weight of 70, and none first to one of another priority.
func TestResolveWeights(t *testing.T) {
	srv := func(priority, weight uint16, port uint16) *dns.SRV {
		return &dns.SRV{Priority: priority, Weight: weight, Port: port, Target: "h."}
	}
	all := []*dns.SRV{srv(20, 100, 4), srv(10, 70, 1), srv(10, 20, 2), srv(10, 10, 3), srv(10, 0, 5)}
	const n = 20_000
	first := map[uint16]int{}
	for range n {
		got := byWeight(all)
		first[got[0].Port]++
		if len(got) != len(all) || got[4].Port != 4 {
			t.Fatalf("%v", got)
		}
	}
	for port, percent := range map[uint16]int{1: 70, 2: 20, 3: 10, 4: 0, 5: 1} {
		if share := 100 * first[port] / n; share < percent-3 || share > percent+3 {
			t.Errorf("target %d is first in %d%% of cases, its weight is %d%%", port, share, percent)
		}
	}
	if got := byWeight([]*dns.SRV{srv(1, 0, 1), srv(1, 0, 2)}); len(got) != 2 {
		t.Errorf("without weights: %v", got)
	}
}

// Answers are remembered, within bounds, and a name server that is dead costs a few seconds, not the call.
func TestResolveRemembers(t *testing.T) {
	z := newZone(t, `plain.test. 60 A 192.0.2.1`, `brief.test. 0 A 192.0.2.2`)
	r := NewResolver(z.at)
	for uri, more := range map[string]bool{"sip:a@plain.test": false, "sip:a@gone.test": false, "sip:a@brief.test:5060": true} {
		_, _ = resolve(t, r, uri)
		before := z.queries.Load()
		_, _ = resolve(t, r, uri)
		if asked := z.queries.Load() > before; asked != more {
			t.Errorf("%s: asked again is %v, want %v", uri, asked, more)
		}
	}
	for i := range 3 * maxLookups {
		r.dns.keep(question{fmt.Sprint(i), 1}, remembered{})
	}
	if n := len(r.dns.known); n > maxLookups {
		t.Errorf("%d answers are remembered", n)
	}
	z.silent.Store(true)
	dead := NewResolver(z.at)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := dead.Resolve(ctx, URI{Scheme: "sip", Host: "plain.test"})
	if err == nil || errors.Is(err, ErrNoHost) || time.Since(begin) > 5*time.Second {
		t.Errorf("a silent name server: %v after %v", err, time.Since(begin))
	}
	z.silent.Store(false)
	if got, err := resolve(t, dead, "sip:a@plain.test"); got != "udp:192.0.2.1:5060" {
		t.Errorf("after the silence: %s %v", got, err)
	}
	second := NewResolver("127.0.0.1:9", z.at) // nobody is at the first
	if got, err := resolve(t, second, "sip:a@plain.test"); got != "udp:192.0.2.1:5060" {
		t.Errorf("by the second name server: %s %v", got, err)
	}
}

// An answer that does not fit a datagram is fetched over TCP; of many addresses a few are tried.
func TestResolveManyAddresses(t *testing.T) {
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("many.test. 60 A 192.0.2.%d", i+1))
	}
	r := NewResolver(newZone(t, lines...).at)
	hops, err := r.Resolve(t.Context(), URI{Scheme: "sip", Host: "many.test"})
	if err != nil || len(hops) != maxHops || hops[0].Addr != netip.MustParseAddrPort("192.0.2.1:5060") {
		t.Errorf("%d places, %v", len(hops), err)
	}
	if n := len(r.dns.known[question{"many.test.", dns.TypeA}].records); n != 200 {
		t.Errorf("%d of 200 addresses came", n)
	}
}
