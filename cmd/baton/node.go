package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"baton/call"
	"baton/cluster"
	"baton/cluster/edge"
	"baton/config"
	"baton/load"
	"baton/media"
	"baton/registrar"
	"baton/sip"
	"baton/store"
	"baton/web"
)

// node is one running baton: everything is open, and run makes it work.
type node struct {
	config    config.Loaded
	log       *slog.Logger
	store     store.Store
	metrics   *web.Metrics
	scrape    net.Listener // of the metrics, nil = off
	tail      *web.Tail
	load      *load.Meter
	cert      *certificate
	reload    <-chan struct{} // the certificate, now
	mesh      *cluster.Mesh   // the other nodes; nil = the node is alone
	heirs     *heirs          // nil = it takes no calls over
	callers   *callers        // of the other nodes; nil = the node is alone
	edge      *edge.Edge
	sites     sites
	given     given
	draining  atomic.Bool
	agent     *sip.Agent
	engine    *media.Engine
	registrar *registrar.Registrar
	calls     *call.B2BUA
	socket    net.Listener
	site      *web.Site
	whole     *web.Server  // the API of administrators
	user      *web.UserAPI // and of users
	port      *web.Port    // of the site, nil = off
	turn      *media.TURN  // on it, nil = the engine has no address for browsers
}

// directory is the registrar as the agent's credentials. The agent is made before the registrar and asks only once
// it runs.
type directory struct{ *registrar.Registrar }

// openNode opens store, sockets and all that works on them. On an error nothing stays open.
func openNode(c config.Loaded, log *slog.Logger) (*node, error) {
	if _, err := web.SocketPath(c.Data); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	if web.Running(c.Data) {
		return nil, fmt.Errorf("a node is already running on %s; stop it first, or choose another data directory", c.Data)
	}
	n := &node{config: c, log: log}
	if err := n.open(); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

// open opens the parts, from the bottom up.
func (n *node) open() (err error) {
	if n.store, err = store.OpenConfigured(n.config.Config, n.config.Data, nameOf(n.config.Config), n.log); err != nil {
		return err
	}
	n.store.Keep(n.config.Log.Keep, n.config.Log.MaxEntries)
	n.metrics = web.NewMetrics(n.store)
	n.tail = web.NewTail(n.metrics)
	if at := n.config.Listen.Metrics; at != "off" {
		if n.scrape, err = net.Listen("tcp", at); err != nil {
			return fmt.Errorf("listen.metrics: %w", err)
		}
	}
	if n.socket, err = web.Listen(n.config.Data); err != nil {
		return err
	}
	n.engine, err = media.NewEngine(media.Options{
		Config: n.config.Media, Advertise: n.config.Advertise, WebTCP: webTCP(n.config.Listen.Web), Secret: n.ownSecret(), Log: n.log,
	})
	if err != nil {
		return err
	}
	return n.openSIP()
}

// ownSecret is this node's alone, where the store's secret is that of all nodes.
func (n *node) ownSecret() []byte {
	if n.config.Store.Redis == "" {
		return n.store.Secret()
	}
	return append(slices.Clone(n.store.Secret()), nameOf(n.config.Config)...)
}

// openSIP opens the listeners and the three that work with them.
func (n *node) openSIP() (err error) {
	c := n.config
	if n.cert, err = openCertificate(c.Config, n.log); err != nil {
		return err
	}
	n.load = load.NewMeter(load.Limits{CPU: float64(c.Limits.CPU) / 100, Memory: load.Memory(uint64(c.Limits.Memory) << 20)}, n.log)
	if err := n.openMesh(); err != nil {
		return err
	}
	n.inherit()
	users := &directory{}
	options := sip.Options{
		Listen: c.Listen, Connections: c.Connections, Advertise: c.Advertise, TLS: n.cert.config(), Domain: c.Domain, Proxies: c.Proxies,
		Realm: n.store.Realm(), Secret: n.store.Secret(), Credentials: users, Log: n.log,
		Limits: c.Limits, Busy: n.busy,
		Handlers: map[string]func(*sip.Exchange){
			"REGISTER":  func(x *sip.Exchange) { n.registrar.Register(x) },
			"INVITE":    func(x *sip.Exchange) { n.calls.Invite(x) },
			"MESSAGE":   func(x *sip.Exchange) { n.calls.Message(x) },
			"SUBSCRIBE": func(x *sip.Exchange) { n.calls.Subscribe(x) },
			"REFER":     func(x *sip.Exchange) { n.calls.Refer(x) },
			"PUBLISH":   func(x *sip.Exchange) { n.calls.Publish(x) },
			"NOTIFY":    func(x *sip.Exchange) { n.calls.Publish(x) },
		},
		InDialog:   []string{"REFER", "UPDATE", "INFO", "MESSAGE", "SUBSCRIBE", "PUBLISH", "NOTIFY"},
		Events:     call.Events,
		Accept:     call.Types,
		Registered: func(login string, f sip.Flow) bool { return n.registrar.Registered(login, f) },
		FlowClosed: func(f sip.Flow) { n.registrar.FlowClosed(f) },
	}
	n.join(&options)
	if n.agent, err = sip.NewAgent(options); err != nil {
		return err
	}
	if n.mesh != nil {
		n.edge.Serve(n.agent)
		n.follow()
		n.exchangeSites()
	}
	name := nameOf(c.Config)
	n.registrar, err = registrar.New(registrar.Options{
		Agent: n.agent, Store: n.store, Journal: n.tail, Log: n.log, Realm: n.store.Realm(), Domain: c.Domain, Node: name, Clustered: n.mesh != nil,
		LastRun: n.store.LastRun(), Unreachable: c.Registrar.Unreachable,
	})
	if err != nil {
		return err
	}
	users.Registrar = n.registrar
	for _, s := range strangers(c.Config, func(name string) bool { _, ok := n.registrar.User(name); return ok }) {
		n.log.Warn("nobody has this name yet", "field", s[0], "user", s[1])
	}
	owner := ""
	if c.Store.Redis != "" {
		owner = name
	}
	n.calls = call.New(call.Options{
		Media:  n.config.Media,
		Owner:  owner,
		Config: c.Call, Codes: c.Codes, Rights: call.Rights{Groups: c.Groups, Watch: c.Watch}, Domain: c.Domain, Node: name, Agent: n.agent, Engine: n.engine,
		Registrar: n.registrar, Store: n.store, Secret: n.store.Secret(), Journal: n.tail, Log: n.log, LastRun: n.store.LastRun(),
		CutOff: n.cutOff,
	})
	if n.mesh != nil {
		n.exchangeCallers()
	}
	n.metrics.Watch(n.calls, n.registrar, n.held, n.store.Healthy)
	return n.openWeb()
}

// strangers are the fields of groups and watch with the names in them that are no user's: mistyped, or still to be added.
func strangers(c config.Config, known func(name string) bool) (all [][2]string) {
	see := func(field string, names ...string) {
		for _, name := range names {
			if name != "*" && !strings.HasPrefix(name, "@") && !known(name) {
				all = append(all, [2]string{field, name})
			}
		}
	}
	for _, group := range slices.Sorted(maps.Keys(c.Groups)) {
		see("groups."+group, c.Groups[group]...)
	}
	for _, who := range slices.Sorted(maps.Keys(c.Watch)) {
		see("watch."+who, who)
		see("watch."+who, c.Watch[who]...)
	}
	return all
}

// run works until ctx ends, then hangs up all calls, and stops what is under them after that. ready is called when
// everything runs.
func (n *node) run(ctx context.Context, ready func() error) error {
	defer n.store.Close()
	if err := n.calls.Restore(); err != nil { // before anything is read from the network
		return err
	}
	parts := []part{
		{"memory", newMemory().run},
		{"store", n.store.Run},
		{"sign of life", n.store.Beat},
	}
	if n.heirs != nil { // as long as anything speaks
		parts = append(parts, part{"silence", n.heirs.watch})
	}
	parts = append(parts, []part{
		{"load", n.load.Run},
		{"media", n.engine.Run},
		{"certificate", func(ctx context.Context) error { return n.cert.run(ctx, n.reload) }},
	}...)
	parts = append(parts, n.webParts()...) // below sip, which says farewell on its WebSockets
	parts = append(parts, part{"sip", n.agent.Run})
	if n.mesh != nil { // what calls end with still goes out over it
		parts = append(parts, part{"cluster", n.mesh.Run}, part{"callers", n.callers.run})
	}
	if n.heirs != nil {
		parts = append(parts, part{"takeover", n.heirs.run})
	}
	parts = append(parts, []part{
		{"registrar", n.registrar.Run},
		{"control socket", func(ctx context.Context) error { return web.Serve(ctx, n.socket, n.whole) }},
		{"calls", n.calls.Run},
		{"site", n.site.Run},
	}...)
	if n.scrape != nil {
		parts = append(parts, part{"metrics", func(ctx context.Context) error { return web.ServeMetrics(ctx, n.scrape, n.metrics) }})
	}
	defer context.AfterFunc(ctx, func() { n.draining.Store(true) })()
	return runParts(ctx, ready, parts...)
}

// api is what the control socket answers.
func (n *node) api() *web.Server {
	listen := map[string]string{}
	for transport, at := range n.addrs() {
		listen[transport] = at.String()
	}
	return web.NewServer(web.Options{
		Node: web.Node{
			Version: version(), PID: os.Getpid(), Started: time.Now(), Data: n.config.Data,
			Realm: n.store.Realm(), Listen: listen, Name: nameOf(n.config.Config),
		},
		Store:     n.storeHealth,
		Registrar: n.registrar, Calls: n.calls, Entries: n.store, Tail: n.tail, Metrics: n.metrics, Log: n.log, Held: n.held,
		Settings: n.config.Settings(), Name: nameOf(n.config.Config), Others: n.others(),
	})
}

// storeHealth is how the store is now.
func (n *node) storeHealth() web.StoreHealth {
	h := web.StoreHealth{Kind: "embedded", Healthy: true}
	if at := n.config.Store.Redis; at != "" {
		h.Kind, h.Place = "redis", at.String()
	}
	if err := n.store.Healthy(); err != nil {
		h.Healthy, h.Error = false, err.Error()
	}
	if since := n.store.HealthySince(); !since.IsZero() {
		h.Since = &since
	}
	if n.cutOff() {
		h.CutOff = n.heirs.fenced.Load()
	}
	return h
}

// held counts what a leak would leave behind.
func (n *node) held() (web.Held, error) {
	records, err := n.store.CountCalls()
	if err != nil {
		return web.Held{}, err
	}
	calls, dialogs := n.calls.Debug()
	var atPort web.PortCounts
	if n.port != nil {
		atPort = n.port.Counts()
	}
	relays := 0
	if n.turn != nil {
		relays = n.turn.Allocations()
	}
	return web.Held{
		Web: atPort, Relays: relays,
		Calls: calls, Dialogs: dialogs, Streams: n.engine.OpenStreams(), Transactions: n.agent.Transactions(), Records: records,
		Subscriptions: n.calls.Subscriptions(),
		Connections:   n.agent.Connections(), Traffic: n.agent.Traffic(), Load: n.load.Load(),
	}, nil
}

// close gives back what openNode has opened before it failed.
func (n *node) close() {
	if n.scrape != nil {
		n.scrape.Close()
	}
	if n.socket != nil {
		n.socket.Close()
	}
	if n.port != nil {
		n.port.Close()
	}
	if n.agent != nil { // running it for no time at all closes its listeners
		over, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.agent.Run(over)
	}
	if n.mesh != nil {
		n.mesh.Close()
	}
	if n.store != nil {
		n.store.Close()
	}
}

// busy says whether new calls are refused: for the load, or by policy because the store is out of reach.
func (n *node) busy() bool {
	return n.load.Busy() || n.config.Store.Degraded == config.DegradedRefuse && n.store.Healthy() != nil
}

// cutOff says whether the node moves no call, because others may have them.
func (n *node) cutOff() bool { return n.heirs != nil && !n.heirs.cutOff().IsZero() }

// nameOf is the node's name among the nodes that share its store.
func nameOf(c config.Config) string {
	if c.Cluster.Name != "" {
		return c.Cluster.Name
	}
	return nodeName()
}

func (n *node) name() string { return nameOf(n.config.Config) }

// nodeName is this machine's name.
func nodeName() string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "node"
}

// logger writes to w at the configured level and in the configured form.
func logger(c config.Log, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	o := &slog.HandlerOptions{Level: level}
	switch c.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	}
	return nil, errors.New("log format: " + c.Format + " is not known")
}
