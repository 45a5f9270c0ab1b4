package bench

import (
	"testing"
	"time"

	"baton/test/phone"
	"baton/test/wire"
)

// The limits from the trigger of a move to audio both ways on a device that answers without a hand, DESIGN §10.
const (
	ringlessLAN  = 300 * time.Millisecond
	ringlessOver = 100 * time.Millisecond // over two round trips
)

const ringlessSeries, ringlessMoves = 5, 20

// ringless are moves to a device that answers where it is asked to, and only there.
var ringless = phone.Behaviour{Ringless: true}

// behind puts a phone behind a path that treats what passes in this way, in both directions.
func behind(t *testing.T, ways wire.Ways) func(*phone.Config) {
	return func(c *phone.Config) {
		path, err := wire.New(wire.Config{Phone: c.Addr, UDP: c.Server, TCP: c.Server, Up: ways, Down: ways, Seed: uint64(c.Addr.As4()[3])})
		must(t, err)
		t.Cleanup(path.Close)
		c.Server, c.Domain = path.Server(), c.Server.Addr().String()
	}
}

// TestRingless moves a call to and fro between devices that answer without a hand, by command and by transfer key.
func TestRingless(t *testing.T) {
	b := newBench(t)
	for range ringlessSeries {
		b.begin()
		for i := range ringlessMoves {
			b.move(ways[i%2], ringless)
		}
		b.finish(0)
	}
	b.judgeRingless("moves to a device that answers without a hand", ringlessLAN)
}

// TestRinglessFarAway does the same with devices 100 ms away from the node, and 2 % of the sound lost on the way there and back. A transfer key
// has to reach the node before anything happens, a command has not.
func TestRinglessFarAway(t *testing.T) {
	const away = 100 * time.Millisecond
	b := newBench(t, behind(t, wire.Ways{SIP: wire.Way{Delay: away}, Media: wire.Way{Delay: away, Loss: 0.02}}))
	for range ringlessSeries {
		b.begin()
		for i := range ringlessMoves {
			b.move(ways[i%2], ringless)
		}
		b.done = append(b.done, b.moves...)
		b.over()
	}
	b.judgeRingless("moves to a device that answers without a hand, 100 ms away, 2 % of the sound lost", 2*2*away+ringlessOver)
}

// judgeRingless prints the time from the trigger to audio both ways, as the phones saw it.
func (b *bench) judgeRingless(what string, limit time.Duration) {
	b.t.Helper()
	var all []time.Duration
	byWay := map[string][]time.Duration{}
	for _, m := range b.done {
		all = append(all, m.asked)
		byWay[m.how] = append(byWay[m.how], m.asked)
	}
	lessMS(what+": p95", phone.Quantile(all, 0.95))
	verdict(b.t, phone.Quantile(all, 0.95) <= limit, "%d %s: trigger → both directions p50 / p95 / max %s (limit p95 %s)", len(all), what, three(all), ms(limit))
	for _, how := range ways[:2] {
		note("by %-5s %s, %d moves", how, three(byWay[how]), len(byWay[how]))
	}
}
