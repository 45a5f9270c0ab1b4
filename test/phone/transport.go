package phone

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// link is a way to one peer: the UDP socket with an address, or a connection.
type link struct {
	network       string
	local, remote netip.AddrPort
	conn          net.Conn // tcp, tls; under ws
	ws            *websocket.Conn
	deaf          *atomic.Bool // what comes over it is lost: the phone is elsewhere
	udp           *net.UDPConn // udp
}

func (l *link) write(b []byte) error {
	if l.udp != nil {
		_, err := l.udp.WriteToUDPAddrPort(b, l.remote)
		return err
	}
	if l.ws != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return l.ws.Write(ctx, websocket.MessageText, b)
	}
	l.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
	_, err := l.conn.Write(b)
	return err
}

func (l *link) close() {
	switch {
	case l.udp != nil:
		l.udp.Close()
	case l.ws != nil:
		l.ws.CloseNow()
	default:
		l.conn.Close()
	}
}

func (l *link) to(remote netip.AddrPort) *link {
	other := *l
	other.remote = remote
	return &other
}

func hostOf(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// told is an address as it is told to others: without its zone, which is this machine's own (RFC 4007 §11.2).
func told(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// zoned is an address that others have told, as this phone reaches it.
func (c Config) zoned(a netip.AddrPort) netip.AddrPort {
	if zone := c.Addr.Zone(); zone != "" && a.Addr().IsLinkLocalUnicast() {
		return netip.AddrPortFrom(a.Addr().WithZone(zone), a.Port())
	}
	return a
}

// open opens the phone's own sockets.
func (p *Phone) open() (err error) {
	p.cfg.within(func() { err = p.openHere() })
	return err
}

func (c Config) within(open func()) {
	if c.Within == nil {
		open()
		return
	}
	c.Within(open)
}

func (p *Phone) openHere() error {
	at := netip.AddrPortFrom(p.cfg.Addr, p.cfg.Port)
	if p.cfg.Transport == "udp" {
		l, err := p.openUDP(at)
		p.mu.Lock()
		p.place.udp = l
		p.mu.Unlock()
		return err
	}
	if p.cfg.Listen {
		return p.listen(at)
	}
	return nil
}

// openUDP opens a socket; without a port at the one that has been without a phone for longest.
func (p *Phone) openUDP(at netip.AddrPort) (*link, error) {
	conn, err := listenUDP(at)
	if err != nil {
		return nil, err
	}
	conn.SetReadBuffer(1 << 20)
	l := &link{network: "udp", local: conn.LocalAddr().(*net.UDPAddr).AddrPort(), udp: conn, deaf: new(atomic.Bool)}
	p.readers.Add(1)
	go p.readUDP(l)
	return l, nil
}

func listenUDP(at netip.AddrPort) (conn *net.UDPConn, err error) {
	if at.Port() != 0 {
		return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	}
	for range 200 {
		if conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), sipPorts.next()))); err == nil {
			break
		}
	}
	return conn, err
}

func (p *Phone) listen(at netip.AddrPort) error {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return err
	}
	p.listener = l
	p.cfg.Port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	var config *tls.Config
	if p.cfg.Transport == "tls" {
		if config, err = Certificate(); err != nil {
			l.Close()
			return err
		}
	}
	p.readers.Add(1)
	go p.accept(l, config)
	return nil
}

func (p *Phone) accept(l *net.TCPListener, config *tls.Config) {
	defer p.readers.Done()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if config != nil {
			conn = tls.Server(conn, config)
		}
		p.adopt(conn, nil)
	}
}

// Certificate is a new one, for phones that are called directly over TLS.
func Certificate() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "testphone"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

// localAddr is the address at which the phone can be reached: its listener, else its connection to the server.
func (p *Phone) localAddr() netip.AddrPort {
	here := p.at()
	if here.udp != nil {
		return here.udp.local
	}
	if p.cfg.Listen {
		return netip.AddrPortFrom(p.cfg.Addr, p.cfg.Port)
	}
	if l, err := p.linkTo(p.server()); err == nil {
		return l.local
	}
	return netip.AddrPortFrom(here.addr, 9)
}

// linkTo is the way to a peer; a connection is made if none is open.
func (p *Phone) linkTo(remote netip.AddrPort) (*link, error) {
	p.mu.Lock()
	here := p.place
	if here.transport == "wss" { // a browser has no other way, wherever it is sent (RFC 7118 §5)
		if remote = p.cfg.Server; here.server.IsValid() {
			remote = here.server
		}
	}
	l, closed := p.links[remote.String()], p.closed
	p.mu.Unlock()
	if here.udp != nil {
		return here.udp.to(remote), nil
	}
	if l != nil {
		return l, nil
	}
	if closed {
		return nil, net.ErrClosed
	}
	conn, ws, err := p.connect(here, remote)
	if err != nil {
		return nil, err
	}
	if p.at() != here { // the phone has gone elsewhere meanwhile
		conn.Close()
		return p.linkTo(remote)
	}
	return p.adopt(conn, ws), nil
}

// connect makes a connection from where the phone is; ws is nil where that is none.
func (p *Phone) connect(here place, remote netip.AddrPort) (conn net.Conn, ws *websocket.Conn, err error) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: here.addr.AsSlice()}}
	p.cfg.within(func() { conn, err = d.Dial("tcp", remote.String()) })
	if err != nil || here.transport == "tcp" {
		return conn, nil, err
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	if err = secure.Handshake(); err == nil && here.transport == "wss" {
		ws, err = upgrade(secure, remote)
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("%s with %s: %w", here.transport, remote, err)
	}
	return secure, ws, nil
}

// upgrade makes a WebSocket for SIP of a connection (RFC 7118 §4.1), as a page of the server itself would.
func upgrade(secure net.Conn, remote netip.AddrPort) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	over := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return secure, nil }}
	ws, res, err := websocket.Dial(ctx, "wss://"+remote.String()+"/sip", &websocket.DialOptions{
		Subprotocols: []string{"sip"}, HTTPClient: &http.Client{Transport: over},
		HTTPHeader: http.Header{"Origin": {"https://" + remote.String()}},
	})
	if err != nil {
		return nil, err
	}
	if ws.Subprotocol() != "sip" {
		ws.CloseNow()
		return nil, fmt.Errorf("the subprotocol is %q", res.Header.Get("Sec-WebSocket-Protocol"))
	}
	ws.SetReadLimit(1 << 20)
	return ws, nil
}

// Disconnect closes the phone's connections, as a network that fails would.
func (p *Phone) Disconnect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.close()
	}
	p.links = map[string]*link{}
}

func (p *Phone) adopt(conn net.Conn, ws *websocket.Conn) *link {
	l := &link{
		network: p.at().transport, conn: conn, ws: ws, deaf: new(atomic.Bool),
		local:  conn.LocalAddr().(*net.TCPAddr).AddrPort(),
		remote: conn.RemoteAddr().(*net.TCPAddr).AddrPort(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		l.close()
		return l
	}
	if other := p.links[l.remote.String()]; other != nil { // two were opened at once
		p.left = append(p.left, other)
	}
	p.links[l.remote.String()] = l
	p.readers.Add(1)
	go p.readStream(l)
	return l
}

func (p *Phone) readUDP(l *link) {
	defer p.readers.Done()
	buf := make([]byte, 65536)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		if l.deaf.Load() {
			continue
		}
		if m, err := Parse(buf[:n]); err == nil {
			p.dispatch(m, l.to(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())))
		}
	}
}

func (p *Phone) readStream(l *link) {
	defer p.readers.Done()
	defer l.close()
	next := l.messages()
	for {
		m, err := next()
		if err != nil {
			break
		}
		if m != nil && !l.deaf.Load() {
			p.dispatch(m, l)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.links[l.remote.String()] == l {
		delete(p.links, l.remote.String())
	}
}

// messages gives what reads the next message from the connection; nil is a keep-alive.
func (l *link) messages() func() (*Message, error) {
	if l.ws == nil {
		r := bufio.NewReaderSize(l.conn, 65536)
		return func() (*Message, error) { return readMessage(r) }
	}
	return func() (*Message, error) {
		_, b, err := l.ws.Read(context.Background())
		if err != nil || strings.Trim(string(b), "\r\n") == "" {
			return nil, err
		}
		m, n, err := parseHead(b)
		if err != nil {
			return nil, err
		}
		if m.Body = b[n:]; !m.whole() { // RFC 7118 §4.2: one message in each, no more and no less
			return nil, errShort
		}
		return m, nil
	}
}

// readMessage reads one message from a stream; nil for a keep-alive (RFC 5626 §3.5.1).
func readMessage(r *bufio.Reader) (*Message, error) {
	var head []byte
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		if len(head) == 0 && string(line) == "\r\n" {
			return nil, nil
		}
		head = append(head, line...)
		if string(line) == "\r\n" {
			break
		}
		if len(head) > 1<<16 {
			return nil, errShort
		}
	}
	m, _, err := parseHead(head)
	if err != nil {
		return nil, err
	}
	size, _ := m.length()
	m.Body = make([]byte, size)
	_, err = io.ReadFull(r, m.Body)
	return m, err
}
