package store_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"baton/call"
	"baton/journal"
	"baton/registrar"
	"baton/store"
	"baton/store/storetest"
)

// TestKilled kills a process that writes as fast as it can, at random moments: the files open, and all that was
// acknowledged is there.
func TestKilled(t *testing.T) {
	const rounds = 20
	dir := t.TempDir()
	from := 1
	for range rounds {
		acked := writeAndKill(t, dir, from)
		from = verify(t, dir, acked)
	}
	if from < 10*rounds {
		t.Errorf("only %d writes in %d rounds: nothing was tried", from, rounds)
	}
}

// acks are the numbers of the last acknowledged writes of each sort.
type acks map[string]int

// writeAndKill runs a writer and kills it some time after its first acknowledgement.
func writeAndKill(t *testing.T, dir string, from int) acks {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), "BATON_STORE_WRITER="+dir, fmt.Sprint("BATON_STORE_FROM=", from))
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acked := make(acks)
	lines := bufio.NewScanner(out)
	var sort string
	var n int
	for lines.Scan() {
		if _, err := fmt.Sscan(lines.Text(), &sort, &n); err != nil {
			continue // cut off by the kill
		}
		if len(acked) == 0 {
			kill := time.AfterFunc(rand.N(40*time.Millisecond), func() { _ = child.Process.Kill() })
			defer kill.Stop()
		}
		acked[sort] = n
	}
	if err := child.Wait(); err == nil || child.ProcessState.ExitCode() != -1 {
		t.Fatalf("writer ended by itself: %v", err)
	}
	return acked
}

// verify opens what the killed process has left, and returns the number to go on with.
func verify(t *testing.T, dir string, acked acks) int {
	t.Helper()
	s, stop := start(t, dir)
	defer stop()
	stored := make(acks)
	calls, err := s.Calls()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		stored["call"] = max(stored["call"], int(c.Version))
		if string(c.Blob) != fmt.Sprint("record ", c.Version) {
			t.Errorf("record of version %d is %q", c.Version, c.Blob)
		}
	}
	devices, err := s.Devices()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		stored["device"] = max(stored["device"], int(d.Binding.CSeq))
	}
	users, err := s.Users()
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range users {
		var n int
		_, _ = fmt.Sscanf(u.Name, "user%d", &n)
		stored["user"] = max(stored["user"], n)
	}
	entries, err := s.Entries(time.Time{}, time.Time{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		stored["entry"] = int(e.Duration)
	}
	most := 0
	for sort, n := range acked {
		if stored[sort] < n {
			t.Errorf("%s %d was acknowledged, stored is %d", sort, n, stored[sort])
		}
		most = max(most, n, stored[sort])
	}
	return most + 1
}

// writeUntilKilled is the child process: it prints what is acknowledged.
func writeUntilKilled(dir string) {
	s, err := store.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Fprintln(os.Stderr, "writer:", err)
		os.Exit(1)
	}
	go func() { _ = s.Run(context.Background()) }()
	var from int
	_, _ = fmt.Sscan(os.Getenv("BATON_STORE_FROM"), &from)
	tokens := make(chan struct{}, 100) // writes on their way
	ack := func(sort string, n int) func(error) {
		tokens <- struct{}{}
		return func(err error) {
			<-tokens
			if err == nil {
				_, _ = os.Stdout.WriteString(fmt.Sprintln(sort, n))
			}
		}
	}
	for n := from; ; n++ {
		s.Append(journal.Entry{Time: time.Unix(0, int64(n)), Kind: journal.CallEnded, Duration: time.Duration(n)})
		// Entries are not acknowledged; they are written before what is queued behind them.
		behind := ack("entry", n)
		s.Put(call.Stored{ID: fmt.Sprint("c", n%10), Epoch: 1, Version: uint64(n), Blob: fmt.Append(nil, "record ", n)},
			func(err error) { os.Stdout.WriteString(fmt.Sprintln("call", n)); behind(err) })
		s.Bind("alice", []registrar.Device{storetest.Device("alice", fmt.Sprint("d", n%7), uint32(n))}, nil, ack("device", n))
		if n%3 == 0 {
			s.End(fmt.Sprint("c", (n+5)%10), 1, ack("end", 0))
		}
		if n%40 == 0 {
			if err := s.PutUser(storetest.User(fmt.Sprint("user", n))); err == nil {
				fmt.Println("user", n)
			}
		}
	}
}
