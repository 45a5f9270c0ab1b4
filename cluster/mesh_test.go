package cluster

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// pair are two nodes that have found each other.
func pair(t *testing.T, tune ...func(*Mesh)) (a, b *member) {
	t.Helper()
	key := NewKey()
	a = join(t, "a", key, nil, tune...)
	b = join(t, "b", key, Static{a.Addr().String()}, tune...)
	eventually(t, 5*time.Second, a.linked("b"))
	eventually(t, 5*time.Second, b.linked("a"))
	return a, b
}

// TestNodesFindEachOther: it is enough that one of two knows the other's address, whichever dials in the end.
func TestNodesFindEachOther(t *testing.T) {
	t.Parallel()
	for _, ids := range [][2]string{{"a", "b"}, {"b", "a"}} {
		key := NewKey()
		first := join(t, ids[0], key, nil)
		second := join(t, ids[1], key, Static{first.Addr().String()})
		eventually(t, 5*time.Second, first.linked(ids[1]))
		eventually(t, 5*time.Second, second.linked(ids[0]))
		time.Sleep(500 * time.Millisecond)
		for _, m := range []*member{first, second} {
			if n := len(m.sessions()); n != 1 {
				t.Errorf("%s has %d connections, want one per pair", m.self.ID, n)
			}
		}
	}
}

// TestThreeNodesByADirectory finds all by what each has announced.
func TestThreeNodesByADirectory(t *testing.T) {
	t.Parallel()
	key, dir := NewKey(), &Memory{}
	var all []*member
	for _, id := range []string{"a", "b", "c"} {
		all = append(all, join(t, id, key, dir, func(m *Mesh) { m.timing.poll = 100 * time.Millisecond }))
	}
	for _, m := range all {
		for _, p := range all {
			if p != m {
				eventually(t, 5*time.Second, m.linked(p.self.ID))
			}
		}
	}
	results := all[0].CallAll(t.Context(), "echo", []byte("x"))
	if len(results) != 2 || results[0].Err != nil || results[1].Err != nil || string(results[1].Payload) != "x" {
		t.Errorf("both others are asked: %+v", results)
	}
}

// TestWrongKeyIsRefused: neither end of a connection takes a node with another key, nor a stranger with a certificate of his own.
func TestWrongKeyIsRefused(t *testing.T) {
	t.Parallel()
	a := join(t, "a", NewKey(), nil)
	b := join(t, "b", NewKey(), Static{a.Addr().String()})
	eventually(t, 5*time.Second, func() error {
		if a.Counts().Handshakes == 0 {
			return errors.New("nobody was refused")
		}
		return nil
	})
	c := join(t, "c", NewKey(), Static{a.Addr().String()}) // it dials too
	time.Sleep(500 * time.Millisecond)
	for _, m := range []*member{a, b, c} {
		if all := m.Peers(); len(all) != 1 {
			t.Errorf("%s knows %+v", m.self.ID, all)
		}
	}
	other, err := NewKey().identity()
	if err != nil {
		t.Fatal(err)
	}
	other.VerifyConnection = nil // it takes anybody
	conn, err := tls.Dial("tcp", a.Addr().String(), other)
	if err == nil {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		_ = writeHello(conn, hello{ID: "x", Instance: "x", Port: 1})
		if h, err := readHello(conn); err == nil {
			t.Errorf("a stranger was greeted: %+v", h)
		}
	}
	none := other.Clone()
	none.Certificates = nil
	if conn, err := tls.Dial("tcp", a.Addr().String(), none); err == nil {
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := readHello(conn); err == nil {
			t.Error("somebody without a certificate was greeted")
		}
	}
	if _, ok := a.Peer("x"); ok {
		t.Error("a stranger became a node")
	}
}

// TestNobodyIsWaitedFor: connections that say nothing end soon and take no more than their places.
func TestNobodyIsWaitedFor(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil, func(m *Mesh) { m.timing.handshake = 20 * time.Second })
	stranger := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	for range maxHandshakes + 20 {
		c, err := stranger.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, 5*time.Second, func() error {
		if n := a.Counts().Refused; n == 0 {
			return errors.New("all have places")
		}
		return nil
	})
	b := join(t, "b", key, Static{a.Addr().String()}) // from another address
	eventually(t, 5*time.Second, b.linked("a"))
	c := join(t, "c", key, nil, func(m *Mesh) { m.timing.handshake = 300 * time.Millisecond })
	conn, err := net.Dial("tcp", c.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("who says nothing is waited for: %v", err)
	}
}

// TestHeartbeats: what is forged, replayed, reflected, of an earlier connection or garbage is refused and counted.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	key := func(m *member, of string) *beats {
		m.Mesh.mu.Lock()
		defer m.Mesh.mu.Unlock()
		return m.peers[of].beats
	}
	recorded := func() []byte { // one that b sends, as somebody on the way sees it
		b.Mesh.mu.Lock()
		defer b.Mesh.mu.Unlock()
		return b.peers["a"].beats.next(Load{Calls: 7, Capacity: 100, Draining: true, Busy: true})
	}
	good := recorded()
	a.hearBeat(good, time.Now())
	if p, _ := a.Peer("b"); p.Load != (Load{7, 100, true, true}) {
		t.Errorf("load is %+v", p.Load)
	}
	before := a.Counts()
	a.hearBeat(good, time.Now())
	if n := a.Counts().Replayed - before.Replayed; n != 1 {
		t.Errorf("%d heartbeats count as replayed, want 1", n)
	}
	before = a.Counts()
	for _, change := range []int{4, 13, 20, 28, beatBody, beatSize - 1} { // each part of it
		forged := bytes.Clone(recorded())
		forged[change] ^= 1
		a.hearBeat(forged, time.Now())
	}
	for _, garbage := range [][]byte{{}, []byte("x"), make([]byte, beatSize), bytes.Repeat([]byte("bHB1"), 20)} {
		a.hearBeat(garbage, time.Now())
	}
	reflected := func() []byte { // a's own, sent back to it
		a.Mesh.mu.Lock()
		defer a.Mesh.mu.Unlock()
		return a.peers["b"].beats.next(Load{})
	}
	a.hearBeat(reflected(), time.Now())
	now := a.Counts()
	if n := now.BadHeartbeats - before.BadHeartbeats + now.Stray - before.Stray; n != 6+4+1 {
		t.Errorf("%d forged heartbeats were refused, want 11", n)
	}
	if bytes.Equal(key(a, "b").send, key(a, "b").take) || !bytes.Equal(key(a, "b").send, key(b, "a").take) {
		t.Error("each direction has a key of its own")
	}
	// one of an earlier connection
	for range 2 {
		old := a.sessions()[0]
		old.close()
		eventually(t, 5*time.Second, func() error {
			if all := a.sessions(); len(all) == 0 || all[0] == old {
				return errors.New("not connected again")
			}
			return nil
		})
	}
	before = a.Counts()
	a.hearBeat(good, time.Now())
	if a.Counts().Stray == before.Stray {
		t.Error("a heartbeat of an earlier connection was not refused")
	}
}

// TestReconnect: a connection that breaks while both live is made again, and nobody is taken for dead.
func TestReconnect(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	for range 5 {
		b.sessions()[0].close()
		eventually(t, 5*time.Second, func() error {
			_, err := a.Call(t.Context(), "b", "echo", []byte("x"))
			return err
		})
		eventually(t, 5*time.Second, a.linked("b"))
		eventually(t, 5*time.Second, b.linked("a"))
	}
	if dead := append(a.gone("b"), b.gone("a")...); len(dead) > 0 {
		t.Errorf("taken for gone: %+v", dead)
	}
}

// TestLeave: a node that stops in good order has left, it has not died; one that comes back is another.
func TestLeave(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	b := join(t, "b", key, Static{a.Addr().String()})
	eventually(t, 5*time.Second, a.linked("b"))
	first, _ := a.Peer("b")
	b.stop()
	eventually(t, 5*time.Second, a.is("b", Left))
	time.Sleep(700 * time.Millisecond)
	if dead := a.gone("b"); len(dead) > 0 {
		t.Errorf("who left is taken for gone: %+v", dead)
	}
	again := join(t, "b", key, Static{a.Addr().String()})
	eventually(t, 5*time.Second, a.linked("b"))
	if p, _ := a.Peer("b"); p.Instance == first.Instance || p.Instance != again.Self().Instance {
		t.Errorf("instance is %s, was %s", p.Instance, first.Instance)
	}
}

// TestLeftIsNotLinked: between its goodbye and the end of its connection a node is given nothing more.
func TestLeftIsNotLinked(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	a.Mesh.mu.Lock()
	a.become(a.peers["b"], Left, Stopped)
	a.Mesh.mu.Unlock()
	if err := a.Send("b", "n", nil); a.Linked("b") || !errors.Is(err, ErrNoNode) {
		t.Errorf("linked %v, %v", a.Linked("b"), err)
	}
}

// TestLeaveAtOnce: a node that stops while it is being connected to has left too.
func TestLeaveAtOnce(t *testing.T) {
	t.Parallel()
	key := NewKey()
	a := join(t, "a", key, nil)
	for i := range 20 {
		id := fmt.Sprintf("b%d", i)
		b := join(t, id, key, Static{a.Addr().String()})
		eventually(t, 5*time.Second, func() error {
			if !a.Linked(id) {
				return errors.New("not linked")
			}
			return nil
		})
		b.stop()
		eventually(t, 5*time.Second, a.is(id, Left))
		if dead := a.gone(id); len(dead) > 0 {
			t.Fatalf("who left is taken for gone: %+v", dead)
		}
	}
}

// TestCalls: requests are answered, failures come back, and what cannot be answered ends.
func TestCalls(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	a, b := pair(t, func(m *Mesh) {
		m.HandleCall("fail", func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("no such call") })
		m.HandleCall("panic", func(context.Context, string, []byte) ([]byte, error) { panic("x") })
		m.HandleCall("hang", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			select {
			case <-release:
			case <-ctx.Done():
			}
			return nil, nil
		})
	})
	big := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			want := fmt.Appendf(nil, "%d", i)
			if i == 7 {
				want = big
			}
			if got, err := a.Call(t.Context(), "b", "echo", want); err != nil || !bytes.Equal(got, want) {
				t.Errorf("echo: %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	var remote *RemoteError
	for kind, text := range map[string]string{"fail": "no such call", "panic": "it failed within", "nothing": "no such request: nothing"} {
		if _, err := a.Call(t.Context(), "b", kind, nil); !errors.As(err, &remote) || remote.Text != text || remote.Node != "b" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if got, err := a.Call(t.Context(), "a", "echo", []byte("self")); err != nil || string(got) != "self" {
		t.Errorf("a node that asks itself: %q, %v", got, err)
	}
	if _, err := a.Call(t.Context(), "c", "echo", nil); !errors.Is(err, ErrNoNode) {
		t.Errorf("nobody: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "b", "hang", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hang: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := a.Call(context.Background(), "b", "hang", nil)
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond)
	b.stop()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrNoNode) {
			t.Errorf("the node has left: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("who asks is not told that the node has left")
	}
	close(release)
}

// TestMessages come in the order in which they were sent; when a peer does not read, the sender never waits.
func TestMessages(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10_000)
	block := make(chan struct{})
	a, _ := pair(t, func(m *Mesh) {
		m.Handle("n", func(from string, p []byte) { got <- from + string(p) })
		m.Handle("block", func(string, []byte) { <-block })
	})
	for i := range 1000 {
		if err := a.Send("b", "n", fmt.Appendf(nil, "%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		if text := <-got; text != fmt.Sprintf("a%d", i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	if err := a.Send("b", "block", nil); err != nil {
		t.Fatal(err)
	}
	long := make([]byte, 1<<20)
	began, busy := time.Now(), 0
	for range 64 {
		if err := a.Send("b", "n", long); errors.Is(err, ErrBusy) {
			busy++
		}
	}
	took := time.Since(began)
	close(block)
	if p, _ := a.Peer("b"); busy == 0 || a.Counts().Dropped != uint64(busy) || p.Dropped != uint64(busy) {
		t.Errorf("%d of 64 MB were refused, counted %d", busy, a.Counts().Dropped)
	}
	if took > 2*time.Second {
		t.Errorf("the sender waited %v", took)
	}
	if err := a.Send("b", "n", make([]byte, MaxPayload+1)); err == nil {
		t.Error("too long a message was taken")
	}
}

// TestSelfIsNoPeer: a node may stand in the list of nodes that it is given.
func TestSelfIsNoPeer(t *testing.T) {
	t.Parallel()
	key := NewKey()
	m, err := New(Options{ID: "a", Listen: "127.0.0.1:0", Key: key, Log: testLog()})
	if err != nil {
		t.Fatal(err)
	}
	m.opt.Directory = Static{m.Addr().String()}
	a := run(t, m)
	time.Sleep(500 * time.Millisecond)
	if all := a.Peers(); len(all) != 1 || !all[0].Self {
		t.Errorf("a node that stands in its own list knows %+v", all)
	}
}

// TestAnnounced is an address that others can reach.
func TestAnnounced(t *testing.T) {
	if got := announced(netip.MustParseAddrPort("192.0.2.1:7")); got != "192.0.2.1:7" {
		t.Error(got)
	}
}
