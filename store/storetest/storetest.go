// Package storetest is the one contract test of baton's stores: whatever passes it can hold users, devices, calls and
// the log. It knows no store.
package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/journal"
	"baton/registrar"
	"baton/sip"
)

// Store is all that a store does.
type Store interface {
	registrar.Store
	call.Store
	journal.Journal
	Entries(from, to time.Time, limit int) ([]journal.Entry, error)
}

// Opened is an empty store under test.
type Opened struct {
	Store
	// Reopen ends whatever serves the store and opens it again, with what it holds.
	Reopen func(t *testing.T)
}

// Run holds a store to its contract. open makes an empty one, ready to use, and cleans up after the test.
func Run(t *testing.T, open func(t *testing.T) *Opened) {
	for name, test := range map[string]func(*testing.T, *Opened){
		"users":                testUsers,
		"user names are one's": testTaken,
		"tokens":               testTokens,
		"devices":              testDevices,
		"device values":        testDeviceValue,
		"calls":                testCalls,
		"epochs":               testEpochs,
		"claims":               testClaims,
		"order":                testOrder,
		"log":                  testLog,
		"subscriptions":        testSubscriptions,
		"random operations":    testModel,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

const patience = 10 * time.Second

// Wait runs an asynchronous write and returns its outcome.
func Wait(t testing.TB, start func(done func(error))) error {
	t.Helper()
	result := make(chan error, 2)
	start(func(err error) { result <- err })
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		t.Fatal("write is not done")
		return nil
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// User is a user as a registrar would make one.
func User(name string, numbers ...string) registrar.User {
	u := registrar.User{
		Name: name, Display: strings.ToUpper(name), Numbers: numbers, Realm: "baton",
		Secrets: map[string]sip.Secret{}, Created: time.Unix(1_700_000_000, 5).UTC(),
	}
	for _, login := range append([]string{name}, numbers...) {
		u.Secrets[login] = sip.Secret{
			User: name, Identities: append([]string{name}, numbers...), MD5: "md5 of " + login, SHA256: "sha of " + login,
		}
	}
	return u
}

// Token is a token with a value in every field.
func Token(id, user string) registrar.Token {
	at := time.Unix(1_700_000_000, 7).UTC()
	return registrar.Token{
		ID: id, Hash: "hash of " + id, Kind: registrar.UserToken, User: user, Label: "Firefox on a laptop",
		Created: at, Used: at.Add(time.Minute), Expires: at.Add(time.Hour), Login: user + "~" + id, MD5: "md5 of " + id, SHA256: "sha of " + id,
	}
}

func testTokens(t *testing.T, s *Opened) {
	wantTokens(t, s)
	one, two := Token("t1", "alice"), Token("t2", "bob")
	for i := range reflect.ValueOf(one).NumField() {
		if reflect.ValueOf(one).Field(i).IsZero() {
			t.Errorf("%s: the test gives it no value", reflect.TypeOf(one).Field(i).Name)
		}
	}
	admin := registrar.Token{ID: "t3", Hash: "h", Kind: registrar.AdminToken, Created: one.Created, Used: one.Used}
	for _, token := range []registrar.Token{one, two, admin} {
		must(t, s.PutToken(token))
	}
	one.Used, one.Label = one.Used.Add(time.Hour), ""
	must(t, s.PutToken(one))
	must(t, s.RemoveUser("bob")) // knows nothing of tokens
	s.Reopen(t)
	wantTokens(t, s, one, two, admin)
	must(t, s.RemoveTokens(nil))
	must(t, s.RemoveTokens([]string{"t2", "none", "t3"}))
	s.Reopen(t)
	wantTokens(t, s, one)
}

func wantTokens(t *testing.T, s *Opened, want ...registrar.Token) {
	t.Helper()
	got, err := s.Tokens()
	must(t, err)
	slices.SortFunc(got, func(a, b registrar.Token) int { return strings.Compare(a.ID, b.ID) })
	if !slices.Equal(got, want) {
		t.Fatalf("tokens are\n%+v, want\n%+v", got, want)
	}
}

// Device is a device with a value in every field.
func Device(user, key string, cseq uint32) registrar.Device {
	at := time.Unix(1_700_000_000, 123_456_789).UTC()
	binding := registrar.Binding{
		Contact: "sip:" + user + "@192.0.2.7:5062;transport=tcp;pn-prid=a:b", Path: []string{"<sip:edge.example.org;lr>"},
		Params: sip.Params{{Name: "+sip.instance", Value: "<" + key + ">"}, {Name: "q", Value: "0.5"}},
		Flow: sip.Flow{
			Transport: "tcp", Local: netip.MustParseAddrPort("192.0.2.1:5060"),
			Remote: netip.MustParseAddrPort("[2001:db8::7]:40000"), ID: 1<<63 + 7,
		},
		CallID: "abc@192.0.2.7", CSeq: cseq, RegID: 1, Expires: at.Add(time.Hour), Registered: at, Node: "n1",
	}
	spare := binding
	spare.RegID, spare.Silent = 2, true
	return registrar.Device{
		User: user, Name: "yealink-t46s", Index: 3, Key: key, Instance: key, Kind: registrar.DeskPhone,
		UserAgent: "Yealink SIP-T46S 66.85.0.5", Profile: map[string]string{"srtp": "sdes"}, Binding: &binding,
		Spare: []registrar.Binding{spare}, Since: at, Reason: "was away",
		Trace: registrar.Trace{
			Product: "yealink-t46s", User: user, Host: "192.0.2.7", Port: 5062, CallID: "abc@192.0.2.7", Transport: "tcp", Addr: "2001:db8::7",
		},
	}
}

func testUsers(t *testing.T, s *Opened) {
	alice, bob := User("alice", "101", "5550101"), User("bob")
	must(t, s.PutUser(alice))
	must(t, s.PutUser(bob))
	alice.Display, alice.Numbers = "Alice", []string{"102"}
	must(t, s.PutUser(alice))
	s.Reopen(t)
	wantUsers(t, s, alice, bob)
	must(t, s.PutUser(User("carol", "101")))
	must(t, s.RemoveUser("alice"))
	must(t, s.RemoveUser("nobody"))
	must(t, s.PutUser(User("dave", "102")))
	s.Reopen(t)
	wantUsers(t, s, bob, User("carol", "101"), User("dave", "102"))
}

func wantUsers(t *testing.T, s *Opened, want ...registrar.User) {
	t.Helper()
	got, err := s.Users()
	must(t, err)
	slices.SortFunc(got, func(a, b registrar.User) int { return strings.Compare(a.Name, b.Name) })
	for i := range got {
		if len(got[i].Numbers) == 0 {
			got[i].Numbers = nil
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("users are\n%+v, want\n%+v", got, want)
	}
}

func testTaken(t *testing.T, s *Opened) {
	must(t, s.PutUser(User("alice", "101")))
	for _, u := range []registrar.User{User("bob", "101"), User("101"), User("bob", "102", "101")} {
		if err := s.PutUser(u); !errors.Is(err, registrar.ErrTaken) {
			t.Errorf("user %s with %v beside alice with 101: %v, want ErrTaken", u.Name, u.Numbers, err)
		}
	}
	must(t, s.PutUser(User("bob", "102")))
	wantUsers(t, s, User("alice", "101"), User("bob", "102"))
}

func testDevices(t *testing.T, s *Opened) {
	bind := func(user string, put []registrar.Device, drop ...string) {
		t.Helper()
		must(t, Wait(t, func(done func(error)) { s.Bind(user, put, drop, done) }))
	}
	a1, a2, b1 := Device("alice", "urn:uuid:1", 1), Device("alice", "phone/alice@h:5060", 1), Device("bob", "urn:uuid:1", 9)
	bind("alice", []registrar.Device{a1, a2})
	bind("bob", []registrar.Device{b1})
	wantDevices(t, s, a1, a2, b1)
	a1.Binding, a1.Spare, a1.Reason = nil, nil, "connection closed"
	bind("alice", []registrar.Device{a1}, a2.Key, "unknown")
	s.Reopen(t)
	wantDevices(t, s, a1, b1)
	bind("alice", nil, a1.Key)
	wantDevices(t, s, b1)
}

func wantDevices(t *testing.T, s *Opened, want ...registrar.Device) {
	t.Helper()
	got, err := s.Devices()
	must(t, err)
	byName := func(a, b registrar.Device) int { return strings.Compare(a.User+"\x00"+a.Key, b.User+"\x00"+b.Key) }
	slices.SortFunc(got, byName)
	slices.SortFunc(want, byName)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("devices are\n%+v, want\n%+v", got, want)
	}
}

// testDeviceValue finds a field that does not come back as it was given.
func testDeviceValue(t *testing.T, s *Opened) {
	want := Device("alice", "urn:uuid:1", 7)
	must(t, Wait(t, func(done func(error)) { s.Bind("alice", []registrar.Device{want}, nil, done) }))
	s.Reopen(t)
	got, err := s.Devices()
	must(t, err)
	if len(got) != 1 {
		t.Fatalf("%d devices, want 1", len(got))
	}
	v, w := reflect.ValueOf(got[0]), reflect.ValueOf(want)
	for i := range v.NumField() {
		if w.Field(i).IsZero() {
			t.Errorf("%s: the test gives it no value", v.Type().Field(i).Name)
		}
		if !reflect.DeepEqual(v.Field(i).Interface(), w.Field(i).Interface()) {
			t.Errorf("%s is %+v, was %+v", v.Type().Field(i).Name, v.Field(i), w.Field(i))
		}
	}
}

func testCalls(t *testing.T, s *Opened) {
	one := call.Stored{ID: "c1", Epoch: 1, Version: 1, Owner: "n1", Blob: []byte(`{"id":"c1"}`)}
	two := call.Stored{ID: "c2", Epoch: 3, Version: 1 << 40, Blob: []byte(strings.Repeat("x", 100_000))}
	put(t, s, one)
	put(t, s, two)
	one.Version, one.Blob = 2, []byte("shorter")
	put(t, s, one)
	s.Reopen(t)
	wantCalls(t, s, one, two)
	must(t, end(t, s, "c1", 1))
	must(t, end(t, s, "c1", 1))
	must(t, end(t, s, "never there", 1))
	s.Reopen(t)
	wantCalls(t, s, two)
}

func put(t *testing.T, s *Opened, c call.Stored) {
	t.Helper()
	must(t, Wait(t, func(done func(error)) { s.Put(c, done) }))
}

func end(t *testing.T, s *Opened, id string, epoch uint64) error {
	t.Helper()
	return Wait(t, func(done func(error)) { s.End(id, epoch, done) })
}

func wantCalls(t *testing.T, s *Opened, want ...call.Stored) {
	t.Helper()
	got, err := s.Calls()
	must(t, err)
	byID := func(a, b call.Stored) int { return strings.Compare(a.ID, b.ID) }
	slices.SortFunc(got, byID)
	slices.SortFunc(want, byID)
	if !slices.EqualFunc(got, want, func(a, b call.Stored) bool { return reflect.DeepEqual(a, b) }) {
		t.Fatalf("calls are %.300v, want %.300v", got, want)
	}
}

func testSubscriptions(t *testing.T, s *Opened) {
	put := func(v call.StoredSubscription) {
		t.Helper()
		must(t, Wait(t, func(done func(error)) { s.PutSubscription(v, done) }))
	}
	drop := func(id string) {
		t.Helper()
		must(t, Wait(t, func(done func(error)) { s.DropSubscription(id, done) }))
	}
	one := call.StoredSubscription{ID: "s1", Owner: "n1", Blob: []byte(`{"id":"s1"}`)}
	two := call.StoredSubscription{ID: "s2", Blob: []byte(strings.Repeat("x", 10_000))}
	put(one)
	put(two)
	one.Blob = []byte("shorter")
	put(one)
	s.Reopen(t)
	wantSubscriptions(t, s, one, two)
	s.DropSubscription("s2", func(error) {}) // it is read without waiting for it
	wantSubscriptions(t, s, one)
	drop("s2")
	drop("never there")
	s.Reopen(t)
	wantSubscriptions(t, s, one)
	put(two)
	drop("s1")
	wantSubscriptions(t, s, two)
	wantCalls(t, s)
}

func wantSubscriptions(t *testing.T, s *Opened, want ...call.StoredSubscription) {
	t.Helper()
	got, err := s.Subscriptions()
	must(t, err)
	slices.SortFunc(got, func(a, b call.StoredSubscription) int { return strings.Compare(a.ID, b.ID) })
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("subscriptions are %.300v, want %.300v", got, want)
	}
}

// testEpochs is the fence of DESIGN §8: who has an older epoch has lost the call and changes nothing any more.
func testEpochs(t *testing.T, s *Opened) {
	mine := call.Stored{ID: "c", Epoch: 2, Version: 5, Blob: []byte("mine")}
	put(t, s, mine)
	old := call.Stored{ID: "c", Epoch: 1, Version: 99, Blob: []byte("old")}
	if err := Wait(t, func(done func(error)) { s.Put(old, done) }); !errors.Is(err, call.ErrStale) {
		t.Errorf("write of an older epoch: %v, want ErrStale", err)
	}
	if err := end(t, s, "c", 1); !errors.Is(err, call.ErrStale) {
		t.Errorf("end by an older epoch: %v, want ErrStale", err)
	}
	wantCalls(t, s, mine)
	mine.Version++
	put(t, s, mine)
	theirs := call.Stored{ID: "c", Epoch: 3, Version: 1, Blob: []byte("theirs")}
	put(t, s, theirs)
	wantCalls(t, s, theirs)
	if err := end(t, s, "c", 2); !errors.Is(err, call.ErrStale) {
		t.Errorf("end by an older epoch: %v, want ErrStale", err)
	}
	must(t, end(t, s, "c", 3))
	wantCalls(t, s)
}

// testClaims has several claim a call at once: one of them has it, and who had it before can write no more.
func testClaims(t *testing.T, s *Opened) {
	mine := call.Stored{ID: "c", Epoch: 2, Version: 5, Owner: "old", Blob: []byte("record")}
	put(t, s, mine)
	if _, err := s.Claim("none", 1, "a"); !errors.Is(err, call.ErrStale) {
		t.Errorf("claim of what there is not: %v, want ErrStale", err)
	}
	for _, epoch := range []uint64{1, 3} {
		if _, err := s.Claim("c", epoch, "a"); !errors.Is(err, call.ErrStale) {
			t.Errorf("claim under epoch %d, stored is 2: %v, want ErrStale", epoch, err)
		}
	}
	wantCalls(t, s, mine)
	for round := range 20 {
		epoch := mine.Epoch
		owner, stored := race(t, s, epoch)
		mine.Epoch, mine.Owner = epoch+1, owner
		if !reflect.DeepEqual(stored, mine) {
			t.Fatalf("round %d: claimed is %v, want %v", round, stored, mine)
		}
		wantCalls(t, s, mine)
		if again, err := s.Claim("c", epoch, owner); err != nil || !reflect.DeepEqual(again, mine) {
			t.Fatalf("the same claim again: %v, %v", again, err)
		}
		old := call.Stored{ID: "c", Epoch: epoch, Version: 99, Owner: "old", Blob: []byte("old")}
		if err := Wait(t, func(done func(error)) { s.Put(old, done) }); !errors.Is(err, call.ErrStale) {
			t.Fatalf("write of who had it before: %v, want ErrStale", err)
		}
		if err := end(t, s, "c", epoch); !errors.Is(err, call.ErrStale) {
			t.Fatalf("end by who had it before: %v, want ErrStale", err)
		}
		rival := call.Stored{ID: "c", Epoch: epoch + 1, Version: 99, Owner: "rival", Blob: []byte("rival's")}
		if err := Wait(t, func(done func(error)) { s.Put(rival, done) }); !errors.Is(err, call.ErrStale) {
			t.Fatalf("write of another under the same epoch: %v, want ErrStale", err)
		}
		mine.Version++
		put(t, s, mine)
	}
	s.Reopen(t)
	wantCalls(t, s, mine)
}

// race has four claim a call and gives the one who has it.
func race(t *testing.T, s *Opened, epoch uint64) (winner string, stored call.Stored) {
	t.Helper()
	type outcome struct {
		owner  string
		stored call.Stored
		err    error
	}
	outcomes := make(chan outcome)
	owners := []string{"a", "b", "c", "d"}
	for _, owner := range owners {
		go func() {
			c, err := s.Claim("c", epoch, owner)
			outcomes <- outcome{owner, c, err}
		}()
	}
	for range owners {
		switch o := <-outcomes; {
		case o.err == nil && winner != "":
			t.Fatalf("%s and %s have claimed the same epoch", winner, o.owner)
		case o.err == nil:
			winner, stored = o.owner, o.stored
		case !errors.Is(o.err, call.ErrStale):
			t.Fatalf("claim by %s: %v", o.owner, o.err)
		}
	}
	if winner == "" {
		t.Fatal("nobody has claimed the call")
	}
	return winner, stored
}

// testOrder finds writes that are told of out of order, twice or never, and a refused one that drags others along.
func testOrder(t *testing.T, s *Opened) {
	put(t, s, call.Stored{ID: "c", Epoch: 5})
	const n = 3000
	type outcome struct {
		i   int
		err error
	}
	outcomes := make(chan outcome, 3*n)
	for i := range n {
		done := func(err error) { outcomes <- outcome{i, err} }
		switch i % 4 {
		case 0:
			s.Put(call.Stored{ID: "c", Epoch: 4, Version: uint64(i)}, done) // stale
		case 1:
			s.Put(call.Stored{ID: "c", Epoch: 5, Version: uint64(i), Blob: fmt.Append(nil, i)}, done)
		case 2:
			s.Bind("alice", []registrar.Device{Device("alice", "d", uint32(i))}, nil, done)
		case 3:
			s.End(fmt.Sprint("none", i), 1, done)
		}
	}
	deadline := time.After(patience)
	for i := range n {
		select {
		case o := <-outcomes:
			if o.i != i {
				t.Fatalf("write %d is told of in place of %d", o.i, i)
			}
			if stale := i%4 == 0; errors.Is(o.err, call.ErrStale) != stale || !stale && o.err != nil {
				t.Fatalf("write %d: %v", i, o.err)
			}
		case <-deadline:
			t.Fatalf("write %d is never told of", i)
		}
	}
	wantCalls(t, s, call.Stored{ID: "c", Epoch: 5, Version: n - 3, Blob: fmt.Append(nil, n-3)})
	wantDevices(t, s, Device("alice", "d", n-2))
	if len(outcomes) > 0 {
		t.Fatalf("%d writes are told of twice", len(outcomes))
	}
}

func testLog(t *testing.T, s *Opened) {
	base := time.Unix(1_700_000_000, 0).UTC()
	var want []journal.Entry
	for i := range 20 {
		e := journal.Entry{
			Time: base.Add(time.Duration(i/2) * time.Second), Kind: journal.CallMoved, User: "alice", Device: "baresip",
			From: "yealink", Peer: "bob", Call: fmt.Sprint(i), Text: "moved", Duration: time.Duration(i),
			Data: map[string]string{"gap_ms": fmt.Sprint(i)},
		}
		want = append(want, e)
		s.Append(e)
	}
	must(t, end(t, s, "none", 1)) // entries go the same way, so they are written when this is
	s.Reopen(t)
	at := func(seconds int) time.Time { return base.Add(time.Duration(seconds) * time.Second) }
	for _, c := range []struct {
		from, to time.Time
		limit    int
		want     []journal.Entry
	}{
		{time.Time{}, time.Time{}, 0, want},
		{time.Time{}, time.Time{}, 3, want[17:]},
		{at(2), time.Time{}, 0, want[4:]},
		{time.Time{}, at(2), 0, want[:4]},
		{at(2), at(4), 0, want[4:8]},
		{at(2), at(4), 1, want[7:8]},
		{at(2), at(2), 0, nil},
		{at(100), time.Time{}, 0, nil},
		{time.Time{}, at(-1), 0, nil},
		{time.Time{}, at(100), 0, want},
	} {
		got, err := s.Entries(c.from, c.to, c.limit)
		must(t, err)
		if !slices.EqualFunc(got, c.want, func(a, b journal.Entry) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("entries from %v to %v, %d at most: %d of them, want %d", c.from, c.to, c.limit, len(got), len(c.want))
		}
	}
}
