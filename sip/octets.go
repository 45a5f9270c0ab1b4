package sip

import (
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// octets is the line of TCP and TLS: messages one behind the other, each as long as its Content-Length says (RFC 3261 §18.3).
type octets struct {
	raw    net.Conn // under TLS
	conn   net.Conn
	framer *framer
}

// newOctets makes the line of a connection, under TLS if secure is given; started is called at a message's first octet.
func newOctets(c net.Conn, secure *tls.Config, started func()) *octets {
	o := &octets{raw: c, conn: c}
	if secure != nil {
		o.conn = tls.Server(c, secure)
	}
	o.framer = newFramer(o.conn)
	o.framer.started = started
	return o
}

func (o *octets) open(until time.Time) error {
	t, ok := o.conn.(*tls.Conn)
	if !ok {
		return nil
	}
	_ = t.SetWriteDeadline(until)
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	return nil
}

func (o *octets) next() ([]byte, error) { return o.framer.next() }

func (o *octets) await(until time.Time) { _ = o.conn.SetReadDeadline(until) }

func (o *octets) write(messages batch, patience time.Duration, wrote func(int)) error {
	for data := messages.data; len(data) > 0; {
		n := min(len(data), writeAtOnce)
		_ = o.conn.SetWriteDeadline(time.Now().Add(patience))
		if _, err := o.conn.Write(data[:n]); err != nil {
			return err
		}
		wrote(n)
		data = data[n:]
	}
	return nil
}

// cut closes under TLS, whose farewell would wait for the peer: those who send call it.
func (o *octets) cut() { _ = o.raw.Close() }

func (o *octets) farewell() { _ = o.conn.Close() }
