package media

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// TestLegCost measures what a browser's leg costs while it talks: at most four goroutines and 35 KB of heap. The clients are in this process
// too; what they have is thrown away before the legs are weighed.
func TestLegCost(t *testing.T) {
	for _, way := range []string{"udp", "tcp"} {
		goroutines, heap := legCost(t, way == "tcp", 80)
		t.Logf("%s: %.2f goroutines, %.1f KB of heap a leg", way, goroutines, heap)
		if goroutines > 4 || heap > 35 {
			t.Errorf("%s: %.2f goroutines and %.1f KB a leg", way, goroutines, heap)
		}
	}
}

func legCost(t *testing.T, tcp bool, legs int) (goroutines, heap float64) {
	t.Helper()
	n := newEther(t)
	before, had := weigh()
	streams := make([]*Stream, legs)
	for i := range streams {
		streams[i] = n.leg(t, i, tcp)
	}
	for i := 0; i < legs; i += 2 {
		bridgeStreams(streams[i], streams[i+1])
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * ms) { // Run's tick ends the handshakes
		if k := runtime.NumGoroutine() - had; k <= 4 {
			break
		}
	}
	after, have := weigh()
	if tcp {
		have -= legs // the clients' readers
	}
	for _, s := range streams {
		if st := s.Stats(); st.In.Packets != 2 || st.Out.Packets == 0 {
			t.Errorf("a leg that does not talk: %+v", st)
		}
		s.Close()
	}
	return float64(have-had) / float64(legs), float64(after-before) / 1024 / float64(legs)
}

// weigh returns the live heap and the goroutines.
func weigh() (int64, int) {
	for range 3 {
		runtime.GC()
		time.Sleep(20 * ms)
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), runtime.NumGoroutine()
}

// leg opens a stream, connects a client, has both talk, and lets go of the client.
func (n *ether) leg(t *testing.T, i int, tcp bool) *Stream {
	t.Helper()
	c := n.newClient(fmt.Sprintf("203.0.113.5:%d", 5000+i), i%2 == 0)
	if tcp {
		c.overTCP(t)
	}
	c.connect()
	c.s.Play(ToneRing)
	c.await(func() bool { return c.s.Stats().Out.Packets > 0 })
	c.say('1')
	c.say('2')
	c.await(func() bool { return c.s.Stats().In.Packets == 2 })
	c.s.Play(ToneNone)
	c.Close()
	c.mu.Lock()
	c.media, c.answers, c.records = nil, nil, nil
	c.mu.Unlock()
	c.opener, c.sealer, c.id = nil, nil, identity{}
	n.mu.Lock()
	delete(n.peers, c.at)
	n.stray = map[netip.AddrPort][][]byte{}
	n.mu.Unlock()
	return c.s
}

// overTCP has the client speak over a connection, until the end of the test. It has a goroutine for that.
func (c *client) overTCP(t *testing.T) {
	t.Helper()
	w, _ := wired(t, c.n.e)
	c.at = w.LocalAddr().(*net.TCPAddr).AddrPort()
	c.n.mu.Lock()
	c.n.wires[c.at] = func(b []byte) { writeFrame(t, w, b) }
	c.n.mu.Unlock()
	go func() {
		r := bufio.NewReaderSize(w, 16)
		buf := make([]byte, maxPacket)
		for {
			k, err := readFrame(r, buf)
			if err != nil {
				return
			}
			c.hear(bytes.Clone(buf[:k]))
		}
	}()
}
