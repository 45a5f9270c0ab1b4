package store_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/registrar"
	"baton/store"
	"baton/store/storetest"
	"baton/test/redis"
)

// site is a registrar on a store of its own, as two nodes have them on one server.
type site struct {
	*registrar.Registrar
	store *store.Redis
	stop  func()
}

func newSite(t *testing.T, server *redis.Server, name string) site {
	t.Helper()
	s, stop := startRedis(t, redisOptions("redis://"+server.Addr, name))
	r, err := registrar.New(registrar.Options{Store: s, Journal: s, Log: slog.New(slog.DiscardHandler), Realm: s.Realm(), Node: name})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { _ = r.Run(ctx) })
	end := sync.OnceFunc(func() { cancel(); runs.Wait(); stop() })
	t.Cleanup(end)
	return site{r, s, end}
}

func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10s for: %s", what)
		}
	}
}

func good(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRedisTwoRegistrars has what one node writes appear at the other, which is not started again.
func TestRedisTwoRegistrars(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	a, b := newSite(t, server, "n1"), newSite(t, server, "n2")
	user := func(s site) registrar.User { u, _ := s.User("alice"); return u }
	_, _, err := a.AddUser(registrar.UserSpec{Name: "alice", Numbers: []string{"101"}, Password: "secret"})
	good(t, err)
	soon(t, "the user at the other node", func() bool { return user(b).Name == "alice" })
	if u, ok := b.User("101"); !ok || u.Secrets["alice"].MD5 != user(a).Secrets["alice"].MD5 {
		t.Errorf("by its number it is %+v", u)
	}
	_, err = b.SetPassword("alice", "other")
	good(t, err)
	soon(t, "the new password", func() bool { return user(a).Secrets["alice"].MD5 == user(b).Secrets["alice"].MD5 })

	// A device of a third node: neither of the two may end it, though neither knows its connection.
	third, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n3"))
	d := storetest.Device("alice", "urn:uuid:1", 1)
	d.Binding.Node, d.Spare = "n3", nil
	d.Binding.Expires = time.Now().Add(time.Hour)
	appeared := make(chan registrar.Device, 1)
	defer b.Watch("alice", func(d registrar.Device) { appeared <- d })()
	good(t, storetest.Wait(t, func(done func(error)) { third.Bind("alice", []registrar.Device{d}, nil, done) }))
	soon(t, "the device", func() bool { return len(a.Lookup("alice")) == 1 && len(b.Lookup("alice")) == 1 })
	select {
	case <-appeared:
	case <-time.After(10 * time.Second):
		t.Error("who waits for the device is not told")
	}
	good(t, a.Rename("alice", d.Name, "mine"))
	soon(t, "the new name", func() bool { return len(b.Devices("alice")) == 1 && b.Devices("alice")[0].Name == "mine" })
	if again := newSite(t, server, "n4"); len(again.Lookup("alice")) != 1 {
		t.Error("a node that begins ends a binding of another")
	}
	if len(b.Lookup("alice")) != 1 {
		t.Error("the device is not here any more")
	}

	token, text, err := a.AddAdminToken("ops", time.Time{})
	good(t, err)
	soon(t, "the token", func() bool { _, ok := b.Bear(text); return ok })
	good(t, b.RevokeToken(token.ID))
	soon(t, "the end of the token", func() bool { _, ok := a.Bear(text); return !ok })

	good(t, b.RemoveUser("alice"))
	soon(t, "the end of the user", func() bool { return user(a).Name == "" && len(a.Devices("alice")) == 0 })
}

// TestRedisLost has a server come back empty: a node keeps the users that it knows, and says what has happened; with the data back all
// is well again.
func TestRedisLost(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	a := newSite(t, server, "n1")
	_, _, err := a.AddUser(registrar.UserSpec{Name: "alice", Password: "secret"})
	good(t, err)
	soon(t, "a healthy store", func() bool { return a.store.Healthy() == nil })
	command(t, server, "SAVE")
	server.Kill()
	dump := filepath.Join(server.Dir(), "dump.rdb")
	good(t, os.Rename(dump, dump+".aside"))
	server.Run()
	soon(t, "the loss to be noticed", func() bool {
		err := a.store.Healthy()
		return err != nil && strings.Contains(err.Error(), "without what it held")
	})
	time.Sleep(100 * time.Millisecond)
	if _, ok := a.User("alice"); !ok {
		t.Error("the user is gone")
	}
	if u, _, err := a.store.ReadUser("alice"); err == nil {
		t.Errorf("a server that holds nothing says that the user is %v", u)
	}
	if all, err := a.store.Tokens(); err == nil {
		t.Errorf("a server that holds nothing says that there are the tokens %v", all)
	}
	server.Kill()
	good(t, os.Rename(dump+".aside", dump))
	server.Run()
	soon(t, "a healthy store again", func() bool { return a.store.Healthy() == nil })
	if _, ok := a.User("alice"); !ok {
		t.Error("the user is gone")
	}
}

// TestRedisChangesMissed has a node that may have missed changes be told so: its connection is lost, the stream is cut.
func TestRedisChangesMissed(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	a, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	b, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n2"))
	changes := make(chan registrar.Change, 100)
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { good(t, b.Changes(ctx, func(c registrar.Change) { changes <- c })) })
	defer func() { cancel(); runs.Wait() }()
	next := func(what string, is func(registrar.Change) bool) {
		t.Helper()
		select {
		case c := <-changes:
			if !is(c) {
				t.Fatalf("%s: told %+v", what, c)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: told nothing", what)
		}
	}
	all := func(c registrar.Change) bool { return c.All }
	bind := func(s *store.Redis, user string) {
		t.Helper()
		good(t, storetest.Wait(t, func(done func(error)) {
			s.Bind(user, []registrar.Device{storetest.Device(user, "d", 1)}, nil, done)
		}))
	}
	next("at first", all)
	bind(b, "own") // is not told
	bind(a, "alice")
	next("a device", func(c registrar.Change) bool { return slices.Equal(c.Devices, []string{"alice"}) && !c.All })
	command(t, server, "CLIENT", "KILL", "TYPE", "normal")
	next("a lost connection", all)
	soon(t, "the store after it", func() bool { return a.Healthy() == nil && b.Healthy() == nil })
	bind(a, "bob")
	next("a device again", func(c registrar.Change) bool { return slices.Equal(c.Devices, []string{"bob"}) })
	command(t, server, "XTRIM", "baton:changes", "MAXLEN", "0")
	next("a stream that was cut", all)
	for i := range 5 {
		good(t, a.PutUser(storetest.User(fmt.Sprint("u", i))))
	}
	seen := 0
	soon(t, "five users", func() bool {
		select {
		case c := <-changes:
			seen += len(c.Users)
		default:
		}
		return seen == 5
	})
}

// TestRedisLateUser has a server take an administrator's change when he has been told that it failed: the node that has told him so has it
// too.
func TestRedisLateUser(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	a := newSite(t, server, "n1")
	soon(t, "a healthy store", func() bool { return a.store.Healthy() == nil })
	time.Sleep(100 * time.Millisecond) // what was there at first is read
	server.Freeze()
	if _, _, err := a.AddUser(registrar.UserSpec{Name: "alice", Password: "secret"}); err == nil {
		t.Error("a server that is frozen has taken a user")
	}
	server.Thaw()
	soon(t, "the user", func() bool { _, ok := a.User("alice"); return ok })
}

// TestRedisStopsFrozen has a node stop while its server says nothing: it is over in seconds, with all that it has to write and read.
func TestRedisStopsFrozen(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	a, b := newSite(t, server, "n1"), newSite(t, server, "n2")
	_, _, err := a.AddUser(registrar.UserSpec{Name: "alice", Password: "secret"})
	good(t, err)
	soon(t, "the user at the other node", func() bool { _, ok := b.User("alice"); return ok })
	for range 50 {
		a.store.Bind("alice", []registrar.Device{storetest.Device("alice", "d", 1)}, nil, func(error) {})
	}
	server.Freeze()
	defer server.Thaw()
	begun := time.Now()
	b.stop()
	a.stop()
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("two nodes took %v to stop", took)
	} else {
		t.Logf("two nodes stopped in %v", took)
	}
}
