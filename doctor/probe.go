package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"baton/config"
)

// How often and how long an answer is waited for; a lost packet on one machine is a filtered one.
const (
	probeTries = 3
	probeWait  = 300 * time.Millisecond
)

// errFiltered says that nothing came through.
var errFiltered = errors.New("nothing arrives")

// reach sends to the ports in force over the addresses that phones use: to the running node what it answers, else to a
// socket opened for the moment. What does not arrive is filtered on this machine.
func (f Firewall) reach(ctx context.Context, c config.Config, machine []Address, sockets []Socket, running map[string]string) []Finding {
	var all []Finding
	tried := 0
	for _, to := range places(c, machine) {
		for _, l := range Listeners(c.Listen) {
			if l.Port == 0 || l.Host.IsValid() && l.Host.Unmap() != to {
				continue
			}
			_, taken := l.takenBy(sockets)
			if taken && running[l.Transport] == "" {
				continue // another program's; ports says so
			}
			tried++
			all = f.unreached(all, probe(ctx, l.Network(), netip.AddrPortFrom(to, l.Port), taken), l.Transport, to, port{l.Network(), l.Port, l.Port})
		}
		for _, r := range audioRanges(c) {
			p, ok := freeAudio(r, sockets)
			if !ok || c.Media.Address != "" && c.Media.Address != to.String() {
				continue
			}
			tried++
			all = f.unreached(all, probe(ctx, "udp", netip.AddrPortFrom(to, p), false), "audio", to, port{"udp", r.First, r.Last})
		}
	}
	if len(all) == 0 && tried > 0 {
		all = append(all, good("firewall", "", "packets to this machine's own addresses arrive (%d ports tried)", tried))
	}
	return all
}

// places are one IPv4 and one IPv6 address that phones use, else those that are listened on.
func places(c config.Config, machine []Address) []netip.Addr {
	var all []netip.Addr
	has4, has6 := false, false
	for _, a := range machine {
		bound := c.Media.Address == a.IP.String()
		for _, l := range Listeners(c.Listen) {
			bound = bound || l.Host.IsValid() && l.Host.Unmap() == a.IP
		}
		first := a.usual() && (a.IP.Is4() && !has4 || a.IP.Is6() && !has6)
		if a.IP.IsLoopback() || !first && !bound {
			continue
		}
		has4, has6 = has4 || a.IP.Is4(), has6 || a.IP.Is6()
		all = append(all, a.IP)
	}
	return all
}

// audioRanges are the UDP ports of phones' audio, and the one of browsers'.
func audioRanges(c config.Config) []config.PortRange {
	all := []config.PortRange{c.Media.Ports}
	if p := uint16(c.Media.WebRTC); p != 0 {
		all = append(all, config.PortRange{First: p, Last: p})
	}
	return all
}

// freeAudio is a port of the range that nobody has.
func freeAudio(r config.PortRange, sockets []Socket) (uint16, bool) {
	used := map[uint16]bool{}
	for _, s := range sockets {
		used[s.Addr.Port()] = true
	}
	for p := int(r.First); p <= int(r.Last); p++ {
		if !used[uint16(p)] {
			return uint16(p), true
		}
	}
	return 0, false
}

// unreached adds what a try has found, once a port; with the rule, if there is one to be read.
func (f Firewall) unreached(all []Finding, err error, what string, to netip.Addr, p port) []Finding {
	if !errors.Is(err, errFiltered) {
		return all // it arrived, or it could not be tried
	}
	where := p.String() + " at " + to.String()
	if slices.ContainsFunc(all, func(f Finding) bool { return f.Where == where }) {
		return all
	}
	text := fmt.Sprintf("filtered: a packet from this machine to its own %s port does not arrive", what)
	if o := f.judge(packet{p.proto, p.first}); o.verdict == dropped {
		text += "; by " + o.by
	}
	return append(all, found(Error, "firewall", where, text, f.commands([]port{p})...))
}

// probe sends to an address of this machine.
func probe(ctx context.Context, network string, to netip.AddrPort, served bool) error {
	switch {
	case network == "tcp" && served:
		return connect(ctx, to)
	case network == "tcp":
		l, err := net.Listen("tcp", to.String())
		if err != nil {
			return err
		}
		defer l.Close()
		return connect(ctx, to)
	case served:
		return ask(to)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	return deliver(conn, to)
}

func connect(ctx context.Context, to netip.AddrPort) error {
	d := net.Dialer{Timeout: probeTries * probeWait}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return fmt.Errorf("%w: %w", errFiltered, err)
	}
	return conn.Close()
}

// deliver sends to a socket of this process until something arrives.
func deliver(conn *net.UDPConn, to netip.AddrPort) error {
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer out.Close()
	return exchange(out, conn, []byte("baton doctor"))
}

// ask sends OPTIONS to a SIP listener; whatever it answers will do.
func ask(to netip.AddrPort) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn, conn, options(conn.LocalAddr().String(), to))
}

// exchange sends by one socket until another, or the same, receives.
func exchange(out, in *net.UDPConn, message []byte) error {
	buf := make([]byte, 2048)
	for range probeTries {
		if _, err := out.Write(message); err != nil {
			time.Sleep(probeWait / probeTries) // a filter may refuse at once; the next try may be let through
			continue
		}
		if err := in.SetReadDeadline(time.Now().Add(probeWait)); err != nil {
			return err
		}
		if n, _, err := in.ReadFromUDPAddrPort(buf); err == nil && n > 0 {
			return nil
		}
	}
	return errFiltered
}

// options is an OPTIONS request (RFC 3261 §11).
func options(from string, to netip.AddrPort) []byte {
	var b [8]byte
	_, _ = rand.Read(b[:])
	id := hex.EncodeToString(b[:])
	host, port, _ := net.SplitHostPort(from)
	via := net.JoinHostPort(host, port)
	uri := "sip:" + net.JoinHostPort(to.Addr().String(), strconv.Itoa(int(to.Port())))
	return []byte("OPTIONS " + uri + " SIP/2.0\r\nVia: SIP/2.0/UDP " + via + ";rport;branch=z9hG4bK" + id +
		"\r\nMax-Forwards: 70\r\nFrom: <sip:doctor@" + via + ">;tag=" + id + "\r\nTo: <" + uri + ">\r\nCall-ID: " + id +
		"\r\nCSeq: 1 OPTIONS\r\nUser-Agent: baton-doctor\r\nContent-Length: 0\r\n\r\n")
}
