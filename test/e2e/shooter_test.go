package e2e

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
)

// shooter is a UDP socket that sends anything, counts what is answered to it, and behaves well to what it is asked: a request that it has
// sent may have been understood.
type shooter struct {
	*world
	conn       *net.UDPConn
	answers    atomic.Int64
	probes     chan struct{}
	challenges chan string
}

func (b *barrage) newShooter(ip netip.Addr) *shooter {
	b.t.Helper()
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: ip.AsSlice()}, net.UDPAddrFromAddrPort(b.UDP))
	b.must(err)
	conn.SetReadBuffer(4 << 20)
	s := &shooter{world: b.world, conn: conn, probes: make(chan struct{}, 16), challenges: make(chan string, 16)}
	b.sockets = append(b.sockets, conn)
	go s.hear()
	b.t.Cleanup(func() { conn.Close() })
	return s
}

func (s *shooter) send(b []byte) { s.conn.Write(b) }

// hear reads until the socket is closed.
func (s *shooter) hear() {
	buf := make([]byte, 1<<16)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			if strings.Contains(err.Error(), "closed") {
				return
			}
			continue
		}
		s.heard(bytes.Clone(buf[:n]))
	}
}

func (s *shooter) heard(b []byte) {
	code := statusOf(b)
	switch callID := valueOf(b, "Call-ID"); {
	case code == 0:
		s.serve(b)
	case callID == probeID:
		s.probes <- struct{}{}
	case callID == challengeID:
		s.challenges <- valueOf(b, "WWW-Authenticate")
	default:
		s.answers.Add(1)
		if code == 500 && !strings.Contains(string(b), "CSeq Is Out Of Order") {
			s.t.Errorf("500:\n%s", b)
		}
		if code >= 200 && strings.HasSuffix(valueOf(b, "CSeq"), " INVITE") {
			s.acknowledge(b)
		}
	}
}

// acknowledge ends an INVITE's transaction, or begins the call that it has made; that is ended by the other side.
func (s *shooter) acknowledge(answer []byte) {
	number, _, _ := strings.Cut(valueOf(answer, "CSeq"), " ")
	s.send(fmt.Appendf(nil, "ACK sip:x@%s SIP/2.0\r\nVia: %s\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s ACK\r\nContent-Length: 0\r\n\r\n",
		s.UDP, valueOf(answer, "Via"), valueOf(answer, "From"), valueOf(answer, "To"), valueOf(answer, "Call-ID"), number))
}

// serve answers a request of the node's: it is busy, and agrees to everything else.
func (s *shooter) serve(request []byte) {
	line := "200 OK"
	switch {
	case bytes.HasPrefix(request, []byte("ACK ")):
		return
	case bytes.HasPrefix(request, []byte("INVITE ")):
		line = "486 Busy Here"
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "SIP/2.0 %s\r\n", line)
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		v := valueOf(request, name)
		if name == "To" && !strings.Contains(v, "tag=") {
			v += ";tag=shooter"
		}
		fmt.Fprintf(&out, "%s: %s\r\n", name, v)
	}
	out.WriteString("Content-Length: 0\r\n\r\n")
	s.send(out.Bytes())
}

const challengeID = "asks-for-a-challenge"

// ask sends a stranger's OPTIONS with a Call-ID.
func (s *shooter) ask(callID string) {
	s.send(fmt.Appendf(nil, "OPTIONS sip:x@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKask;rport\r\nMax-Forwards: 70\r\nFrom: <sip:x@h>;tag=1\r\n"+
		"To: <sip:x@h>\r\nCall-ID: %s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", s.UDP, s.conn.LocalAddr(), callID))
}

// alive waits until the node has answered behind the n-th message; a datagram may be lost, a node that is gone answers none.
func (s *shooter) alive(n int) {
	s.t.Helper()
	for range 20 {
		s.ask(probeID)
		select {
		case <-s.probes:
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
	s.t.Fatalf("after message %d the node does not answer any more", n)
}

// challenge asks for a nonce.
func (s *shooter) challenge() string {
	s.t.Helper()
	for range 20 {
		s.ask(challengeID)
		select {
		case c := <-s.challenges:
			return c
		case <-time.After(500 * time.Millisecond):
		}
	}
	s.t.Fatal("the node does not challenge any more")
	return ""
}
