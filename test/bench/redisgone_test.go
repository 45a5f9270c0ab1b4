package bench

import (
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

var goneFor = flag.Duration("gone", 10*time.Minute, "how long Redis is away in TestRedisGoneTenMinutes")

// What Redis may cost by being away for ten minutes, R6 of docs/failures.md.
const (
	goneCalls   = 100                    // that are up all the while
	goneRate    = 5                      // calls a second that begin, and end after goneHold
	goneHold    = 10 * time.Second       //
	goneGap     = 300 * time.Millisecond // the longest time without a packet, that of a busy machine
	goneLost    = 1e-4                   // of the packets
	goneFlushed = 5 * time.Second
	goneMemory  = 16 << 20                   // heap that grows: 10,000 entries of the log and a record for each call
	goneChanges = 10_000 + 10*goneRate + 500 // that are kept: the log, calls, devices, and what the store has to hear of calls that it knows
)

// storeIn has a node keep its state there.
func storeIn(t *testing.T, server *redis.Server) string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "cluster.key")
	must(t, os.WriteFile(file, []byte(base64.StdEncoding.EncodeToString(key)+"\n"), 0o600))
	return fmt.Sprintf("store:\n  redis: redis://%s\ncluster:\n  name: n1\n  key_file: %s\n", server.Addr, file)
}

// TestRedisGoneTenMinutes takes Redis away for ten minutes. A hundred calls are up all the while, others begin, move and end, phones register: nobody hears it, what is kept is
// bounded, and all is in Redis soon after it is back.
func TestRedisGoneTenMinutes(t *testing.T) {
	server := redis.Start(t, redis.Options{Args: []string{"--appendonly", "yes"}})
	g := newGenerator(t)
	l := newLoadedWith(t, loadedConfig+unlimited+storeIn(t, server), 20, g)
	up := l.calls(t, goneCalls)
	mover := newMover(t, l.node)

	stop := make(chan struct{})
	var load sync.WaitGroup
	var made, moved, registered, failed atomic.Int64
	count := func(n *atomic.Int64, what string, err error) {
		if err == nil {
			n.Add(1)
		} else if failed.Add(1) <= 5 {
			t.Logf("%s: %v", what, err)
		}
	}
	every := func(d time.Duration, do func(i int)) {
		load.Go(func() {
			var each sync.WaitGroup
			defer each.Wait()
			tick := time.NewTicker(d)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-tick.C:
					each.Go(func() { do(i) })
				}
			}
		})
	}
	silent := newSilent(t, l.node, 10)
	every(time.Second/goneRate, func(i int) { count(&made, "call", silent.callFor(i, goneHold)) })
	every(2*time.Second, func(i int) {
		count(&registered, "registration", l.callees[i%20].register(l.callees[i%20].user, 2*(i%20)+1))
	})
	load.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(2 * time.Second):
				count(&moved, "move", mover.turn())
			}
		}
	})

	w := newGaps()
	w.whole = true
	halt := stands()
	var before, most uint64
	var flushed time.Duration
	w.watch(g, func() {
		time.Sleep(2 * goneHold)
		before = heap(t, l.node)
		server.Kill()
		for end := time.Now().Add(*goneFor); time.Now().Before(end); {
			time.Sleep(min(15*time.Second, time.Until(end)))
			most = max(most, heap(t, l.node))
		}
		server.Run()
		flushed = inRedis(t, l.node, server)
		time.Sleep(2 * time.Second)
	})
	close(stop)
	load.Wait()
	stood := halt()
	lost := max(g.sent.Load()-g.heard.Load(), 0)
	w.only(2 * goneCalls)
	gap := phone.Quantile(w.ofLegs(), 1)
	changes, after := written(l.node.Output())
	lessMS(fmt.Sprintf("Redis gone for %s, flushed after its return", *goneFor), flushed)
	less("heap that grew meanwhile", float64(most-min(before, most))/(1<<20), "MiB")
	lessMS("longest gap meanwhile", gap)
	verdict(t, gap <= goneGap+2*stood && len(w.ofLegs()) == 2*goneCalls, "Redis gone for %s: longest time without a packet at %d far ends %s ms (limit %s and twice what this process stood still, %s)",
		*goneFor, len(w.ofLegs()), ms(gap), ms(goneGap), ms(stood))
	verdict(t, float64(lost) <= goneLost*float64(g.sent.Load()), "of %d packets %d were lost (limit %g of them)", g.sent.Load(), lost, goneLost)
	verdict(t, failed.Load() == 0 || stood > patience/2, "%d calls made, %d moved, %d registrations meanwhile, %d failed (limit 0, unless the machine stood still for half of what an answer may take)", made.Load(), moved.Load(), registered.Load(), failed.Load())
	verdict(t, flushed <= goneFlushed, "all live calls in Redis %s ms after it answered again (limit %s); away for %s", ms(flushed), ms(goneFlushed), after)
	verdict(t, most <= before+goneMemory && changes <= goneChanges, "kept meanwhile: %d changes (limit %d), heap %.1f MiB before, %.1f at the most (limit +%d)",
		changes, goneChanges, float64(before)/(1<<20), float64(most)/(1<<20), goneMemory>>20)
	if failed := paced(t, goneCalls, 200, func(i int) error { return up[i].bye() }); failed > 0 {
		t.Errorf("%d calls could not be ended", failed)
	}
}

// only forgets all but the first n legs: tones of the node's own are none.
func (g *gaps) only(n uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.DeleteFunc(g.longest, func(k legSecond, _ time.Duration) bool { return k.leg >= n })
}

// stands watches for how long this process is not run at most, as one of a busy machine, until halt is called.
func stands() (halt func() time.Duration) {
	stop, most := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		for last := time.Now(); ; {
			select {
			case <-stop:
				most <- longest
				return
			case <-time.After(10 * time.Millisecond):
			}
			longest, last = max(longest, time.Since(last)), time.Now()
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-most
	}
}

// newSilent is users in pairs at a running node, whose calls have no sound.
func newSilent(t *testing.T, n *node.Node, pairs int) *loaded {
	t.Helper()
	l := &loaded{node: n}
	for i := range pairs {
		a, b := fmt.Sprintf("c%d", i), fmt.Sprintf("d%d", i)
		n.AddUser(a, fmt.Sprint(600+i))
		n.AddUser(b, fmt.Sprint(700+i))
		from, to := newAgent(t, a, node.IP(2+i%9), n.UDP, nil), newAgent(t, b, node.IP(11+i%9), n.UDP, nil)
		must(t, from.register(a, 1000+2*i))
		must(t, to.register(b, 1001+2*i))
		l.callers, l.callees = append(l.callers, from), append(l.callees, to)
	}
	return l
}

// newMover is a pair of users of a running node whose call moves from device to device.
func newMover(t *testing.T, n *node.Node) *pair {
	t.Helper()
	n.AddUser("amover", "801")
	n.AddUser("bmover", "802")
	p := &pair{name: "mover"}
	p.a[0], p.a[1] = newPhone(t, n, "amover", "one", quiet), newPhone(t, n, "amover", "two", quiet)
	p.b = newPhone(t, n, "bmover", "far", quiet)
	return p
}

// heap is what is live of a node's.
func heap(t *testing.T, n *node.Node) uint64 {
	t.Helper()
	d, err := n.Debug()
	must(t, err)
	return d.HeapBytes
}

// inRedis waits until Redis has all calls that are up at a node, and gives how long that took.
func inRedis(t *testing.T, n *node.Node, s *redis.Server) time.Duration {
	t.Helper()
	begun := time.Now()
	for {
		live := liveIDs(t, n)
		text, err := s.Do("EVAL", `local all = ''
for _, key in ipairs(redis.call('KEYS', 'baton:call:*')) do
  if redis.call('HEXISTS', key, 'b') == 1 then all = all .. key .. ' ' end
end
return all`, "0")
		missing := 0
		for _, id := range live {
			if !strings.Contains(text, "baton:call:{"+id+"}") {
				missing++
			}
		}
		took := time.Since(begun)
		if err == nil && missing == 0 {
			return took
		}
		if took > time.Minute {
			t.Errorf("of %d calls Redis lacks %d, %v", len(live), missing, err)
			return took
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// liveIDs are the calls that are up for a second at least: the others may not have been written yet.
func liveIDs(t *testing.T, n *node.Node) (ids []string) {
	t.Helper()
	var calls []struct {
		ID      string
		State   string
		Started time.Time
	}
	must(t, n.JSON(&calls, "calls", "--json"))
	for _, c := range calls {
		if c.State == "up" && time.Since(c.Started) > time.Second {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

var writtenLine = regexp.MustCompile(`msg="what was kept for the store is written" changes=(\d+)`)

// written reads of the node's log how many changes were kept, and for how long the store was away.
func written(log string) (changes int, after string) {
	for _, m := range writtenLine.FindAllStringSubmatch(log, -1) {
		n, _ := strconv.Atoi(m[1])
		changes = max(changes, n)
	}
	const back = `msg="store is back" after=`
	if i := strings.LastIndex(log, back); i >= 0 {
		after, _, _ = strings.Cut(log[i+len(back):], "\n")
	}
	return changes, after
}
