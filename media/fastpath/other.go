//go:build !linux

package fastpath

import (
	"errors"
	"net/netip"
	"time"
)

// ErrSystem says that this system's kernel cannot do it.
var ErrSystem = errors.New("only Linux can")

// Path, Slot and Changes are nothing on this system.
type (
	Path    struct{}
	Slot    struct{}
	Changes struct{}
)

func Open(first, last uint16, clock func() time.Duration) (*Path, error) { return nil, ErrSystem }
func (p *Path) Attach() error                                            { return ErrSystem }
func (p *Path) Attached(index int) bool                                  { return false }
func (p *Path) Slot(port uint16) *Slot                                   { return nil }
func (p *Path) Until(t time.Duration)                                    {}
func (p *Path) Close() error                                             { return nil }
func (t *Slot) Give(f Flow, s State)                                     {}
func (t *Slot) Take() State                                              { return State{} }
func (t *Slot) Peek() (State, bool)                                      { return State{}, false }
func RouteTo(to, from netip.Addr) (Route, error)                         { return Route{}, ErrSystem }
func WatchRoutes() (*Changes, error)                                     { return nil, ErrSystem }
func (c *Changes) Next() bool                                            { return false }
func (c *Changes) Close() error                                          { return nil }
