package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/registrar"
	"baton/test/redis"
)

// TestLateWrite has writes reach a server after later ones of the same node, as over a connection that was given up: they are passed
// over. Those of another node are not: it counts for itself.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	s := opened(t, "redis://"+server.Addr)
	ctx := context.Background()
	run := func(script, key string, args ...any) {
		t.Helper()
		pipe := s.client.Pipeline()
		cmd := eval(ctx, pipe, script, []string{key}, args...)
		if _, err := pipe.Exec(ctx); err != nil || cmd.Val() != int64(1) {
			t.Fatalf("%s: %v, %v", script, cmd.Val(), err)
		}
	}
	put := func(version, by string, number int) {
		run("put", s.callKey("c"), epochText(1), version, "n1", "blob", by, number)
	}
	stored := func() string {
		t.Helper()
		all, err := s.Calls()
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, c := range all {
			text += fmt.Sprint(c.ID, " ", c.Version)
		}
		return text
	}
	s.client.SAdd(ctx, s.key("calls"), "c")
	for i, step := range []struct {
		do   func()
		want string
	}{
		{func() { put("2", "a", 20) }, "c 2"},
		{func() { put("1", "a", 19) }, "c 2"},
		{func() { run("end", s.callKey("c"), epochText(1), "a", 18, forget) }, "c 2"},
		{func() { put("3", "b", 1) }, "c 3"},
		{func() { run("end", s.callKey("c"), epochText(1), "b", 10, forget) }, ""},
		{func() { put("4", "b", 9) }, ""},
		{func() { put("5", "b", 11) }, "c 5"},
	} {
		if step.do(); stored() != step.want {
			t.Errorf("step %d: stored is %q, want %q", i, stored(), step.want)
		}
	}

	bind := func(number int, args ...any) {
		run("bind", s.devicesKey("alice"), append([]any{"a", number, forget}, args...)...)
	}
	s.client.SAdd(ctx, s.key("bound"), "alice")
	device := string(registrar.Device{User: "alice", Key: "k"}.Pack(nil))
	devices := func() int {
		all, err := s.Devices()
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	bind(5, 0, "d:k", device)
	if bind(4, 1, "d:k"); devices() != 1 {
		t.Error("an older change has dropped a device")
	}
	bind(6, 1, "d:k")
	if bind(5, 0, "d:k", device); devices() != 0 {
		t.Error("an older change has brought a device back")
	}
}

// TestKept keeps the newest of each key, in the order in which the keys came, and of the log as much as there is room for.
func TestKept(t *testing.T) {
	var k kept
	told := 0
	add := func(key string, epoch uint64) *change {
		c := &change{key: key, epoch: epoch, safe: true, done: func(error) { told++ }}
		k.add(c)
		return c
	}
	add("a", 2)
	add("b", 1)
	add("a", 3)
	add("a", 1) // would be refused
	for range keptEntries + 5 {
		k.add(&change{entry: true})
	}
	if k.len() != keptEntries+2 || k.list[0].key != "a" || k.list[0].epoch != 3 || k.list[1].key != "b" {
		t.Fatalf("%d are kept, first %+v, %+v", k.len(), k.list[0], k.list[1])
	}
	k.list[0].tell(nil)
	if told != 0 || k.list[0].safe {
		t.Error("who was told that it is unsafe is told again")
	}
	k.drop(1)
	add("a", 4) // a new one: the old is written
	if last := k.list[k.len()-1]; last.key != "a" || last.epoch != 4 {
		t.Errorf("last is %+v", last)
	}
	k.drop(k.len())
	if k.add(&change{entry: true}); k.len() != 1 || k.entries != 1 {
		t.Errorf("%d, %d entries are kept", k.len(), k.entries)
	}
}

// opened is a store whose queue the test runs itself.
func opened(t *testing.T, url string) *Redis {
	t.Helper()
	c := config.Default().Store
	c.Redis = config.RedisURL(url)
	s, err := OpenRedis(RedisOptions{Store: c, Key: make([]byte, keySize), Node: "n1", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestEndedCallsLeaveNothing has calls come and go: neither the node nor the server remembers one, but for the two minutes of its end.
// The end of one that another node has taken over is refused, and leaves that one its call.
func TestEndedCallsLeaveNothing(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	s := opened(t, "redis://"+server.Addr)
	put := func(id string) { s.Put(call.Stored{ID: id, Epoch: 1, Owner: "n1", Blob: []byte("x")}, nil) }
	for i := range 600 {
		put(fmt.Sprint("c", i))
	}
	put("theirs")
	s.write.flush()
	if _, err := s.Claim("theirs", 1, "n2"); err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		s.End(fmt.Sprint("c", i), 1, nil)
	}
	s.End("theirs", 1, nil)
	s.write.flush()
	s.beat(time.Now(), false)
	s.write.flush()
	ctx := context.Background()
	if ids := s.client.SMembers(ctx, s.key("calls")).Val(); len(ids) != 1 || ids[0] != "theirs" {
		t.Errorf("of 600 calls that have ended and one of another node %d are in the set of all", len(ids))
	}
	if n := s.client.SCard(ctx, s.key("own:n1")).Val(); n != 0 {
		t.Errorf("this node's set has %d calls", n)
	}
	if n := len(s.write.hinted) + len(s.write.gone); n != 0 {
		t.Errorf("the node remembers %d of them", n)
	}
}

// TestPartOfABatch has a server refuse one write of a batch while no replica confirms: what stands before it is not safe either.
func TestPartOfABatch(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{Args: []string{
		"--user", "baton", "on", "nopass", "~baton:calls", "~baton:meta", "~baton:call:{good}", "+@all",
	}})
	replica := redis.StartReplica(t, server)
	s := opened(t, "redis://baton:x@"+server.Addr)
	put := func(id string) *change { return s.putCall(call.Stored{ID: id, Epoch: 1, Blob: []byte("x")}, true, nil) }
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		results, _, err := s.write.exec([]*change{put("good")})
		if err == nil && results[0] == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("with a replica: %v, %v", results, err)
		}
	}
	replica.Freeze()
	results, failed, err := s.write.exec([]*change{put("good"), put("bad")})
	if err == nil || failed != 0 || !errors.Is(results[0], call.ErrUnsafe) || results[1] == nil {
		t.Errorf("results are %v; from %d on they are kept because of %v", results, failed, err)
	}
}

// tryAt is when a server that is away is tried next.
func (q *redisQueue) tryAt(at time.Time) {
	q.turn.Lock()
	defer q.turn.Unlock()
	q.retryAt = at
}

// TestCallsOfAnOutage has calls begin, change and end while the server is away: of those that were over by then nothing is kept, however many, and of one
// that the server may know, and of one of another run, its end.
func TestCallsOfAnOutage(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	s := opened(t, "redis://"+server.Addr)
	put := func(id string, epoch, version uint64) {
		s.Put(call.Stored{ID: id, Epoch: epoch, Version: version, Owner: "n1", Blob: []byte("x"), Dialogs: []string{id + "@phone"}}, nil)
	}
	put("before", 1, 1)
	put("late", 1, 1)
	s.write.flush()
	server.Kill()
	put("lost", 1, 1) // with this the node finds out
	s.write.flush()
	s.write.tryAt(time.Now().Add(time.Hour)) // of a call that is sent in vain in mid-life the end is kept, as the server may know it
	for i := range 2000 {
		id := fmt.Sprint("c", i)
		put(id, 1, 1)
		put(id, 1, 2)
		if s.write.flush(); i >= 10 {
			s.End(id, 1, nil)
		}
	}
	put("restored", 2, 1)
	for _, id := range []string{"before", "lost"} {
		s.End(id, 1, nil)
	}
	s.End("restored", 2, nil)
	s.write.flush()
	n, list := s.write.kept.len(), len(s.write.kept.list)
	if n != 13 || list > 2*n+1 {
		t.Errorf("%d changes are kept in a list of %d, want ten calls and three ends", n, list)
	}
	server.Run()
	s.write.tryAt(time.Now())
	put("before the end", 1, 1)
	for end := time.Now().Add(5 * time.Second); s.Healthy() != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		s.write.flush()
	}
	s.write.flush()
	calls, err := s.Calls()
	if err != nil || len(calls) != 11 {
		t.Errorf("%d calls are stored, %v, want those ten and another", len(calls), err)
	}
	for _, c := range calls {
		if c.ID != "before the end" && c.Version != 2 {
			t.Errorf("%s has version %d", c.ID, c.Version)
		}
	}
}

// TestUnconfirmedDevices has devices change while no replica confirms: what a replica that has become the master never got of them is written again, with
// what has changed since, and nothing older than that.
func TestUnconfirmedDevices(t *testing.T) {
	t.Parallel()
	server := redis.Start(t, redis.Options{})
	replica := redis.StartReplica(t, server)
	s := opened(t, "redis://"+server.Addr)
	device := func(key, name string) registrar.Device { return registrar.Device{User: "alice", Key: key, Name: name} }
	told := map[string]error{}
	bind := func(what string, put []registrar.Device, drop ...string) {
		s.Bind("alice", put, drop, func(err error) { told[what] = err })
	}
	both := func(a, b registrar.Device) []registrar.Device { return []registrar.Device{a, b} }
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		bind("first", both(device("a", "a1"), device("b", "b1")))
		if s.write.flush(); told["first"] == nil && s.write.sure {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("with a replica: %v", told["first"])
		}
	}
	replica.Freeze()
	bind("second", both(device("a", "a2"), device("c", "c2")))
	s.write.flush()
	bind("third", both(device("a", "a3"), device("d", "d3")), "b")
	bind("fourth", []registrar.Device{device("a", "a4")})
	s.write.flush()
	for _, what := range []string{"second", "third", "fourth"} {
		if !errors.Is(told[what], call.ErrUnsafe) {
			t.Errorf("the %s bind, with a frozen replica: %v", what, told[what])
		}
	}
	ctx := context.Background()
	s.client.Del(ctx, s.devicesKey("alice")) // the other one never got it
	replica.Thaw()
	for end := time.Now().Add(10 * time.Second); len(s.write.unsure) > 0; time.Sleep(20 * time.Millisecond) {
		s.beat(time.Now(), false)
		if s.write.flush(); time.Now().After(end) {
			t.Fatal("they are not written again")
		}
	}
	all, err := s.Devices()
	var names []string
	for _, d := range all {
		names = append(names, d.Name)
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"a4", "c2", "d3"}) {
		t.Errorf("devices are %v, %v", names, err)
	}
}
