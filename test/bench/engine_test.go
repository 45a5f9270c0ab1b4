package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"baton/config"
	"baton/media"
	"baton/test/e2e/node"
)

// envEngine makes this program a media engine alone: it does what it is told on its standard input, and what is measured of it has no
// signalling in it. Its value is media.fastpath.
const envEngine = "BATON_BENCH_ENGINE"

// order is one thing that the engine is told; Legs are by number, from 0.
type order struct {
	Do          string // open, apply, bridge, ring, weigh
	Peer        netip.Addr
	WebRTC      bool
	Leg, With   int
	At          netip.AddrPort // of the peer's RTP
	Ufrag       string
	Fingerprint media.Fingerprint
	Active      bool
	Suite       string // of SDES; a media.Crypto would not tell its keys
	In, Out     []byte
}

// result is what comes of it.
type result struct {
	Err         string
	At          netip.AddrPort
	TCP         netip.AddrPort
	Ufrag, Pwd  string
	Fingerprint media.Fingerprint
	SSRC        uint32
	Goroutines  int
	Kernel      uint64 // packets of all legs that the kernel has forwarded
	Heap        int64
}

// relayPorts are enough for 5,000 calls of four ports each.
var relayPorts = config.PortRange{First: 10000, Last: 59999}

const (
	enginePort    = 8443
	engineTCPPort = 8444
)

var benchPCMU = media.Codec{Name: "PCMU", Rate: 8000, PT: 0}

// serveEngine is the program.
func serveEngine() {
	e, err := media.NewEngine(media.Options{
		Config: config.Media{Address: node.IP(1).String(), Ports: relayPorts, WebRTC: enginePort, Fastpath: os.Getenv(envEngine)}, WebTCP: engineTCPPort,
	})
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(node.IP(1), engineTCPPort).String())
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.ServeConn(c)
		}
	}()
	go e.Run(context.Background())
	var legs []*media.Stream
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if in.Decode(&o) != nil {
			os.Exit(0)
		}
		out.Encode(obey(e, &legs, o))
	}
}

func obey(e *media.Engine, legs *[]*media.Stream, o order) (r result) {
	switch o.Do {
	case "open":
		s, err := e.Open(media.StreamOptions{Peer: o.Peer, WebRTC: o.WebRTC})
		if err != nil {
			return result{Err: err.Error()}
		}
		*legs = append(*legs, s)
		local := s.Local()
		r.At, r.SSRC = local.Addr, local.SSRC
		if local.ICE != nil {
			r.Ufrag, r.Pwd, r.Fingerprint = local.ICE.Ufrag, string(local.ICE.Pwd), local.Fingerprints[0]
			r.TCP = local.ICE.Candidates[1].Addr
		}
	case "apply":
		a := media.Agreement{Remote: o.At, RemoteRTCP: o.At, Send: []media.Codec{benchPCMU}, Recv: []media.Codec{benchPCMU}}
		if o.Ufrag != "" {
			a.Security, a.Mux, a.Active = media.DTLS, true, o.Active
			a.ICE, a.Fingerprints = media.ICE{Ufrag: o.Ufrag}, []media.Fingerprint{o.Fingerprint}
		}
		if o.Suite != "" {
			a.Security = media.SDES
			a.In, a.Out = media.Crypto{Tag: 1, Suite: o.Suite, Key: o.In}, media.Crypto{Tag: 1, Suite: o.Suite, Key: o.Out}
		}
		(*legs)[o.Leg].Apply(a)
	case "bridge":
		a, b := (*legs)[o.Leg], (*legs)[o.With]
		a.Feed(b)
		b.Feed(a)
		a.Follow(b)
		b.Follow(a)
	case "ring":
		(*legs)[o.Leg].Play(media.ToneRing)
	case "close":
		(*legs)[o.Leg].Close()
	case "kernel":
		for _, s := range *legs {
			r.Kernel += s.Stats().Kernel
		}
	case "weigh":
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
			time.Sleep(20 * time.Millisecond)
		}
		runtime.ReadMemStats(&m)
		r.Goroutines, r.Heap = runtime.NumGoroutine(), int64(m.HeapAlloc)
	}
	return r
}

// engine is that program, seen from the test.
type engine struct {
	server
	t   *testing.T
	in  *json.Encoder
	out *json.Decoder
	n   int // legs opened
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	return runEngine(t, "off", exe)
}

// runEngine starts the engine by a command.
func runEngine(t *testing.T, fastpath string, command ...string) *engine {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), envEngine+"="+fastpath)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, node.Spawn(cmd))
	t.Cleanup(func() {
		in.Close() // it ends by itself
		io.Copy(io.Discard, out)
		cmd.Wait()
	})
	return &engine{server: server{name: "engine", pid: cmd.Process.Pid}, t: t, in: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
}

func (e *engine) tell(o order) result {
	e.t.Helper()
	var r result
	must(e.t, e.in.Encode(o))
	must(e.t, e.out.Decode(&r))
	if r.Err != "" {
		e.t.Fatal(fmt.Errorf("%s: %s", o.Do, r.Err))
	}
	return r
}

// open opens a leg and returns its number.
func (e *engine) open(peer netip.Addr, webRTC bool) (int, result) {
	e.t.Helper()
	r := e.tell(order{Do: "open", Peer: peer, WebRTC: webRTC})
	e.n++
	return e.n - 1, r
}
