package bench

import (
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

// envEcho makes this program the server of TestCallRateFloor: it sends every datagram back to where it came from.
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
		_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
	}
}

// TestCallRateFloor is the control of TestCallRate: what this machine takes for a call's datagrams alone, at the same rate, when
// nothing is read of them, decided or kept.
func TestCallRateFloor(t *testing.T) {
	const rate, calls = 50, 1500
	at := netip.AddrPortFrom(node.IP(1), 6999)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envEcho+"="+at.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, node.Spawn(cmd))
	defer cmd.Wait()
	defer cmd.Process.Kill()
	call := func(int) error {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 600) // bytes of a message, as a rule
		for range perCall {
			if _, err := conn.Write(buf); err != nil {
				return err
			}
			if _, err := conn.Read(buf); err != nil {
				return err
			}
		}
		return nil
	}
	for range 100 { // until it listens
		if call(0) == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	s := server{"echo", cmd.Process.Pid}
	cpu := s.cpu()
	if failed := paced(t, calls, rate, call); failed > 0 {
		t.Fatalf("%d of %d failed", failed, calls)
	}
	each := perSecond(calls, s.cpu()-cpu)
	more("control: calls' datagrams alone per CPU-second at 50/s", each, "/s")
	note("a program that only sends back the %d datagrams of a call, at %d calls/s: %.0f per CPU-second, %.2f ms of CPU each", perCall, rate, each, 1e3/each)
}
