package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"baton/config"
)

// Listener is one listener as it is configured.
type Listener struct {
	Transport string     // udp, tcp, tls; web for HTTPS
	Text      string     // as written
	Host      netip.Addr // zero = every address
	Port      uint16     // 0 = any free one
}

// Network is udp or tcp.
func (l Listener) Network() string {
	if l.Transport == "udp" {
		return "udp"
	}
	return "tcp"
}

// Listeners are those that are not off.
func Listeners(c config.Listen) []Listener {
	var all []Listener
	for _, l := range []Listener{{Transport: "udp", Text: c.UDP}, {Transport: "tcp", Text: c.TCP}, {Transport: "tls", Text: c.TLS}, {Transport: "web", Text: c.Web}} {
		host, port, err := net.SplitHostPort(l.Text)
		if err != nil {
			continue // off
		}
		l.Host, _ = netip.ParseAddr(host)
		if l.Host.IsValid() && l.Host.IsUnspecified() {
			l.Host = netip.Addr{}
		}
		n, _ := strconv.ParseUint(port, 10, 16)
		l.Port = uint16(n)
		all = append(all, l)
	}
	return all
}

// takenBy finds the socket that keeps the listener from its port.
func (l Listener) takenBy(sockets []Socket) (Socket, bool) {
	for _, s := range sockets {
		same := !l.Host.IsValid() || s.Addr.Addr().IsUnspecified() || s.Addr.Addr() == l.Host.Unmap()
		if l.Port != 0 && s.Network == l.Network() && s.Addr.Port() == l.Port && same {
			return s, true
		}
	}
	return Socket{}, false
}

// Ports looks at the listeners: with the node pid running they must be its own (running lists what it has), without
// one they must be free. command is how the node is started.
func Ports(c config.Listen, sockets []Socket, pid int, running map[string]string, command string) []Finding {
	var all []Finding
	for _, l := range Listeners(c) {
		where := l.Transport + " " + l.Text
		taken, isTaken := l.takenBy(sockets)
		switch {
		case running[l.Transport] != "":
			all = append(all, good("ports", where, "held by the running node (pid %d) as %s", pid, running[l.Transport]))
		case isTaken:
			all = append(all, found(Error, "ports", where, "taken by "+taken.Holder(),
				append(Elsewhere(c, sockets, command), "or stop the other program first")...))
		default:
			all = append(all, l.try(where, Elsewhere(c, sockets, command)))
		}
	}
	return all
}

// try opens the listener for a moment.
func (l Listener) try(where string, elsewhere []string) Finding {
	var err error
	if l.Network() == "udp" {
		var conn net.PacketConn
		if conn, err = net.ListenPacket("udp", l.Text); err == nil {
			conn.Close()
		}
	} else {
		var listener net.Listener
		if listener, err = net.Listen("tcp", l.Text); err == nil {
			listener.Close()
		}
	}
	switch {
	case err == nil:
		return good("ports", where, "free")
	case errors.Is(err, syscall.EACCES):
		return found(Error, "ports", where, "this account may not listen on ports below 1024",
			"sudo setcap cap_net_bind_service=+ep \"$(command -v baton)\"", "or set a port from 1024 up: listen."+l.Transport)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return found(Error, "ports", where, fmt.Sprintf("this machine has no address %s", l.Host),
			fmt.Sprintf("listen on every address: %s=:%d", config.Variable("listen."+l.Transport), l.Port), "ip address   # lists what this machine has")
	case errors.Is(err, syscall.EADDRINUSE):
		return found(Error, "ports", where, "taken, but not to be seen by whom", elsewhere...)
	}
	return found(Error, "ports", where, "cannot listen: "+err.Error(), "correct listen."+l.Transport)
}

// Elsewhere is the command that starts a node on other ports than those that are taken. Listeners that share a port
// number move together, for phones are told one; nil when nothing is taken.
func Elsewhere(c config.Listen, sockets []Socket, command string) []string {
	listeners := Listeners(c)
	moved := map[uint16]uint16{}
	for _, l := range listeners {
		if _, taken := l.takenBy(sockets); taken && moved[l.Port] == 0 {
			moved[l.Port] = freePort(l.Port, listeners, sockets, moved)
		}
	}
	var words []string
	for _, l := range listeners {
		if to := moved[l.Port]; to != 0 {
			host, _, _ := net.SplitHostPort(l.Text)
			words = append(words, config.Variable("listen."+l.Transport)+"="+net.JoinHostPort(host, strconv.Itoa(int(to))))
		}
	}
	if len(words) == 0 {
		return nil
	}
	return []string{strings.Join(append(words, command), " ")}
}

// freePort is the next even one above port that neither a socket nor a listener has, 0 if there is none.
func freePort(port uint16, listeners []Listener, sockets []Socket, moved map[uint16]uint16) uint16 {
	used := map[uint16]bool{}
	for _, s := range sockets {
		used[s.Addr.Port()] = true
	}
	for _, l := range listeners {
		used[l.Port] = true
	}
	for n := int(port) + 2; n <= 65535; n += 2 {
		if p := uint16(n); !used[p] && !slices.Contains(values(moved), p) {
			return p
		}
	}
	return 0
}

func values(m map[uint16]uint16) []uint16 {
	var all []uint16
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// Busy says who has the ports that a node could not take, and the command that uses others; "" when that is not to be
// seen.
func Busy(c config.Listen, sockets []Socket, command string) string {
	has := map[string][]string{}
	var who []string
	for _, l := range Listeners(c) {
		s, taken := l.takenBy(sockets)
		if !taken {
			continue
		}
		if has[s.Holder()] == nil {
			who = append(who, s.Holder())
		}
		has[s.Holder()] = append(has[s.Holder()], l.Transport+" "+l.Text)
	}
	if len(who) == 0 {
		return ""
	}
	for i, holder := range who {
		who[i] = holder + " has " + strings.Join(has[holder], ", ")
	}
	return fmt.Sprintf("%s; to use another port: %s", strings.Join(who, "; "), strings.Join(Elsewhere(c, sockets, command), " "))
}
