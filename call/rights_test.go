package call_test

import (
	"testing"

	"baton/config"
)

// TestRights reads groups and rights by name, number, @group and "*".
func TestRights(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) {
		c.Groups = config.Lists{"sales": {"alice", "102"}, "desk": {"carol"}}
		c.Watch = config.Lists{"103": {"@sales"}, "@desk": {"dave"}, "erin": {"*"}}
	})
	for i, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
		r.user(name, []string{"101", "102", "103", "104", "105"}[i])
	}
	for _, c := range []struct {
		user, other   string
		pickUp, watch bool
	}{
		{"alice", "alice", true, true},
		{"dave", "dave", true, true},
		{"alice", "bob", true, true},
		{"bob", "alice", true, true},
		{"alice", "carol", false, false},
		{"carol", "alice", false, true}, // by her number, all of a group
		{"carol", "bob", false, true},
		{"carol", "dave", false, true}, // as one of a group
		{"carol", "erin", false, false},
		{"erin", "dave", false, true}, // everybody
		{"dave", "erin", false, false},
		{"nobody", "alice", false, false},
	} {
		if pickUp, watch := r.b.May(c.user, c.other); pickUp != c.pickUp || watch != c.watch {
			t.Errorf("%s and %s: pick up %v, watch %v; want %v, %v", c.user, c.other, pickUp, watch, c.pickUp, c.watch)
		}
	}
}
