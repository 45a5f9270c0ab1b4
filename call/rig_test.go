package call_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"baton/call"
	"baton/config"
	"baton/media"
	"baton/registrar"
	"baton/sip"
	"baton/store"
	"baton/test/phone"
	"baton/web"
)

// The phones share one clock for the life of the process; everything else must be gone.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("baton/test/phone.(*frameClock).run"))
}

// rig is a whole node in this process, on loopback, with phones that share no code with it.
type rig struct {
	t      *testing.T
	name   string
	agent  *sip.Agent
	log    *slog.Logger
	web    netip.AddrPort // where phones come by WebSocket, once website was asked for
	webAt  netip.AddrPort // where that is to be; zero = anywhere
	webrtc int            // port of browsers' audio
	b      *call.B2BUA
	reg    *registrar.Registrar
	engine *media.Engine
	store  *store.Bolt
	server netip.AddrPort
	faults *faultyStore
	tcp    netip.AddrPort
	tls    netip.AddrPort // where phones come by TLS, if listensTLS was asked for
	pass   map[string]string
	drain  func() // ends the calls as SIGTERM does
	dir    string // of the store
	stops  []func()
	cutOff atomic.Bool // the node reaches nobody
}

// lateCredentials lets the agent be made before the registrar that it asks.
type lateCredentials struct{ *registrar.Registrar }

func (l *lateCredentials) Secret(login string) (sip.Secret, bool) { return l.Registrar.Secret(login) }

func newRig(t *testing.T, tune func(*config.Config), logTo ...io.Writer) *rig {
	t.Helper()
	return openRig(t, t.TempDir(), "127.0.0.1:0", tune, logTo...)
}

// openRig opens a node on a store that may hold something, at an address.
func openRig(t *testing.T, dir, udp string, tune func(*config.Config), logTo ...io.Writer) *rig {
	t.Helper()
	return openNode(t, nil, "test", dir, udp, tune, logTo...)
}

// openNode opens a node under a name, on the store of another one if there is one.
func openNode(t *testing.T, beside *rig, name, dir, udp string, tune func(*config.Config), logTo ...io.Writer) *rig {
	t.Helper()
	cfg := config.Default()
	cfg.Call.Ring = 5 * time.Second
	cfg.Listen.TLS = "off"
	cfg.Media.Mode = "relay"
	cfg.Media.WebRTC = 30000 + int(webPort.Add(1)%2700)
	if tune != nil {
		tune(&cfg)
	}
	level := slog.LevelError + 1
	if os.Getenv("BATON_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	var out io.Writer = os.Stderr
	if len(logTo) > 0 {
		out, level = logTo[0], slog.LevelInfo
		if l, ok := out.(interface{ level() slog.Level }); ok {
			level = l.level()
		}
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	var db *store.Bolt
	var err error
	if beside != nil {
		db = beside.store
	} else {
		db, err = store.Open(dir, log)
		must(t, err)
	}
	users := &lateCredentials{}
	r := &rig{t: t, name: name, dir: dir, store: db, faults: newFaultyStore(db, dir), pass: map[string]string{}, webrtc: cfg.Media.WebRTC}
	if beside == nil {
		r.whenStopped(func() { db.Close() })
	}
	agent, err := newAgent(udp, cfg.Listen.TLS, sip.Options{
		Realm: db.Realm(), Secret: db.Secret(),
		InDialog: []string{"REFER", "UPDATE", "INFO", "MESSAGE", "SUBSCRIBE", "PUBLISH", "NOTIFY"}, Accept: call.Types, Events: call.Events, Credentials: users, Log: log, FlowClosed: func(f sip.Flow) { r.reg.FlowClosed(f) },
		Handlers: map[string]func(*sip.Exchange){
			"REGISTER": func(x *sip.Exchange) { r.reg.Register(x) }, "INVITE": func(x *sip.Exchange) { r.b.Invite(x) },
			"MESSAGE": func(x *sip.Exchange) { r.b.Message(x) }, "SUBSCRIBE": func(x *sip.Exchange) { r.b.Subscribe(x) },
			"REFER": func(x *sip.Exchange) { r.b.Refer(x) }, "PUBLISH": func(x *sip.Exchange) { r.b.Publish(x) },
			"NOTIFY": func(x *sip.Exchange) { r.b.Publish(x) },
		},
	})
	must(t, err)
	r.agent, r.log = agent, log
	r.reg, err = registrar.New(registrar.Options{Agent: agent, Store: db, Journal: db, Log: log, Realm: db.Realm(), Node: name})
	must(t, err)
	users.Registrar = r.reg
	r.engine, err = media.NewEngine(media.Options{Config: cfg.Media, Advertise: cfg.Advertise, Secret: slices.Concat(db.Secret(), []byte(name)), Log: log})
	must(t, err)
	r.b = call.New(call.Options{
		Config: cfg.Call, Codes: cfg.Codes, Media: cfg.Media, Rights: call.Rights{Groups: cfg.Groups, Watch: cfg.Watch}, Node: name, Owner: name, Agent: agent, Engine: r.engine, Registrar: r.reg,
		Store: r.faults, Secret: db.Secret(), Journal: db, Log: log, CutOff: r.cutOff.Load,
	})
	r.server, r.tcp, r.tls = agent.Addrs()["udp"], agent.Addrs()["tcp"], agent.Addrs()["tls"]
	must(t, r.b.Restore())
	if beside == nil {
		r.run(db.Run)
	}
	r.run(agent.Run, r.reg.Run, r.engine.Run)
	r.drain = r.run(r.b.Run)
	return r
}

// webPort makes the UDP ports for browsers of this process's nodes different ones.
var webPort = func() *atomic.Uint32 {
	var n atomic.Uint32
	n.Store(rand.Uint32N(2700))
	return &n
}()

// tlsBesideUDP is TLS at the port of UDP, so that a phone may change from one to the other; there is no TCP then.
const tlsBesideUDP = "beside"

// listensTLS has a node serve phones over TLS too.
func listensTLS(c *config.Config) { c.Listen.TLS = "127.0.0.1:0" }

// newAgent makes an agent that listens at one port for UDP and TCP, so that a phone may change from one to the other: at the
// port of at, 0 = any.
func newAgent(at, secure string, o sip.Options) (agent *sip.Agent, err error) {
	if secure != "off" {
		if o.TLS, err = phone.Certificate(); err != nil {
			return nil, err
		}
	}
	if !strings.HasSuffix(at, ":0") {
		o.Listen = config.Listen{UDP: at, TCP: at, TLS: secure}
		return sip.NewAgent(o)
	}
	host := strings.TrimSuffix(at, ":0")
	for range 50 {
		at = fmt.Sprintf("%s:%d", host, 50000+rand.IntN(10000))
		if o.Listen = (config.Listen{UDP: at, TCP: at, TLS: secure}); secure == tlsBesideUDP {
			o.Listen.TCP, o.Listen.TLS = "off", at
		}
		if agent, err = sip.NewAgent(o); err == nil {
			return agent, nil
		}
	}
	return nil, err
}

// run starts the parts and, at the test's end, stops them from the last to the first. It gives the way to stop the last.
func (r *rig) run(parts ...func(context.Context) error) (stop func()) {
	for _, part := range parts {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := part(ctx); err != nil && ctx.Err() == nil {
				r.t.Errorf("a part of the node stopped: %v", err)
			}
		}()
		stop = func() {
			cancel()
			<-done
		}
		r.whenStopped(stop)
	}
	return stop
}

// whenStopped has f run when the node stops, which is at the test's end at the latest; what came last comes first.
func (r *rig) whenStopped(f func()) {
	f = sync.OnceFunc(f)
	r.stops = append(r.stops, f)
	r.t.Cleanup(f)
}

// stop stops the node as SIGTERM does.
func (r *rig) stop() {
	for _, f := range slices.Backward(r.stops) {
		f()
	}
}

// website is a TLS server that lets phones in by WebSocket; it is there from the first time it is asked for.
func (r *rig) website() netip.AddrPort {
	if !r.web.IsValid() {
		s := httptest.NewUnstartedServer(web.Phones(r.agent, nil, r.log))
		if r.webAt.IsValid() {
			s.Listener.Close()
			var err error
			s.Listener, err = net.Listen("tcp", r.webAt.String())
			must(r.t, err)
		}
		s.Config.ErrorLog = slog.NewLogLogger(r.log.Handler(), slog.LevelDebug)
		s.StartTLS()
		r.web = netip.MustParseAddrPort(s.Listener.Addr().String())
		r.whenStopped(s.Close)
	}
	return r.web
}

// over has a phone register over a transport.
func (r *rig) over(transport string) func(*phone.Config) {
	return func(c *phone.Config) {
		switch c.Transport = transport; transport {
		case "wss":
			c.Server = r.website()
		case "tls":
			c.Server = r.tls
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (r *rig) user(name, number string) {
	r.t.Helper()
	_, password, err := r.reg.AddUser(registrar.UserSpec{Name: name, Numbers: []string{number}, Display: name})
	must(r.t, err)
	r.pass[name] = password
}

// phone registers the n-th device of a user.
func (r *rig) phone(user string, n int, tune ...func(*phone.Config)) *phone.Phone {
	r.t.Helper()
	cfg := phone.Config{
		User: user, Password: r.pass[user], Display: user, Server: r.server, Addr: netip.MustParseAddr("127.0.0.1"),
		UserAgent: fmt.Sprintf("phone%c/1.0", 'a'-1+n), Instance: fmt.Sprintf("urn:uuid:%s-%d", user, n),
		Phase: time.Duration(n) * 3 * time.Millisecond,
	}
	for _, f := range tune {
		f(&cfg)
	}
	p, err := phone.New(cfg)
	must(r.t, err)
	r.t.Cleanup(p.Close)
	_, err = p.Register(10 * time.Minute)
	must(r.t, err)
	return p
}

// connect has from call to, who answers, and waits until they hear each other.
func (r *rig) connect(from, to *phone.Phone) (*phone.Call, *phone.Call) {
	r.t.Helper()
	to.Behave(phone.AutoAnswer)
	out, err := from.Dial(to.Config().User)
	must(r.t, err)
	in, err := to.Ringing(5 * time.Second)
	must(r.t, err)
	must(r.t, out.Await(5*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		r.t.Fatalf("%s and %s do not hear each other", from.Config().User, to.Config().User)
	}
	must(r.t, in.AwaitACK(5*time.Second))
	return out, in
}

// eventually waits for what must become true.
func (r *rig) eventually(what string, limit time.Duration, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// nothingLeft checks that the node holds nothing of a call any more.
func (r *rig) nothingLeft() {
	r.t.Helper()
	r.eventually("calls, dialogs, streams and records are gone", 12*time.Second, func() bool {
		calls, dialogs := r.b.Debug()
		records, err := r.store.Calls()
		stored, storedErr := r.store.Subscriptions()
		return err == nil && storedErr == nil && calls == 0 && dialogs == 0 && r.engine.OpenStreams() == 0 && len(records) == 0 &&
			len(stored) == r.b.Subscriptions() // of phones that are still there
	})
}
