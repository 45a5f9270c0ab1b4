package sip

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestReroute has a ringing device come back over another connection, with the old one closed or still open: it is sent the same INVITE
// again, what it answers there is the answer, and CANCEL finds it there.
func TestReroute(t *testing.T) {
	for what, closes := range map[string]bool{"closed": true, "open": false} {
		t.Run(what, func(t *testing.T) {
			a := start(t)
			old, now := newDevice(t, a, "tcp"), newDevice(t, a, "tcp")
			_, out := call2(old.flow)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := invite(ctx, a, out, nil)
			first := old.next("INVITE")
			old.answer(first, 180, "")
			time.Sleep(quick.t1)
			if closes {
				_ = old.conn.Close()
				soon(t, "the connection is gone", func() bool { return !a.Alive(old.flow) })
			}
			a.Reroute(out, now.flow)
			again := now.next("INVITE")
			if again.via.branch() != first.via.branch() || again.CSeq() != first.CSeq() || again.FromTag() != first.FromTag() {
				t.Errorf("it is another INVITE: %v", again)
			}
			cancel()
			if c := now.next("CANCEL"); c.via.branch() != first.via.branch() {
				t.Error("the CANCEL is of another INVITE")
			} else {
				now.answer(c, 200, "")
			}
			now.answer(again, 487, "")
			now.next("ACK")
			if res := receive(t, "end", done); !errors.Is(res.err, context.Canceled) {
				t.Errorf("%v", res.err)
			}
		})
	}
}

// TestRingingWithoutConnection has a device that rings lose its connection and not come back: it is not waited for long.
func TestRingingWithoutConnection(t *testing.T) {
	a := start(t)
	dev := newDevice(t, a, "tcp")
	_, out := call2(dev.flow)
	done := invite(context.Background(), a, out, nil)
	dev.answer(dev.next("INVITE"), 180, "")
	time.Sleep(quick.t1)
	began := time.Now()
	_ = dev.conn.Close()
	if res := receive(t, "end", done); !errors.Is(res.err, ErrFlowGone) {
		t.Errorf("%v", res.err)
	}
	if took := time.Since(began); took < quick.back() || took > 20*quick.back() {
		t.Errorf("it was waited for %v", took)
	}
}

// TestRepeatFromAnotherPort has a request be repeated from another port, as after a NAT has forgotten the first: the answer goes there.
func TestRepeatFromAnotherPort(t *testing.T) {
	got := make(chan *Exchange, 2)
	a := start(t, handle("INVITE", func(x *Exchange) { got <- x }))
	first, now := dial(t, "udp", "127.0.0.1", a.Addrs()["udp"]), dial(t, "udp", "127.0.0.1", a.Addrs()["udp"])
	m := first.authenticated(msg{method: "INVITE"}).String()
	x := receive(t, "INVITE", got)
	now.send(m)
	time.Sleep(5 * quick.t1)
	_ = x.Respond(Reply{Code: 486})
	for {
		if r := now.response(); r.Code() == 486 {
			return
		}
	}
}

// TestCancelGoesAnew has a device be cancelled, come back over another flow, and lose the old one only then: the CANCEL that was sent
// anew still has its answer.
func TestCancelGoesAnew(t *testing.T) {
	a := start(t)
	old, now := newDevice(t, a, "tcp"), newDevice(t, a, "udp")
	_, out := call2(old.flow)
	ctx, cancel := context.WithCancel(context.Background())
	done := invite(ctx, a, out, nil)
	old.answer(old.next("INVITE"), 180, "")
	time.Sleep(quick.t1)
	cancel()
	old.next("CANCEL")
	a.Reroute(out, now.flow)
	again, c := now.next("INVITE"), now.next("CANCEL")
	_ = old.conn.Close()
	soon(t, "the connection is gone", func() bool { return !a.Alive(old.flow) })
	time.Sleep(quick.t1)
	now.answer(c, 200, "")
	now.answer(again, 487, "")
	if res := receive(t, "end", done); !errors.Is(res.err, context.Canceled) {
		t.Errorf("%v", res.err)
	}
	s := a.shard(out.Dialog.CallID)
	soon(t, "the CANCEL is answered", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.clients[clientKey{c.via.branch(), "CANCEL"}] == nil
	})
	now.next("ACK")
	now.quiet(8 * quick.t1)
}
