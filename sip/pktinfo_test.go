package sip

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// TestAnswerComesFromTheAddressAsked has a listener on every address answer at several of them. The sockets that ask are
// connected: an answer from another address never reaches them, as it would not pass a NAT.
func TestAnswerComesFromTheAddressAsked(t *testing.T) {
	for _, listen := range []string{":0", "0.0.0.0:0"} {
		a := start(t, func(o *Options) { o.Listen.UDP, o.Listen.TCP = listen, "off" })
		hosts := []string{"127.0.0.1", "127.0.0.2", "127.0.7.7"}
		if strings.HasPrefix(listen, ":") {
			hosts = append(hosts, "::1")
		}
		for _, host := range hosts {
			c, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(a.Addrs()["udp"].Port())))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = fmt.Fprintf(c, "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKp\r\nMax-Forwards: 70\r\n"+
				"From: <sip:alice@example.com>;tag=a\r\nTo: <sip:example.com>\r\nCall-ID: p-%s\r\nCSeq: 1 OPTIONS\r\n"+
				"User-Agent: as long as a phone's requests are, or there is no answer\r\nContent-Length: 0\r\n\r\n", c.LocalAddr(), host)
			_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
			b := make([]byte, 2000)
			n, err := c.Read(b)
			if err != nil || !strings.HasPrefix(string(b[:n]), "SIP/2.0 401") {
				t.Errorf("listening on %s, asked at %s: %q, %v", listen, host, b[:n], err)
			}
		}
	}
}
