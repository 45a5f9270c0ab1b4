package registrar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"baton/journal"
	"baton/sip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// office is a registrar with what is around it, all in memory. Its tests run in a synctest bubble.
type office struct {
	*Registrar
	t       testing.TB
	agent   *network
	store   *memory
	shared  Store // the same as others write it too; nil = nobody does
	journal *diary
	lastRun time.Time
	node    string // in its cluster; "" = n1, alone
	stop    func()
}

func newOffice(t testing.TB, users ...string) *office {
	t.Helper()
	o := &office{t: t, agent: &network{dead: map[sip.Flow]bool{}, deaf: map[string]bool{}}, store: newMemory(), journal: new(diary)}
	o.open()
	for i, u := range users {
		if _, _, err := o.AddUser(UserSpec{Name: u, Numbers: []string{fmt.Sprint(101 + i)}, Password: "secret"}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { o.stop() })
	return o
}

func (o *office) open() {
	o.t.Helper()
	var store Store = o.store
	if o.shared != nil {
		store = o.shared
	}
	r, err := New(Options{
		Agent: o.agent, Store: store, Journal: o.journal, Log: slog.New(slog.DiscardHandler), Realm: "baton", Node: cmp.Or(o.node, "n1"), Clustered: o.node != "",
		LastRun: o.lastRun, Unreachable: 40 * time.Minute, Grant: func(asked time.Duration) time.Duration { return asked },
	})
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { _ = r.Run(ctx) })
	o.Registrar, o.stop = r, sync.OnceFunc(func() { cancel(); runs.Wait() })
}

func (o *office) restart() {
	o.stop()
	o.open()
}

// followed counts the connections that the agent follows; the agent itself does, for they are its own.
func (o *office) followed() int {
	n := make(chan int)
	o.mail.Post(func() { n <- len(o.flows) })
	return <-n
}

// phone is what registers.
type phone struct {
	user, agent, contact, params string
	flow                         sip.Flow
	callID                       string
	cseq                         int
	headers                      []string
}

func udp(addr string) sip.Flow {
	return sip.Flow{Transport: "udp", Local: netip.MustParseAddrPort("[::]:5060"), Remote: netip.MustParseAddrPort(addr)}
}

func tcp(addr string, id uint64) sip.Flow {
	f := udp(addr)
	f.Transport, f.ID = "tcp", id
	return f
}

// desk is a phone without instance over UDP.
func desk(user, agent, addr string) *phone {
	return &phone{user: user, agent: agent, contact: "sip:" + user + "@" + addr, flow: udp(addr), callID: "c-" + addr}
}

// app is a phone with an instance.
func app(user, agent, instance string, flow sip.Flow) *phone {
	return &phone{
		user: user, agent: agent, contact: "sip:" + user + "@" + flow.Remote.String() + ";transport=" + flow.Transport,
		params: `;+sip.instance="<` + instance + `>"`, flow: flow, callID: "c-" + instance,
	}
}

// request writes a REGISTER. contacts are whole header values; none is the phone's own contact.
func (p *phone) request(t testing.TB, expires string, contacts ...string) *sip.Request {
	t.Helper()
	if contacts == nil {
		contacts = []string{"<" + p.contact + ">" + p.params}
	}
	p.cseq++
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("REGISTER sip:example.org SIP/2.0")
	line("Via: SIP/2.0/UDP %s;branch=z9hG4bK%d;rport", p.flow.Remote, p.cseq)
	line("Max-Forwards: 70")
	line("From: <sip:%s@example.org>;tag=a", p.user)
	line("To: <sip:%s@example.org>", p.user)
	line("Call-ID: %s", p.callID)
	line("CSeq: %d REGISTER", p.cseq)
	for _, c := range contacts {
		if c != "" {
			line("Contact: %s", c)
		}
	}
	if expires != "" {
		line("Expires: %s", expires)
	}
	if p.agent != "" {
		line("User-Agent: %s", p.agent)
	}
	for _, h := range p.headers {
		line("%s", h)
	}
	line("Content-Length: 0\r\n")
	r, err := sip.ParseRequest([]byte(b.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, b.String())
	}
	return r
}

// answer is what a REGISTER got.
type answer struct {
	code    int
	reply   sip.Reply
	pending bool
}

func (a *answer) contacts() []string { return values(a.reply, "Contact") }

func values(r sip.Reply, name string) []string {
	var out []string
	for _, h := range r.Headers {
		if h.Name == name {
			out = append(out, h.Value)
		}
	}
	return out
}

// send hands a REGISTER over and does not wait for its answer.
func (o *office) send(p *phone, expires string, contacts ...string) *answer {
	o.t.Helper()
	return o.deliver(p, p.request(o.t, expires, contacts...))
}

func (o *office) deliver(p *phone, req *sip.Request) *answer {
	a := &answer{pending: true}
	var mu sync.Mutex
	user := p.user
	if u, ok := o.User(p.user); ok {
		user = u.Name
	}
	o.register(req, user, p.flow, func(r sip.Reply) {
		mu.Lock()
		defer mu.Unlock()
		if !a.pending {
			o.t.Error("a REGISTER is answered twice")
		}
		a.code, a.reply, a.pending = r.Code, r, false
	})
	return a
}

// register hands a REGISTER over and waits for the answer, which must be code.
func (o *office) expect(code int, p *phone, expires string, contacts ...string) *answer {
	o.t.Helper()
	a := o.send(p, expires, contacts...)
	synctest.Wait()
	if a.pending || a.code != code {
		o.t.Fatalf("REGISTER of %s: %d %s (pending %v), want %d", p.contact, a.code, a.reply.Reason, a.pending, code)
	}
	return a
}

// list writes the devices as "index name here|away".
func (o *office) list(user string) string {
	var out []string
	for _, d := range o.Devices(user) {
		state := "away"
		if d.Here() {
			state = "here"
		}
		out = append(out, d.Label()+" "+state)
	}
	return strings.Join(out, ", ")
}

func (o *office) want(user, list string) {
	o.t.Helper()
	synctest.Wait()
	if got := o.list(user); got != list {
		o.t.Fatalf("devices of %s: %s\nwant: %s", user, got, list)
	}
}

// network answers OPTIONS for those that are not deaf.
type network struct {
	mu    sync.Mutex
	dead  map[sip.Flow]bool
	deaf  map[string]bool // by target
	code  int             // of answers, 0 = 200
	asked []string
	shut  []sip.Flow
	falls bool // panics
}

func (n *network) Do(ctx context.Context, out sip.Outgoing) (*sip.Response, error) {
	n.mu.Lock()
	n.asked = append(n.asked, out.Dialog.Target)
	dead, deaf, code, falls := n.dead[out.Dialog.Flow], n.deaf[out.Dialog.Target], n.code, n.falls
	n.mu.Unlock()
	if falls {
		panic("test")
	}
	if out.Method != "OPTIONS" {
		return nil, errors.New("only OPTIONS is asked")
	}
	switch {
	case dead:
		return nil, sip.ErrFlowGone
	case deaf:
		<-ctx.Done()
		return nil, ctx.Err()
	case code != 0:
		return nil, &sip.StatusError{Code: code, Response: new(sip.Response)}
	}
	return new(sip.Response), nil
}

func (n *network) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *network) CloseFlow(f sip.Flow) {
	n.set(func() { n.shut = append(n.shut, f) })
}

func (n *network) count(target string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := 0
	for _, a := range n.asked {
		if a == target {
			c++
		}
	}
	return c
}

func (n *network) Alive(f sip.Flow) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.dead[f]
}

// Proxy takes 198.51.100.7 for a proxy in front of the node.
func (n *network) Proxy(ip netip.Addr) bool { return ip == netip.MustParseAddr("198.51.100.7") }

func (n *network) Own(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "example.org" || host == "192.0.2.1" || err == nil && ip.IsLoopback()
}

func (n *network) Addrs() map[string]netip.AddrPort {
	any4, any6 := netip.MustParseAddrPort("[::]:5060"), netip.MustParseAddrPort("[::]:5061")
	return map[string]netip.AddrPort{"udp": any4, "tcp": any4, "tls": any6}
}

func (n *network) ContactURI(_ sip.Flow, user string) sip.URI {
	return sip.URI{Scheme: "sip", User: user, Host: "192.0.2.1"}
}

// memory is a Store that can fail and be slow.
type memory struct {
	mu      sync.Mutex
	users   map[string]User
	tokens  map[string]Token
	devices map[string]map[string]Device
	fail    error
	hold    []func() func() // writes that wait, while slow
	slow    bool
	bound   int // writes of devices
}

// writes counts those of devices.
func (m *memory) writes() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bound
}

func newMemory() *memory {
	return &memory{users: map[string]User{}, tokens: map[string]Token{}, devices: map[string]map[string]Device{}}
}

func (m *memory) Users() ([]User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.users)), m.fail
}

func (m *memory) PutUser(u User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.users[u.Name] = u
	}
	return m.fail
}

func (m *memory) RemoveUser(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.users, name)
	return m.fail
}

func (m *memory) Tokens() ([]Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.tokens)), m.fail
}

func (m *memory) PutToken(t Token) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail == nil {
		m.tokens[t.ID] = t
	}
	return m.fail
}

func (m *memory) RemoveTokens(ids []string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if m.fail == nil {
			delete(m.tokens, id)
		}
	}
	return m.fail
}

func (m *memory) Devices() ([]Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Device
	for _, of := range m.devices {
		out = append(out, slices.Collect(maps.Values(of))...)
	}
	return out, nil
}

func (m *memory) Bind(user string, put []Device, drop []string, done func(error)) {
	m.mu.Lock()
	m.bound++
	err := m.fail
	write := func() func() {
		if err == nil {
			if m.devices[user] == nil {
				m.devices[user] = map[string]Device{}
			}
			for _, key := range drop {
				delete(m.devices[user], key)
			}
			for _, d := range put {
				m.devices[user][d.Key] = d
			}
		}
		return func() { done(err) }
	}
	m.hold = append(m.hold, write)
	slow := m.slow
	m.mu.Unlock()
	if !slow {
		m.release()
	}
}

// release lets the writes that wait happen, and later ones at once.
func (m *memory) release() {
	m.mu.Lock()
	m.slow = false
	var tell []func()
	for _, write := range m.hold {
		tell = append(tell, write())
	}
	m.hold = nil
	m.mu.Unlock()
	for _, done := range tell { // without the lock: who is told may write
		done()
	}
}

func (m *memory) set(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// diary is a Journal that can be read.
type diary struct {
	mu      sync.Mutex
	entries []journal.Entry
}

func (d *diary) Append(e journal.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, e)
}

// kinds are the entries of a kind so far.
func (d *diary) kinds(k journal.Kind) (all []journal.Entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if e.Kind == k {
			all = append(all, e)
		}
	}
	return all
}

// take takes the entries since the last time.
func (d *diary) take() []journal.Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.entries
	d.entries = nil
	return taken
}

// lines takes what was written since the last time.
func (d *diary) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for _, e := range d.entries {
		s := fmt.Sprintf("%s %s %s", e.Kind, e.User, e.Device)
		if e.Text != "" {
			s += ": " + e.Text
		}
		if e.Duration != 0 {
			s += " after " + e.Duration.Truncate(time.Second).String()
		}
		out = append(out, s)
	}
	d.entries = nil
	return out
}

// bubble runs a test under a clock of its own.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
