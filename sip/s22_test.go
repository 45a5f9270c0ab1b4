package sip

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
)

// S8: a peer that challenges a request of ours, by our realm or another, has no password of ours: the request has
// failed, and no later one carries credentials, even if somebody above should hand them over.
func TestS08ChallengesAreRefusals(t *testing.T) {
	a := start(t)
	for _, code := range []int{401, 407} {
		for _, realm := range []string{testRealm, "trunk.example.net"} {
			for _, method := range []string{"INVITE", "re-INVITE", "BYE", "OPTIONS", "NOTIFY", "UPDATE", "REFER"} {
				dev := newDevice(t, a, "udp")
				d, _ := call2(dev.flow)
				if method != "INVITE" {
					d.RemoteTag = "bt"
				}
				name := strings.TrimPrefix(method, "re-")
				out := d.NewRequest(name, Body{}, Header{"Authorization", "Digest smuggled"}, Header{"Proxy-Authorization", "Digest smuggled"})
				done := make(chan error, 1)
				go func() {
					var err error
					if name == "INVITE" {
						_, err = a.Invite(context.Background(), out, nil)
					} else {
						_, err = a.Do(context.Background(), out)
					}
					done <- err
				}()
				r := dev.next(name)
				ask := map[int]string{401: "WWW-Authenticate", 407: "Proxy-Authenticate"}[code]
				dev.answer(r, code, "bt", fmt.Sprintf(`%s: Digest realm="%s", nonce="n", algorithm=MD5, qop="auth"`, ask, realm))
				var st *StatusError
				if err := receive(t, "the end of "+method, done); !errors.As(err, &st) || st.Code != code {
					t.Errorf("%s challenged with %d by %s: %v", method, code, realm, err)
				}
				for _, more := range append(rest(dev), r) {
					if more.Header("Authorization")+more.Header("Proxy-Authorization") != "" || more.CSeq() != r.CSeq() {
						t.Errorf("%s challenged with %d by %s: then came %+v", method, code, realm, more.headers)
					}
				}
			}
		}
	}
}

// rest is what else comes within three times T1.
func rest(d device) []*Request {
	var all []*Request
	for {
		data, err := d.read(3 * quick.t1)
		if err != nil {
			return all
		}
		if m, err := parse(data, Flow{}); err == nil {
			if r, ok := m.(*Request); ok {
				all = append(all, r)
			}
		}
	}
}

// S22: a request goes over the very connection of its flow, or not at all: not over one that another has opened since
// from the same address and port, nor over a new one to the address or Contact of the device.
func TestS22AFlowIsOneConnection(t *testing.T) {
	a := start(t)
	first := newDevice(t, a, "tcp")
	local := first.conn.LocalAddr().(*net.TCPAddr)
	_ = first.conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: the port is free at once
	_ = first.conn.Close()
	soon(t, "the connection is gone", func() bool { return !a.Alive(first.flow) })

	var c net.Conn
	soon(t, "the port is ours again", func() bool { // another process may have it for a moment
		var err error
		c, err = (&net.Dialer{LocalAddr: local}).Dial("tcp", a.Addrs()["tcp"].String())
		return err == nil
	})
	defer c.Close()
	second := &wire{t: t, conn: c, r: newFramer(c), buf: make([]byte, MaxMessage)}
	second.send(probe("TCP"))
	second.expect(401)
	live, ok := sameEnds(a, first.flow)
	if !ok {
		t.Fatal("the second connection does not come from the first one's port")
	}
	live.Remote = netip.AddrPortFrom(live.Remote.Addr(), 9)
	if a.Alive(live) {
		t.Error("a connection's number is enough to send to it")
	}
	forged := first.flow
	for _, id := range []uint64{first.flow.ID, 0, 1, math.MaxUint64} {
		forged.ID = id
		if a.Alive(forged) {
			t.Errorf("flow %+v of a closed connection is alive", forged)
		}
		d, out := call2(forged)
		if _, err := a.Invite(context.Background(), out, nil); !errors.Is(err, ErrFlowGone) {
			t.Errorf("INVITE over a closed connection: %v", err)
		}
		if _, err := a.Do(context.Background(), d.NewRequest("BYE", Body{})); !errors.Is(err, ErrFlowGone) {
			t.Errorf("BYE over a closed connection: %v", err)
		}
	}
	second.quiet(3 * quick.t1)
}

// sameEnds is the flow of the connection that is open between the ends of another.
func sameEnds(a *Agent, f Flow) (Flow, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		if s.flow.Remote == f.Remote && s.flow.Local == f.Local {
			return s.flow, true
		}
	}
	return Flow{}, false
}

// S22: a stored flow of an earlier run of the node names no connection of this one.
func TestS22FlowsOfAnEarlierRun(t *testing.T) {
	ids := make(map[uint64]bool)
	for range 50 {
		high := firstStream() >> 32
		if ids[high] {
			t.Fatalf("two runs count their connections from %d", high)
		}
		ids[high] = true
	}
}

// S22: baton opens no connection: who waits at the Contact of a device that has gone waits in vain.
func TestS22NothingIsDialled(t *testing.T) {
	a := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dev := newDevice(t, a, "tcp")
	_ = dev.conn.Close()
	soon(t, "the connection is gone", func() bool { return !a.Alive(dev.flow) })
	d, _ := call2(dev.flow)
	d.Target = "sip:bob@" + l.Addr().String() + ";transport=tcp"
	dev.flow.Remote = netip.MustParseAddrPort(l.Addr().String())
	for _, flow := range []Flow{d.Flow, dev.flow} {
		d.Flow = flow
		if _, err := a.Invite(context.Background(), d.NewRequest("INVITE", Body{}), nil); !errors.Is(err, ErrFlowGone) {
			t.Errorf("INVITE: %v", err)
		}
	}
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := l.Accept(); err == nil {
		t.Errorf("%v was dialled", c.LocalAddr())
	}
}

// S23: who would guess a dialog must guess 64 bits at least. The words are hexadecimal; each digit of each place is as
// likely as the others (chi-squared, 15 degrees of freedom: above 60 once in three million).
func TestS23DialogsCannotBeGuessed(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "udp")
	words := map[string][]string{}
	const n = 4000
	for range n {
		d, out := call2(dev.flow)
		dr, err := a.draft(out)
		if err != nil {
			t.Fatal(err)
		}
		r := &Request{message: message{callID: random(8), flow: dev.flow}}
		x := a.shard(r.callID).begin(r)
		words["Call-ID"] = append(words["Call-ID"], d.CallID)
		words["From tag"] = append(words["From tag"], d.LocalTag)
		words["To tag"] = append(words["To tag"], x.LocalTag())
		words["branch"] = append(words["branch"], strings.TrimPrefix(dr.branch, magic))
	}
	for name, all := range words {
		seen := map[string]bool{}
		for _, w := range all {
			seen[w] = true
		}
		if len(seen) != n {
			t.Errorf("%s: %d of %d are unlike", name, len(seen), n)
		}
		random := 0
		for place := range all[0] {
			if x := chiSquared(t, all, place); x < 60 {
				random++
			} else {
				t.Logf("%s, place %d: chi-squared %.0f", name, place, x)
			}
		}
		if 4*random < 64 {
			t.Errorf("%s has %d random bits", name, 4*random)
		}
	}
}

func chiSquared(t *testing.T, words []string, place int) float64 {
	t.Helper()
	var count [16]float64
	for _, w := range words {
		digit, err := strconv.ParseUint(w[place:place+1], 16, 8)
		if err != nil {
			t.Fatalf("%q is not hexadecimal", w)
		}
		count[digit]++
	}
	sum, mean := 0.0, float64(len(words))/16
	for _, c := range count {
		sum += (c - mean) * (c - mean) / mean
	}
	return sum
}
