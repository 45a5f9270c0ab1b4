package media

import (
	"context"
	"log/slog"
	"net/netip"

	"baton/config"
)

// Options is what an Engine needs.
type Options struct {
	Config    config.Media
	Advertise config.Advertise
	Log       *slog.Logger
}

// Engine owns the media ports and the streams on them.
type Engine struct{}

// NewEngine checks its options; it starts nothing.
func NewEngine(o Options) (*Engine, error) { return &Engine{}, nil }

// Run serves until ctx ends, then closes every stream and waits for all goroutines.
func (e *Engine) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// AddressFor returns the address to announce to peer.
func (e *Engine) AddressFor(peer netip.Addr) (netip.Addr, error) { return netip.Addr{}, nil }

// Open binds a port pair for a stream.
func (e *Engine) Open(o StreamOptions) (*Stream, error) { return nil, ErrNoPorts }

// OpenStreams counts the streams that are open.
func (e *Engine) OpenStreams() int { return 0 }
