package store_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/registrar"
	"baton/store"
	"baton/store/storetest"
	"baton/test/redis"
)

// writer writes calls one after the other, as they change, and remembers what it was told of each.
type writer struct {
	t testing.TB
	s *store.Redis

	mu        sync.Mutex
	newest    map[string]call.Stored
	confirmed map[string]uint64 // version of each that was told to be safe
	lastGood  time.Time
	heard
}

// heard is what a writer was told.
type heard struct {
	good, bad int
	longest   time.Duration // without a success
	slowest   time.Duration // until anything was told
}

// told is what the writer was told so far.
func (w *writer) told() heard {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard
}

func newWriter(t testing.TB, s *store.Redis) *writer {
	return &writer{t: t, s: s, newest: map[string]call.Stored{}, confirmed: map[string]uint64{}, lastGood: time.Now()}
}

// write changes a call every 2 ms until stop is closed; all stay.
func (w *writer) write(calls int, stop <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		w.put(fmt.Sprint("c", n%calls), uint64(n+1))
	}
}

func (w *writer) put(id string, version uint64) {
	c := call.Stored{ID: id, Epoch: 1, Version: version, Owner: "n1", Blob: bytes.Repeat([]byte{byte(version)}, 4096)}
	w.mu.Lock()
	w.newest[id] = c
	w.mu.Unlock()
	begun := time.Now()
	w.s.Put(c, func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		now := time.Now()
		w.slowest = max(w.slowest, now.Sub(begun))
		switch {
		case err == nil:
			w.good++
			w.confirmed[id] = version
			w.longest = max(w.longest, now.Sub(w.lastGood))
			w.lastGood = now
		case errors.Is(err, call.ErrUnsafe):
			w.bad++
		default:
			w.t.Errorf("write of %s: %v", id, err)
		}
	})
}

// during runs the writer while a fault comes and goes.
func (w *writer) during(fault func()) {
	stop := make(chan struct{})
	var runs sync.WaitGroup
	runs.Go(func() { w.write(50, stop) })
	time.Sleep(300 * time.Millisecond)
	fault()
	close(stop)
	runs.Wait()
}

// flushed waits until the server holds the newest of each call, and gives how long that took.
func (w *writer) flushed(limit time.Duration, s *store.Redis) time.Duration {
	w.t.Helper()
	begun := time.Now()
	for {
		err := w.holds(s)
		if err == nil {
			return time.Since(begun)
		}
		if time.Since(begun) > limit {
			w.t.Fatalf("after %v not all is written: %v", limit, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *writer) holds(s *store.Redis) error {
	stored, err := s.Calls()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(stored) != len(w.newest) {
		return fmt.Errorf("%d calls, want %d", len(stored), len(w.newest))
	}
	for _, c := range stored {
		if !reflect.DeepEqual(c, w.newest[c.ID]) {
			return fmt.Errorf("call %s has version %d, want %d", c.ID, c.Version, w.newest[c.ID].Version)
		}
	}
	return nil
}

// lostNothing holds what another node reads to what was told to be safe.
func (w *writer) lostNothing(s *store.Redis) {
	w.t.Helper()
	stored, err := s.Calls()
	if err != nil {
		w.t.Fatal(err)
	}
	version := map[string]uint64{}
	for _, c := range stored {
		version[c.ID] = c.Version
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := 0
	for id, v := range w.confirmed {
		if version[id] < v {
			lost++
			w.t.Errorf("call %s: version %d was confirmed, version %d is there", id, v, version[id])
		}
	}
	w.t.Logf("%d writes confirmed, %d not; calls with a confirmed write lost: %d; longest time without one %v; the slowest answer took %v",
		w.good, w.bad, lost, w.longest.Round(time.Millisecond), w.slowest.Round(time.Millisecond))
}

// failover ends or stops the master of a set, in the midst of writes.
func failover(t *testing.T, fault func(*redis.Server), after func(*redis.Server)) {
	t.Helper()
	set := redis.StartSet(t, time.Second)
	o := redisOptions(set.URL(), "n1")
	s, stop := startRedis(t, o)
	w := newWriter(t, s)
	master := set.Master()
	w.during(func() {
		fault(master)
		time.Sleep(7 * time.Second)
	})
	w.flushed(5*time.Second, s)
	if now := set.Master(); now == master || now == nil {
		t.Errorf("the sentinels have chosen no other master")
	}
	if err := s.Healthy(); err != nil {
		t.Error(err)
	}
	stop()
	after(master)
	other, _ := startRedis(t, redisOptions(set.URL(), "n2"))
	w.lostNothing(other)
	told := w.told()
	if limit := 5 * 3500 * time.Millisecond; told.longest > limit {
		t.Errorf("no write was confirmed for %v", told.longest)
	}
	if told.bad == 0 || told.good < 100 {
		t.Errorf("%d writes confirmed, %d not: the fault was not felt", told.good, told.bad)
	}
}

// TestRedisMasterKilled has the master of a Sentinel set killed: nothing that was confirmed is lost.
func TestRedisMasterKilled(t *testing.T) {
	t.Parallel()
	failover(t, (*redis.Server).Kill, func(*redis.Server) {})
}

// TestRedisMasterFrozen has the master stop and, when another has taken its place, wake up.
func TestRedisMasterFrozen(t *testing.T) {
	t.Parallel()
	failover(t, (*redis.Server).Freeze, func(s *redis.Server) {
		s.Thaw()
		time.Sleep(3 * time.Second) // the sentinels make it a replica
	})
}

// alone is a store on one server, with a writer.
func alone(t *testing.T, args ...string) (*redis.Server, *store.Redis, *writer) {
	t.Helper()
	server := redis.Start(t, redis.Options{Args: args})
	s, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	return server, s, newWriter(t, s)
}

// TestRedisFrozen stops a server for three seconds: writers are told so, and all is there soon after. What was sent before is
// read by the server after what was sent later over another connection, and must not undo it.
func TestRedisFrozen(t *testing.T) {
	t.Parallel()
	server, s, w := alone(t)
	w.during(func() {
		server.Freeze()
		time.Sleep(time.Second)
		if s.Healthy() == nil || !s.HealthySince().IsZero() {
			t.Error("a store that takes no writes says that it is healthy")
		}
		time.Sleep(2 * time.Second)
		server.Thaw()
		time.Sleep(500 * time.Millisecond)
	})
	t.Logf("all is written %v after the last write", w.flushed(5*time.Second, s).Round(time.Millisecond))
	time.Sleep(300 * time.Millisecond)
	if err := w.holds(s); err != nil {
		t.Error(err)
	}
	w.lostNothing(s)
	if slowest := w.told().slowest; slowest > 5*time.Second {
		t.Errorf("somebody waited for %v", slowest)
	}
	if err := s.Healthy(); err != nil || s.HealthySince().IsZero() {
		t.Errorf("healthy: %v, since %v", err, s.HealthySince())
	}
}

// TestRedisGone ends a server that holds nothing on a disk, for five seconds. When it is back, empty, what was kept is written: the
// newest of each call, once; the devices, merged; the log.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	server, s, w := alone(t, "--save", "", "--appendfsync", "no")
	w.during(func() {
		server.Kill()
		time.Sleep(600 * time.Millisecond)
		for i := range 3 {
			d := storetest.Device("alice", fmt.Sprint("urn:uuid:", i), 1)
			err := storetest.Wait(t, func(done func(error)) { s.Bind("alice", []registrar.Device{d}, nil, done) })
			if !errors.Is(err, registrar.ErrUnsafe) {
				t.Errorf("bind without a server: %v, want ErrUnsafe", err)
			}
		}
		s.Bind("alice", nil, []string{"urn:uuid:1"}, nil)
		s.Append(journal.Entry{Kind: journal.CallStarted, Call: "while it was gone"})
		if err := s.PutUser(storetest.User("alice")); err == nil {
			t.Error("a user was added without a server")
		}
		time.Sleep(4400 * time.Millisecond)
		if n, writes := s.Kept(), w.told().bad; n > 60 || writes < 300 {
			t.Errorf("%d changes are kept of %d writes to 50 calls", n, writes)
		}
	})
	server.Run()
	t.Logf("all is written %v after the server was back", w.flushed(5*time.Second, s).Round(time.Millisecond))
	devices, err := s.Devices()
	if err != nil || len(devices) != 2 {
		t.Errorf("%d devices, %v, want two", len(devices), err)
	}
	entries, err := s.Entries(time.Time{}, time.Time{}, 0)
	if err != nil || len(entries) != 1 {
		t.Errorf("the log has %d entries, %v", len(entries), err)
	}
	if n := s.Kept(); n != 0 {
		t.Errorf("%d changes are still kept", n)
	}
}

// full has a server refuse writes and take them again: it is as one that is away.
func full(t *testing.T, server *redis.Server, s *store.Redis, w *writer, fill, empty func()) {
	t.Helper()
	w.during(func() {
		fill()
		time.Sleep(time.Second)
		if s.Healthy() == nil {
			t.Error("a store that takes no writes says that it is healthy")
		}
		empty()
		time.Sleep(time.Second)
	})
	t.Logf("all is written %v after the last write", w.flushed(5*time.Second, s).Round(time.Millisecond))
	w.lostNothing(s)
	if w.told().bad == 0 {
		t.Error("the fault was not felt")
	}
}

func command(t *testing.T, server *redis.Server, words ...string) {
	t.Helper()
	if text, err := server.Do(words...); err != nil || strings.HasPrefix(text, "-") {
		t.Errorf("%v: %q, %v", words, text, err)
	}
}

// TestRedisOutOfMemory has a server reach maxmemory.
func TestRedisOutOfMemory(t *testing.T) {
	t.Parallel()
	server, s, w := alone(t)
	full(t, server, s, w, func() { command(t, server, "CONFIG", "SET", "maxmemory", "1kb") }, func() { command(t, server, "CONFIG", "SET", "maxmemory", "0") })
}

// TestRedisDiskFull has a server fail to save, which it then refuses writes for (MISCONF).
func TestRedisDiskFull(t *testing.T) {
	t.Parallel()
	server, s, w := alone(t)
	full(t, server, s, w, func() {
		command(t, server, "CONFIG", "SET", "save", "3600 1")
		breakDisk(t, server)
	}, func() { command(t, server, "CONFIG", "SET", "stop-writes-on-bgsave-error", "no") })
}

// TestRedisStrangersKey has a node with another key end at once, and say what to do.
func TestRedisStrangersKey(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	o := redisOptions("redis://"+server.Addr, "n1")
	s, stop := startRedis(t, o)
	realm, secret := s.Realm(), s.Secret()
	if err := s.PutUser(storetest.User("alice", "101")); err != nil {
		t.Fatal(err)
	}
	stop()
	o.Key = bytes.Repeat([]byte{8}, 32)
	_, err := store.OpenRedis(o)
	for _, want := range []string{"cluster.key_file", "cluster.key", "baton:", "take the key of the nodes"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with another key: %v, want %q", err, want)
		}
	}
	o.Key, o.Node = clusterKey, "n2"
	s, _ = startRedis(t, o)
	if s.Realm() != realm || !bytes.Equal(s.Secret(), secret) || len(secret) != 32 {
		t.Error("another node has another identity")
	}
	if users, err := s.Users(); err != nil || len(users) != 1 || users[0].Secrets["alice"].MD5 == "" {
		t.Errorf("another node reads %v, %v", users, err)
	}
}

// TestRedisFirstNodes has eight nodes begin at once: they agree.
func TestRedisFirstNodes(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	secrets := make([][]byte, 8)
	var runs sync.WaitGroup
	for i := range secrets {
		runs.Go(func() {
			s, err := store.OpenRedis(redisOptions("redis://"+server.Addr, fmt.Sprint("n", i)))
			if err != nil {
				t.Error(err)
				return
			}
			secrets[i] = s.Secret()
			_ = s.Close()
		})
	}
	runs.Wait()
	for _, one := range secrets {
		if !bytes.Equal(one, secrets[0]) {
			t.Fatal("they have different secrets")
		}
	}
}

// TestRedisEndedCallStaysEnded has a node that was frozen write a call that another has ended meanwhile.
func TestRedisEndedCallStaysEnded(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	a, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	b, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n2"))
	put := func(s *store.Redis, epoch uint64, owner string) error {
		c := call.Stored{ID: "c", Epoch: epoch, Version: 1, Owner: owner, Blob: []byte("x")}
		return storetest.Wait(t, func(done func(error)) { s.Put(c, done) })
	}
	if err := put(a, 1, "n1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Claim("c", 1, "n2"); err != nil {
		t.Fatal(err)
	}
	if own, err := a.CallsOf("n1"); err != nil || len(own) != 0 {
		t.Errorf("who lost the call still owns %v, %v", own, err)
	}
	if own, err := a.CallsOf("n2"); err != nil || len(own) != 1 {
		t.Errorf("who claimed it owns %v, %v", own, err)
	}
	for s, want := range map[*store.Redis]int{a: 0, b: 1} {
		if n, err := s.CountCalls(); err != nil || n != want {
			t.Errorf("%d records are counted, %v, want %d", n, err, want)
		}
	}
	for node, want := range map[string]string{"n1": ":0", "n2": ":1"} {
		if text, err := server.Do("SCARD", "baton:own:"+node); err != nil || !strings.HasPrefix(text, want) {
			t.Errorf("the set of %s has %q members, %v, want %s", node, text, err, want)
		}
	}
	if err := storetest.Wait(t, func(done func(error)) { b.End("c", 2, done) }); err != nil {
		t.Fatal(err)
	}
	if err := put(a, 1, "n1"); !errors.Is(err, call.ErrStale) {
		t.Errorf("write of an ended call by who had it before: %v, want ErrStale", err)
	}
	if calls, err := a.Calls(); err != nil || len(calls) != 0 {
		t.Errorf("there are calls: %v, %v", calls, err)
	}
}

// breakDisk has the server fail to save: its directory is gone.
func breakDisk(t *testing.T, server *redis.Server) {
	t.Helper()
	if err := os.RemoveAll(server.Dir()); err != nil {
		t.Error(err)
	}
	command(t, server, "BGSAVE")
}

// TestRedisReplicaFrozen has a replica stop: what is written meanwhile is told to be unsafe within a tenth of a second, and is there; when it
// goes on, all is well.
func TestRedisReplicaFrozen(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	replica := redis.StartReplica(t, server)
	s, _ := startRedis(t, redisOptions("redis://"+server.Addr, "n1"))
	put := func(version uint64) error {
		c := call.Stored{ID: "c", Epoch: 1, Version: version, Owner: "n1", Blob: []byte("x")}
		return storetest.Wait(t, func(done func(error)) { s.Put(c, done) })
	}
	soon(t, "a replica that confirms", func() bool { return put(1) == nil })
	good(t, s.PutUser(storetest.User("alice", "101")))
	replica.Freeze()
	if err := s.PutUser(storetest.User("bob", "101")); !errors.Is(err, registrar.ErrTaken) {
		t.Errorf("a number that is taken, with a frozen replica: %v", err)
	}
	begun := time.Now()
	err := put(2)
	took := time.Since(begun)
	if !errors.Is(err, call.ErrUnsafe) || took < 40*time.Millisecond || took > time.Second {
		t.Errorf("with a frozen replica: %v after %v", err, took)
	}
	if err := storetest.Wait(t, func(done func(error)) { s.Bind("alice", nil, []string{"d"}, done) }); !errors.Is(err, registrar.ErrUnsafe) {
		t.Errorf("bind with a frozen replica: %v", err)
	}
	if _, err := s.Claim("c", 1, "n2"); !errors.Is(err, call.ErrUnsafe) {
		t.Errorf("claim with a frozen replica: %v", err)
	}
	if s.Healthy() != nil {
		t.Errorf("a master that takes writes is not healthy: %v", s.Healthy())
	}
	replica.Thaw()
	soon(t, "the claim again", func() bool {
		c, err := s.Claim("c", 1, "n2")
		if err != nil && !errors.Is(err, call.ErrUnsafe) || err == nil && (c.Version != 2 || c.Epoch != 2) {
			t.Fatalf("the claim again: %+v, %v", c, err)
		}
		return err == nil
	})
}

// TestRedisForgottenMaster has the sentinels know the master no more, as after a start with an empty file, and it goes: what is written then is
// not safe, and no user or store is taken for gone. A node with the wrong name of a master does not start.
func TestRedisForgottenMaster(t *testing.T) {
	t.Parallel()
	set := redis.StartSet(t, time.Second)
	o := redisOptions(set.URL(), "n1")
	s, _ := startRedis(t, o)
	put := func(version uint64) error {
		c := call.Stored{ID: "c", Epoch: 1, Version: version, Owner: "n1", Blob: []byte("x")}
		return storetest.Wait(t, func(done func(error)) { s.Put(c, done) })
	}
	soon(t, "a write", func() bool { return put(1) == nil })
	wrong := o
	wrong.Redis = config.RedisURL(strings.Replace(set.URL(), set.Name, "other", 1))
	if _, err := store.OpenRedis(wrong); err == nil || !strings.Contains(err.Error(), "the sentinels know no such master") {
		t.Errorf("with the wrong name: %v", err)
	}
	c := config.Default()
	c.Store, c.Cluster.KeyFile = wrong.Store, filepath.Join(t.TempDir(), "cluster.key")
	good(t, os.WriteFile(c.Cluster.KeyFile, []byte(base64.StdEncoding.EncodeToString(clusterKey)), 0o600))
	if _, err := store.InspectRedis(c, slog.New(slog.DiscardHandler)); err == nil || errors.Is(err, store.ErrNothing) {
		t.Errorf("with the wrong name: %v", err)
	}
	for _, sentinel := range set.Sentinels {
		command(t, sentinel, "SENTINEL", "REMOVE", set.Name)
	}
	set.Servers[0].Kill()
	for version := range uint64(5) {
		if err := put(version + 2); !errors.Is(err, call.ErrUnsafe) {
			t.Errorf("write %d without a master: %v", version, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	if s.Healthy() == nil {
		t.Error("it is healthy")
	}
	if n := s.Kept(); n == 0 {
		t.Error("nothing is kept")
	}
	if u, _, err := s.ReadUser("alice"); err == nil {
		t.Errorf("there is no user: %v", u)
	}
	set.Servers[0].Run()
	for _, sentinel := range set.Sentinels {
		command(t, sentinel, "SENTINEL", "MONITOR", set.Name, set.Servers[0].Host, set.Servers[0].Port, "2")
	}
	soon(t, "what was kept to be written", func() bool { return s.Kept() == 0 && s.Healthy() == nil })
	if calls, err := s.Calls(); err != nil || len(calls) != 1 || calls[0].Version != 6 {
		t.Errorf("calls are %v, %v", calls, err)
	}
}

// TestRedisStartsFull has a node begin again at a server that takes no writes, as when it was killed with calls.
func TestRedisStartsFull(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	o := redisOptions("redis://"+server.Addr, "n1")
	s, stop := startRedis(t, o)
	good(t, storetest.Wait(t, func(done func(error)) {
		s.Put(call.Stored{ID: "c", Epoch: 1, Owner: "n1", Blob: []byte("x")}, done)
	}))
	stop()
	command(t, server, "CONFIG", "SET", "maxmemory", "1kb")
	s, err := store.OpenRedis(o)
	good(t, err)
	defer s.Close()
	if calls, err := s.Calls(); err != nil || len(calls) != 1 {
		t.Errorf("its calls are %v, %v", calls, err)
	}
}

// TestRedisRefusesConnections has a server end the node's connections and take no new ones, as one that has another password or too many
// clients: nothing that is written then is told to be stored, and all is when it takes them again.
func TestRedisRefusesConnections(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{Args: []string{"--requirepass", "old"}})
	server.Password = "old"
	s, _ := startRedis(t, redisOptions("redis://:old@"+server.Addr, "n1"))
	w := newWriter(t, s)
	w.during(func() {
		command(t, server, "CONFIG", "SET", "requirepass", "new")
		server.Password = "new"
		command(t, server, "CLIENT", "KILL", "TYPE", "normal")
		time.Sleep(time.Second)
		if err := s.Healthy(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
			t.Errorf("the store says %v", err)
		}
		good := w.told().good
		time.Sleep(200 * time.Millisecond)
		if n := w.told().good - good; n != 0 {
			t.Errorf("%d writes were told to be stored meanwhile", n)
		}
		command(t, server, "CONFIG", "SET", "requirepass", "old")
		server.Password = "old"
	})
	w.flushed(5*time.Second, s)
	w.lostNothing(s)
}
