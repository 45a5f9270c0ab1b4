package registrar

import (
	"hash/maphash"
	"maps"
	"sync/atomic"
	"time"
)

// directory is who there is: a snapshot that is replaced when users come and go.
type directory struct {
	accounts map[string]*account // by name
	logins   map[string]*account // by name and number
}

// account is a user in memory with its devices.
type account struct {
	name string // set once
	node string // set once: this node's name in its cluster, "" = it is alone

	// Replaced whole by their owners, read by everybody.
	user    atomic.Pointer[User]     // written under Registrar.users
	devices atomic.Pointer[[]string] // packed; written by the agent, after the store has it

	writes atomic.Uint64 // of devices that this node has begun
	flying atomic.Int32  // those that the store has not answered

	// Owned by the agent.
	busy  bool // a change is being written, or a device asked; the queue waits
	queue []func(*account)
	pulse []pulse
	gone  bool // the user was removed
}

// place names one binding of an account.
type place struct {
	key   string
	regID int
}

// pulse is what the agent knows of a binding beyond what is stored. There is one for each, so it is small and has no pointer:
// device and flow are known by their hashes, times are nanoseconds since 1970.
type pulse struct {
	device  uint64 // hash of the key
	flow    uint64 // hash
	regID   int32
	asking  bool
	silent  bool // as in its Binding
	expires int64
	heard   int64 // when a request or answer of it came
	next    int64 // when to ask it, if it is not heard before
}

var seed = maphash.MakeSeed()

func (s pulse) of(key string) bool { return s.device == maphash.String(seed, key) }

// pulseOf finds the pulse of a place, nil if it is no binding's any more. It is good until the agent's next change.
func (a *account) pulseOf(p place) *pulse {
	for i := range a.pulse {
		if s := &a.pulse[i]; s.regID == int32(p.regID) && s.of(p.key) {
			return s
		}
	}
	return nil
}

func newDirectory() *directory {
	return &directory{accounts: make(map[string]*account), logins: make(map[string]*account)}
}

func newAccount(u User, node string) *account {
	a := &account{name: u.Name, node: node}
	a.user.Store(&u)
	a.devices.Store(&[]string{})
	return a
}

// list are the account's devices.
func (a *account) list() []Device {
	packed := *a.devices.Load()
	all := make([]Device, len(packed))
	for i, p := range packed {
		all[i], _ = Unpack(p) // it is our own
		all[i].name(a.node)
	}
	return all
}

// add puts a device behind those that are known. It is for who loads them: nobody else reads yet.
func (a *account) add(d Device) {
	all := append(*a.devices.Load(), string(d.Pack(nil)))
	a.devices.Store(&all)
}

// replace has after take the place of before, which are the devices as they are. What has not changed stays as it lies.
func (a *account) replace(before, after []Device) {
	was := *a.devices.Load()
	packed := make([]string, len(after))
	var room [512]byte
	for i, d := range after {
		if j := byKey(before, d.Key); j >= 0 && same(before[j], d) {
			packed[i] = was[j]
			continue
		}
		packed[i] = string(d.Pack(room[:0]))
	}
	a.devices.Store(&packed)
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
	for _, s := range a.pulse {
		if at := instant(s.heard); s.of(key) && at.After(last) {
			last = at
		}
	}
	return last
}
