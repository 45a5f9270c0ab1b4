package sip

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	sipgo "github.com/emiago/sipgo/sip"
)

// TestPanicOfTheParser: a message that the parser falls over is lost, and nothing else: not the listener, not the connection.
func TestPanicOfTheParser(t *testing.T) {
	usual, parsers := parser, headerParsers()
	parsers["x-fall"] = func([]byte, string) (sipgo.Header, error) { panic("test") }
	parser = sipgo.NewParser(sipgo.WithHeadersParsers(parsers))
	t.Cleanup(func() { parser = usual })
	a := start(t)
	for network, transport := range map[string]string{"udp": "UDP", "tcp": "TCP"} {
		w := dial(t, network, "", a.Addrs()[network])
		w.send(msg{method: "OPTIONS", transport: transport, headers: []string{"X-Fall: over\r\n and over"}}.String())
		w.send(probe(transport))
		if r := w.response(); r.CallID() != "probe" {
			t.Errorf("%s: %s was answered", network, r.CallID())
		}
	}
	w := dial(t, "tcp", "", a.Addrs()["tcp"])
	w.send("OPTIONS sip:a SIP/2.0\r\nX-Fall: over\r\n and over\r\nContent-Length: x\r\n\r\n") // refused by the framer
	if _, err := w.read(5 * time.Second); err == nil || err == errQuiet {
		t.Errorf("the connection stays open (%v)", err)
	}
}

// fallingConn is a connection that panics when it is read.
type fallingConn struct{ net.Conn }

func (fallingConn) Read([]byte) (int, error) { panic("test") }

// TestPanicOfAReader: a connection whose reader panics is closed and forgotten, and the next one is served.
func TestPanicOfAReader(t *testing.T) {
	l := newPipes()
	bubble(t, l, nil, Options{}, func(a *Agent) {
		ours, theirs := net.Pipe()
		l.made <- pipe{fallingConn{theirs}, netip.MustParseAddrPort("192.0.2.1:1000")}
		if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is not closed: %v", err)
		}
		logged(t, l.connect("192.0.2.1"))
		if got := a.Connections(); got.Open != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// TestPanicOfATimer: neither the sweep that forgets transactions nor the timer that repeats an answer takes anything else along.
func TestPanicOfATimer(t *testing.T) {
	exchange := make(chan *Exchange, 1)
	a := start(t, inviting(func(x *Exchange) { exchange <- x }))
	w := dial(t, "udp", "", a.Addrs()["udp"])
	w.authenticated(msg{method: "INVITE"})
	x := receive(t, "INVITE", exchange)
	x.tx.shard.later(func() { panic("test") })
	_ = x.Respond(Reply{Code: 200})
	x.tx.mu.Lock()
	x.tx.stopTimer()
	x.tx.timer = &time.Timer{} // whose Reset panics
	x.tx.mu.Unlock()
	x.tx.tick()
	x.tx.mu.Lock()
	x.tx.timer = nil
	x.tx.mu.Unlock()
	x.tx.shard.later(x.tx.end)
	soon(t, "the transaction behind it is forgotten", func() bool { return a.tables() == 0 })
}
