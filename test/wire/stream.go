package wire

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// resent is how much later TCP delivers what was lost.
const resent = 300 * time.Millisecond

func (p *Path) accept() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.join(near) })
	}
}

// join connects to the node for a connection of the phone.
func (p *Path) join(near net.Conn) {
	d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: p.cfg.Phone.AsSlice()}}
	far, err := d.Dial("tcp", p.cfg.TCP.String())
	if err != nil {
		near.Close()
		return
	}
	p.mu.Lock()
	p.conns[near], p.conns[far] = true, true
	if p.closed {
		near.Close()
		far.Close()
	}
	p.mu.Unlock()
	phone, image := addr(near.RemoteAddr()), addr(far.LocalAddr())
	here, node := addr(near.LocalAddr()), addr(far.RemoteAddr())
	p.wg.Go(func() { p.pump(near, far, true, [2]swap{{here, node}, {phone, image}}) })
	p.pump(far, near, false, [2]swap{{node, here}, {image, phone}})
}

func addr(a net.Addr) netip.AddrPort {
	at := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// pump carries messages from one connection to the other, in order, each when it has travelled long enough; the end of one
// is the end of both.
func (p *Path) pump(from, to net.Conn, up bool, sip [2]swap) {
	defer to.Close()
	defer from.Close()
	r := bufio.NewReaderSize(from, 65536)
	for {
		msg, err := readMessage(r)
		if err != nil {
			return
		}
		p.mu.Lock()
		out, at := p.translate(msg, up, sip), p.arrival(up, time.Now())
		p.mu.Unlock()
		p.queue.add(at, func() { _, _ = to.Write(out) })
	}
}

// arrival is when a message arrives that enters a connection now: nothing is lost on it, and nothing overtakes. mu is held.
func (p *Path) arrival(up bool, now time.Time) time.Time {
	w, key := p.treatment(up, SIP), way{up, "tcp"}
	due := now.Add(w.Delay)
	if w.Jitter > 0 {
		due = due.Add(time.Duration(p.dice.Int64N(int64(w.Jitter))))
	}
	if p.dice.Float64() < w.Loss {
		due = due.Add(resent)
	}
	if last := p.ordered[key]; due.Before(last) {
		due = last
	}
	p.ordered[key] = due
	return due
}

// readMessage reads one SIP message, or one line break of a keep-alive.
func readMessage(r *bufio.Reader) ([]byte, error) {
	var msg []byte
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		msg = append(msg, line...)
		if strings.TrimRight(string(line), "\r\n") == "" {
			break
		}
		if len(msg) > 1<<16 {
			return nil, bufio.ErrBufferFull
		}
		length = max(length, lengthOf(string(line)))
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return append(msg, body...), err
}

// lengthOf reads a Content-Length line; 0 for any other.
func lengthOf(line string) int {
	name, value, _ := strings.Cut(line, ":")
	if name = strings.TrimSpace(name); !strings.EqualFold(name, "Content-Length") && !strings.EqualFold(name, "l") {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n < 0 || n > 1<<16 {
		return 0
	}
	return n
}
