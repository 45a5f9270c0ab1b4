package sip

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// proxies are scripted proxies at addresses of a name, all at one port.
func proxies(t *testing.T, hosts ...string) (all []*proxy, port int) {
	t.Helper()
	for _, host := range hosts {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		port = c.LocalAddr().(*net.UDPAddr).Port
		all = append(all, &proxy{t: t, conn: c})
	}
	return all, port
}

type proxy struct {
	t    *testing.T
	conn *net.UDPConn
	from netip.AddrPort
}

// next waits for the next request, nil if none comes in time.
func (p *proxy) next(wait time.Duration) *Request {
	p.t.Helper()
	_ = p.conn.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, MaxMessage)
	n, from, err := p.conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		return nil
	}
	p.from = from
	r, err := ParseRequest(buf[:n])
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

func (p *proxy) answer(r *Request, code int) {
	a := &Agent{opt: Options{}, edge: &edge{}}
	r.flow.Remote = p.from
	_, _ = p.conn.WriteToUDPAddrPort(a.reply(r, "bt", Reply{Code: code, Headers: []Header{{"Contact", "<sip:bob@192.0.2.7>"}}}), p.from)
}

// routed is an agent that knows a proxy of three addresses, and a dialog through it whose flow is given.
func routed(t *testing.T, port int, trusted string, flow func(*Agent) Flow) (*Agent, Dialog) {
	t.Helper()
	z := newZone(t, "_sip._udp.edge.test. 60 SRV 1 0 "+strconv.Itoa(port)+" one.test.", "_sip._udp.edge.test. 60 SRV 2 0 "+strconv.Itoa(port)+" two.test.",
		"_sip._udp.edge.test. 60 SRV 3 0 "+strconv.Itoa(port)+" three.test.", "one.test. 60 A 127.0.0.21", "two.test. 60 A 127.0.0.22", "three.test. 60 A 127.0.0.23")
	a := start(t, func(o *Options) {
		o.Listen.UDP, o.Resolver = "0.0.0.0:0", NewResolver(z.at)
		if trusted != "" {
			o.Proxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
		}
	})
	d, _ := call2(flow(a))
	d.RemoteTag, d.RouteSet = "bt", []string{"<sip:edge.test;lr>"}
	return a, d
}

// dead is the flow of a connection that has closed.
func dead(*Agent) Flow {
	return Flow{Transport: "tcp", Local: netip.MustParseAddrPort("127.0.0.1:5060"), Remote: netip.MustParseAddrPort("127.0.0.20:5060"), ID: 9}
}

// RFC 3263 §4.3: the first address is silent, the second overloaded, the third answers. Each try has its own branch; the
// dialog goes on over what has answered.
func TestFailover(t *testing.T) {
	for _, method := range []string{"BYE", "INVITE"} {
		all, port := proxies(t, "127.0.0.21", "127.0.0.22", "127.0.0.23")
		a, d := routed(t, port, "127.0.0.0/8", dead)
		out := d.NewRequest(method, Body{})
		done := make(chan result, 1)
		go func() {
			if method == "INVITE" {
				r, err := a.Invite(context.Background(), out, nil)
				done <- result{r, err}
				return
			}
			r, err := a.Do(context.Background(), out)
			done <- result{r, err}
		}()
		branches := map[string]bool{}
		for i, p := range all {
			r := p.next(5 * time.Second)
			if r == nil {
				t.Fatalf("%s: nothing came to address %d", method, i)
			}
			if r.CSeq() != out.CSeq || r.CallID() != d.CallID || r.Header("Route") != "<sip:edge.test;lr>" || branches[r.via.branch()] {
				t.Errorf("%s at address %d: %+v", method, i, r.headers)
			}
			branches[r.via.branch()] = true
			switch i {
			case 1:
				p.answer(r, 503)
			case 2:
				p.answer(r, 200)
			}
		}
		res := receive(t, "the answer", done)
		if res.err != nil {
			t.Fatal(res.err)
		}
		if d.Refresh(res.r); d.Flow.Transport != "udp" || d.Flow.Remote.Addr().String() != "127.0.0.23" {
			t.Errorf("the dialog goes on over %v", d.Flow)
		}
		if method == "INVITE" {
			if err := a.Ack(d, out, Body{}); err != nil {
				t.Fatal(err)
			}
			if r := all[2].next(5 * time.Second); r == nil || r.Method() != "ACK" {
				t.Errorf("the ACK did not come by the same way: %v", r)
			}
		}
	}
}

// An INVITE that was given up may reach somebody all the same: he is told that nobody waits.
func TestFailoverCancelsWhatWasSlow(t *testing.T) {
	all, port := proxies(t, "127.0.0.21", "127.0.0.22")
	a, d := routed(t, port, "127.0.0.0/8", dead)
	done := invite(context.Background(), a, d.NewRequest("INVITE", Body{}), nil)
	slow := all[0].next(5 * time.Second)
	r := all[1].next(5 * time.Second)
	if slow == nil || r == nil {
		t.Fatal("not both addresses were tried")
	}
	all[0].answer(slow, 180)
	for {
		if c := all[0].next(5 * time.Second); c == nil {
			t.Fatal("no CANCEL came")
		} else if c.Method() == "CANCEL" {
			all[0].answer(c, 200)
			all[0].answer(slow, 487)
			break
		}
	}
	all[1].answer(r, 486)
	var st *StatusError
	if res := receive(t, "the end", done); !errors.As(res.err, &st) || st.Code != 486 {
		t.Errorf("%v", res.err)
	}
}

// S11: what a Record-Route or Path names is not asked unless it is a proxy of ours, and a device is never dialled.
func TestS11RoutesOfStrangers(t *testing.T) {
	all, port := proxies(t, "127.0.0.21")
	device := all[0].conn.LocalAddr().String()
	for _, c := range []struct {
		trusted, target string
		routes          []string
	}{
		{"", "sip:bob@192.0.2.7", []string{"<sip:edge.test;lr>"}},
		{"192.0.2.0/24", "sip:bob@192.0.2.7", []string{"<sip:edge.test;lr>"}},
		{"192.0.2.0/24", "sip:bob@192.0.2.7", []string{"<sip:" + device + ";lr>"}},
		{"127.0.0.0/8", "sip:bob@" + device, nil},
		{"127.0.0.0/8", "sip:bob@" + device, []string{"<sip:example.com;lr>", "<sip:" + device + ";lr>"}}, // the first is us
		{"127.0.0.0/8", "sip:bob@192.0.2.7", []string{"<sip:" + device + ";transport=tcp;lr>"}},
		{"127.0.0.0/8", "sip:bob@192.0.2.7", []string{"<sips:" + device + ";lr>"}},
	} {
		a, d := routed(t, port, c.trusted, dead)
		d.Target, d.RouteSet = c.target, c.routes
		if _, err := a.Do(context.Background(), d.NewRequest("BYE", Body{})); !errors.Is(err, ErrFlowGone) {
			t.Errorf("%+v: %v", c, err)
		}
		if r := all[0].next(20 * time.Millisecond); r != nil {
			t.Errorf("%+v: sent %s", c, r.Method())
		}
	}
}
