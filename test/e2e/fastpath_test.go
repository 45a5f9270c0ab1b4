package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// inKernel is what "baton calls --json" tells of packets that no process has seen.
type inKernel []struct {
	Seats []struct {
		Legs []struct {
			Stats struct {
				Local   string
				Kernel  uint64
				In, Out struct{ Packets, Lost uint64 }
			}
		}
	}
}

// TestFastPath has a phone behind a router and one beside the node talk through the kernel: over Ethernet by way of a gateway to the one, over
// loopback to the other. Keys pass, a move is not heard, and the figures are those of the call.
func TestFastPath(t *testing.T) {
	r := node.NewRouter(t, between, outside)
	r.Known(outside)
	w := newWorld(t, node.Options{Env: []string{"BATON_MEDIA_FASTPATH=on"}})
	w.Eventually(10*time.Second, "the kernel to take part or not", func() error {
		if !strings.Contains(w.Output(), "media.fastpath") {
			return errors.New("nothing said of it")
		}
		return nil
	})
	if text := w.Output(); !strings.Contains(text, "the kernel forwards what is plain RTP") {
		t.Skip("the kernel does not forward here, which media's own tests judge")
	}
	far := w.phone("bob", "far", beyond(r, outside, 2, r.Node))
	desk := w.phone("alice", "desk")
	out, in := w.connect(desk, "bob", far)
	since := time.Now()
	w.throughKernel(50)

	out.Media().Press('5', 100*time.Millisecond)
	if _, ok := in.Media().Await(since, 5*time.Second, func(p phone.Packet) bool { return p.Event != nil && p.Event.Digit == '5' }); !ok {
		t.Error("bob's phone has heard no key")
	}
	w.throughKernel(50)

	mobile := w.phone("alice", "mobile")
	moved := w.dial(mobile, "101")
	w.must(moved.Await(5 * time.Second))
	w.ended(out)
	w.talk(moved, in)
	w.throughKernel(50)
	w.whole(in, since, 200*time.Millisecond, 20*time.Millisecond)
	for _, c := range []*phone.Call{moved, in} {
		if h := phone.Analyse(c.Media().Heard(), 8000); h.Missing != 0 || h.Reordered != 0 || h.Duplicates != 0 {
			t.Errorf("%s has heard %s", c.Phone().Config().UserAgent, h)
		}
	}
	before := len(in.Media().Heard())
	c, err := w.theCall()
	w.must(err)
	told, after := c.Seats[1].Legs[0].Stats.Out.Packets, len(in.Media().Heard())
	if told < uint64(before) || told > uint64(after)+5 { // on their way
		t.Errorf("bob has heard %d packets, then %d, and the node tells of %d", before, after, told)
	}
	text, err := w.CLI("call", "show", c.ID)
	w.must(err)
	t.Log(text)
	w.must(in.Hangup())
	w.ended(moved)
}

// throughKernel waits until the kernel has forwarded so many packets more of both directions of the only call.
func (w *world) throughKernel(more uint64) {
	w.t.Helper()
	var was inKernel
	w.must(w.JSON(&was, "calls", "--json"))
	w.Eventually(20*time.Second, "the kernel to forward", func() error {
		var c inKernel
		if err := w.JSON(&c, "calls", "--json"); err != nil {
			return err
		}
		if len(c) != 1 || len(c[0].Seats) != 2 {
			return fmt.Errorf("%+v", c)
		}
		for i, s := range c[0].Seats {
			is, before := s.Legs[0].Stats, uint64(0)
			if len(was) == 1 && was[0].Seats[i].Legs[0].Stats.Local == is.Local {
				before = was[0].Seats[i].Legs[0].Stats.Kernel
			}
			if is.Kernel < before+more {
				return fmt.Errorf("%d packets, %d before", is.Kernel, before)
			}
			if is.In.Lost != 0 || is.In.Packets < is.Kernel {
				w.t.Errorf("%+v", is)
			}
		}
		return nil
	})
}
