package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"baton/call"
	"baton/registrar"
)

// model is a store as simple as can be.
type model struct {
	users   map[string]registrar.User
	devices map[string]registrar.Device // by user and key
	calls   map[string]call.Stored
	ended   map[string]uint64 // by id: the highest epoch in which a call has ended, in earlier runs too
}

// testModel does random things to the store and to a model, and compares. The store is emptied between runs.
func testModel(t *testing.T, s *Opened) {
	ended := map[string]uint64{}
	rapid.Check(t, func(rt *rapid.T) {
		empty(t, s, ended)
		m := model{map[string]registrar.User{}, map[string]registrar.Device{}, map[string]call.Stored{}, ended}
		rt.Repeat(map[string]func(*rapid.T){
			"put user":    func(rt *rapid.T) { m.putUser(rt, s) },
			"remove user": func(rt *rapid.T) { m.removeUser(rt, s) },
			"bind":        func(rt *rapid.T) { m.bind(t, rt, s) },
			"put call":    func(rt *rapid.T) { m.putCall(t, rt, s) },
			"end call":    func(rt *rapid.T) { m.endCall(t, rt, s) },
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 9).Draw(rt, "often") > 0 {
					rt.Skip()
				}
				s.Reopen(t)
			},
			"": func(*rapid.T) { m.compare(t, s) },
		})
	})
}

func empty(t *testing.T, s *Opened, ended map[string]uint64) {
	users, err := s.Users()
	must(t, err)
	for _, u := range users {
		must(t, s.RemoveUser(u.Name))
	}
	devices, err := s.Devices()
	must(t, err)
	for _, d := range devices {
		must(t, Wait(t, func(done func(error)) { s.Bind(d.User, nil, []string{d.Key}, done) }))
	}
	calls, err := s.Calls()
	must(t, err)
	for _, c := range calls {
		must(t, end(t, s, c.ID, c.Epoch))
		ended[c.ID] = max(ended[c.ID], c.Epoch)
	}
}

var (
	names = rapid.SampledFrom([]string{"alice", "bob", "101", "a", "a.b"})
	keys  = rapid.SampledFrom([]string{"urn:uuid:1", "urn:uuid:2", "x", "b"})
	ids   = rapid.SampledFrom([]string{"c1", "c2", "c3"})
)

func (m model) putUser(rt *rapid.T, s *Opened) {
	name := names.Draw(rt, "name")
	numbers := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"101", "102", "103"}), 0, 2, rapid.ID).Draw(rt, "numbers")
	if slices.Contains(numbers, name) {
		rt.Skip()
	}
	u := User(name, numbers...)
	taken := false
	for _, other := range m.users {
		for _, login := range append([]string{other.Name}, other.Numbers...) {
			taken = taken || other.Name != name && (login == name || slices.Contains(numbers, login))
		}
	}
	err := s.PutUser(u)
	if errors.Is(err, registrar.ErrTaken) != taken || !taken && err != nil {
		rt.Fatalf("put user %s %v: %v, taken %v", name, numbers, err, taken)
	}
	if !taken {
		m.users[name] = u
	}
}

func (m model) removeUser(rt *rapid.T, s *Opened) {
	name := names.Draw(rt, "name")
	if err := s.RemoveUser(name); err != nil {
		rt.Fatal(err)
	}
	delete(m.users, name)
}

func (m model) bind(t *testing.T, rt *rapid.T, s *Opened) {
	user := names.Draw(rt, "user")
	var put []registrar.Device
	var drop []string
	for _, key := range rapid.SliceOfNDistinct(keys, 0, 4, rapid.ID).Draw(rt, "keys") {
		if rapid.Bool().Draw(rt, "drop") {
			drop = append(drop, key)
			delete(m.devices, user+"/"+key)
			continue
		}
		d := Device(user, key, rapid.Uint32().Draw(rt, "cseq"))
		put = append(put, d)
		m.devices[user+"/"+key] = d
	}
	must(t, Wait(t, func(done func(error)) { s.Bind(user, put, drop, done) }))
}

func (m model) putCall(t *testing.T, rt *rapid.T, s *Opened) {
	c := call.Stored{
		ID: ids.Draw(rt, "id"), Epoch: rapid.Uint64Range(1, 4).Draw(rt, "epoch"), Version: rapid.Uint64().Draw(rt, "version"),
		Owner: rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(rt, "owner"),
	}
	c.Blob = fmt.Append(nil, c.Version)
	was := m.calls[c.ID]
	anothers := was.Epoch == c.Epoch && was.Owner != "" && was.Owner != c.Owner
	m.outcome(rt, c.ID, c.Epoch, anothers, Wait(t, func(done func(error)) { s.Put(c, done) }), func() { m.calls[c.ID] = c })
}

func (m model) endCall(t *testing.T, rt *rapid.T, s *Opened) {
	id, epoch := ids.Draw(rt, "id"), rapid.Uint64Range(1, 4).Draw(rt, "epoch")
	m.outcome(rt, id, epoch, false, end(t, s, id, epoch), func() {
		delete(m.calls, id)
		m.ended[id] = max(m.ended[id], epoch)
	})
}

func (m model) outcome(rt *rapid.T, id string, epoch uint64, anothers bool, err error, then func()) {
	stale := m.calls[id].Epoch > epoch || anothers
	if _, there := m.calls[id]; !there && m.ended[id] > epoch && errors.Is(err, call.ErrStale) {
		return // a store may remember for a while in which epoch a call has ended
	}
	if errors.Is(err, call.ErrStale) != stale || !stale && err != nil {
		rt.Fatalf("write to call %s with epoch %d: %v, stored is %d", id, epoch, err, m.calls[id].Epoch)
	}
	if !stale {
		then()
	}
}

func (m model) compare(t *testing.T, s *Opened) {
	t.Helper()
	var users []registrar.User
	for _, name := range slices.Sorted(maps.Keys(m.users)) {
		u := m.users[name]
		if len(u.Numbers) == 0 {
			u.Numbers = nil
		}
		users = append(users, u)
	}
	wantUsers(t, s, users...)
	wantDevices(t, s, slices.Collect(maps.Values(m.devices))...)
	wantCalls(t, s, slices.Collect(maps.Values(m.calls))...)
}
