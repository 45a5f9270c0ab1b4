package media

import (
	"testing"
	"time"
)

// TestSlotHeldInVain has the new source miss packets just when a slot is held for it: the present one must be heard without a frame left
// out, numbers in line and timestamps by the clock.
func TestSlotHeldInVain(t *testing.T) {
	for _, c := range []struct {
		name   string
		misses int // packets of the new source that are lost after its first
		never  bool
	}{
		{"comes at once", 0, false},
		{"one is lost", 1, false},
		{"two are lost", 2, false},
		{"never comes again", 0, true},
		{"the move is taken back", 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoom(t)
			far, old := r.phone("192.0.2.20"), r.phone("192.0.2.30")
			bridge(old, far)
			r.run(r.now+400*ms, old, far)
			to := r.phone("192.0.2.31")
			to.start = old.due() + 8*ms // its slot is the old one's by then
			far.s.Follow(to.s)
			to.s.Feed(far.s)
			r.run(to.start, old, to, far)
			if to.n != 1 || len(far.s.line.kept) != 0 {
				t.Fatalf("%d packets of the new source, %d kept", to.n, len(far.s.line.kept))
			}
			lose(to, c.misses)
			if to.off = c.never; c.misses == 3 {
				r.run(r.now+25*ms, old, far)
				far.s.Follow(old.s)
			}
			r.run(r.now+600*ms, old, to, far)
			k := r.track(far, 8000)
			if k.breaks != 0 || k.ssrcs != 1 || k.tsBreaks != 0 || k.early < -25*ms || k.late > 60*ms {
				t.Errorf("far side: %+v", k)
			}
			if n := skipped(r.got(far), far.frame); n != 0 {
				t.Errorf("%d slots were left empty", n)
			}
			if c.never && k.packets != old.n {
				t.Errorf("%d packets came of %d", k.packets, old.n)
			}
		})
	}
}

// lose lets n packets of a device go astray.
func lose(d *dev, n int) {
	for range n {
		d.hdr.SequenceNumber++
		d.hdr.Timestamp += d.frame
		d.n++
	}
}

// skipped counts the packets whose timestamp is not one frame ahead.
func skipped(all []seen, frame uint32) int {
	n := 0
	for i := 1; i < len(all); i++ {
		if tsOf(all[i].b)-tsOf(all[i-1].b) != frame {
			n++
		}
	}
	return n
}

// TestKeptIsBounded holds slots for a source that is never heard well: what is kept must not grow.
func TestKeptIsBounded(t *testing.T) {
	r := newRoom(t)
	far, old := r.phone("192.0.2.20"), r.phone("192.0.2.30")
	bridge(old, far)
	r.run(r.now+200*ms, old, far)
	l := &far.s.line
	l.want.Store(&source{})
	for range 50 {
		l.keep(r.now) // as a packet that finds no slot does
		r.run(r.now+20*ms, old, far)
		if len(l.kept) > maxKept {
			t.Fatalf("%d packets kept", len(l.kept))
		}
	}
	r.run(r.now+400*ms, old, far)
	if k := r.track(far, 8000); k.breaks != 0 || len(l.kept) != 0 || k.gap > time.Second+200*ms {
		t.Errorf("%+v, %d still kept", k, len(l.kept))
	}
}
