package bench

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The load of a registrar: so many users with so many devices each, so many registrations a second.
const (
	registerUsers   = 2000
	registerDevices = 5
	registerRate    = 1000
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

// registrations measures a registrar: all devices for the first time, and each once more.
func registrations(t *testing.T, s server, at netip.AddrPort, live func() int64) {
	t.Helper()
	agents := make([]*agent, 40) // sockets; each speaks for 50 users
	for i := range agents {
		agents[i] = newAgent(t, "", node.IP(2+i%18), at, nil)
	}
	const count = registerUsers * registerDevices
	one := func(i int) error {
		user := i % registerUsers
		a := agents[user%len(agents)]
		return a.register(userName(user), i/registerUsers)
	}
	was, heap := s.memory(), live()
	for _, what := range []string{"new bindings", "refreshes"} {
		cpu := s.cpu()
		failed := paced(t, count, registerRate, one)
		spent := s.cpu() - cpu
		if failed > 0 {
			note("%s: %d of %d registrations failed", s.name, failed, count)
		}
		if failed > 0 && s.name == "baton" {
			t.Errorf("%s: %d of %d registrations failed", s.name, failed, count)
		}
		more(fmt.Sprintf("%s: registrations per CPU-second at %d/s, %s", s.name, registerRate, what), perSecond(count-failed, spent), "/s")
	}
	time.Sleep(45 * time.Second) // all transactions are over by then
	heap = live() - heap
	less(s.name+": resident memory per binding", float64(s.memory()-was)/count, "B")
	if heap > 0 {
		less(s.name+": live heap per binding", float64(heap)/count, "B")
	}
}

func userName(i int) string { return fmt.Sprintf("u%d", i) }

func TestRegisterRate(t *testing.T) {
	n := node.Start(t, node.Options{Users: map[string]string{}})
	for i := range registerUsers {
		must(t, n.Post("/api/v1/users", map[string]any{"name": userName(i), "password": node.Password(userName(i))}, nil))
	}
	registrations(t, of(n), n.UDP, func() int64 {
		d, err := n.Debug()
		must(t, err)
		return int64(d.HeapBytes)
	})
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
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_contacts", 10)
request_route {
	if (!is_method("REGISTER")) { sl_send_reply("405", "Method Not Allowed"); exit; }
	if (!pv_www_authenticate("bench", "secret-of-$au", "0")) { www_challenge("bench", "1"); exit; }
	save("location");
}
`

func TestRegisterRateOfKamailio(t *testing.T) {
	at := netip.AddrPortFrom(node.IP(1), 5058)
	dir := t.TempDir()
	conf := filepath.Join(dir, "kamailio.cfg")
	must(t, os.WriteFile(conf, fmt.Appendf(nil, kamailioConf, at), 0o600))
	s := startPeer(t, "kamailio", "kamailio", "-f", conf, "-DD", "-m", "256", "-Y", dir, "-P", filepath.Join(dir, "pid"))
	time.Sleep(2 * time.Second) // its workers start
	registrations(t, s, at, func() int64 { return 0 })
}
