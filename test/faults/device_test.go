package faults

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// device is a phone that does what phones do by themselves: it registers again and again, and looks for another server when its own does
// not answer.
type device struct {
	*phone.Phone
	c    *cluster
	home atomic.Int32
	stop chan struct{}
	done chan struct{}
}

// Phones register every few seconds, over UDP less often, and give a server up that does not answer for a while.
const (
	patienceWithServer = 2 * time.Second
	lookEvery          = 500 * time.Millisecond
	registerEvery      = 6 * time.Second
)

// open makes the k-th device, at home at a node, and registers it.
func (c *cluster) open(user, model, transport string, k, home int) (*device, error) {
	d := &device{c: c, stop: make(chan struct{}), done: make(chan struct{})}
	d.home.Store(int32(home))
	p, err := phone.New(phone.Config{
		User: user, Password: node.Password(user), Server: d.server(transport), Domain: "soak.test", Addr: node.Host(network, atPhones+k), UserAgent: model + "/1.0",
		Transport: transport, Instance: fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", k), Phase: time.Duration(k%20) * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	d.Phone = p
	if _, err := p.Register(10 * time.Minute); err != nil {
		p.Close()
		return nil, err
	}
	go d.live()
	return d, nil
}

// server is the node that the device is at home at.
func (d *device) server(transport string) netip.AddrPort {
	m := d.c.nodes[int(d.home.Load())%len(d.c.nodes)]
	switch transport {
	case "tcp":
		return m.TCP
	case "tls":
		return m.TLS
	}
	return m.UDP
}

func (d *device) live() {
	defer close(d.done)
	next := time.Now().Add(time.Duration(rand.Int64N(int64(registerEvery))))
	for {
		select {
		case <-d.stop:
			return
		case <-time.After(lookEvery):
		}
		if d.Connected() && time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(registerEvery)
		if !d.register() {
			d.Disconnect()
			d.home.Add(1)
			d.Rehome(d.server(d.Config().Transport))
			next = time.Time{}
		}
	}
}

// turnTo has the device be at home at a node from now on.
func (d *device) turnTo(name string) {
	for i, m := range d.c.nodes {
		if m.name == name && d.home.Swap(int32(i)) != int32(i) {
			d.Rehome(d.server(d.Config().Transport))
			d.register()
		}
	}
}

// register says whether the server has taken the device soon enough.
func (d *device) register() bool {
	taken := make(chan error, 1)
	go func() {
		_, err := d.Phone.Register(10 * time.Minute)
		taken <- err
	}()
	select {
	case err := <-taken:
		return err == nil
	case <-time.After(patienceWithServer):
		return false
	case <-d.stop:
		return true
	}
}

// gone ends the device's life of its own, and how closes it.
func (d *device) gone(how func()) {
	select {
	case <-d.stop:
		return
	default:
	}
	close(d.stop)
	<-d.done
	how()
}
