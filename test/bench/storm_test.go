package bench

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// stormTime is how long ten thousand phones may take to be registered again.
const stormTime = 30 * time.Second

// insist is register as a phone does it: what is not answered is sent again (RFC 3261 §17.1.2.2), and who is told to come
// later comes later. busy counts how often he was.
func (a *agent) insist(user string, device int, until time.Time, busy *atomic.Int64) error {
	x := a.exchange(user)
	defer x.close()
	aor := fmt.Sprintf("sip:%s@%s", user, a.server.Addr())
	challenge := ""
	for time.Now().Before(until) {
		m := x.request("REGISTER", fmt.Sprintf("sip:%s", a.server.Addr()), "<"+aor+">")
		m.Add("Contact", fmt.Sprintf(`<sip:%s@%s;d=%d>;expires=3600;+sip.instance="<urn:uuid:00000000-0000-4000-8000-%012d>"`, user, a.at, device, device))
		m.Add("User-Agent", "bench/1.0")
		if challenge != "" {
			m.Add("Authorization", credentials(challenge, user, m.Method, m.URI))
		}
		res, err := x.repeated(m, until)
		switch {
		case err != nil:
			return err
		case res.Code == 200:
			return nil
		case res.Code == 401:
			challenge = res.Get("WWW-Authenticate")
		case res.Code == 503:
			busy.Add(1)
			seconds, err := strconv.Atoi(res.Get("Retry-After"))
			if err != nil {
				return fmt.Errorf("503 with Retry-After %q", res.Get("Retry-After"))
			}
			time.Sleep(time.Duration(seconds) * time.Second)
		default:
			return errors.New(res.Line())
		}
	}
	return errors.New("not in time")
}

// repeated sends a request until it is answered: Timer E.
func (x *exchange) repeated(m *phone.Message, until time.Time) (*phone.Message, error) {
	interval := 500 * time.Millisecond
	for time.Now().Before(until) {
		x.agent.send(m)
		again := time.NewTimer(interval)
		interval = min(2*interval, 4*time.Second)
		for waiting := true; waiting; {
			select {
			case res := <-x.answers:
				if seq, _ := res.CSeq(); res.Code >= 200 && int(seq) == x.seq {
					again.Stop()
					return res, nil
				}
			case <-again.C:
				waiting = false
			}
		}
	}
	return nil, errors.New("no answer")
}

// storm has all devices register in the same moment and gives how long each took.
func storm(t *testing.T, agents []*agent, busy *atomic.Int64) (took []time.Duration, failed int) {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for i := range registerUsers * registerDevices {
		wg.Go(func() {
			user := i % registerUsers
			err := agents[user%len(agents)].insist(userName(user), i/registerUsers, start.Add(2*stormTime), busy)
			mu.Lock()
			defer mu.Unlock()
			if took = append(took, time.Since(start)); err != nil {
				if failed++; failed <= 5 {
					t.Log(err)
				}
			}
		})
	}
	wg.Wait()
	return took, failed
}

// TestStorm restarts a node on which 10,000 devices are registered, and has all of them register at once, beside 20 calls
// that were set up since.
func TestStorm(t *testing.T) {
	g := newGenerator(t)
	l := newLimited(t, 20, g)
	for i := range registerUsers {
		must(t, l.node.Post("/api/v1/users", map[string]any{"name": userName(i), "password": node.Password(userName(i))}, nil))
	}
	agents := make([]*agent, 40) // sockets; each speaks for 50 users
	for i := range agents {
		agents[i] = newAgent(t, "", node.IP(2+i%18), l.node.UDP, nil)
	}
	for _, when := range []string{"new devices", "after a restart"} {
		if when != "new devices" {
			l.node.Stop()
			l.node.Run()
			for i := range l.callers {
				must(t, l.callers[i].register(l.callers[i].user, 2*i))
				must(t, l.callees[i].register(l.callees[i].user, 2*i+1))
			}
		}
		g.mu.Lock()
		g.legs = nil
		g.mu.Unlock()
		up := l.calls(t, 20)
		var busy atomic.Int64
		var took []time.Duration
		failed := 0
		all := watched(g, func() { took, failed = storm(t, agents, &busy) })
		d, err := l.node.Debug()
		must(t, err)
		last, p99 := phone.Quantile(took, 1), phone.Quantile(all, 0.99)
		note("%s: told to come later %d times; dropped %v, refused %v, in the kernel %d; busy %d times", when, busy.Load(), d.Traffic.Dropped, d.Traffic.Refused, d.Traffic.Kernel, d.Load.Times)
		less("10,000 REGISTERs at once, "+when+": until the last is registered", last.Seconds(), "s")
		verdict(t, failed == 0 && last <= stormTime, "10,000 REGISTERs at once, %s: p50 %.1f s, the last after %.1f s, %d failed (limit 30 s)", when, phone.Quantile(took, 0.5).Seconds(), last.Seconds(), failed)
		verdict(t, p99 <= gapLimit, "… beside them 20 calls: longest gap of a leg in a second, p50 / p95 / max %s, p99 %s ms (limit p99 60)", three(all), ms(p99))
		paced(t, len(up), 200, func(i int) error { return up[i].bye() })
	}
}
