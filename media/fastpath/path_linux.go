package fastpath

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

//go:generate clang-14 -O2 -g -Wall -target bpfel -mcpu=v3 -fdebug-prefix-map=.=/ -c forward.c -o forward.o
//go:generate llvm-strip-14 -g forward.o

//go:embed forward.o
var program []byte

// Path is the program in the kernel, and the memory that it shares with this process. It ends with the process, however that ends.
type Path struct {
	// set once
	first  uint16
	maps   *ebpf.Collection
	slots  []Slot
	until  *int64 // atomic
	mapped [][]byte

	mu    sync.Mutex
	links map[int]link.Link // by interface
}

// Open loads the program for the even ports of a range, and has it see what comes to the machine's interfaces. clock is the one that all
// times are on; it must run as CLOCK_MONOTONIC does. Nothing is forwarded before Until. The error says what the kernel, or the right to
// use it (CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN), is wanting.
func Open(first, last uint16, clock func() time.Duration) (*Path, error) {
	p := &Path{first: first + first&1, links: map[int]link.Link{}}
	if last < p.first {
		return nil, errors.New("no even port")
	}
	if err := p.load(uint32(last-p.first)/2+1, clock); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := p.Attach(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Path) load(slots uint32, clock func() time.Duration) error {
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("read the program: %w", err)
	}
	if n := spec.Maps["slots"].ValueSize; n != uint32(unsafe.Sizeof(Slot{})) {
		return fmt.Errorf("the program's slots have %d bytes, and not %d", n, unsafe.Sizeof(Slot{}))
	}
	spec.Maps["slots"].MaxEntries = slots
	err = errors.Join(spec.Variables["first_port"].Set(uint32(p.first)), spec.Variables["epoch"].Set(uint64(epoch(clock))))
	if err != nil {
		return fmt.Errorf("set up the program: %w", err)
	}
	if p.maps, err = ebpf.NewCollection(spec); err != nil {
		return fmt.Errorf("load the program: %w", err)
	}
	shared, err := p.share("slots", int(slots)*int(unsafe.Sizeof(Slot{})))
	if err != nil {
		return err
	}
	p.slots = unsafe.Slice((*Slot)(unsafe.Pointer(&shared[0])), slots)
	if shared, err = p.share("until", 8); err != nil {
		return err
	}
	p.until = (*int64)(unsafe.Pointer(&shared[0]))
	return nil
}

// share maps a map of the program into this process.
func (p *Path) share(name string, size int) ([]byte, error) {
	page := unix.Getpagesize()
	b, err := unix.Mmap(p.maps.Maps[name].FD(), 0, (size+page-1)/page*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("share %s with the kernel: %w", name, err)
	}
	p.mapped = append(p.mapped, b)
	return b, nil
}

// epoch is the zero of clock on that of the kernel.
func epoch(clock func() time.Duration) time.Duration {
	var t unix.Timespec
	best, at := time.Hour, time.Duration(0)
	for range 10 { // the one that nothing came between
		before := clock()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // never fails
		if took := clock() - before; took < best {
			best, at = took, time.Duration(t.Nano())-before-took/2
		}
	}
	return at
}

// Attach has the program see what comes to interfaces that have appeared since: Ethernet and loopback, for on others a packet begins otherwise.
func (p *Path) Attach() error {
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("list the interfaces: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	there := map[int]bool{}
	var failed error
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 && len(i.HardwareAddr) != 6 {
			continue
		}
		there[i.Index] = true
		if p.links[i.Index] != nil {
			continue
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: p.maps.Programs["forward"], Attach: ebpf.AttachTCXIngress})
		if err != nil {
			failed = fmt.Errorf("attach to %s: %w", i.Name, err)
			continue
		}
		p.links[i.Index] = l
	}
	for index, l := range p.links {
		if !there[index] {
			l.Close()
			delete(p.links, index)
		}
	}
	if len(p.links) == 0 {
		return errors.Join(errors.New("no interface"), failed)
	}
	return nil
}

// Attached says whether the program sees what comes to an interface.
func (p *Path) Attached(index int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.links[index] != nil
}

// Slot is the place of a port's flow; nil = there is none.
func (p *Path) Slot(port uint16) *Slot {
	i := int(port) - int(p.first)
	if i < 0 || i%2 != 0 || i/2 >= len(p.slots) {
		return nil
	}
	return &p.slots[i/2]
}

// Until says until when anything is forwarded, unless it is told again.
func (p *Path) Until(t time.Duration) { atomic.StoreInt64(p.until, int64(t)) }

// Close takes the program out of the kernel. No slot may be used any more.
func (p *Path) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []error
	for index, l := range p.links {
		all = append(all, l.Close())
		delete(p.links, index)
	}
	for _, b := range p.mapped {
		all = append(all, unix.Munmap(b))
	}
	p.mapped, p.slots = nil, nil
	if p.maps != nil {
		p.maps.Close()
	}
	return errors.Join(all...)
}
