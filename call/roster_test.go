package call

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestRoster has calls come, change and go in random order, and compares whom each is found under with what all of them have published.
func TestRoster(t *testing.T) {
	var r roster
	draw := rand.New(rand.NewPCG(1, 2))
	users, start := []string{"alice", "bob", "carol", "dave", "erin"}, time.Now()
	calls := make([]*Call, 12)
	for i := range calls {
		calls[i] = &Call{started: start.Add(time.Duration(draw.IntN(1000)) * time.Second)}
	}
	one := func() string { return users[draw.IntN(len(users))] }
	for n := range 5000 {
		c := calls[draw.IntN(len(calls))]
		switch draw.IntN(4) {
		case 0:
			r.enter(c)
		case 1:
			r.leave(c)
		default:
			s := &summary{legs: []legSummary{{user: one()}}}
			for range draw.IntN(3) {
				s.seats, s.rings = append(s.seats, seatSummary{user: one()}), append(s.rings, ringSummary{user: one(), from: "zoe"})
			}
			c.public.Store(s)
			r.renew(c)
		}
		for _, user := range users {
			var want []*Call
			for _, c := range calls {
				if s := c.public.Load(); c.entered && s != nil && (s.has(user) || s.involves(user)) {
					want = append(want, c)
				}
			}
			slices.SortStableFunc(want, older)
			if got := r.calls(user); !slices.Equal(got, want) {
				t.Fatalf("step %d: %s is in %d calls, want %d", n, user, len(got), len(want))
			}
		}
	}
	for _, c := range calls {
		r.leave(c)
	}
	if len(r.of) > 0 {
		t.Errorf("left behind: %v", r.of)
	}
}

// TestRosterAmongMany: to find the calls of one user takes as long among thousands of others' as among few.
func TestRosterAmongMany(t *testing.T) {
	found := func(others int) time.Duration {
		b := &B2BUA{calls: map[string]*Call{}}
		for i := range others + 1 {
			c := &Call{id: fmt.Sprint(i), started: time.Now()}
			c.public.Store(&summary{state: StateUp, seats: []seatSummary{{user: fmt.Sprint("u", i)}, {user: fmt.Sprint("v", i)}}})
			b.calls[c.id] = c
			b.roster.enter(c)
		}
		best := time.Hour
		for range 20 {
			begin := time.Now()
			for range 100 {
				if n := len(b.callsOf("u0")); n != 1 {
					t.Fatalf("%d calls", n)
				}
			}
			best = min(best, time.Since(begin))
		}
		return best
	}
	few, many := found(10), found(10_000)
	t.Logf("100 times among 10 calls %v, among 10,000 %v", few, many)
	if many > 20*few {
		t.Errorf("%v among 10,000 calls, %v among 10", many, few)
	}
}
