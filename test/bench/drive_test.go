package bench

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The generator at the limit: one thread bound to one core sends what is due (txring_test.go) and takes what has come, by recvmmsg(2), in
// batches, with no lock, allocation or goroutine for each packet.

// Packets of one system call. Few are sent at a time: a packet's time is taken before the first of them is on its way.
const (
	sendBatch = 32
	readBatch = 128
)

// mostBehind is how late the generator may be where nothing else is said; what was due before that is not sent, and told.
const mostBehind = 20 * time.Millisecond

// yielding is the nice value of a load that shares its core with the node and with phones: as if it came from other machines, it does
// not keep them waiting.
const yielding = 5

// plan is what all legs are to do. The talk of warm counts for nothing, and is followed by a pause in which all of it arrives. From then
// on every packet counts that is lost; times and rates are those of the window at the end.
type plan struct {
	legs         []*leg
	begin        time.Duration // within which they begin to talk one after the other, as calls that are set up do; part of warm
	warm, settle time.Duration
	window       time.Duration
	frame        time.Duration // from one packet of a leg to the next
	flight       int           // 0: they are evenly spread; else so many under way at any time, the next for each that comes
	behind       time.Duration // how late it may be
	pause        time.Duration // how long it sleeps when little is to be done, for others that need its core; 0 = it waits awake
	cores        []int         // each has a thread, with its share of the legs; nil = that for the load
	at           func()        // called at both ends of the window, by the generator's first thread
}

// steady is the plan by which relays are compared.
func steady(legs []*leg, window time.Duration) plan {
	return plan{legs: legs, warm: time.Second, settle: time.Second, window: window, frame: 20 * time.Millisecond, behind: mostBehind, at: func() {}}
}

// driven is what came of it.
type driven struct {
	due, sent, heard int64         // since the pause; due is 0 where packets are sent for those that come
	passed           int64         // heard within the window
	span             time.Duration // of the window
	delays           *spread       // of the window
	cpu              time.Duration // of the generator in the window
	stalls           int           // with so many under way: how often nothing came any more
	sockets, queues  int64         // packets that the kernel has dropped
}

func (d driven) lost() int64        { return max(0, d.sent-d.heard) }
func (d driven) rate() float64      { return float64(d.passed) / d.span.Seconds() }
func (d driven) busy() float64      { return 100 * d.cpu.Seconds() / d.span.Seconds() } // % of its core
func (d driven) lostShare() float64 { return 100 * float64(d.lost()) / float64(max(1, d.sent)) }

// short says that the generator has not sent what was due.
func (d driven) short() bool { return float64(d.sent) < 0.999*float64(d.due) }

// spread counts times by the microsecond; what is longer than a quarter of a second is all one.
type spread struct {
	counts [250_001]uint32
	n      int64
}

func (s *spread) add(d time.Duration) {
	s.counts[min(max(0, d.Microseconds()), int64(len(s.counts)-1))]++
	s.n++
}

// quantile is the time that so large a share of them does not exceed, rounded up to a microsecond.
func (s *spread) quantile(q float64) time.Duration {
	left := max(1, int64(q*float64(s.n)+0.5))
	for us, n := range s.counts {
		if left -= int64(n); left <= 0 {
			return time.Duration(us) * time.Microsecond
		}
	}
	return 0
}

// drive does what is planned.
func (g *generator) drive(t *testing.T, p plan) driven {
	t.Helper()
	return g.begin(t, p)()
}

// begin begins with it; what it returns waits for the end. Meanwhile nothing else is read of the generator.
func (g *generator) begin(t *testing.T, p plan) (wait func() driven) {
	t.Helper()
	g.hush()
	if p.cores == nil {
		p.cores = []int{loadCPU()}
	}
	mills, done := millsOf(g, p), make(chan error, len(p.cores))
	sockets, queues := dropped()
	for i, m := range mills {
		g.talking.Go(func() {
			runtime.LockOSThread() // for good: the thread, with what it is bound to, ends with this
			defer m.meet.leave()
			err := bind(0, p.cores[i], p.pause == 0)
			unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
			if err == nil && p.pause > 0 {
				err = unix.Setpriority(unix.PRIO_PROCESS, 0, yielding)
			}
			if err == nil {
				err = m.run()
			}
			done <- err
		})
	}
	return func() driven {
		t.Helper()
		for range mills {
			must(t, <-done)
		}
		g.listen()
		d := mills[0].driven
		for _, m := range mills[1:] {
			d.join(m.driven)
		}
		d.sockets, d.queues = dropped()
		d.sockets, d.queues = d.sockets-sockets, d.queues-queues
		return d
	}
}

// join adds what another thread did.
func (d *driven) join(o driven) {
	d.due, d.sent, d.heard, d.passed = d.due+o.due, d.sent+o.sent, d.heard+o.heard, d.passed+o.passed
	d.cpu += o.cpu
	d.delays.n += o.delays.n
	for us, n := range o.delays.counts {
		d.delays.counts[us] += n
	}
}

// meeting has threads wait for each other.
type meeting struct {
	mu        sync.Mutex
	all, here int
	next      chan struct{}
}

func (m *meeting) wait() {
	m.mu.Lock()
	next := m.next
	m.here++
	m.begin()
	m.mu.Unlock()
	<-next
}

// leave lets the others go on without one.
func (m *meeting) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all--
	m.begin()
}

// begin lets all go on if they are here; under mu.
func (m *meeting) begin() {
	if m.here > 0 && m.here >= m.all {
		close(m.next)
		m.here, m.next = 0, make(chan struct{})
	}
}

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	head unix.Msghdr
	size uint32
}

// mill is the generator at work; its thread alone has it.
type mill struct {
	driven
	plan
	fd   int
	over *atomic.Bool // the test is
	meet *meeting     // with the generator's other threads

	ring   *txRing
	next   int64 // number of the next packet, of all legs in turn
	begun  int64 // legs that talk
	flying int64 // sent and not come back, where that is planned
	inside bool  // the window is open

	in     [readBatch]message
	inIO   [readBatch]unix.Iovec
	inBuf  [readBatch][256]byte
	inCtrl [readBatch][64]byte
}

// millsOf is one for each core, with calls in turn.
func millsOf(g *generator, p plan) []*mill {
	meet := &meeting{all: len(p.cores), next: make(chan struct{})}
	shares := make([][]*leg, len(p.cores))
	for i, l := range p.legs {
		to := &shares[i/2%len(shares)]
		*to = append(*to, l)
	}
	var all []*mill
	for i, legs := range shares {
		share := p
		share.legs = legs
		if i > 0 {
			share.at = func() {}
		}
		m := newMill(g, share)
		m.meet = meet
		all = append(all, m)
	}
	return all
}

func newMill(g *generator, p plan) *mill {
	m := &mill{plan: p, fd: g.fd, over: &g.over}
	m.span, m.delays = p.window, new(spread)
	for i := range m.in {
		m.inIO[i].Base = &m.inBuf[i][0]
		m.inIO[i].SetLen(len(m.inBuf[i]))
		m.in[i].head.Iov, m.in[i].head.Iovlen = &m.inIO[i], 1
	}
	return m
}

func (m *mill) run() error {
	if len(m.legs) == 0 {
		return errors.New("nobody talks")
	}
	var err error
	if m.ring, err = openTxRing(); err != nil {
		return err
	}
	defer m.ring.close()
	m.begun = int64(len(m.legs))
	if err := m.talk(m.warm, nil); err != nil {
		return err
	}
	silent := time.Now()
	if err := m.drain(); err != nil {
		return err
	}
	m.meet.wait()
	for range time.Since(silent) / m.frame { // of each, which are taken for lost
		for _, l := range m.legs {
			l.pass()
		}
	}
	m.begin = 0
	m.due, m.sent, m.heard, m.flying, m.stalls = 0, 0, 0, 0, 0
	m.meet.wait()
	var from time.Duration
	err = m.talk(m.settle+m.window, func() { m.inside, from = true, threadCPU(); m.at() })
	m.inside, m.cpu = false, threadCPU()-from
	m.at()
	if err != nil {
		return err
	}
	m.meet.wait()
	return m.drain()
}

// talk sends for so long, and opens the window for its last part.
func (m *mill) talk(length time.Duration, open func()) error {
	start, first := time.Now(), m.next
	opens := length - m.window
	last := time.Duration(0) // when something came
	for {
		now := time.Since(start)
		if open != nil && now >= opens {
			open()
			open = nil
		}
		if now >= length || m.over.Load() {
			return nil
		}
		var sent int
		var wait time.Duration
		var err error
		if m.flight > 0 {
			if m.flying > 0 && now-last > 50*time.Millisecond { // what was under way is lost
				m.flying = 0
				m.stalls++
			}
			sent, err = m.send(int(min(sendBatch, int64(m.flight)-m.flying)))
			m.flying += int64(sent)
			wait = 50 * time.Millisecond
		} else {
			sent, wait, err = m.pace(now, first)
		}
		if err != nil {
			return err
		}
		heard, err := m.take()
		if err != nil {
			return err
		}
		if heard > 0 {
			last, m.flying = now, max(0, m.flying-int64(heard))
		}
		switch {
		case m.pause > 0 && sent < sendBatch && heard < readBatch:
			ts := unix.NsecToTimespec(int64(m.pause))
			unix.Nanosleep(&ts, nil)
		case sent+heard == 0:
			m.rest(min(wait, length-now))
		}
	}
}

// pace sends what is due by now, evenly spread, and says how long it is until the next.
func (m *mill) pace(now time.Duration, first int64) (sent int, wait time.Duration, err error) {
	legs := int64(len(m.legs))
	due := first + int64(now)*legs/int64(m.frame) + 1
	if m.begun = legs; m.begin > 0 {
		m.begun = min(legs, legs*int64(now)/int64(m.begin)+1)
	}
	if late := due - m.next - legs*int64(m.behind)/int64(m.frame); late > 0 {
		m.due += late
		for range late {
			m.legs[m.next%legs].pass()
			m.next++
		}
	}
	if n := int(min(sendBatch, due-m.next)); n > 0 {
		m.due += int64(n)
		sent, err = m.send(n)
		return sent, 0, err
	}
	return 0, time.Duration((m.next-first)*int64(m.frame)/legs) - now, nil
}

// send sends the next packets, each of another leg.
func (m *mill) send(n int) (int, error) {
	n = min(n, len(m.legs))
	i := 0
	for range n {
		turn := m.next % int64(len(m.legs))
		if m.next++; turn >= m.begun {
			continue
		}
		b, err := m.legs[turn].framed()
		if err != nil {
			return 0, err
		}
		if !m.ring.put(b) {
			return 0, errors.New("the kernel has not taken what was sent")
		}
		i++
	}
	n = i
	if err := m.ring.flush(); err != nil {
		return 0, err
	}
	m.sent += int64(n)
	return n, nil
}

// take takes what has come.
func (m *mill) take() (int, error) {
	for i := range m.in {
		m.in[i].head.Control = &m.inCtrl[i][0]
		m.in[i].head.SetControllen(len(m.inCtrl[i]))
	}
	k, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(m.fd), uintptr(unsafe.Pointer(&m.in[0])), readBatch, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR, unix.ECONNREFUSED:
		return 0, nil
	default:
		return 0, os.NewSyscallError("recvmmsg", errno)
	}
	rtp := 0
	for i := range int(k) {
		size := int(m.in[i].size)
		b := m.inBuf[i][:size]
		if size < packetSize || b[1]&0x7f != 0 { // RTCP, which relays send of their own accord
			continue
		}
		rtp++
		if !m.inside {
			continue
		}
		m.passed++
		if size == packetSize { // what sealed packets say is not for the generator
			if at := stampOf(m.inCtrl[i][:m.in[i].head.Controllen]); at != 0 {
				m.delays.add(time.Duration(at - int64(binary.BigEndian.Uint64(b[12:]))))
			}
		}
	}
	m.heard += int64(rtp)
	return rtp, nil
}

// drain takes what comes until nothing has for a tenth of a second: what a relay is behind with is late, not lost. Legs are silent for no longer, lest
// they be taken for lost.
func (m *mill) drain() error {
	start := time.Now()
	for last := start; time.Since(last) < 100*time.Millisecond && time.Since(start) < 10*time.Second; {
		n, err := m.take()
		if err != nil {
			return err
		}
		if n > 0 {
			last = time.Now()
			continue
		}
		m.rest(time.Millisecond)
	}
	return nil
}

// rest waits until something comes, or the next packet is due. A short time is waited for awake.
func (m *mill) rest(d time.Duration) {
	if d < 50*time.Microsecond {
		return
	}
	ts := unix.NsecToTimespec(int64(d - 20*time.Microsecond))
	unix.Ppoll([]unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}, &ts, nil)
}

// threadCPU is the processor time of the thread.
func threadCPU() time.Duration { return cpuClock(unix.CLOCK_THREAD_CPUTIME_ID) }

func cpuClock(id int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(id, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// cores are the processors that this may run on: the first is for what is measured, the last for the load.
func cores() []int {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return []int{0}
	}
	var all []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			all = append(all, i)
		}
	}
	return all
}

var allCores = cores() // before any thread is bound

func relayCPU() int { return allCores[0] }
func loadCPU() int  { return allCores[len(allCores)-1] }

// bind keeps a thread to one core; 0 is the calling one. Where it is wanted it comes first there.
func bind(thread, core int, first bool) error {
	var set unix.CPUSet
	set.Set(core)
	if err := unix.SchedSetaffinity(thread, &set); err != nil {
		return fmt.Errorf("bind thread %d to core %d: %w", thread, core, err)
	}
	if !first || !*realTime {
		return nil
	}
	if err := unix.SchedSetAttr(thread, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: realTimePriority}, 0); err != nil {
		return fmt.Errorf("real-time priority of thread %d: %w", thread, err)
	}
	return nil
}

// realTime puts what is measured and the load before everything else on the machine. The kernel still gives the rest of it its twentieth
// of each second, by which both stand still.
var realTime = flag.Bool("realtime", false, "relay and load with real-time priority, on a machine with other work on it")

const realTimePriority = 20

// alone is the command that keeps what it starts to the core for what is measured.
func alone() []string {
	command := []string{"taskset", "-c", strconv.Itoa(relayCPU())}
	if *realTime {
		command = append(command, "chrt", "-r", strconv.Itoa(realTimePriority))
	}
	return command
}

// dropped says where the kernel has thrown packets away since the machine or the namespace began: full sockets, and full queues of a core.
func dropped() (sockets, queues int64) {
	snmp, _ := os.ReadFile("/proc/thread-self/net/snmp")
	var names []string
	for line := range strings.Lines(string(snmp)) {
		f := strings.Fields(line)
		if f[0] != "Udp:" {
			continue
		}
		if i := slices.Index(names, "RcvbufErrors"); i > 0 && i < len(f) {
			sockets, _ = strconv.ParseInt(f[i], 10, 64)
		}
		names = f
	}
	softnet, _ := os.ReadFile("/proc/thread-self/net/softnet_stat")
	for line := range strings.Lines(string(softnet)) {
		if f := strings.Fields(line); len(f) > 1 {
			n, _ := strconv.ParseInt(f[1], 16, 64)
			queues += n
		}
	}
	return sockets, queues
}

// bound keeps a process with all its threads to the core for what is measured. Threads to come are where the one is that makes them.
func (s server) bound(t *testing.T) server {
	t.Helper()
	for _, pid := range s.processes() {
		for last := []string(nil); ; {
			entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
			must(t, err)
			var all []string
			for _, e := range entries {
				var tid int
				fmt.Sscan(e.Name(), &tid)
				if err := bind(tid, relayCPU(), true); err != nil && !errors.Is(err, unix.ESRCH) {
					t.Fatal(err)
				}
				all = append(all, e.Name())
			}
			if slices.Equal(all, last) {
				break
			}
			last = all
		}
	}
	return s
}
