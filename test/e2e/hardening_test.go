package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The requirements of docs/security.md that the built node is held to; most are tested where their defence stands.

var fourteen = []string{
	"INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "REGISTER", "SUBSCRIBE", "NOTIFY", "PUBLISH", "MESSAGE", "INFO",
	"UPDATE", "PRACK", "REFER",
}

// S5: each of 14 methods without a password, with a wrong one, with carol's under alice's name, and with alice's own.
func TestS05EveryMethodOfTheNode(t *testing.T) {
	w := newWorld(t)
	bob := w.phone("bob", "far")
	as := func(login, password string) func(*phone.Config) {
		return func(c *phone.Config) { c.Login, c.Password = login, password }
	}
	for _, who := range []struct {
		name  string
		phone *phone.Phone
		want  int // 0 = anything but 401, 403 and 407
	}{
		{"without", w.make("alice", "a", as("", "")), 401},
		{"wrong", w.make("alice", "b", as("alice", "guess")), 401},
		{"unknown user", w.make("alice", "c", as("nobody", "guess")), 401},
		{"carol as alice", w.make("alice", "d", as("carol", node.Password("carol"))), 403},
		{"right", w.make("alice", "e"), 0},
	} {
		for _, method := range fourteen {
			to := "sip:nobody@" + w.UDP.String()
			if who.want != 0 {
				to = "sip:bob@" + w.UDP.String() // whose phone must not hear of it
			}
			if method == "ACK" {
				continue // never answered: TestRequestsForNothing
			}
			res, err := who.phone.Send(method, to, nil, phone.Header{Name: "To", Value: "<" + who.phone.URI() + ">"},
				phone.Header{Name: "Contact", Value: "<" + who.phone.Contact() + ">"}, phone.Header{Name: "Refer-To", Value: "<sip:103@" + w.UDP.String() + ">"},
				phone.Header{Name: "Event", Value: "presence"})
			w.must(err)
			want := who.want
			switch {
			case method == "CANCEL":
				want = 481
			case method == "REFER" && want == 0: // outside of a call there is nothing to transfer
				want = 403
			}
			if refused := res.Code == 401 || res.Code == 403 || res.Code == 407; want != 0 && res.Code != want || want == 0 && refused {
				t.Errorf("%s, %s: %s, want %d", method, who.name, res.Line(), want)
			}
		}
		if here := w.here("alice"); (here == 1) != (who.want == 0) {
			t.Errorf("%s: %d devices of alice are here", who.name, here)
		}
	}
	for _, m := range bob.Received(time.Time{}) {
		if m.Method != "" && m.Method != "OPTIONS" {
			t.Errorf("bob's phone was sent %s", m.Line())
		}
	}
}

// sent is a datagram that left the node.
type sent struct {
	to    netip.AddrPort
	bytes int
}

// sniff hears all that leaves a UDP port of the namespace, whichever way it goes.
func sniff(t *testing.T, from netip.AddrPort) (read func() []sent) {
	t.Helper()
	const inNetworkOrder = unix.ETH_P_ALL << 8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, inNetworkOrder)
	if err != nil {
		t.Fatal(err)
	}
	tv := unix.Timeval{Usec: 20_000}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
	var mu sync.Mutex
	var heard []sent
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, at, err := unix.Recvfrom(fd, buf, 0)
			if link, ok := at.(*unix.SockaddrLinklayer); err != nil || !ok || link.Pkttype != unix.PACKET_OUTGOING {
				continue
			}
			if s, ok := datagram(buf[:n], from); ok {
				mu.Lock()
				heard = append(heard, s)
				mu.Unlock()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done; unix.Close(fd) })
	return func() []sent {
		mu.Lock()
		defer mu.Unlock()
		return append([]sent(nil), heard...)
	}
}

// datagram reads an IPv4 packet with UDP in it that comes from an address.
func datagram(b []byte, from netip.AddrPort) (sent, bool) {
	if len(b) < 28 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_UDP {
		return sent{}, false
	}
	head := int(b[0]&15) * 4
	if len(b) < head+8 || netip.AddrFrom4([4]byte(b[12:16])) != from.Addr() || binary.BigEndian.Uint16(b[head:]) != from.Port() {
		return sent{}, false
	}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), binary.BigEndian.Uint16(b[head+2:]))
	return sent{to, int(binary.BigEndian.Uint16(b[head+4:])) - 8}, true
}

// S7: counted on the wire: nothing leaves for an address that a Via names, and what a stranger is answered is at most as
// many datagrams and 1.5 times as many bytes as he has sent.
func TestS07NothingIsReflected(t *testing.T) {
	need(t, "ip", "iproute2")
	w := newWorld(t)
	// The way out is there: a datagram to a foreign address would be seen to leave.
	if out, err := exec.Command("ip", "neigh", "replace", "10.77.0.250", "lladdr", "02:00:00:00:00:fa", "dev", "b0").CombinedOutput(); err != nil {
		t.Fatalf("ip neigh: %v: %s", err, out)
	}
	read := sniff(t, w.UDP)
	conn, err := net.DialUDP("udp", &net.UDPAddr{IP: node.IP(19).AsSlice()}, net.UDPAddrFromAddrPort(w.UDP))
	w.must(err)
	defer conn.Close()
	requests, asked := 0, 0
	for _, via := range []string{
		"203.0.113.9:5060", "203.0.113.9:5060;rport=5060", "10.77.0.18:5060;rport", "10.77.0.19:5060;received=203.0.113.9;rport=9",
		"203.0.113.9;maddr=203.0.113.10", "224.0.1.75;maddr=224.0.1.75;ttl=255", "255.255.255.255:5060", "10.77.0.255:5060;rport", "h.invalid;maddr=10.77.0.18",
	} {
		for _, method := range fourteen {
			requests++
			text := fmt.Sprintf("%s sip:bob@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d\r\nMax-Forwards: 70\r\nFrom: <sip:alice@x>;tag=1\r\n"+
				"To: <sip:bob@x>\r\nCall-ID: reflect-%d\r\nCSeq: 1 %s\r\nContact: <sip:alice@203.0.113.9>\r\nContent-Length: 0\r\n\r\n",
				method, w.UDP, via, requests, requests, method)
			asked += len(text)
			if _, err := conn.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	unanswered := requests / len(fourteen) // the ACKs
	w.Eventually(5*time.Second, "the answers", func() error {
		if n := len(read()); n < requests-unanswered {
			return fmt.Errorf("%d of %d", n, requests-unanswered)
		}
		return nil
	})
	pause(1200 * time.Millisecond) // T1 twice: nothing is repeated
	told := 0
	source := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, s := range read() {
		if told += s.bytes; s.to != source {
			t.Errorf("%d bytes left for %v", s.bytes, s.to)
		}
	}
	if n := len(read()); n != requests-unanswered || 2*told > 3*asked {
		t.Errorf("%d datagrams of %d bytes were answered with %d of %d", requests, asked, n, told)
	}
	t.Logf("%d requests, %d bytes; %d answers, %d bytes (%.2f)", requests, asked, len(read()), told, float64(told)/float64(asked))
}

// S13: what a phone calls itself cannot write on the terminal or into the log of who looks at it: control bytes that a
// backslash has brought past the parser are shown, not obeyed.
func TestS13TerminalsAndLogs(t *testing.T) {
	w := newWorld(t)
	nasty := "x\\\x1b]0;pwned\\\x07\\\x1b[2J%0d%0aEvil: 1"
	alice := w.phone("alice", "desk", func(c *phone.Config) {
		c.UserAgent, c.Display, c.ContactUser = nasty, "a\\\x1b[31m", "al%1b[2Jice"
	})
	bob := w.phone("bob", "far")
	bob.Behave(phone.Behaviour{Reject: 486, Reason: "Busy \x1b[31m", Headers: []phone.Header{{Name: "Warning", Value: "399 x \"\\\x1b[2J\""}}})
	w.status(w.dial(alice, "bob"), 486)
	w.refused(alice, "REGISTER", "sip:"+w.UDP.String(), nil, 403, phone.Header{Name: "From", Value: "<sip:%1b%5b2Jx@y>;tag=1"})
	for _, command := range [][]string{{"devices"}, {"log"}, {"log", "--json"}, {"devices", "--json"}, {"calls"}, {"doctor"}, {"user", "show", "alice"}} {
		out, _ := w.CLI(command...)
		if out == "" {
			t.Errorf("baton %s prints nothing", command)
		}
		clean(t, "baton "+strings.Join(command, " "), out)
	}
	if !strings.Contains(w.Output(), "486") {
		t.Error("the log has no word of the call")
	}
	clean(t, "the node's log", w.Output())
}

func clean(t *testing.T, what, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, func(c rune) bool { return c < ' ' && c != '\n' && c != '\t' || c == 0x7f }); i >= 0 {
		t.Errorf("%s has a control byte: %q", what, text[max(0, i-60):min(len(text), i+20)])
	}
}
