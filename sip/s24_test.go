package sip

import (
	"testing"
	"time"
)

// S24: in a dialog, tags are no password. From another address than the peer's every method is challenged, another
// user's password is refused, and the peer's own is taken.
func TestS24InDialogFromElsewhere(t *testing.T) {
	got := make(chan *Exchange, 50)
	a := start(t, func(o *Options) {
		o.Listen.UDP, o.Listen.TCP = "0.0.0.0:0", "0.0.0.0:0"
		o.Credentials = accounts{"alice": "pw", "eve": "pw"}
		o.InDialog = []string{"REFER", "INFO", "UPDATE", "NOTIFY", "PRACK", "MESSAGE", "OPTIONS"}
	})
	for _, network := range []string{"udp", "tcp"} {
		to := loopback(a.Addrs()[network])
		peer := dial(t, network, "127.0.0.2", to)
		thief := dial(t, network, "127.0.0.3", to)
		local, _ := addrOf(peer)
		for _, method := range []string{"BYE", "INVITE", "REFER", "INFO", "UPDATE", "NOTIFY", "PRACK", "MESSAGE", "OPTIONS"} {
			d := Dialog{CallID: random(8), LocalTag: "lt", RemoteTag: "ft", Flow: Flow{Transport: network, Local: to, Remote: local}}
			a.Attach(d, "alice", func(x *Exchange) {
				got <- x
				_ = x.Respond(Reply{Code: 200})
			})
			try := func(w *wire, cseq int, l login, want int) {
				t.Helper()
				serves := want == 200
				if method == "PRACK" && serves { // it is believed, but nothing waits for one
					serves, want = false, 481
				}
				m := msg{method: method, toTag: "lt", callID: d.CallID, cseq: cseq, transport: network}
				if l.user != "" {
					w.send(msg{method: "OPTIONS", callID: random(8), transport: network}.String())
					l.method, l.password = method, "pw"
					m.headers = []string{l.header(nonceOf(finalOf(w, "OPTIONS", 1)))}
				}
				m.headers = append(m.headers, "RAck: 1 1 INVITE")
				w.send(m.String())
				if r := finalOf(w, method, uint32(cseq)); r.code != want {
					t.Errorf("%s %s as %q: %d, want %d", network, method, l.user, r.code, want)
				}
				if ran := len(got); (ran == 1) != serves {
					t.Errorf("%s %s as %q: the dialog saw it %d times", network, method, l.user, ran)
				}
				for len(got) > 0 {
					if x, at := <-got, w.conn.LocalAddr().String(); x.Flow().Remote.String() != at {
						t.Errorf("a request from %s has the flow %v", at, x.Flow())
					}
				}
			}
			try(thief, 2, login{}, 401)
			try(thief, 3, login{user: "eve"}, 403)
			try(thief, 4, login{user: "alice"}, 200) // alice has another address now
			try(peer, 5, login{}, 200)
			a.Detach(d.ID())
		}
		thief.never("BYE", 10*time.Millisecond)
	}
}

// finalOf waits for the final answer to one request, passing over repeats of others.
func finalOf(w *wire, method string, cseq uint32) *Response {
	w.t.Helper()
	for {
		if r := w.final(); r.method == method && r.cseq == cseq {
			return r
		}
	}
}
