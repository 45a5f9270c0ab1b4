package bench

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"baton/test/e2e/node"
)

// envEcho makes this program the server of the floors: it sends every datagram back to where it came from, a REGISTER as the
// answer that its sender waits for.
const envEcho = "BATON_BENCH_ECHO"

// perCall is how many datagrams a server takes for a call without RTP, and how many it sends: INVITE → 401, ACK, INVITE → 100 and
// INVITE, 180 → 180, 200 → ACK and 200, ACK, BYE → 200 and BYE, 200.
const perCall = 8

func echo(at string) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			os.Exit(1)
		}
		_, _ = conn.WriteToUDPAddrPort(echoed(buf[:n]), from)
	}
}

// echoed is what a datagram is sent back as.
func echoed(b []byte) []byte {
	_, headers, ok := bytes.Cut(b, []byte("\r\n"))
	switch {
	case !ok || !bytes.HasPrefix(b, []byte("REGISTER ")):
		return b
	case bytes.Contains(headers, []byte("Authorization: ")):
		return append([]byte("SIP/2.0 200 OK\r\n"), headers...)
	}
	return append([]byte("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"floor\", nonce=\"none\"\r\n"), headers...)
}

// startEcho runs the server of the floors until the end of the test.
func startEcho(t *testing.T, at netip.AddrPort) server {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envEcho+"="+at.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, node.Spawn(cmd))
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for range 100 { // until it listens
		if roundTrips(at, 1) == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return server{name: "echo", pid: cmd.Process.Pid}
}

// roundTrips sends datagrams one after the other, each when the one before is back.
func roundTrips(at netip.AddrPort, count int) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 600) // bytes of a message, as a rule
	for range count {
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		if _, err := conn.Read(buf); err != nil {
			return err
		}
	}
	return nil
}

// TestCallRateFloor is the control of TestCallRate: what this machine takes for a call's datagrams alone, at the same rate, when
// nothing is read of them, decided or kept.
func TestCallRateFloor(t *testing.T) {
	const rate, calls = 50, 1500
	at := netip.AddrPortFrom(node.IP(1), 6999)
	s := startEcho(t, at)
	cpu := s.cpu()
	if failed := paced(t, calls, rate, func(int) error { return roundTrips(at, perCall) }); failed > 0 {
		t.Fatalf("%d of %d failed", failed, calls)
	}
	each := perSecond(calls, s.cpu()-cpu)
	more("control: calls' datagrams alone per CPU-second at 50/s", each, "/s")
	note("a program that only sends back the %d datagrams of a call, at %d calls/s: %.0f per CPU-second, %.2f ms of CPU each", perCall, rate, each, 1e3/each)
}

// TestRegisterStormFloor is the control of TestRegisterStorm: what the datagrams of registrations alone take.
func TestRegisterStormFloor(t *testing.T) {
	at := netip.AddrPortFrom(node.IP(1), 6998)
	s := startEcho(t, at)
	s.counted(t, fmt.Sprintf("with %d in flight, datagrams alone", inFlight), crowdTurns*registerUsers*registerDevices, func() int {
		return saturated(t, at, registerUsers, registerDevices, crowdTurns)
	})
}
