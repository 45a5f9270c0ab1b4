package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/redis"
)

// What a registrar is to do with a second of processor time, and what a binding may take.
const (
	registersPerCPU      = 18_000
	redisRegistersPerCPU = 10_000 // with what Redis takes for them
	bytesPerBinding      = 1500
)

// The load of a registrar: so many users with so many devices each, so many registrations a second.
const (
	registerUsers   = 2000
	registerDevices = 5
	registerRate    = 1000
	crowdUsers      = 20_000
	settled         = 45 * time.Second // after the last of them, when all transactions are over
	crowdTurns      = 5                // how often the saturating load registers each device
)

// register registers one device of a user, with a new Call-ID each time.
func (a *agent) register(user string, device int) error {
	x := a.exchange(user)
	defer x.close()
	aor := fmt.Sprintf("sip:%s@%s", user, a.server.Addr())
	_, err := x.authenticated(func() *phone.Message {
		m := x.request("REGISTER", fmt.Sprintf("sip:%s", a.server.Addr()), "<"+aor+">")
		m.Add("Contact", fmt.Sprintf(`<sip:%s@%s;d=%d>;expires=3600;+sip.instance="<urn:uuid:00000000-0000-4000-8000-%012d>"`, user, a.at, device, device))
		m.Add("Expires", "3600")
		m.Add("User-Agent", "bench/1.0")
		return m
	})
	return err
}

// paced does something count times at an even rate, each in a goroutine of its own, and gives how many failed.
func paced(t *testing.T, count, rate int, do func(i int) error) int {
	t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Int64
	start := time.Now()
	for i := range count {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		wg.Go(func() {
			if err := do(i); err != nil && failed.Add(1) <= 5 {
				t.Logf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	return int(failed.Load())
}

// target is a registrar under load.
type target struct {
	server
	at   netip.AddrPort
	heap func() int64 // live, in bytes; nil = not known
}

// rate measures a registrar at an even rate: all devices for the first time, and each once more.
func (s target) rate(t *testing.T) {
	t.Helper()
	agents := make([]*agent, 40) // sockets; each speaks for 50 users
	for i := range agents {
		agents[i] = newAgent(t, "", node.IP(2+i%18), s.at, nil)
	}
	const count = registerUsers * registerDevices
	all := func() int {
		return paced(t, count, registerRate, func(i int) error {
			user := i % registerUsers
			return agents[user%len(agents)].register(userName(user), i/registerUsers)
		})
	}
	grown := s.grows(t, count)
	for _, what := range []string{"new bindings", "refreshes"} {
		s.counted(t, fmt.Sprintf("at %d/s, %s", registerRate, what), count, all)
	}
	grown()
}

// storm measures a registrar as fast as it can: all devices for the first time, and each some times more.
func (s target) storm(t *testing.T) {
	t.Helper()
	const count = registerUsers * registerDevices
	s.counted(t, fmt.Sprintf("with %d in flight, new bindings", inFlight), count, func() int {
		return saturated(t, s.at, registerUsers, registerDevices, 1)
	})
	each := s.counted(t, fmt.Sprintf("with %d in flight, refreshes", inFlight), crowdTurns*count, func() int {
		return saturated(t, s.at, registerUsers, registerDevices, crowdTurns)
	})
	work, limit := fmt.Sprintf("registrations per CPU-second with %d in flight", inFlight), registersPerCPU
	if s.also != nil {
		work, limit = work+", in Redis, with what that takes", redisRegistersPerCPU
	}
	beside(work, "", s.name, each)
	if s.node != nil {
		held(work, fmt.Sprintf("≥ %d", limit), each >= float64(limit))
		verdict(t, each >= float64(limit), "%s, each stored: %.0f (limit %d)", work, each, limit)
	}
}

// crowd measures what a registrar holds for many bindings.
func (s target) crowd(t *testing.T) {
	t.Helper()
	time.Sleep(settled) // what it took to make the users has been given back by then
	grown := s.grows(t, crowdUsers*registerDevices)
	s.counted(t, fmt.Sprintf("with %d in flight, %d new bindings", inFlight, crowdUsers*registerDevices), crowdUsers*registerDevices, func() int {
		return saturated(t, s.at, crowdUsers, registerDevices, 1)
	})
	each := grown()
	if s.node != nil {
		verdict(t, each <= bytesPerBinding, "resident memory per binding of %d: %.0f bytes (limit %d)", crowdUsers*registerDevices, each, bytesPerBinding)
	}
}

// grows notes the server's memory; what it gives records by how much it has grown for each of count bindings once all
// transactions are over.
func (s target) grows(t *testing.T, count int) (done func() (each float64)) {
	was, heap := s.memory(), int64(0)
	if s.heap != nil {
		heap = s.heap()
	}
	return func() float64 {
		time.Sleep(settled)
		resident := s.memory().minus(was)
		name := fmt.Sprintf("%s: resident memory per binding of %d", s.name, count)
		less(name, float64(resident.all())/float64(count), "B")
		less(name+", its own", float64(resident.own)/float64(count), "B")
		less(name+", of files", float64(resident.file)/float64(count), "B")
		if s.heap != nil {
			less(fmt.Sprintf("%s: live heap per binding of %d", s.name, count), float64(s.heap()-heap)/float64(count), "B")
		}
		return float64(resident.all()) / float64(count)
	}
}

// counted makes count registrations and records how many there were for each second of the server's processor time.
func (s server) counted(t *testing.T, load string, count int, do func() (failed int)) float64 {
	t.Helper()
	cpu, start := s.cpu(), time.Now()
	wait := s.profiled(t, "register "+load)
	failed := do()
	spent, took := s.cpu()-cpu, time.Since(start)
	wait()
	if failed > 0 {
		note("%s: %d of %d registrations failed", s.name, failed, count)
		if s.node != nil {
			t.Errorf("%d of %d registrations failed", failed, count)
		}
	}
	each := perSecond(count-failed, spent)
	more(fmt.Sprintf("%s: registrations per CPU-second %s", s.name, load), each, "/s")
	note("%s: registrations %s: %.0f per CPU-second, %.0f per second", s.name, load, each, float64(count-failed)/took.Seconds())
	return each
}

func userName(i int) string { return fmt.Sprintf("u%d", i) }

// batonTarget is a node that knows so many users.
func batonTarget(t *testing.T, users int) target {
	t.Helper()
	return batonTargetWith(t, users, "")
}

// batonTargetWith adds something to its file.
func batonTargetWith(t *testing.T, users int, config string) target {
	t.Helper()
	n := node.Start(t, node.Options{Users: map[string]string{}, Config: unlimited + config})
	for i := range users {
		must(t, n.Post("/api/v1/users", map[string]any{"name": userName(i), "password": node.Password(userName(i))}, nil))
	}
	return target{of(n), n.UDP, func() int64 {
		d, err := n.Debug()
		must(t, err)
		return int64(d.HeapBytes)
	}}
}

func TestRegisterRate(t *testing.T)  { batonTarget(t, registerUsers).rate(t) }
func TestRegisterStorm(t *testing.T) { batonTarget(t, registerUsers).storm(t) }
func TestRegisterCrowd(t *testing.T) { batonTarget(t, crowdUsers).crowd(t) }

// TestRegisterStormOfRedis is TestRegisterStorm with a Redis on this machine, whose processor time counts too; what the node takes by
// itself stands beside it.
func TestRegisterStormOfRedis(t *testing.T) {
	r := redis.Start(t, redis.Options{})
	s := batonTargetWith(t, registerUsers, storeIn(t, r))
	own := of(s.node).clock()
	s.name, s.also = "baton with Redis", []int{r.PID()}
	s.storm(t)
	less("baton with Redis: share of the node in the processor time of both", 100*own().Seconds()/s.cpu().Seconds(), "%")
}

// kamailioConf is a registrar in memory that knows the same passwords.
const kamailioConf = `#!KAMAILIO
debug=0
log_stderror=yes
children=2
tcp_children=1
disable_tcp=yes
auto_aliases=no
listen=udp:%s
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "auth.so"
%s
loadmodule "usrloc.so"
loadmodule "registrar.so"
%s
modparam("registrar", "max_contacts", 10)
request_route {
	if (!is_method("REGISTER")) { sl_send_reply("405", "Method Not Allowed"); exit; }
	if (!pv_www_authenticate("bench", "secret-of-$au", "0")) { www_challenge("bench", "1"); exit; }
	save("location");
}
`

// kamailioTarget is Kamailio, whose users' passwords follow from their names, with all in its memory.
func kamailioTarget(t *testing.T) target {
	t.Helper()
	return kamailioWith(t, "", `modparam("usrloc", "db_mode", 0)`)
}

// kamailioInRedis writes each binding to a Redis before it answers, as its manual has it.
func kamailioInRedis(t *testing.T) (target, *redis.Server) {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/*/kamailio/modules/db_redis.so"); len(found) == 0 {
		fmt.Println("SKIP  Kamailio cannot use Redis: apt-get install kamailio-redis-modules")
		t.Skip("Kamailio cannot use Redis (package kamailio-redis-modules)")
	}
	r := redis.Start(t, redis.Options{})
	_, err := r.Do("HMSET", "version:entry::location", "table_name", "location", "table_version", "9")
	must(t, err)
	s := kamailioWith(t, `loadmodule "db_redis.so"
modparam("db_redis", "keys", "version=entry:table_name;location=entry:ruid&usrdom:username,domain&timer:partition,keepalive")
modparam("db_redis", "verbosity", 0)`, fmt.Sprintf(`modparam("usrloc", "db_mode", 1)
modparam("usrloc", "db_url", "redis://%s/0")`, r.Addr))
	s.name, s.also = "kamailio with Redis", []int{r.PID()}
	return s, r
}

func kamailioWith(t *testing.T, before, after string) target {
	t.Helper()
	at := netip.AddrPortFrom(node.IP(1), 5058)
	dir := t.TempDir()
	conf := filepath.Join(dir, "kamailio.cfg")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, kamailioConf, at, before, after), 0o600))
	s := startPeer(t, "kamailio", "kamailio", "-f", conf, "-DD", "-m", "512", "-Y", dir, "-P", filepath.Join(dir, "pid"))
	time.Sleep(2 * time.Second) // its workers start
	return target{s, at, nil}
}

func TestRegisterRateOfKamailio(t *testing.T)  { kamailioTarget(t).rate(t) }
func TestRegisterStormOfKamailio(t *testing.T) { kamailioTarget(t).storm(t) }
func TestRegisterStormOfKamailioInRedis(t *testing.T) {
	s, r := kamailioInRedis(t)
	s.storm(t)
	if there, err := r.Do("EVAL", "return #redis.call('KEYS', 'location:entry::*')", "0"); err != nil || strings.TrimSpace(there) != fmt.Sprintf(":%d", registerUsers*registerDevices) {
		t.Errorf("%q of %d bindings are in Redis, %v", there, registerUsers*registerDevices, err)
	}
}

func TestRegisterCrowdOfKamailio(t *testing.T) { kamailioTarget(t).crowd(t) }
