package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/flood"
	"baton/test/phone"
)

// flooding begins a flood of the node from so many addresses; it is over when its channel is closed.
func (w *world) flooding(rate int, length time.Duration, sources int) (*flood.Flood, <-chan struct{}) {
	w.t.Helper()
	from, err := flood.Strangers(sources)
	w.must(err)
	f, err := flood.New(w.UDP, from...)
	w.must(err)
	w.t.Cleanup(f.Close)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Run(rate, length); err != nil {
			w.t.Error(err)
		}
	}()
	return f, done
}

// TestFloodBesideCalls sends 5,000 INVITEs a second without a password for ten seconds, five from one address and five as
// if from many: the calls lose no packet, a phone elsewhere registers all the time, no request is answered twice, little of
// one address is answered at all, and nothing is kept. make bench has it for longer.
func TestFloodBesideCalls(t *testing.T) {
	const rate, length, calls = 5000, 5 * time.Second, 10
	w, talk := talks(t, calls)
	carol := w.make("carol", "desk", func(c *phone.Config) { c.Addr = node.IP(15) })
	before, err := w.Debug()
	w.must(err)
	since := time.Now()
	var took []time.Duration
	for _, sources := range []int{1, 20_000} {
		f, done := w.flooding(rate, length, sources)
		for over := false; !over; {
			begin := time.Now()
			if _, err := carol.Register(time.Hour); err != nil {
				t.Errorf("carol's phone is not registered: %v", err)
			}
			took = append(took, time.Since(begin))
			select {
			case <-done:
				over = true
			case <-time.After(100 * time.Millisecond):
			}
		}
		pause(300 * time.Millisecond) // the last answers arrive
		c := f.Counts()
		t.Logf("%d addresses: %+v", sources, c)
		if c.Heard > c.Sent || c.HeardBytes > c.SentBytes*3/2 || c.Heard == 0 {
			t.Errorf("%d answers to %d requests, %d bytes to %d", c.Heard, c.Sent, c.HeardBytes, c.SentBytes)
		}
		if most := int64(100 * (10 + 3*length.Seconds())); sources == 1 && c.Heard > most {
			t.Errorf("one address was answered %d times, want %d at most", c.Heard, most)
		}
	}
	until := time.Now()
	after, err := w.Debug()
	w.must(err)
	if grown := int64(after.HeapBytes) - int64(before.HeapBytes); grown > 50<<20 || after.Traffic.Dropped["stranger"] == 0 {
		t.Errorf("the heap grew by %d MiB; dropped %v", grown>>20, after.Traffic.Dropped)
	}
	if p50 := phone.Quantile(took, 0.5); p50 > 500*time.Millisecond {
		t.Errorf("half of the REGISTERs took %s and more", p50)
	}
	t.Logf("%d REGISTERs: p50 %s, max %s; %+v", len(took), phone.Quantile(took, 0.5), phone.Quantile(took, 1), after.Traffic)
	pause(time.Second) // what is under way arrives
	for _, c := range talk {
		whole(t, c.out, c.in, since, until)
		whole(t, c.in, c.out, since, until)
		w.must(c.out.Hangup())
		w.ended(c.in)
	}
}

// TestBusyNode gives a node a limit of processor time that a flood from behind a phone's NAT exceeds: new calls are told
// to come later, the call that is up and registrations go on, and when it is over new calls are taken again.
func TestBusyNode(t *testing.T) {
	w := newWorld(t, node.Options{Config: "limits: {cpu: 10, source: 0}\n"})
	from, err := flood.Strangers(1)
	w.must(err)
	alice, bob := w.phone("alice", "desk"), w.phone("bob", "far")
	w.phone("carol", "desk", func(c *phone.Config) { c.Addr = from[0] })
	out, in := w.connect(alice, "bob", bob)

	f, done := w.flooding(8000, 20*time.Second, 1)
	w.Eventually(15*time.Second, "the node to be busy", func() error {
		pause(500 * time.Millisecond) // each look takes processor time, too
		if d, err := w.Debug(); err != nil || !d.Load.Busy {
			return fmt.Errorf("%+v, %v", d.Load, err)
		}
		return nil
	})
	res := w.status(w.dial(alice, "bob"), 503)
	if s, err := strconv.Atoi(res.Get("Retry-After")); err != nil || s < 5 || s > 15 {
		t.Errorf("Retry-After is %q", res.Get("Retry-After"))
	}
	if _, err := alice.Register(time.Hour); err != nil {
		t.Errorf("a registration is not renewed: %v", err)
	}
	w.talk(out, in)
	w.must(out.Hangup())
	w.ended(in)
	f.Close()
	<-done
	w.Eventually(30*time.Second, "the node not to be busy any more", func() error {
		pause(500 * time.Millisecond) // each look takes processor time, too
		if d, err := w.Debug(); err != nil || d.Load.Busy || d.Traffic.Refused["busy"] == 0 {
			return fmt.Errorf("%+v, refused %v, %v", d.Load, d.Traffic.Refused, err)
		}
		return nil
	})
	out, in = w.connect(alice, "bob", bob)
	w.must(out.Hangup())
	w.ended(in)
}
