package bench

import (
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// addressLimit is how long audio may be away after a device has changed its address.
const addressLimit = time.Second

// TestAddress has a device change its address in mid-call, as from wifi to mobile, and say so by REGISTER alone: another port,
// another IP, another TCP connection while the old one is not closed.
func TestAddress(t *testing.T) {
	n := node.Start(t, node.Options{})
	bob := newPhone(t, n, "bob", "far")
	for _, way := range []struct {
		name string
		over string
		to   func(i int) phone.Relocation
	}{
		{"port", "udp", func(int) phone.Relocation { return phone.Relocation{} }},
		{"IP", "udp", func(i int) phone.Relocation { return phone.Relocation{Addr: node.IP(2 + (7+5*i)%18)} }},
		{"TCP connection", "tcp", func(int) phone.Relocation { return phone.Relocation{Abrupt: true} }},
	} {
		alice := newPhone(t, n, "alice", "desk", func(c *phone.Config) { c.Transport = way.over })
		out, in := connect(t, alice, "bob", bob)
		since := time.Now()
		took := relocated(t, out, in, way.to)
		judgeAddress(t, "another "+way.name+" in mid-call", in, since, took)
		must(t, in.Hangup())
		must(t, out.AwaitEnd(5*time.Second))
		alice.Close()
	}
}

const addressChanges = 20

// relocated changes the address of out's phone again and again, and gives the times until both heard each other; those who did not
// are left out.
func relocated(t *testing.T, out, in *phone.Call, to func(i int) phone.Relocation) (took []time.Duration) {
	t.Helper()
	for i := range addressChanges {
		since := time.Now()
		must(t, out.Phone().Relocate(to(i)))
		at := time.Now() // what it hears from now on comes to where it is
		_, err := out.Phone().Register(time.Hour)
		must(t, err)
		heard, ok := in.Media().Await(at, 5*time.Second, func(p phone.Packet) bool { return p.Source == out.Media().Source() && p.Sent.After(at) })
		hears, also := out.Media().Await(at, 5*time.Second, func(p phone.Packet) bool { return p.Source == in.Media().Source() })
		if ok && also {
			took = append(took, later(heard.At, hears.At).Sub(since))
		}
		time.Sleep(500 * time.Millisecond)
	}
	return took
}

func judgeAddress(t *testing.T, what string, far *phone.Call, since time.Time, took []time.Duration) {
	t.Helper()
	r := phone.Analyse(far.Media().Heard(), 8000)
	told := 0
	for _, m := range far.Phone().Received(since) {
		if m.Method != "OPTIONS" || m.Get("Call-ID") == far.ID() {
			told++
		}
	}
	lessMS(what+": longest", phone.Quantile(took, 1))
	verdict(t, len(took) == addressChanges && phone.Quantile(took, 1) <= addressLimit, "%s: %d of %d back, audio both ways after p50 / p95 / max %s (limit %s)",
		what, len(took), addressChanges, three(took), ms(addressLimit))
	verdict(t, len(r.SSRCs) == 1 && told == 0, "%s: far side %d SSRC, %d SIP messages, %d of the device's packets missing", what, len(r.SSRCs), told, r.Missing)
}
