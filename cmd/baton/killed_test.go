package main

import (
	"encoding/json"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"baton/journal"
	"baton/test/phone"
	"baton/web"
)

// TestKilledInTheLog kills a node that has a call and four devices. The next one starts, at other ports, later than a call is waited for: the
// call and the devices have ended when the first was last known to live, not when that was noticed.
func TestKilledInTheLog(t *testing.T) {
	p := newParty(t)
	client, err := web.Dial(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	at, err := client.Node(t.Context())
	client.Close()
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := phone.New(phone.Config{
		User: "alice", Password: "of-alice", Server: netip.MustParseAddrPort(at.Listen["tcp"]), Transport: "tcp",
		Addr: netip.MustParseAddr("127.0.0.1"), UserAgent: "Wired/1.0", Instance: "urn:uuid:wired",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	if _, err := tcp.Register(time.Minute); err != nil {
		t.Fatal(err)
	}
	p.ring()
	read := func() (all []journal.Entry) {
		said, _, _ := run(t, "", "log", "--json", "--data", p.dir)
		_ = json.Unmarshal([]byte(said), &all) // nothing is read then
		return all
	}
	var before, after []journal.Entry
	waitFor(t, "the call to be in the log", func() bool {
		before = read()
		return len(before) > 0 && before[len(before)-1].Kind == journal.CallAnswered
	})
	killed := time.Now()
	p.stop(t, syscall.SIGKILL)
	for _, ph := range []*phone.Phone{p.desk, p.hall, p.it, tcp} {
		ph.Vanish() // else it waits for an answer to its BYE
	}
	waitFor(t, "some time to pass without a node", func() bool { return time.Since(killed) > 2500*time.Millisecond })
	started := time.Now()
	t.Setenv("BATON_CALL_WAIT", "1s")
	serve(t, p.dir)
	waitFor(t, "what was open to be closed", func() bool {
		after = read()
		return len(after) >= len(before)+5
	})
	ended := map[journal.Kind]int{}
	for _, e := range after {
		if e.Kind != journal.DeviceAway && e.Kind != journal.CallEnded {
			continue
		}
		ended[e.Kind]++
		if e.Time.After(killed) || started.Sub(e.Time) < time.Second || killed.Sub(e.Time) > 30*time.Second || e.Duration > killed.Sub(before[0].Time) {
			t.Errorf("%s of %s%s ended at %v after %v; the kill was at %v", e.Kind, e.Device, e.Call, e.Time, e.Duration, killed)
		}
		if e.Kind == journal.CallEnded && e.Text != "the node was killed" {
			t.Errorf("%+v", e)
		}
	}
	if ended[journal.DeviceAway] != 4 || ended[journal.CallEnded] != 1 {
		t.Errorf("ended: %v", ended)
	}
	wants(t, 0, `(?s)alice +3 +wired +.* away .*ended with the node`, "devices", "alice", "--data", p.dir)
}
