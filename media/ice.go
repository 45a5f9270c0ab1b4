package media

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/stun/v3"
)

// An agent is a stream's ICE agent, a lite one (RFC 8445 §2.5): it answers the checks of its peer, which is the controlling one, and sends on the
// pair that the peer has nominated. The peer's checks are its consent too (RFC 7675): thirty seconds after the last one nothing is sent any more.
//
// An ICE restart (§9) is begun by the peer with another ufrag in its offer. The answer has new credentials; what was nominated under those
// before goes on until the peer nominates under the new ones. Keys and sequence numbers know nothing of it.
type agent struct {
	// set once
	stream *Stream
	shared *shared

	out  atomic.Pointer[icePair] // where to send; nil = nowhere
	last atomic.Int64            // when the last valid check came
	in   sync.Mutex              // held for one packet; waited for only while two ways carry some at once

	dtls association

	mu     sync.Mutex
	cur    *credentials
	old    *credentials // before a restart that is not through yet; nil = none
	next   *credentials // of an answer that is not agreed on yet; nil = none
	pairs  []*icePair
	seen   [32]seenCheck
	seenAt int
	lost   bool // consent was, and it was told
	closed bool
}

// credentials are one generation's (RFC 8445 §5.3).
type credentials struct {
	ufrag string
	pwd   stun.MessageIntegrity
	their string // the peer's ufrag that they belong to; "" = not known yet
}

// icePair is a way on which a valid check came.
type icePair struct {
	route
	agent *agent

	checked atomic.Int64 // when the last one came

	// guarded by agent.mu
	of        *credentials
	their     string // ufrag that it was checked with
	rank      uint64
	nominated time.Duration // when it was last; 0 = never
	first     time.Duration // and first
}

// seenCheck is a request that was answered.
type seenCheck struct{ id, route uint64 }

const (
	consent    = 30 * time.Second       // RFC 7675 §5.1
	aggressive = 500 * time.Millisecond // in which a peer may nominate several pairs and mean the best of them (RFC 5245 §8.1.1.2)
	maxPairs   = 16                     // of one stream
)

var errNoPair = errors.New("no way to the peer: no valid check came, or none for 30 s")

func newAgent(s *Stream, p *shared) *agent {
	a := &agent{stream: s, shared: p, cur: newCredentials()}
	a.dtls.init(a)
	p.enlist(a.cur.ufrag, a)
	return a
}

// resume goes on with what another process had agreed with the peer: credentials, keys and, over UDP, the way. The peer notices nothing: its next
// check is answered.
func (a *agent) resume(p Place) {
	b := p.Browser
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shared.dismiss(a.cur.ufrag)
	a.cur = &credentials{ufrag: b.Ufrag, pwd: stun.MessageIntegrity(b.Pwd), their: b.Their}
	a.shared.enlist(b.Ufrag, a)
	a.dtls.resume(b)
	conn := a.shared.doorTo(p.Source)
	if conn == nil {
		return
	}
	now := a.stream.engine.clock()
	pair := &icePair{route: route{conn: conn, remote: p.Source}, agent: a, of: a.cur, their: b.Their, rank: 1 << 32, nominated: now, first: now}
	pair.checked.Store(int64(now))
	if a.shared.claim(pair, now) {
		a.pairs = append(a.pairs, pair)
		a.move(pair)
	}
}

func newCredentials() *credentials {
	return &credentials{ufrag: iceText(6), pwd: stun.MessageIntegrity(iceText(18))}
}

// iceText is so many random bytes in ice-chars (RFC 8839 §5.4): 8 and 24 characters.
func iceText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

// describe is what the agent says of itself with these credentials.
func (a *agent) describe(c *credentials) *ICE {
	at := a.stream.endpoint
	d := &ICE{Ufrag: c.ufrag, Pwd: Secret(c.pwd), Lite: true}
	d.Candidates = append(d.Candidates, Candidate{Foundation: "1", Transport: "udp", Priority: hostPriority(126, 0xffff), Addr: at, Type: "host"})
	if port := a.shared.tcpPort; port != 0 {
		at = netip.AddrPortFrom(at.Addr(), port)
		d.Candidates = append(d.Candidates, Candidate{
			Foundation: "2", Transport: "tcp", Priority: hostPriority(90, 0x7fff), Addr: at, Type: "host", TCPType: "passive",
		})
	}
	for i, own := range a.shared.besides(a.stream.endpoint.Addr()) {
		d.Candidates = append(d.Candidates, Candidate{
			Foundation: strconv.Itoa(3 + i), Transport: "udp", Priority: hostPriority(126, uint32(0xfffe-i)), Addr: own, Type: "host",
		})
	}
	return d
}

// hostPriority is that of a candidate of component 1 (RFC 8445 §5.1.2.1, RFC 6544 §4.2).
func hostPriority(kind, local uint32) uint32 { return kind<<24 | local<<8 | 255 }

// announced are the credentials that the stream's own offers have.
func (a *agent) announced() *ICE {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.describe(a.cur)
}

// answering are those of the answer to an offer of theirs: new ones if it restarts ICE.
func (a *agent) answering(their string) *ICE {
	a.mu.Lock()
	defer a.mu.Unlock()
	if their == "" || a.cur.their == "" || their == a.cur.their {
		return a.describe(a.cur)
	}
	return a.describe(a.restart(their))
}

// restart returns the credentials that belong to the peer's new ones.
func (a *agent) restart(their string) *credentials {
	if a.next != nil && a.next.their == their {
		return a.next
	}
	if a.next != nil {
		a.shared.dismiss(a.next.ufrag)
	}
	a.next = newCredentials()
	a.next.their = their
	if !a.closed {
		a.shared.enlist(a.next.ufrag, a)
	}
	return a.next
}

// agree takes what the peer's description says.
func (a *agent) agree(theirs ICE) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed, theirs.Ufrag == "":
	case a.cur.their == "":
		a.cur.their = theirs.Ufrag
		a.drop(func(p *icePair) bool { return p.their != theirs.Ufrag })
	case a.cur.their != theirs.Ufrag:
		c := a.restart(theirs.Ufrag)
		if a.old != nil {
			a.shared.dismiss(a.old.ufrag)
		}
		a.old, a.cur, a.next = a.cur, c, nil
	case a.next != nil: // an offer to restart was refused
		a.shared.dismiss(a.next.ufrag)
		a.next = nil
	}
}

// known are the credentials with a ufrag.
func (a *agent) known(ufrag string) *credentials {
	for _, c := range []*credentials{a.cur, a.next, a.old} {
		if c != nil && c.ufrag == ufrag {
			return c
		}
	}
	return nil
}

// check takes a request that names the agent, and says whether the peer has signed it.
func (a *agent) check(r *request, via route, now time.Duration) bool {
	a.mu.Lock()
	c := a.known(r.own)
	if a.closed || c == nil || !r.signedBy(c.pwd) || c.their != "" && c.their != r.their {
		a.mu.Unlock()
		a.shared.strays.stranger.Add(1)
		a.shared.refuse(r, via, now)
		return false
	}
	ok := a.fresh(r, via)
	var answer []stun.Setter
	var heard bool
	switch {
	case !ok:
	case len(r.incomprehensible) > 0:
		answer = []stun.Setter{stun.BindingError, failure(stun.CodeUnknownAttribute), stun.UnknownAttributes(r.incomprehensible)}
	case r.controlled:
		answer = []stun.Setter{stun.BindingError, failure(stun.CodeRoleConflict)} // a lite agent is never the controlling one
	case a.validate(c, r, via, now):
		heard = true
		answer = []stun.Setter{stun.BindingSuccess, &stun.XORMappedAddress{IP: via.remote.Addr().AsSlice(), Port: int(via.remote.Port())}}
	}
	a.mu.Unlock()
	if answer != nil {
		r.answer(via, now, append(answer, c.pwd, stun.Fingerprint)...)
	}
	if heard {
		a.dtls.ready()
	}
	return ok
}

var seed = maphash.MakeSeed()

// fresh says whether the request is new, or the same once more on the same way. One that was seen on another way is a copy: whoever sends it
// has listened, and would be sent what the peer shall have.
func (a *agent) fresh(r *request, via route) bool {
	id := binary.BigEndian.Uint64(r.m.TransactionID[4:])
	way := maphash.Comparable(seed, via.remote)
	for _, s := range a.seen {
		if s.id == id && s.route != 0 {
			return s.route == way
		}
	}
	a.seen[a.seenAt] = seenCheck{id, way}
	a.seenAt = (a.seenAt + 1) % len(a.seen)
	return true
}

// validate makes the way of a valid check a pair, and takes the nomination. False if the way is another stream's.
func (a *agent) validate(c *credentials, r *request, via route, now time.Duration) bool {
	i := slices.IndexFunc(a.pairs, func(p *icePair) bool { return p.route.same(&via) })
	p := &icePair{route: via, agent: a}
	if i >= 0 {
		p = a.pairs[i]
	} else {
		p.checked.Store(int64(now))
	}
	if via.tcp == nil && !a.shared.claim(p, now) { // also one that was ours: another's may have taken the address while we were silent
		return false
	}
	if i < 0 {
		a.room()
		a.pairs = append(a.pairs, p)
	}
	if p.of != c {
		p.of, p.nominated, p.first = c, 0, 0
	}
	p.their, p.rank = r.their, uint64(r.priority)
	if via.tcp == nil {
		p.rank |= 1 << 32
	}
	p.checked.Store(int64(now))
	a.last.Store(int64(now))
	if r.nominates {
		a.nominate(p, now)
	} else if a.out.Load() == nil {
		a.move(p) // until one is nominated
	}
	return true
}

// room makes some for a new pair: the one that was checked least lately goes.
func (a *agent) room() {
	if len(a.pairs) < maxPairs {
		return
	}
	out := a.out.Load()
	oldest := -1
	for i, p := range a.pairs {
		if p != out && (oldest < 0 || p.checked.Load() < a.pairs[oldest].checked.Load()) {
			oldest = i
		}
	}
	p := a.pairs[oldest]
	a.drop(func(o *icePair) bool { return o == p })
}

// nominate takes the peer's choice. Its last one holds; of several at once the best.
func (a *agent) nominate(p *icePair, now time.Duration) {
	if p.of != a.cur && a.nominatedUnder(a.cur) {
		return
	}
	p.nominated = now
	if p.first == 0 {
		p.first = now
	}
	cur := a.out.Load()
	if cur != nil && cur != p && cur.of == p.of && cur.nominated > 0 && now-cur.first < aggressive && cur.rank > p.rank {
		return
	}
	a.move(p)
	if p.of == a.cur && a.old != nil {
		a.shared.dismiss(a.old.ufrag)
		a.old = nil
	}
}

func (a *agent) nominatedUnder(c *credentials) bool {
	return slices.ContainsFunc(a.pairs, func(p *icePair) bool { return p.of == c && p.nominated > 0 })
}

// move sends on another pair from the next packet on.
func (a *agent) move(p *icePair) {
	a.out.Store(p)
	if p != nil {
		a.lost = false
	}
}

// drop forgets pairs; if the one that was sent on is among them, the one nominated last takes its place. True if none is left for it.
func (a *agent) drop(gone func(*icePair) bool) bool {
	var released []*icePair
	a.pairs = slices.DeleteFunc(a.pairs, func(p *icePair) bool {
		if !gone(p) {
			return false
		}
		if p.tcp == nil {
			released = append(released, p)
		}
		return true
	})
	if len(released) > 0 {
		a.shared.release(released...)
	}
	out := a.out.Load()
	if out == nil || slices.Contains(a.pairs, out) {
		return false
	}
	var best *icePair
	for _, p := range a.pairs {
		if p.nominated > 0 && (best == nil || p.nominated > best.nominated) {
			best = p
		}
	}
	a.move(best)
	return best == nil
}

// gone forgets the ways for which f says so, and tells if the stream has none any more.
func (a *agent) gone(now time.Duration, f func(*icePair) bool) {
	a.mu.Lock()
	tell := a.drop(f) && !a.lost && !a.closed
	a.lost = a.lost || tell
	a.mu.Unlock()
	if to := a.stream.lost.Load(); tell && to != nil {
		(*to)(a.stream.engine.wall(now))
	}
}

// tick looks whose consent has run out.
func (a *agent) tick(now time.Duration) {
	a.gone(now, func(p *icePair) bool { return now-time.Duration(p.checked.Load()) > consent })
	a.dtls.tick(now)
}

// media takes an SRTP or SRTCP packet that came on a pair of this stream.
func (a *agent) media(b []byte, from netip.AddrPort, now time.Duration, out outbox) {
	a.in.Lock()
	defer a.in.Unlock()
	a.stream.receive(b, from, now, out)
}

// dest is where packets go; the zero address: nowhere.
func (a *agent) dest() netip.AddrPort {
	if p := a.out.Load(); p != nil {
		return p.remote
	}
	return netip.AddrPort{}
}

// way names the transport that packets go by; "" = they cannot.
func (a *agent) way() string {
	switch p := a.out.Load(); {
	case p == nil:
		return ""
	case p.tcp != nil:
		return "tcp"
	}
	return "udp"
}

// WriteToUDPAddrPort sends on the present pair, wherever that leads: it is the stream's socket.
func (a *agent) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) {
	p := a.out.Load()
	if p == nil {
		return 0, errNoPair
	}
	if p.tcp == nil {
		return p.conn.WriteToUDPAddrPort(b, p.remote)
	}
	return p.tcp.write(b, a.stream.engine.clock())
}

// socket is the one that packets leave by, and their destination; nil = they leave by none.
func (a *agent) socket() (conn, netip.AddrPort) {
	p := a.out.Load()
	if p == nil || p.tcp != nil {
		return nil, netip.AddrPort{}
	}
	return p.conn, p.remote
}

// Close ends the agent: nobody finds it any more.
func (a *agent) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return net.ErrClosed
	}
	a.closed = true
	var conns []*tcpConn
	for _, p := range a.pairs {
		if p.tcp != nil {
			conns = append(conns, p.tcp)
		}
	}
	a.drop(func(*icePair) bool { return true })
	ufrags := []string{a.cur.ufrag}
	for _, c := range []*credentials{a.old, a.next} {
		if c != nil {
			ufrags = append(ufrags, c.ufrag)
		}
	}
	a.mu.Unlock()
	a.shared.dismiss(ufrags...)
	for _, c := range conns {
		c.finish()
	}
	a.dtls.close()
	return nil
}
