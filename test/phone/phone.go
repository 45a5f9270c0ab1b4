// Package phone is a SIP phone made for tests: scripted, precise and suspicious. It shares no code with baton, numbers every
// frame that it sends, and records every SIP message and every RTP packet that reaches it, with the time.
package phone

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a person would type into the phone, and how the phone is built.
type Config struct {
	User      string         // user part of its address: a name or a number
	Login     string         // digest username, User if empty
	Password  string         //
	Display   string         // name shown to the other side
	Server    netip.AddrPort // registrar and outbound proxy; zero for a phone that calls others directly
	Domain    string         // host of addresses-of-record, Server's address if empty
	Transport string         // "udp" (if empty), "tcp", "tls", "wss" (RFC 7118: Server is the web server)

	Addr        netip.Addr // its own address, for SIP and RTP
	Port        uint16     // its SIP port, 0 = any
	Listen      bool       // tcp, tls: take connections at Port too
	UserAgent   string
	Instance    string // +sip.instance URN without brackets, "" = none
	Outbound    bool   // all that it asks goes to Server, whatever the URI says
	RegID       int    // reg-id of its flow (RFC 5626), 0 = none, but 1 over wss
	ContactUser string // User if empty
	GRUU        bool   // asks for GRUUs when it registers, and uses the one it gets as the Contact of its dialogs
	Codecs      []Codec
	SRTP        string                         // how it protects its sound: Plain, OSRTP, TwoFold, SAVP, DTLS
	Suites      []string                       // of SDES, the preferred first; nil = AES_CM_128_HMAC_SHA1_80
	Takes       []string                       // the profiles of audio lines that it takes, with a "+" those that have keys; nil = by SRTP
	OwnPT       bool                           // answers with its own payload types and in its own order (RFC 3264 §6.1), not in the offer's
	Phase       time.Duration                  // when in the 20 ms its frames are sent
	RTCP        time.Duration                  // how often it reports by RTCP, 0 = never
	Hears       func(from netip.AddrPort) bool // what reaches its sound's port; nil = all: else a firewall stands before it
	Quiet       bool                           // remember no packets: for runs with very many calls
	Allow       string                         // what it says that it knows; "" = all that it does, and nothing in answers to INVITE

	Within func(open func()) // opens its sockets in another network namespace; nil = here
}

// allowed is the phone's Allow header.
func (c Config) allowed() string {
	if c.Allow != "" {
		return c.Allow
	}
	return allow
}

func (c Config) login() string {
	if c.Login != "" {
		return c.Login
	}
	return c.User
}

func (c Config) host() string {
	if c.Domain != "" {
		return c.Domain
	}
	return hostOf(c.Server.Addr())
}

// Behaviour says what the phone does when it is called. The zero value rings until the test does something.
type Behaviour struct {
	Silent   bool          // answers nothing to an INVITE, as one that has just vanished
	Reject   int           // refuses with this status, after After
	Answer   bool          // answers, after After
	After    time.Duration //
	Early    bool          // 183 with SDP and sound in place of 180
	HangUp   bool          // hangs up as soon as the ACK of its answer has come, without having said a word
	Ringless bool          // answers at once where the caller's headers ask for it (RFC 5373, Call-Info, Alert-Info)
	Talk     bool          // says Allow-Events: talk in its 180 and answers at NOTIFY talk
	Notify   int           // status for NOTIFY, 0 = 200 and it is obeyed
	Refuse   int           // status for re-INVITEs, 0 = accept, negative = none is answered
	Options  int           // status for OPTIONS in a call, 0 = 200, negative = none is answered
	Only     []Codec       // re-INVITEs are answered with these of its codecs, nil = all
	Late     time.Duration // re-INVITEs are answered after that
	Reliable bool          // its 180 and 183 want a PRACK
	MinSE    int           // refuses sessions of fewer seconds with 422
	Info     int           // status for INFO, 0 = 200
	Message  int           // status for MESSAGE, 0 = 200, negative = it is not answered
	Headers  []Header      // added to every answer to an INVITE that has none of the name
	Reason   string        // in place of the usual phrase of every answer to an INVITE
	Ask      int           // challenges every request but ACK and CANCEL with this status, 401 or 407, for the realm of Realm
	Realm    string
}

// AutoAnswer is a phone that is picked up at once.
var AutoAnswer = Behaviour{Answer: true}

// Logged is a SIP message that the phone sent or received.
type Logged struct {
	*Message
	At   time.Time
	Out  bool
	Peer netip.AddrPort
}

// Phone is one device with its sockets. All methods may be called from any goroutine.
type Phone struct {
	// set once
	cfg      Config // where it is at first; see place
	listener interface{ Close() error }
	readers  sync.WaitGroup
	regID    string
	madeUp   string // the host of a browser, which knows no address (RFC 7118 §5)
	cutOff   atomic.Bool

	mu       sync.Mutex
	place    place
	behave   Behaviour
	gruu     string // that it was told
	phase    time.Duration
	log      []Logged
	waiting  map[string]chan *Message // client transactions
	acks     map[string]*sentAck      // ACKs of final answers, for repeats
	answered map[string]*Message      // last answers of server transactions
	links    map[string]*link         // open connections by remote address
	left     []*link                  // connections of before a change of network
	calls    map[string]*Call
	subs     map[string]*Subscription // by Call-ID
	made     []*Call
	incoming chan *Call
	regSeq   uint32
	closed   bool
	stop     chan struct{}
}

type sentAck struct {
	msg *Message
	to  *link
}

var lastSource atomic.Uint32

// New opens the phone's sockets; it says nothing yet.
func New(cfg Config) (*Phone, error) {
	if cfg.Transport == "" {
		cfg.Transport = "udp"
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "testphone/1.0"
	}
	if cfg.ContactUser == "" {
		cfg.ContactUser = cfg.User
	}
	if cfg.Transport == "wss" && cfg.Instance != "" {
		cfg.RegID = max(cfg.RegID, 1)
	}
	if cfg.Codecs == nil {
		cfg.Codecs = []Codec{PCMU, DTMF}
	}
	p := &Phone{
		cfg: cfg, phase: cfg.Phase, regID: token(12), madeUp: token(6) + ".invalid", waiting: map[string]chan *Message{}, acks: map[string]*sentAck{},
		answered: map[string]*Message{}, links: map[string]*link{}, calls: map[string]*Call{}, subs: map[string]*Subscription{},
		incoming: make(chan *Call, 256), stop: make(chan struct{}),
	}
	p.place = place{addr: cfg.Addr, transport: cfg.Transport}
	if err := p.open(); err != nil {
		return nil, fmt.Errorf("open phone of %s: %w", cfg.User, err)
	}
	return p, nil
}

// Behave sets what the phone does when it is called from now on.
func (p *Phone) Behave(b Behaviour) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.behave = b
}

// SetPhase sets when in the 20 ms the frames of the phone's next calls are sent.
func (p *Phone) SetPhase(phase time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.phase = phase
}

// Incoming gives each call that reaches the phone, once it has seen its INVITE.
func (p *Phone) Incoming() <-chan *Call { return p.incoming }

// Ringing waits for the next incoming call.
func (p *Phone) Ringing(limit time.Duration) (*Call, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-time.After(limit):
		return nil, fmt.Errorf("%s: nobody called within %s", p.cfg.UserAgent, limit)
	}
}

// Config is what the phone was made with.
func (p *Phone) Config() Config { return p.cfg }

// URI is the address-of-record that others call.
func (p *Phone) URI() string { return "sip:" + p.cfg.User + "@" + p.cfg.host() }

// Contact is the phone's own address as it tells it to others: a URI.
func (p *Phone) Contact() string {
	if p.at().transport == "wss" {
		return "sip:" + p.cfg.ContactUser + "@" + p.madeUp + ";transport=ws"
	}
	uri := "sip:" + p.cfg.ContactUser + "@" + told(p.localAddr()).String()
	if t := p.at().transport; t != "udp" {
		uri += ";transport=" + t
	}
	return uri
}

// Log is every SIP message so far, in order.
func (p *Phone) Log() []Logged {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Logged(nil), p.log...)
}

// Forget empties the log and lets ended calls go: for runs with very many calls.
func (p *Phone) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log, p.made = nil, nil
}

// Made are all calls of the phone since it was made or told to forget, also those that have ended.
func (p *Phone) Made() []*Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*Call(nil), p.made...)
}

// Received are the messages that came in after since.
func (p *Phone) Received(since time.Time) []Logged {
	var in []Logged
	for _, m := range p.Log() {
		if !m.Out && m.At.After(since) {
			in = append(in, m)
		}
	}
	return in
}

// Calls are the calls that have not ended.
func (p *Phone) Calls() []*Call {
	p.mu.Lock()
	defer p.mu.Unlock()
	var live []*Call
	for _, c := range p.calls {
		if c.state != Ended {
			live = append(live, c)
		}
	}
	return live
}

// Close hangs up what is left, unless the phone is cut off, says nothing else and closes all sockets.
func (p *Phone) Close() {
	if !p.cutOff.Load() {
		for _, c := range p.Calls() {
			c.Hangup()
		}
	}
	p.Vanish()
}

// Vanish closes all sockets without a word, like a phone whose plug was pulled.
func (p *Phone) Vanish() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	close(p.stop)
	calls := p.calls
	p.calls = map[string]*Call{}
	for _, l := range p.links {
		l.close()
	}
	for _, l := range p.left {
		l.close()
	}
	p.mu.Unlock()
	if at := p.at(); at.udp != nil {
		at.udp.close()
	}
	if p.listener != nil {
		p.listener.Close()
	}
	for _, c := range calls {
		c.media.close()
		c.end("vanished", nil)
	}
	p.readers.Wait()
}
