package sip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	lookupTry    = time.Second      // for one answer of one name server
	lookupFor    = 60 * time.Second // how long a record is at most taken for granted
	maxLookups   = 1000             // names remembered
	maxCNAMEs    = 8
	resolverFile = "/etc/resolv.conf"
)

// errNoRecord says that a name has no record of the type.
var errNoRecord = errors.New("no such record")

// lookups asks name servers and remembers their answers for a little while.
type lookups struct {
	servers []string // set once; none = the system's, read anew each time, for a laptop changes its network

	mu    sync.Mutex
	known map[question]remembered
}

type question struct {
	name string
	kind uint16
}

type remembered struct {
	records []dns.RR
	until   time.Time
}

func newLookups(servers []string) *lookups {
	return &lookups{servers: servers, known: make(map[question]remembered)}
}

// find gives the records of a type that a name has, behind CNAMEs too; errNoRecord if there is none.
func (l *lookups) find(ctx context.Context, name string, kind uint16) ([]dns.RR, error) {
	q := question{dns.CanonicalName(name), kind}
	l.mu.Lock()
	k, ok := l.known[q]
	l.mu.Unlock()
	if !ok || time.Now().After(k.until) {
		records, err := l.ask(ctx, q)
		if err != nil && !errors.Is(err, errNoRecord) {
			return nil, err
		}
		k = remembered{records, time.Now().Add(lifeOf(records))}
		l.keep(q, k)
	}
	if len(k.records) == 0 {
		return nil, fmt.Errorf("%s %s: %w", dns.TypeToString[kind], name, errNoRecord)
	}
	return k.records, nil
}

// lifeOf is how long records are remembered: as long as they say, within bounds. That there is none, not for long.
func lifeOf(records []dns.RR) time.Duration {
	life := lookupFor
	if len(records) == 0 {
		life = 5 * time.Second
	}
	for _, rr := range records {
		life = min(life, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return life
}

// keep remembers an answer; when there is no more room all are forgotten.
func (l *lookups) keep(q question, k remembered) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.known) >= maxLookups {
		clear(l.known)
	}
	l.known[q] = k
}

// ask follows CNAMEs to the records.
func (l *lookups) ask(ctx context.Context, q question) ([]dns.RR, error) {
	for range maxCNAMEs {
		answer, err := l.query(ctx, q)
		if err != nil {
			return nil, err
		}
		records, at := harvest(answer.Answer, q)
		if len(records) > 0 || at == q.name {
			return records, nil
		}
		q.name = at
	}
	return nil, fmt.Errorf("%s: %d CNAMEs in a row", q.name, maxCNAMEs)
}

// harvest takes the records out of an answer, and says to which name its CNAMEs lead.
func harvest(answer []dns.RR, q question) (records []dns.RR, at string) {
	at = q.name
	for range maxCNAMEs {
		next := at
		for _, rr := range answer {
			c, alias := rr.(*dns.CNAME)
			switch name := dns.CanonicalName(rr.Header().Name); {
			case name != at:
			case rr.Header().Rrtype == q.kind:
				records = append(records, rr)
			case alias:
				next = dns.CanonicalName(c.Target)
			}
		}
		if len(records) > 0 || next == at {
			break
		}
		at = next
	}
	return records, at
}

// query asks one name server after the other, over TCP where the answer does not fit a datagram.
func (l *lookups) query(ctx context.Context, q question) (*dns.Msg, error) {
	servers := l.servers
	if len(servers) == 0 {
		c, err := dns.ClientConfigFromFile(resolverFile)
		if err != nil {
			return nil, fmt.Errorf("name servers: %w", err)
		}
		for _, s := range c.Servers {
			servers = append(servers, net.JoinHostPort(s, c.Port))
		}
	}
	m := new(dns.Msg)
	m.SetQuestion(q.name, q.kind)
	m.SetEdns0(1232, false)
	err := errors.New("there is no name server")
	for _, server := range servers {
		var answer *dns.Msg
		if answer, err = exchangeDNS(ctx, m, server); err != nil {
			continue
		}
		switch answer.Rcode {
		case dns.RcodeSuccess:
			return answer, nil
		case dns.RcodeNameError:
			return nil, errNoRecord
		}
		err = fmt.Errorf("name server %s: %s", server, dns.RcodeToString[answer.Rcode])
	}
	return nil, fmt.Errorf("%s %s: %w", dns.TypeToString[q.kind], q.name, err)
}

func exchangeDNS(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	for _, network := range []string{"udp", "udp", "tcp"} {
		c := dns.Client{Net: network, Timeout: lookupTry}
		answer, _, err := c.ExchangeContext(ctx, m, server)
		switch {
		case err == nil && !(answer.Truncated && network == "udp"):
			return answer, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case network == "tcp":
			return nil, err
		}
	}
	return nil, errNoRecord // not reached: the last try returns
}
