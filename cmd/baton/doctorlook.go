package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"baton/config"
	"baton/doctor"
	"baton/sip"
	"baton/store"
	"baton/web"
)

// patient is what doctor looks at: the settings, and the running node if there is one.
type patient struct {
	config  config.Config
	node    *web.Node // nil = none runs
	devices []doctor.Device
	store   doctor.Store
	redis   error // what is wrong with the shared store, when no node runs
	sockets []doctor.Socket
	machine []doctor.Address
}

// examine looks at everything.
func (f *flags) examine(ctx context.Context, file string) []doctor.Finding {
	l, err := f.inForce(file)
	all := aboutSettings(l, err)
	p := patient{config: l.Config}
	p.config.Data = f.dir(l.Data)
	for _, a := range machineAddresses() {
		p.machine = append(p.machine, doctor.Address{IP: a.IP, On: a.On, Note: a.Note})
	}
	if web.Running(p.config.Data) {
		all = append(all, p.ask(ctx)...)
	} else {
		all = append(all, p.open())
	}
	if p.sockets, err = doctor.Sockets(); err != nil {
		all = append(all, doctor.Finding{Level: doctor.Note, Check: "ports", Text: "not all ports can be seen: " + err.Error()})
	}
	return append(all, p.look(ctx)...)
}

// look goes through the checks.
func (p *patient) look(ctx context.Context) []doctor.Finding {
	c, pid, step := p.config, 0, 0.0
	var running map[string]string
	if p.node != nil {
		pid, step, running = p.node.PID, p.node.ClockStep, p.node.Listen
	}
	p.store.Shared = c.Store.Redis != ""
	all := doctor.Data(c.Data, p.store)
	if p.store.Shared {
		all = append(all, p.aboutRedis())
	}
	all = append(all, doctor.Ports(c.Listen, p.sockets, pid, running, "baton serve --data "+doctor.Quote(c.Data))...)
	all = append(all, doctor.Addresses(c, p.machine)...)
	all = append(all, doctor.Packets(ctx, c, p.machine, p.sockets, running, doctor.ReadFirewall(ctx))...)
	all = append(all, doctor.Certificate(c, p.machine, time.Now())...)
	all = append(all, doctor.Clock(time.Now(), c.Data, step)...)
	all = append(all, doctor.Files(pid, c.Media.Ports))
	all = append(all, doctor.AudioPorts(c, p.sockets, doctor.ReadKernel(), pid)...)
	all = append(all, doctor.Names(ctx, net.DefaultResolver, c, p.machine)...)
	all = append(all, doctor.Service(ctx, places, c, p.machine)...)
	return append(all, doctor.Devices(c, p.devices)...)
}

// places is where a phone looks for a domain.
func places(ctx context.Context, scheme, domain string) ([]doctor.Place, error) {
	hops, err := sip.NewResolver().Resolve(ctx, sip.URI{Scheme: scheme, Host: domain})
	if errors.Is(err, sip.ErrNoHost) {
		err = nil
	}
	var all []doctor.Place
	for _, h := range hops {
		all = append(all, doctor.Place{Transport: h.Transport, Addr: h.Addr})
	}
	return all, err
}

// aboutSettings tells every error of the configuration and of variables; the rest is looked at all the same.
func aboutSettings(l config.Loaded, err error) []doctor.Finding {
	var all []doctor.Finding
	var wrong config.Errors
	switch {
	case errors.As(err, &wrong):
		for _, e := range wrong {
			all = append(all, doctor.Finding{Level: doctor.Error, Check: "settings", Text: e.Error(), Cure: []string{"correct it; baton check says when it is good"}})
		}
	case err != nil:
		all = append(all, doctor.Finding{Level: doctor.Error, Check: "settings", Text: err.Error(), Cure: []string{"name the right file: --config FILE"}})
	default:
		from := "the defaults; there is no baton.yaml here"
		if l.File != "" {
			from = l.File + " is good"
		}
		all = append(all, doctor.Finding{Check: "settings", Text: from})
	}
	for _, name := range config.Misspelt(os.Environ()) {
		all = append(all, doctor.Finding{
			Level: doctor.Warning, Check: "settings", Where: name, Text: "this variable names no setting and does nothing",
			Cure: []string{"baton config show   # lists all settings", "unset " + name},
		})
	}
	return all
}

// ask takes from the running node what it works with. A node that does not answer is looked at from outside.
func (p *patient) ask(ctx context.Context) []doctor.Finding {
	p.store.Running = true
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	client, err := web.Dial(p.config.Data)
	if err == nil {
		defer client.Close()
		err = p.askNode(ctx, client)
	}
	if err != nil {
		return []doctor.Finding{{
			Level: doctor.Error, Check: "node", Where: p.config.Data, Text: "a node runs but does not tell of itself: " + err.Error(),
			Cure: []string{"run doctor as the node's account or as root", "or restart the node"},
		}}
	}
	text := fmt.Sprintf("running since %s, pid %d, version %s", clock(p.node.Started, time.Now()), p.node.PID, p.node.Version)
	return []doctor.Finding{{Check: "node", Where: p.config.Data, Text: text}}
}

func (p *patient) askNode(ctx context.Context, client *web.Client) error {
	n, err := client.Node(ctx)
	if err != nil {
		return err
	}
	settings, err := client.Config(ctx)
	if err != nil {
		return err
	}
	c, err := config.FromSettings(settings)
	if err != nil {
		return err
	}
	devices, err := client.Devices(ctx, "")
	if err != nil {
		return err
	}
	p.node, p.config = &n, c
	for _, d := range devices {
		if at, err := netip.ParseAddrPort(d.Address); d.Here && err == nil {
			p.devices = append(p.devices, doctor.Device{User: d.User, Name: d.Name, Contact: d.Contact, Remote: at, Transport: d.Transport})
		}
	}
	p.boundTo()
	return nil
}

// boundTo puts the ports that the node has in the place of "any free one".
func (p *patient) boundTo() {
	for transport, at := range p.node.Listen {
		bound, err := netip.ParseAddrPort(at)
		to := map[string]*string{"udp": &p.config.Listen.UDP, "tcp": &p.config.Listen.TCP, "tls": &p.config.Listen.TLS, "web": &p.config.Listen.Web}[transport]
		if err == nil && to != nil && strings.HasSuffix(*to, ":0") {
			*to = bound.String()
		}
	}
}

// inspect reads the store that is configured.
func (p *patient) inspect() (store.Health, error) {
	if p.config.Store.Redis != "" {
		return store.InspectRedis(p.config, discard())
	}
	return store.Inspect(p.config.Data)
}

// aboutRedis tells how the shared store is: as the running node has it, or as it was found from here.
func (p *patient) aboutRedis() doctor.Finding {
	f := doctor.Finding{Check: "store", Where: p.config.Store.Redis.String(), Text: "Redis answers, its key fits"}
	err := p.redis
	switch {
	case p.node != nil && p.node.Store != nil && !p.node.Store.Healthy:
		err = errors.New(p.node.Store.Error)
	case p.node != nil:
		f.Text = "the node writes to it"
	case errors.Is(err, store.ErrNothing):
		err, f.Text = nil, "Redis answers; the first start makes what is needed in it"
	}
	if err != nil {
		f.Level, f.Text = doctor.Error, err.Error()
		f.Cure = []string{"redis-cli -u URL ping   # from this machine", "docs/cluster.md says what a node needs of Redis"}
	}
	return f
}

// open reads the store of a node that does not run.
func (p *patient) open() doctor.Finding {
	if !doctor.Open(p.config.Data) {
		return doctor.Finding{
			Level: doctor.Note, Check: "node", Where: p.config.Data, Text: "whether a node runs there is not for this account to see",
			Cure: []string{"sudo baton doctor"},
		}
	}
	h, err := p.inspect()
	if p.config.Store.Redis != "" {
		p.redis, err = err, os.ErrNotExist // what is wrong with it is told of it
	}
	p.store = doctor.Store{Err: err, Users: h.Users, Devices: len(h.Devices)}
	if errors.Is(err, store.ErrRunning) {
		p.store = doctor.Store{Running: true}
		return doctor.Finding{
			Level: doctor.Error, Check: "node", Where: p.config.Data, Text: "a process has the store open, but does not answer on the control socket",
			Cure: []string{"fuser -v " + doctor.Quote(p.config.Data) + "/users.db   # names it", "wait if it is just starting or stopping; else end it, and start the node again"},
		}
	}
	for _, d := range h.Devices {
		if b := d.Binding; b != nil && b.Expires.After(time.Now()) {
			p.devices = append(p.devices, doctor.Device{User: d.User, Name: d.Name, Contact: b.Contact, Remote: b.Flow.Remote, Transport: b.Flow.Transport})
		}
	}
	return doctor.Finding{
		Level: doctor.Note, Check: "node", Where: p.config.Data, Text: "no node runs on this data directory",
		Cure: []string{"baton serve --data " + doctor.Quote(p.config.Data)},
	}
}

// busy adds to a listener's error who has the port, and the command that takes another. What is not to be seen is left
// out; the error itself says which port it is.
func busy(c config.Config, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	sockets, _ := doctor.Sockets()
	words := make([]string, len(os.Args))
	for i, a := range os.Args {
		words[i] = doctor.Quote(a)
	}
	text := doctor.Busy(c.Listen, sockets, strings.Join(words, " "))
	if text == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, text)
}
