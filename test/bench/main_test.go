// Package bench measures the built baton against the numbers that it is to hold: make bench prints a line for each, with
// PASS or FAIL in front.
package bench

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

var wanted = flag.Bool("bench", false, "measure (make bench); nothing is done without it")

func TestMain(m *testing.M) {
	if at := os.Getenv(envEcho); at != "" {
		echo(at)
	}
	if os.Getenv(envEngine) != "" {
		serveEngine()
	}
	flag.Parse()
	if !*wanted {
		fmt.Println("nothing is measured without -bench: see make bench")
		os.Exit(0)
	}
	node.Main(m, finish)
}

// verdict prints a figure with its limit.
func verdict(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	word := "PASS"
	if !ok {
		word = "FAIL"
		t.Fail()
		keepFailed(fmt.Sprintf(format, args...))
	}
	fmt.Printf("%s  %s\n", word, fmt.Sprintf(format, args...))
}

// note prints a figure that has no limit.
func note(format string, args ...any) { fmt.Printf("      %s\n", fmt.Sprintf(format, args...)) }

var lastAddress atomic.Uint32

// newPhone opens and registers a phone.
func newPhone(t *testing.T, n *node.Node, user, model string, change ...func(*phone.Config)) *phone.Phone {
	t.Helper()
	k := lastAddress.Add(1)
	cfg := phone.Config{
		User: user, Password: node.Password(user), Server: n.UDP, Addr: node.IP(2 + int(k)%18), UserAgent: model + "/1.0",
		Instance: fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", k),
	}
	for _, f := range change {
		f(&cfg)
	}
	p, err := phone.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if _, err := p.Register(time.Hour); err != nil {
		t.Fatal(err)
	}
	return p
}

func quiet(c *phone.Config) { c.Quiet = true }

// connect makes a call and waits until both sides hear each other.
func connect(t *testing.T, from *phone.Phone, user string, to *phone.Phone) (out, in *phone.Call) {
	t.Helper()
	out, in, err := tryConnect(from, user, to)
	if err != nil {
		t.Fatal(err)
	}
	return out, in
}

func tryConnect(from *phone.Phone, user string, to *phone.Phone) (out, in *phone.Call, err error) {
	to.Behave(phone.AutoAnswer)
	if out, err = from.Dial(user); err != nil {
		return nil, nil, err
	}
	if err = out.Await(10 * time.Second); err != nil {
		return nil, nil, err
	}
	if in, err = to.Ringing(10 * time.Second); err != nil {
		return nil, nil, err
	}
	if !out.Hears(in, 5*time.Second) || !in.Hears(out, 5*time.Second) {
		return nil, nil, fmt.Errorf("%s and %s do not hear each other", from.URI(), to.URI())
	}
	return out, in, nil
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

// list is durations in their order.
func list(all []time.Duration) string {
	words := make([]string, len(all))
	for i, d := range all {
		words[i] = ms(d)
	}
	return strings.Join(words, ", ")
}

// three are p50, p95 and the greatest of some durations.
func three(all []time.Duration) string {
	return fmt.Sprintf("%s / %s / %s ms", ms(phone.Quantile(all, 0.5)), ms(phone.Quantile(all, 0.95)), ms(phone.Quantile(all, 1)))
}
