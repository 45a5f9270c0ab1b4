package call

import (
	"bytes"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"baton/config"
	"baton/journal"
	"baton/registrar"
)

// counting is a store that takes everything at once, and a log that keeps nothing.
type counting struct {
	journal.Journal
	SubscriptionStore
	puts, ends, told atomic.Int64
	early            atomic.Bool // a record was deleted before the log had the end of its call
}

func (s *counting) Put(_ Stored, done func(error)) {
	s.puts.Add(1)
	done(nil)
}

func (s *counting) PutLater(r Stored, done func(error)) { s.Put(r, done) }

func (s *counting) Hurry() {}

func (s *counting) End(_ string, _ uint64, done func(error)) {
	if s.ends.Add(1) > s.told.Load() {
		s.early.Store(true)
	}
	done(nil)
}

func (s *counting) Claim(string, uint64, string) (Stored, error) { return Stored{}, ErrStale }
func (s *counting) Calls() ([]Stored, error)                     { return nil, nil }

func (s *counting) Append(e journal.Entry) {
	if e.Kind == journal.CallEnded {
		s.told.Add(1)
	}
}

// bubbled counts the goroutines of the test's bubble, itself among them: what other tests have left may come and go.
func bubbled() int {
	stacks := make([]byte, 1<<20)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("synctest bubble"))
}

// TestAgentOfFourHours lets a call's agent live for four hours of simulated time: one write for each look, no timer and no
// goroutine more than at the beginning. (Its phones are left out: sockets know no simulated time. See long_test.go.)
func TestAgentOfFourHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counting{}
		b := New(Options{Config: config.Default().Call, Store: s, Journal: s, Log: slog.New(slog.DiscardHandler)})
		c := b.newCall(b.ctx)
		c.seats = []*Seat{newSeat(registrar.User{Name: "alice"}), newSeat(registrar.User{Name: "bob"})}
		if err := b.start(c, func() { c.changeState(StateUp) }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		goroutines, puts := bubbled(), s.puts.Load()
		for hour := range 4 {
			time.Sleep(time.Hour)
			timers := make(chan int)
			c.post(func() { timers <- len(c.timers) })
			if n := <-timers; n > 2 { // the next look, and the write that it asked for
				t.Errorf("hour %d: %d timers", hour+1, n)
			}
		}
		synctest.Wait()
		looks := int(4 * time.Hour / lookEvery)
		if n := int(s.puts.Load() - puts); n < looks-2 || n > looks+2 {
			t.Errorf("%d writes in four hours, want one for each of %d looks", n, looks)
		}
		if n := bubbled(); n > goroutines || goroutines < 1 {
			t.Errorf("%d goroutines, %d at first", n, goroutines)
		}
		c.post(func() { c.end("over") })
		b.running.Wait()
		if s.ends.Load() != 1 {
			t.Errorf("the record was deleted %d times", s.ends.Load())
		}
		if s.early.Load() {
			t.Error("the record was deleted before the log had the end")
		}
		b.stop()
	})
}

// holding is a store that holds back what nothing waits for until it is hurried.
type holding struct {
	counting
	held    func()
	hurried int
}

func (s *holding) PutLater(r Stored, done func(error)) { s.held = func() { s.Put(r, done) } }

func (s *holding) Hurry() {
	s.hurried++
	s.held()
}

// TestCommitHurriesTheWriteBefore: an act must not wait for a write that nothing has waited for, nor be done before its own.
func TestCommitHurriesTheWriteBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &holding{}
		b := New(Options{Config: config.Default().Call, Store: s, Journal: s, Log: slog.New(slog.DiscardHandler)})
		c := b.newCall(b.ctx)
		c.seats = []*Seat{newSeat(registrar.User{Name: "alice"})}
		if err := b.start(c, c.touch); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond) // the write that touch asks for is held back now
		acted, puts := false, int64(0)
		c.do(func() { c.commit(func() { acted, puts = true, s.puts.Load() }) })
		synctest.Wait()
		if !acted || puts != 2 || s.hurried != 1 || c.store.unsafe {
			t.Errorf("acted %v after %d writes, hurried %d times, unsafe %v", acted, puts, s.hurried, c.store.unsafe)
		}
		c.do(func() { c.end("over") })
		b.running.Wait()
		b.stop()
	})
}

// unconfirmed is a store whose replicas confirm nothing until they are up; a lazy write asks none.
type unconfirmed struct {
	counting
	up   bool
	lazy int
}

func (s *unconfirmed) Put(_ Stored, done func(error)) {
	if s.puts.Add(1); s.up {
		done(nil)
		return
	}
	done(ErrUnsafe)
}

func (s *unconfirmed) PutLater(_ Stored, done func(error)) {
	s.lazy++
	done(nil)
}

// TestLazyWriteConfirmsNothing: a call that no replica has is not safe by being written where no replica is asked.
func TestLazyWriteConfirmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &unconfirmed{}
		b := New(Options{Config: config.Default().Call, Store: s, Journal: s, Log: slog.New(slog.DiscardHandler)})
		c := b.newCall(b.ctx)
		c.seats = []*Seat{newSeat(registrar.User{Name: "alice"})}
		if err := b.start(c, func() { c.commit(func() {}) }); err != nil {
			t.Fatal(err)
		}
		touched := func(d time.Duration) {
			c.do(c.touch)
			time.Sleep(d)
			synctest.Wait()
		}
		touched(time.Minute)
		if puts := s.puts.Load(); !c.store.unsafe || puts < 3 || s.lazy != 0 {
			t.Errorf("unsafe %v after %d writes and %d lazy ones", c.store.unsafe, puts, s.lazy)
		}
		c.do(func() { s.up = true })
		if touched(31 * time.Second); c.store.unsafe {
			t.Error("it is not safe, though a replica has it")
		}
		before := s.lazy
		if touched(2 * time.Second); s.lazy != before+1 {
			t.Errorf("%d lazy writes of a call that is safe, want 1", s.lazy-before)
		}
		c.do(func() { c.end("over") })
		b.running.Wait()
		b.stop()
	})
}

// TestLooksOftenEnough holds the looks to what is set: a phone that vanishes is asked when call.vanished says so.
func TestLooksOftenEnough(t *testing.T) {
	for _, c := range []struct{ vanished, holdPing, want time.Duration }{
		{15 * time.Second, time.Minute, 5 * time.Second},
		{time.Second, time.Minute, time.Second / 3},
		{15 * time.Second, 3 * time.Second, time.Second},
		{time.Hour, time.Hour, 5 * time.Second},
	} {
		b := New(Options{Config: config.Call{Vanished: c.vanished, HoldPing: c.holdPing}})
		if got := b.look(); got != c.want {
			t.Errorf("vanished %v, hold_ping %v: every %v, want %v", c.vanished, c.holdPing, got, c.want)
		}
	}
}

// diary is a store that takes everything at once, with a log that is kept.
type diary struct {
	counting
	entries []journal.Entry
}

func (d *diary) Append(e journal.Entry) { d.entries = append(d.entries, e) }

// TestWaitsByTheClock: a call waits for five minutes for each who was lost or has left, counted for each from when he went; one who is back in
// time is waited for no more. (Its phones are left out, as above.)
func TestWaitsByTheClock(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(c *Call) // two minutes after alice was lost
		want time.Duration // after she was lost; 0 = it does not end
		why  string
	}{
		{"nobody comes", func(*Call) {}, 5 * time.Minute, "mobile of alice was lost and nobody came back within 5m0s"},
		{"both are lost", func(c *Call) { c.lostFor(1) }, 5 * time.Minute, "mobile of alice was lost and nobody came back within 5m0s"},
		{"she comes", func(c *Call) { c.back(c.seats[0], "mobile", "pull") }, 0, ""},
		{"she comes, the other one was lost", func(c *Call) {
			c.lostFor(1)
			c.back(c.seats[0], "mobile", "pull")
		}, 7 * time.Minute, "mobile of bob was lost and nobody came back within 5m0s"},
		{"she comes, and is lost again", func(c *Call) {
			c.back(c.seats[0], "mobile", "pull")
			c.lostFor(0)
		}, 7 * time.Minute, "mobile of alice was lost and nobody came back within 5m0s"},
		{"she was lost, and leaves", func(c *Call) {
			c.stop(c.seats[0].away.wait)
			c.vacate(c.seats[0], &absence{leg: c.seats[0].away.leg, from: time.Now()})
		}, 7 * time.Minute, "alice left and did not come back within 5m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &diary{}
				b := New(Options{Config: config.Default().Call, Store: s, Journal: s, Log: slog.New(slog.DiscardHandler)})
				k := b.newCall(b.ctx)
				k.seats = []*Seat{newSeat(registrar.User{Name: "alice"}), newSeat(registrar.User{Name: "bob"})}
				began := time.Now()
				if err := b.start(k, func() {
					k.changeState(StateUp)
					k.lostFor(0)
				}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				k.do(func() { c.then(k) })
				var ended time.Duration
				for ended == 0 && time.Since(began) < 20*time.Minute {
					time.Sleep(time.Second)
					synctest.Wait()
					if k.public.Load().state == StateEnded {
						ended = time.Since(began)
					}
				}
				if ended < c.want || ended > c.want+2*time.Second && c.want > 0 || c.want == 0 && ended != 0 {
					t.Errorf("ended after %v, want %v", ended, c.want)
				}
				k.do(func() { k.end("over") })
				b.running.Wait()
				if last := s.entries[len(s.entries)-1]; c.why != "" && (last.Kind != journal.CallEnded || last.Text != c.why) {
					t.Errorf("the log says %q", last.Text)
				}
				b.stop()
			})
		})
	}
}

// lostFor empties a seat as the loss of a device does.
func (c *Call) lostFor(seat int) {
	l := &Leg{seat: c.seats[seat], device: registrar.Device{Name: "mobile"}, state: legClosed}
	c.vacate(c.seats[seat], &absence{leg: l, from: time.Now(), lost: true})
}
