package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"time"

	"baton/test/phone"
)

// fault is something that breaks, for some time.
type fault struct {
	name   string
	limit  time.Duration // after its end calls are well again, however they are connected
	gap    time.Duration // what phones on UDP may hear nothing for; 0 = it is told only
	target *member       // the node that it hits, nil = none or all
	hit    *pair         // the pair whose device it hits, nil = none
	begin  func()
	hold   time.Duration
	end    func()
	rest   time.Duration // after its end, before anybody does something: what is done sooner may be lost (docs/cluster.md, a node that is cut off)
}

// kind makes faults of one kind.
type kind struct {
	name string
	make func(s *soak, r *rand.Rand) *fault
}

// unlucky is a node that is drawn.
func (s *soak) unlucky(r *rand.Rand) *member { return s.c.nodes[r.IntN(len(s.c.nodes))] }

var nothing = func() {}

// The kinds of faults. Limits are five times what was seen on two busy cores, or the documents' where these are longer.
var kinds = []kind{
	{"node killed, started at once", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: func() { m.kill(); m.run() }, hold: time.Second, end: nothing, limit: 20 * time.Second, gap: 10 * time.Second}
	}},
	{"node killed, started later", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: m.kill, hold: 6 * time.Second, end: m.run, limit: 20 * time.Second, gap: 5 * time.Second}
	}},
	{"node stopped by SIGTERM, started later", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		stop := func() {
			m.Stop()
			s.c.history.Ended(m.name, time.Now())
		}
		return &fault{target: m, begin: stop, hold: 3 * time.Second, end: m.run, limit: 20 * time.Second, gap: 3 * time.Second}
	}},
	{"node frozen for 0.4 s", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: m.Freeze, hold: 400 * time.Millisecond, end: m.Thaw, limit: 10 * time.Second, gap: 2 * time.Second}
	}},
	{"node frozen for 2.3 s", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: m.Freeze, hold: 2300 * time.Millisecond, end: m.Thaw, limit: 10 * time.Second, gap: 6 * time.Second}
	}},
	{"node frozen for 10 s", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: m.Freeze, hold: 10 * time.Second, end: m.Thaw, limit: 20 * time.Second, gap: 12 * time.Second}
	}},
	{"node frozen for 3 to 5 s", func(s *soak, r *rand.Rand) *fault { // about as long as a takeover takes
		m := s.unlucky(r)
		return &fault{target: m, begin: m.Freeze, hold: 3*time.Second + time.Duration(r.IntN(2000))*time.Millisecond, end: m.Thaw, limit: 20 * time.Second, gap: 12 * time.Second}
	}},
	{"master of Redis killed", func(s *soak, _ *rand.Rand) *fault {
		one, _ := s.c.master()
		return &fault{begin: one.Kill, hold: 8 * time.Second, end: one.Run, limit: 10 * time.Second, gap: time.Second}
	}},
	{"master of Redis frozen for 6 s", func(s *soak, _ *rand.Rand) *fault {
		one, _ := s.c.master()
		return &fault{begin: one.Freeze, hold: 6 * time.Second, end: one.Thaw, limit: 10 * time.Second, gap: time.Second}
	}},
	{"master of Redis cut from all", func(s *soak, _ *rand.Rand) *fault {
		_, at := s.c.master()
		return &fault{begin: at.alone, hold: 10 * time.Second, end: at.heal, limit: 10 * time.Second, gap: time.Second}
	}},
	{"node cut from Redis", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: func() { m.cut(s.c.redises...) }, hold: 10 * time.Second, end: m.heal, limit: 10 * time.Second, gap: time.Second}
	}},
	{"two nodes cut from each other", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		o := s.c.others(m)[r.IntN(2)]
		return &fault{target: m, begin: func() { m.cut(o) }, hold: 8 * time.Second, end: m.heal, limit: 10 * time.Second, gap: time.Second}
	}},
	{"node cut from the other nodes", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: func() { m.cut(s.c.others(m)...) }, hold: 8 * time.Second, end: m.heal, limit: 10 * time.Second, gap: time.Second}
	}},
	{"node cut from nodes and Redis, not phones", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: func() { m.cut(append(s.c.others(m), s.c.redises...)...) }, hold: 10 * time.Second, end: m.heal, rest: 5 * time.Second, limit: 20 * time.Second}
	}},
	{"node cut from all", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: m.alone, hold: 10 * time.Second, end: m.heal, limit: 20 * time.Second, gap: 12 * time.Second}
	}},
	{"one of ten datagrams of a node lost", func(s *soak, r *rand.Rand) *fault {
		m := s.unlucky(r)
		return &fault{target: m, begin: func() { m.lossy(0.1) }, hold: 6 * time.Second, end: m.heal, limit: 10 * time.Second, gap: time.Second}
	}},
	{"no file descriptors left", func(s *soak, r *rand.Rand) *fault { return s.exhausted(s.unlucky(r)) }},
	{"device killed", func(s *soak, r *rand.Rand) *fault {
		p := s.talker(r, "")
		return &fault{hit: p, begin: func() {
			p.a[p.at].gone(p.a[p.at].Vanish)
			p.state = waiting
		}, hold: 4 * time.Second, end: nothing, limit: 20 * time.Second}
	}},
	{"connection of a device cut", func(s *soak, r *rand.Rand) *fault {
		p := s.talker(r, "tcp")
		return &fault{hit: p, begin: func() { p.a[p.at].Disconnect() }, hold: 2 * time.Second, end: nothing, limit: 20 * time.Second}
	}},
	{"device behind a NAT that gives other ports", func(s *soak, r *rand.Rand) *fault {
		p := s.talker(r, "udp")
		return &fault{hit: p, begin: func() { _ = p.a[p.at].Relocate(phone.Relocation{Abrupt: true}) }, hold: 2 * time.Second, end: nothing, limit: 20 * time.Second}
	}},
}

// exhausted leaves a node two file descriptors, and has many who want one.
func (s *soak) exhausted(m *member) *fault {
	ctx, cancel := context.WithCancel(context.Background())
	limit := func(n int) {
		_ = exec.Command("prlimit", "--pid", fmt.Sprint(m.PID()), fmt.Sprintf("--nofile=%d:", n)).Run()
	}
	crowd := func() {
		for range 60 {
			conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", m.TCP.String())
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() })
			}
		}
	}
	return &fault{target: m, begin: func() {
		limit(m.FDs() + 2)
		go crowd()
	}, hold: 6 * time.Second, end: func() {
		cancel()
		limit(4096)
	}, limit: 20 * time.Second, gap: time.Second}
}

// talker is a pair that talks, alice over a transport; "" = any.
func (s *soak) talker(r *rand.Rand, transport string) *pair {
	for _, i := range r.Perm(len(s.pairs)) {
		p := s.pairs[i]
		if p.near != nil && p.state == talking && (transport == "" || p.a[p.at].Config().Transport == transport) {
			return p
		}
	}
	return nil
}
