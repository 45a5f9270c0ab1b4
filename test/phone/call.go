package phone

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// State is how far a call has come.
type State string

// The states of a call. An outgoing call is Calling until its final answer, an incoming one Alerting until it is answered.
const (
	Calling  State = "calling"
	Alerting State = "alerting"
	Up       State = "up"
	Ended    State = "ended"
)

// Call is one dialog of the phone with its sound.
type Call struct {
	// set once
	phone    *Phone
	outgoing bool
	dialled  DialOptions
	callID   string
	localTag string
	media    *Media
	web      *browser      // nil = no browser
	keys     []Crypto      // of SDES
	up       chan struct{} // closed when it is answered
	ended    chan struct{}
	order    sync.Mutex // held from the choice of a request's CSeq until it is sent
	turn     sync.Mutex // held for one offer of ours and its answer: the next one waits (RFC 3261 §14.1)

	// guarded by phone.mu
	state     State
	remoteTag string
	local     string // From or To value of our side, without tag
	remote    string
	target    string
	routes    []string
	localSeq  uint32
	remoteSeq uint32
	changing  uint32 // CSeq of the newest change that the peer has asked for
	sdp       offer  // what we said last
	peer      Description
	invite    *Message // the INVITE that began it; the outgoing one with credentials
	inviteOn  *link
	final     *Message // final answer to our INVITE
	why       string   // "local", "remote", "cancelled", "rejected", "vanished"
	last      *Message // the BYE, CANCEL or final answer that ended it
	times     Times
	acked     chan struct{} // closed at the ACK of our answer
	ackSeen   bool
	holding   bool
	offering  int     // re-INVITEs of the phone's own under way
	early     bool    // an incoming call that may be heard before it is answered
	both      []Codec // in common with the peer
	refers    []*Referral
	progress  []int
	rseq      int           // of the newest provisional answer that wants a PRACK
	pracked   chan struct{} // closed by the PRACK that ours waits for
	pracks    int
	cancelled bool
}

// Times are the moments of a call as the phone saw them.
type Times struct {
	Sent     time.Time // the INVITE that was not challenged any more
	Ringing  time.Time // first provisional answer above 100
	Answered time.Time // 2xx received or sent
	Ended    time.Time
}

// DialOptions changes what an INVITE says.
type DialOptions struct {
	NoSDP   bool   // no offer: it comes in the 200, the answer goes in the ACK
	Mum     bool   // with NoSDP: the ACK brings no answer, which RFC 3261 §13.2.1 forbids
	NoACK   bool   // the 200 is never acknowledged
	NoPrack bool   // nor a provisional answer that wants it
	SDP     []byte // sent in place of the phone's own offer
	Codecs  []Codec
	Headers []Header // added, or in place of those of the same name
}

func (p *Phone) newCall(outgoing bool) (*Call, error) {
	p.mu.Lock()
	phase, addr := p.phase, p.place.addr
	p.mu.Unlock()
	var m *Media
	var err error
	p.cfg.within(func() { m, err = openMedia(addr, uint16(lastSource.Add(1)%65535+1), phase, p.cfg.Quiet) })
	if err != nil {
		return nil, err
	}
	c := &Call{
		phone: p, outgoing: outgoing, localTag: token(6), media: m, state: Calling,
		up: make(chan struct{}), ended: make(chan struct{}), acked: make(chan struct{}),
	}
	c.sdp = offer{session: rand.Uint64() >> 2, version: 1, addr: told(m.Addr()), codecs: p.cfg.Codecs, direction: "sendrecv"}
	m.mu.Lock()
	m.hears = p.cfg.Hears
	m.mu.Unlock()
	if p.cfg.RTCP > 0 {
		m.reportEach(p.cfg.RTCP)
	}
	if err := c.secure(); err != nil {
		m.close()
		return nil, err
	}
	if !p.cfg.Quiet {
		p.mu.Lock()
		p.made = append(p.made, c)
		p.mu.Unlock()
	}
	return c, nil
}

// secure makes what the phone needs to protect the call's sound.
func (c *Call) secure() (err error) {
	cfg := c.phone.cfg
	switch cfg.SRTP {
	case Plain:
	case DTLS:
		cfg.within(func() { c.web, err = openBrowser(cfg, c.media) })
		c.media.mu.Lock()
		c.media.web = c.web
		c.media.mu.Unlock()
	default:
		c.keys = keysOf(cfg.suites())
		c.sdp.keys, c.sdp.twofold = c.keys, cfg.SRTP == TwoFold
		if cfg.SRTP == SAVP {
			c.sdp.profile = "RTP/SAVP"
		}
	}
	return err
}

// sayOffer is what the phone offers.
func (c *Call) sayOffer() []byte {
	c.phone.mu.Lock()
	o := c.sdp
	c.phone.mu.Unlock()
	if c.web == nil {
		return o.bytes()
	}
	body, err := c.web.offer(o.direction, o.restart)
	if err != nil && !c.media.over() {
		panic("offer of a browser: " + err.Error())
	}
	return body
}

// allow is what the phone serves.
const allow = "INVITE, ACK, CANCEL, BYE, PRACK, OPTIONS, REFER, NOTIFY, UPDATE, INFO, MESSAGE"

// Dial calls a URI, or a user of the phone's own domain, and returns at once.
func (p *Phone) Dial(to string, o ...DialOptions) (*Call, error) {
	var opt DialOptions
	if len(o) > 0 {
		opt = o[0]
	}
	if !strings.Contains(to, ":") {
		to = "sip:" + to + "@" + p.cfg.host()
	}
	c, err := p.newCall(true)
	if err != nil {
		return nil, err
	}
	c.dialled = opt
	if opt.Codecs != nil {
		c.sdp.codecs = opt.Codecs
	}
	over, err := p.dialLink(to)
	if err != nil {
		c.media.close()
		return nil, fmt.Errorf("dial %s: %w", to, err)
	}
	c.callID, c.local, c.remote, c.target, c.localSeq = token(12), p.fromHeader(), "<"+to+">", to, 1
	req := p.request0("INVITE", to, to, c.callID, c.localTag, 1, over)
	req.Add("Contact", p.dialogContact())
	req.Add("Allow", p.cfg.allowed())
	req.Add("Supported", "replaces")
	c.fillBody(req, opt)
	for _, h := range opt.Headers {
		req.Set(h.Name, h.Value)
	}
	p.mu.Lock()
	p.calls[c.callID] = c
	p.mu.Unlock()
	go c.runInvite(req, over)
	return c, nil
}

// dialLink is the way of a new call: by the server, if the phone has one.
func (p *Phone) dialLink(uri string) (*link, error) {
	if p.server().IsValid() {
		return p.linkTo(p.server())
	}
	return p.route(uri, nil)
}

func (c *Call) fillBody(req *Message, opt DialOptions) {
	switch {
	case opt.SDP != nil:
		req.Body = opt.SDP
	case !opt.NoSDP:
		req.Body = c.sayOffer()
	default:
		return
	}
	req.Add("Content-Type", "application/sdp")
}

func (c *Call) runInvite(req *Message, over *link) {
	res, err := c.phone.exchange(req, over, c.nextSeq, c.onProvisional, func(sent *Message) {
		c.phone.mu.Lock()
		c.invite, c.inviteOn, c.times.Sent = sent, over, time.Now()
		c.phone.mu.Unlock()
	})
	if err != nil {
		c.media.close()
		c.end(err.Error(), nil)
		return
	}
	c.phone.mu.Lock()
	c.final = res
	c.phone.mu.Unlock()
	if res.Code >= 300 {
		c.media.close()
		c.end("rejected", res)
		return
	}
	c.answered(res)
}

func (c *Call) nextSeq() uint32 {
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	c.localSeq++
	return c.localSeq
}

func (c *Call) onProvisional(res *Message) {
	c.phone.mu.Lock()
	c.progress = append(c.progress, res.Code)
	if res.Code > 100 && c.times.Ringing.IsZero() {
		c.times.Ringing = time.Now()
	}
	offered := len(c.invite.Body) > 0
	c.phone.mu.Unlock()
	if rseq(res) > 0 {
		c.onReliable(res)
	}
	if len(res.Body) > 0 && offered {
		c.learn(res.Body, false)
	}
}

// answered takes the 2xx of our INVITE: the dialog is confirmed and the ACK goes out (RFC 3261 §13.2.2.4).
func (c *Call) answered(res *Message) {
	p := c.phone
	p.mu.Lock()
	c.confirm(res)
	c.times.Answered = time.Now()
	offered, opt := len(c.invite.Body) > 0, c.dialled
	p.mu.Unlock()
	var body []byte
	if len(res.Body) > 0 {
		c.learn(res.Body, !offered)
		if !offered && !opt.Mum {
			body = c.describe()
		}
	}
	if !opt.NoACK {
		c.ack(res, body)
	}
	p.mu.Lock()
	if c.state == Calling {
		c.state = Up
		close(c.up)
	}
	late := c.cancelled
	p.mu.Unlock()
	if late { // the 2xx crossed our CANCEL, §15
		go c.Hangup()
	}
}

func (c *Call) confirm(res *Message) {
	c.remoteTag = Param(res.Get("To"), "tag")
	if contact := res.Get("Contact"); contact != "" {
		c.target = AddrURI(contact)
	}
	if rr := res.All("Record-Route"); len(rr) > 0 {
		c.routes = nil
		for i := len(rr) - 1; i >= 0; i-- {
			c.routes = append(c.routes, rr[i])
		}
	}
}

func (c *Call) ack(res *Message, body []byte) {
	n, _ := res.CSeq()
	ack, to, err := c.build("ACK", n)
	if err != nil {
		return
	}
	if body != nil {
		ack.Body = body
		ack.Add("Content-Type", "application/sdp")
	}
	c.phone.remember(res.key(), ack, to)
	c.phone.send(ack, to)
}

// learn takes the peer's SDP: an answer to ours, or an offer to which ours becomes the answer. False if it does not fit.
func (c *Call) learn(body []byte, isOffer bool) bool {
	d, err := parseSDP(body, c.phone.cfg.takes)
	if err != nil {
		return false
	}
	if c.web != nil && c.web.hear(body, isOffer) != nil {
		return false
	}
	c.phone.mu.Lock()
	defer c.phone.mu.Unlock()
	ours := c.phone.cfg.Codecs
	if only := c.phone.behave.Only; only != nil && isOffer && c.state == Up {
		ours = only
	}
	both := common(d.Codecs, ours)
	if !talks(both) || !c.agreeKeys(d, isOffer) {
		return false
	}
	c.peer = d
	if isOffer {
		c.sdp.lines, c.sdp.index, c.sdp.profile, c.sdp.twofold = d.Lines, d.Index, d.Profile, false
		c.sdp.codecs, c.sdp.direction = both, answerDirection(d)
		if c.phone.cfg.OwnPT {
			c.sdp.codecs = common(c.phone.cfg.Codecs, both)
			slices.SortStableFunc(both, func(a, b Codec) int { return at(c.sdp.codecs, a) - at(c.sdp.codecs, b) })
		}
		c.sdp.version++
	}
	c.both = both
	c.apply()
	return true
}

// agreeKeys takes the keys of SDES out of the peer's SDP, or sees that none are needed.
func (c *Call) agreeKeys(d Description, isOffer bool) bool {
	ours := c.sdp.keys
	if isOffer {
		ours = c.keys
	}
	out, in, ok := settle(ours, d.Keys, isOffer)
	if !ok && (c.phone.cfg.SRTP == SAVP || c.web == nil && strings.Contains(d.Profile, "SAVP")) {
		return false
	}
	if isOffer {
		c.sdp.keys = nil
		if ok {
			c.sdp.keys = []Crypto{out}
		}
	}
	return c.media.protect(out, in) == nil
}

// apply sets the sound to what both sides have said. A phone that rings says nothing yet.
func (c *Call) apply() {
	both := c.both
	voice, keys := voiceAndKeys(both)
	theirs, ours := c.peer.Direction, c.sdp.direction
	sending := (ours == "sendrecv" || ours == "sendonly") && (theirs == "sendrecv" || theirs == "recvonly")
	may := c.state == Up || c.state == Calling || c.state == Alerting && c.early
	c.media.setControl(c.phone.cfg.zoned(c.peer.Control))
	c.media.agree(c.phone.cfg.zoned(c.peer.Addr), voice, slices.Concat(both, c.sdp.codecs), keys, sending && may && !c.holding)
}

// at is the position of a codec.
func at(codecs []Codec, c Codec) int { return slices.IndexFunc(codecs, c.same) }

// voiceAndKeys are what a phone sends of some codecs: the first, and telephone-event of its clock if there is one.
func voiceAndKeys(both []Codec) (voice, keys Codec) {
	keys = DTMF
	found := false
	for _, c := range both {
		if !c.event() && voice.Name == "" {
			voice = c
		}
	}
	for _, c := range both {
		if c.event() && (!found || c.Rate == voice.Rate && keys.Rate != voice.Rate) {
			keys, found = c, true
		}
	}
	return voice, keys
}

// answerDirection is what to answer to an offer's direction (RFC 3264 §6.1).
func answerDirection(d Description) string {
	switch d.Direction {
	case "sendonly":
		return "recvonly"
	case "recvonly":
		return "sendonly"
	case "inactive":
		return "inactive"
	}
	if d.Addr.Addr().IsUnspecified() { // RFC 2543's hold
		return "recvonly"
	}
	return "sendrecv"
}

// build makes a request of the dialog (RFC 3261 §12.2.1.1) and finds its way.
func (c *Call) build(method string, seq uint32) (*Message, *link, error) {
	p := c.phone
	p.mu.Lock()
	target, routes := c.target, append([]string(nil), c.routes...)
	local, remote, tag := c.local, c.remote, c.remoteTag
	p.mu.Unlock()
	to, err := p.route(target, routes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", method, err)
	}
	req := &Message{Method: method, URI: target}
	req.Add("Via", p.via(to))
	for _, r := range routes {
		req.Add("Route", r)
	}
	req.Add("Max-Forwards", "70")
	req.Add("From", local+";tag="+c.localTag)
	req.Add("To", remote+";tag="+tag)
	req.Add("Call-ID", c.callID)
	req.Add("CSeq", fmt.Sprintf("%d %s", seq, method))
	req.Add("User-Agent", p.cfg.UserAgent)
	if method == "INVITE" || method == "REFER" || method == "UPDATE" {
		req.Add("Contact", p.dialogContact())
	}
	return req, to, nil
}

// end notes how the call ended; the first word holds.
func (c *Call) end(why string, last *Message) {
	p := c.phone
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.state != Ended {
		c.endNow(why, last)
		c.forget()
	}
}

// endNow makes the call an ended one, which happens once; the phone's mu is held.
func (c *Call) endNow(why string, last *Message) {
	c.state, c.why, c.last, c.times.Ended = Ended, why, last, time.Now()
}

// forget lets go of a call that has ended, and tells who waits for its end; the phone's mu is held.
func (c *Call) forget() {
	close(c.ended)
	if c.phone.calls[c.callID] == c {
		delete(c.phone.calls, c.callID)
	}
}
