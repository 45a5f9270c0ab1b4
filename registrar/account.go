package registrar

import (
	"maps"
	"sync/atomic"
	"time"

	"baton/sip"
)

// directory is who there is: a snapshot that is replaced when users come and go.
type directory struct {
	accounts map[string]*account // by name
	logins   map[string]*account // by name and number
}

// account is a user in memory with its devices.
type account struct {
	name string // set once

	// Replaced whole by their owners, read by everybody.
	user    atomic.Pointer[User]     // written under Registrar.users
	devices atomic.Pointer[[]Device] // written by the agent, after the store has it

	// Owned by the agent.
	busy  bool // a change is being written, or a device asked; the queue waits
	queue []func(*account)
	pulse map[place]*pulse
	gone  bool // the user was removed
}

// place names one binding of an account.
type place struct {
	key   string
	regID int
}

// pulse is what the agent knows of a binding beyond what is stored.
type pulse struct {
	flow    sip.Flow
	expires time.Time
	heard   time.Time // a request or answer of it came
	next    time.Time // when to ask it, if it is not heard before
	asking  bool
	silent  bool // as in its Binding
}

func newDirectory() *directory {
	return &directory{accounts: make(map[string]*account), logins: make(map[string]*account)}
}

func newAccount(u User) *account {
	a := &account{name: u.Name, pulse: make(map[place]*pulse)}
	a.user.Store(&u)
	a.devices.Store(&[]Device{})
	return a
}

func (d *directory) clone() *directory {
	return &directory{accounts: maps.Clone(d.accounts), logins: maps.Clone(d.logins)}
}

func (d *directory) add(a *account) {
	d.accounts[a.name] = a
	for _, login := range a.user.Load().logins() {
		d.logins[login] = a
	}
}

func (d *directory) with(a *account) *directory {
	d = d.clone()
	d.add(a)
	return d
}

func (d *directory) without(a *account) *directory {
	d = d.clone()
	delete(d.accounts, a.name)
	for _, login := range a.user.Load().logins() {
		delete(d.logins, login)
	}
	return d
}

// heard finds when a device was last heard, by any of its bindings.
func (a *account) heard(key string) time.Time {
	var last time.Time
	for p, s := range a.pulse {
		if p.key == key && s.heard.After(last) {
			last = s.heard
		}
	}
	return last
}
