package sip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// lines is a log that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func inTurn(n int) []byte {
	return fmt.Appendf(nil, "OPTIONS sip:a SIP/2.0\r\nCall-ID: %d\r\nContent-Length: 0\r\n\r\n", n)
}

// TestKeptInOrder has the agent say many things, from one buffer, while it may not speak, and go on when it may: all arrive as they were said,
// in that order.
func TestKeptInOrder(t *testing.T) {
	const kept, all = 100, 200 // fits the receive buffer of a UDP socket
	for _, network := range []string{"udp", "tcp"} {
		a := start(t)
		d := newDevice(t, a, network)
		a.SpeakFor(-time.Second)
		buf := make([]byte, 0, 200)
		for n := range all {
			if n == kept {
				d.never("OPTIONS", 5*quick.t1)
				a.SpeakFor(time.Hour) // what is said from here on overtakes nothing
			}
			buf = append(buf[:0], inTurn(n)...)
			if err := a.send(d.flow, buf); err != nil {
				t.Fatal(err)
			}
			clear(buf[:cap(buf)])
		}
		for n := range all {
			if got, err := d.read(5 * time.Second); err != nil || !bytes.Equal(got, inTurn(n)) {
				t.Fatalf("%s: message %d is %q, %v", network, n, got, err)
			}
		}
		soon(t, "nothing is kept any more", func() bool { return !a.kept.busy.Load() })
	}
}

// TestKeptIsBounded: what is beyond the bound is dropped, its sender knows, and the log has one line of it; the rest is said.
func TestKeptIsBounded(t *testing.T) {
	var log lines
	a := start(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	d := newDevice(t, a, "tcp")
	a.SpeakFor(-time.Second)
	large := bytes.Repeat([]byte{'a'}, 60<<10)
	said := 0
	for range keepMost/len(large) + 10 {
		switch err := a.send(Flow{Transport: "tcp", Remote: d.flow.Remote}, large); { // a flow that is gone takes no time
		case err == nil:
			said++
		case !errors.Is(err, errKeptTooMuch):
			t.Fatal(err)
		}
	}
	if want := keepMost / len(large); said != want {
		t.Errorf("%d messages were kept, want %d", said, want)
	}
	if err := a.send(d.flow, inTurn(1)); err != nil {
		t.Errorf("a small one that still has room: %v", err)
	}
	a.SpeakFor(time.Hour)
	if got, err := d.read(5 * time.Second); err != nil || !bytes.Equal(got, inTurn(1)) {
		t.Errorf("it is %q, %v", got, err)
	}
	soon(t, "a line in the log", func() bool {
		return log.count("messages=10") == 1 && log.count("dropped while this node stood silent") == 1
	})
	if a.kept.size != 0 || a.kept.messages != nil {
		t.Errorf("%d bytes are kept for nothing", a.kept.size)
	}
}

// TestKeptAtTheEnd: an agent that stops while it may not speak says nothing more, keeps nothing more, and waits for nobody.
func TestKeptAtTheEnd(t *testing.T) {
	a, err := NewAgent(Options{Listen: start(t).opt.Listen, Domain: "example.com", Realm: testRealm, Secret: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	d := newDevice(t, a, "udp")
	a.SpeakFor(-time.Second)
	if err := a.send(d.flow, inTurn(1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	receive(t, "the agent's end", ended)
	if a.kept.busy.Load() || len(a.kept.messages) > 0 {
		t.Error("something is kept")
	}
	if err := a.send(d.flow, inTurn(2)); !errors.Is(err, ErrFlowGone) {
		t.Errorf("later it came to %v", err)
	}
	d.never("OPTIONS", 2*quick.t1)
}
