package node

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Network is a further network namespace. It lives as long as the thread that is in it, and vanishes with all its interfaces.
type Network struct {
	t      testing.TB
	thread int
	work   chan func()
}

// NewNetwork makes a namespace for the time of a test, with nothing in it but lo.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	n := &Network{t: t, work: make(chan func())}
	ready, gone := make(chan error), make(chan struct{})
	go n.live(ready, gone)
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(n.work)
		<-gone
	})
	n.IP("link set lo up")
	return n
}

// live is the one goroutine in the namespace. Its thread is not given back: it ends with it.
func (n *Network) live(ready chan<- error, gone chan<- struct{}) {
	defer close(gone)
	runtime.LockOSThread()
	n.thread = unix.Gettid()
	err := unix.Unshare(unix.CLONE_NEWNET)
	ready <- err
	if err != nil {
		return
	}
	for do := range n.work {
		do()
	}
}

// Do opens sockets or starts processes in the namespace; they stay there. One thing is done after the other.
func (n *Network) Do(what func()) {
	done := make(chan struct{})
	n.work <- func() { defer close(done); what() }
	<-done
}

// Spawn starts a process in the namespace, or in the tests' own where n is nil; it is killed if the test process dies.
func (n *Network) Spawn(cmd *exec.Cmd) (err error) {
	if n == nil {
		return spawn(cmd)
	}
	n.Do(func() { err = cmd.Start() })
	return err
}

// Try runs a program in the namespace that may fail.
func (n *Network) Try(program string, args ...string) (out []byte, err error) {
	n.Do(func() { out, err = exec.Command(program, args...).CombinedOutput() })
	return out, err
}

// Switch is a bridge in the tests' own namespace, which has addresses of it.
type Switch struct {
	t    testing.TB
	name string
	bits int
}

// NewSwitch makes a bridge, with the from-th to the to-th address of a network on it.
func NewSwitch(t testing.TB, network netip.Prefix, from, to int) *Switch {
	t.Helper()
	s := &Switch{t: t, name: fmt.Sprintf("switch%d", routers.Add(1)), bits: network.Bits()}
	s.ip("link add %s type bridge", s.name)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", s.name).Run() })
	for n := from; n <= to; n++ {
		s.ip("addr add %s/%d dev %s nodad", Host(network, n), s.bits, s.name)
	}
	s.ip("link set %s up", s.name)
	return s
}

// Plug joins a namespace to the switch, at an address.
func (s *Switch) Plug(n *Network, addr netip.Addr) {
	s.t.Helper()
	cable := fmt.Sprintf("plug%d", routers.Add(1))
	s.ip("link add %s type veth peer name %s netns %d", cable, farEnd, n.thread)
	s.ip("link set %s master %s", cable, s.name)
	s.ip("link set %s up", cable)
	n.IP(fmt.Sprintf("addr add %s/%d dev %s nodad", addr, s.bits, farEnd))
	n.IP("link set " + farEnd + " up")
}

func (s *Switch) ip(format string, args ...any) {
	s.t.Helper()
	command := fmt.Sprintf(format, args...)
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		s.t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// IP runs a command of the program ip in the namespace.
func (n *Network) IP(command string) { n.t.Helper(); n.run("ip", command) }

// Tables runs a command of iptables in the namespace.
func (n *Network) Tables(command string) { n.t.Helper(); n.run("iptables", "-w "+command) }

// Set writes a setting of the kernel's network, as net/ipv4/ip_forward.
func (n *Network) Set(name, value string) {
	n.t.Helper()
	var err error
	n.Do(func() { err = os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *Network) run(program, command string) {
	n.t.Helper()
	var out []byte
	var err error
	n.Do(func() { out, err = exec.Command(program, strings.Fields(command)...).CombinedOutput() })
	if err != nil {
		n.t.Fatalf("%s %s: %v: %s", program, command, err, out)
	}
}

// Router stands between the namespace of the tests, where the node is, and another one: what goes from one to the other
// passes through it.
type Router struct {
	*Network
	Beyond *Network   // the other side
	Node   netip.Addr // the node's address on its side
	Near   netip.Addr // the router's address there
	Far    netip.Addr // the router's address on the other side
}

// The router's interfaces, and that of the network beyond it.
const (
	nearSide = "near"
	farSide  = "far"
	farEnd   = "end"
)

var routers atomic.Int32

// NewRouter joins a new network, whose addresses are those of far, to the tests' own by a router; between them the node is
// known by an address of near. The network knows its way to the node, but the node none to the network: see Known.
func NewRouter(t testing.TB, near, far netip.Prefix) *Router {
	t.Helper()
	r := &Router{
		Network: NewNetwork(t), Beyond: NewNetwork(t),
		Node: Host(near, 1), Near: Host(near, 2), Far: Host(far, 1),
	}
	cable := fmt.Sprintf("router%d", routers.Add(1))
	r.here("link add %s type veth peer name %s netns %d", cable, nearSide, r.thread)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", cable).Run() }) // it may have gone with the namespace
	r.here("addr add %s/%d dev %s nodad", r.Node, near.Bits(), cable)
	r.here("link set %s up", cable)
	r.IP(fmt.Sprintf("link add %s type veth peer name %s netns %d", farSide, farEnd, r.Beyond.thread))
	r.IP(fmt.Sprintf("addr add %s/%d dev %s nodad", r.Near, near.Bits(), nearSide))
	r.IP(fmt.Sprintf("addr add %s/%d dev %s nodad", r.Far, far.Bits(), farSide))
	for n := 2; n < 10; n++ {
		r.Beyond.IP(fmt.Sprintf("addr add %s/%d dev %s nodad", Host(far, n), far.Bits(), farEnd))
	}
	r.IP("link set " + nearSide + " up")
	r.IP("link set " + farSide + " up")
	r.Beyond.IP("link set " + farEnd + " up")
	r.Beyond.IP(fmt.Sprintf("route add default via %s", r.Far))
	r.Set("net/ipv4/ip_forward", "1")
	return r
}

// Host is the n-th address of a network.
func Host(network netip.Prefix, n int) netip.Addr {
	b := network.Masked().Addr().As16()
	b[15] += byte(n)
	return netip.AddrFrom16(b).Unmap()
}

// here runs ip in the tests' own namespace.
func (r *Router) here(format string, args ...any) {
	r.t.Helper()
	command := fmt.Sprintf(format, args...)
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		r.t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// Known tells the node the way to the other side, as to a network without NAT.
func (r *Router) Known(far netip.Prefix) {
	r.t.Helper()
	r.here("route add %s via %s", far.Masked(), r.Near)
}

// MTU sets the longest packet of the way, and has it drop all fragments.
func (r *Router) MTU(n int) {
	r.t.Helper()
	r.IP(fmt.Sprintf("link set %s mtu %d", nearSide, n))
	r.IP(fmt.Sprintf("link set %s mtu %d", farSide, n))
	r.Tables("-t raw -A PREROUTING -f -j DROP")
}

// Masquerade makes the router a NAT for the network beyond it: what leaves it has the router's own address and a port of
// the range. Called again, it forgets every port that it has given: from then on the same sockets have others.
func (r *Router) Masquerade(ports string) {
	r.t.Helper()
	r.Tables("-t nat -F POSTROUTING")
	for _, proto := range []string{"udp", "tcp"} {
		r.Tables(fmt.Sprintf("-t nat -A POSTROUTING -o %s -p %s -j MASQUERADE --to-ports %s", nearSide, proto, ports))
	}
	r.IP("link set " + nearSide + " down") // by which the kernel forgets what it has masqueraded
	r.IP("link set " + nearSide + " up")
}

// Forward gives the node an address of the other side: what comes there for its ports is sent to it, and what it sends
// leaves from there.
func (r *Router) Forward(ports string) {
	r.t.Helper()
	for _, proto := range []string{"udp", "tcp"} {
		r.Tables(fmt.Sprintf("-t nat -A PREROUTING -i %s -d %s -p %s --dport %s -j DNAT --to-destination %s", farSide, r.Far, proto, ports, r.Node))
	}
	r.Tables(fmt.Sprintf("-t nat -A POSTROUTING -o %s -j SNAT --to-source %s", farSide, r.Far))
}

// Cut drops all that passes from now on, without a word.
func (r *Router) Cut() { r.t.Helper(); r.Tables("-I FORWARD -j DROP") }

// Heal ends what Cut began.
func (r *Router) Heal() { r.t.Helper(); r.Tables("-D FORWARD -j DROP") }

// Unplug takes the interface of the network beyond down, and all routes with it.
func (r *Router) Unplug() { r.t.Helper(); r.Beyond.IP("link set " + farEnd + " down") }

// Plug ends what Unplug began, as who configures a network does.
func (r *Router) Plug() {
	r.t.Helper()
	r.Beyond.IP("link set " + farEnd + " up")
	r.Beyond.IP(fmt.Sprintf("route add default via %s", r.Far))
}
