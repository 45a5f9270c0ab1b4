package sip

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// streamListener is one TCP or TLS listener.
type streamListener struct {
	net.Listener
	transport string
	local     netip.AddrPort
	tls       *tls.Config
}

// listen opens all listeners, or none.
func (a *Agent) listen() error {
	l := a.opt.Listen
	if on(l.UDP) {
		u, err := listenUDP(l.UDP)
		if err != nil {
			return listenError("udp", l.UDP, err)
		}
		a.udp = u
	}
	if on(l.TCP) {
		if err := a.listenStream("tcp", l.TCP, nil); err != nil {
			return err
		}
	}
	if on(l.TLS) {
		if a.opt.TLS == nil {
			return fmt.Errorf("listen on tls %s: there is no certificate", l.TLS)
		}
		return a.listenStream("tls", l.TLS, a.opt.TLS)
	}
	return nil
}

func on(addr string) bool { return addr != "" && addr != "off" }

// listenStream opens one listener. The kernel asks a silent peer whether it is there, so that a device whose network
// went away without a word is found out within half a minute.
func (a *Agent) listenStream(transport, addr string, cfg *tls.Config) error {
	alive := net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 4 * time.Second, Count: 4}
	lc := net.ListenConfig{KeepAliveConfig: alive, Control: giveUpUnacked}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return listenError(transport, addr, err)
	}
	a.listeners = append(a.listeners, &streamListener{l, transport, addrPort(l.Addr()), cfg})
	return nil
}

// listenError keeps of Go's error what a person needs: the address, the transport and the cause.
func listenError(transport, addr string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("listen on %s %s: %w", transport, addr, err)
}

// closeListeners closes every listener and connection; their goroutines end by it.
func (a *Agent) closeListeners() {
	if a.udp != nil {
		_ = a.udp.conn.Close()
	}
	for _, l := range a.listeners {
		_ = l.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.streams {
		s.close(endStopped)
	}
}

// Addrs are the bound addresses by transport.
func (a *Agent) Addrs() map[string]netip.AddrPort {
	m := make(map[string]netip.AddrPort)
	if a.udp != nil {
		m["udp"] = a.udp.local
	}
	for _, l := range a.listeners {
		m[l.transport] = l.local
	}
	return m
}
