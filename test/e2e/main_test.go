// Package e2e tries the built baton with scripted phones and with real clients, in a network namespace of its own.
package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

func TestMain(m *testing.M) { node.Main(m, closeBrowsers) }

// need ends the test where a program is missing: as a failure where everything must be tried.
func need(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed (Debian package %s)", program, pkg)
	}
	t.Skipf("%s is not installed (Debian package %s)", program, pkg)
	return ""
}

// world is a node with the phones of its users.
type world struct {
	*node.Node
	t    *testing.T
	next int           // address of the next phone
	long time.Duration // of the tones that its softphones play; 0 = three minutes
}

func newWorld(t *testing.T, o ...node.Options) *world {
	t.Helper()
	var opt node.Options
	if len(o) > 0 {
		opt = o[0]
	}
	return &world{Node: node.Start(t, opt), t: t, next: 2}
}

// make opens a phone of a user at an address of its own, not registered yet.
func (w *world) make(user, model string, change ...func(*phone.Config)) *phone.Phone {
	w.t.Helper()
	w.next++
	cfg := phone.Config{
		User: user, Password: node.Password(user), Server: w.UDP, Addr: node.IP(w.next), UserAgent: model + "/1.0",
		Instance: fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", w.next), Phase: time.Duration(w.next) * time.Millisecond,
	}
	for _, f := range change {
		f(&cfg)
	}
	switch cfg.Transport {
	case "tcp":
		cfg.Server = netip.AddrPortFrom(cfg.Server.Addr(), w.TCP.Port())
	case "tls":
		cfg.Server = netip.AddrPortFrom(cfg.Server.Addr(), w.TLS.Port())
	}
	p, err := phone.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(p.Close)
	return p
}

// phone opens a phone and registers it.
func (w *world) phone(user, model string, change ...func(*phone.Config)) *phone.Phone {
	w.t.Helper()
	p := w.make(user, model, change...)
	if _, err := p.Register(10 * time.Minute); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// over is a phone's transport.
func over(transport string) func(*phone.Config) {
	return func(c *phone.Config) { c.Transport = transport }
}

// with is a phone's codecs.
func with(codecs ...phone.Codec) func(*phone.Config) {
	return func(c *phone.Config) { c.Codecs = codecs }
}

// dial calls and fails the test if the INVITE cannot even be sent.
func (w *world) dial(from *phone.Phone, to string, o ...phone.DialOptions) *phone.Call {
	w.t.Helper()
	c, err := from.Dial(to, o...)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// ringing waits for the call that reaches p.
func (w *world) ringing(p *phone.Phone) *phone.Call {
	w.t.Helper()
	c, err := p.Ringing(5 * time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// connect calls from one phone to a user whose only phone is to, and waits until they hear each other.
func (w *world) connect(from *phone.Phone, user string, to *phone.Phone) (out, in *phone.Call) {
	w.t.Helper()
	to.Behave(phone.AutoAnswer)
	out = w.dial(from, user)
	w.must(out.Await(5 * time.Second))
	in = w.ringing(to)
	w.talk(out, in)
	w.must(in.AwaitACK(5 * time.Second))
	return out, in
}

// talk waits until two calls hear each other.
func (w *world) talk(a, b *phone.Call) {
	w.t.Helper()
	if !a.Hears(b, 2*time.Second) {
		w.t.Fatalf("%s does not hear %s", a.Phone().Config().UserAgent, b.Phone().Config().UserAgent)
	}
	if !b.Hears(a, 2*time.Second) {
		w.t.Fatalf("%s does not hear %s", b.Phone().Config().UserAgent, a.Phone().Config().UserAgent)
	}
}

// ended waits for the end of calls.
func (w *world) ended(calls ...*phone.Call) {
	w.t.Helper()
	for _, c := range calls {
		w.must(c.AwaitEnd(5 * time.Second))
	}
}

// device is what baton devices --json tells of one.
type device struct {
	User, Name, Instance, Contact, Transport, Reason string
	Index                                            int
	Here                                             bool
}

func (w *world) devices(user string) []device {
	w.t.Helper()
	var list []device
	w.must(w.JSON(&list, "devices", user, "--json"))
	return list
}

// deviceOf is the device that a phone is known as.
func (w *world) deviceOf(p *phone.Phone) device {
	w.t.Helper()
	for _, d := range w.devices("") {
		if d.Instance != "" && d.Instance == p.Config().Instance {
			return d
		}
	}
	w.t.Fatalf("%s is not among %v", p.Config().UserAgent, w.devices(""))
	return device{}
}

// status waits for the refusal of a call and checks its status.
func (w *world) status(c *phone.Call, want int) *phone.Message {
	w.t.Helper()
	if err := c.AwaitEnd(40 * time.Second); err != nil {
		w.t.Fatal(err)
	}
	res := c.Final()
	if res == nil || res.Code != want {
		why, _ := c.Why()
		w.t.Fatalf("the call ended with %v (%s), want %d", line(res), why, want)
	}
	return res
}

func line(m *phone.Message) string {
	if m == nil {
		return "nothing"
	}
	return m.Line()
}

// atOnce runs a test's part beside its others, which all must wait for. Parts that do little but wait take one place among the tests that run at the
// same time so, not one each.
func atOnce(t *testing.T, all *sync.WaitGroup, name string, part func(t *testing.T)) {
	all.Go(func() { t.Run(name, part) })
}

// pause lets sound flow for a while; no outcome is awaited by it.
func pause(d time.Duration) { time.Sleep(d) }
