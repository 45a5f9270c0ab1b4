package call

import (
	"slices"
	"sync"
)

// roster knows in which calls each user is, or has a leg, or is rung by: whoever begins a call is looked up here, which must not take longer because
// others talk. A new one is ready for use.
type roster struct {
	mu sync.Mutex
	of map[string][]*Call // by user
}

// enter takes in a call that is one of the node's from now on.
func (r *roster) enter(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.entered = true
	r.enlist(c, c.public.Load())
}

// renew looks who is in a call that has published another summary. It does nothing for a call that has not entered yet, or left.
func (r *roster) renew(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.entered {
		r.enlist(c, c.public.Load())
	}
}

// leave forgets a call.
func (r *roster) leave(c *Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.entered = false
	r.enlist(c, nil)
}

// enlist has a call found under those whom its summary names, and under no others; mu is held.
func (r *roster) enlist(c *Call, s *summary) {
	var few [4]string
	users := few[:0]
	s.eachUser(func(user string) {
		if !slices.Contains(users, user) {
			users = append(users, user)
		}
	})
	if slices.Equal(users, c.enlisted) {
		return
	}
	for _, user := range c.enlisted {
		if slices.Contains(users, user) {
			continue
		}
		if r.of[user] = slices.DeleteFunc(r.of[user], func(k *Call) bool { return k == c }); len(r.of[user]) == 0 {
			delete(r.of, user)
		}
	}
	if r.of == nil {
		r.of = map[string][]*Call{}
	}
	for _, user := range users {
		if !slices.Contains(c.enlisted, user) {
			r.of[user] = append(r.of[user], c)
		}
	}
	c.enlisted = slices.Clone(users)
}

// calls are those of a user, oldest first.
func (r *roster) calls(user string) []*Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := slices.Clone(r.of[user])
	slices.SortFunc(calls, older)
	return calls
}
