package store

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// redisHealth is how the store's writes go.
type redisHealth struct {
	log *slog.Logger

	mu    sync.Mutex
	since time.Time // of the first success after the last failure; zero = it is not well
	err   error     // of the last write
	from  time.Time // since when it is not well
	soft  string    // what is not as it should be, though it is well
	lost  error     // what it held is gone
}

var errNotYet = errors.New("no write has been made yet")

// ill notes a failure.
func (h *redisHealth) ill(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.from = time.Now()
		h.log.Error("store is out of reach: calls go on, what changes is kept here and written when it is back", "err", err)
	}
	h.since, h.err = time.Time{}, err
}

// well notes a success; soft says what it lacked.
func (h *redisHealth) well(soft string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.err != nil {
		h.log.Info("store is back", "after", now.Sub(h.from).Round(time.Millisecond))
	}
	if h.since.IsZero() {
		h.since = now
	}
	if soft != "" && h.soft == "" {
		h.log.Warn("what is written is not safe from the loss of the store's master", "err", soft)
	}
	h.err, h.soft = nil, soft
}

// missing notes whether what the store held is gone.
func (h *redisHealth) missing(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && h.lost == nil {
		h.log.Error("what the store held is gone: users, devices and calls are kept as this node knows them; put the data back, or restart all nodes to begin anew", "err", err)
	}
	h.lost = err
}

// check says what is wrong with the store; nil = nothing.
func (h *redisHealth) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.err != nil:
		return fmt.Errorf("store is out of reach since %s: %w", h.from.Format(time.DateTime), h.err)
	case h.lost != nil:
		return h.lost
	case h.since.IsZero():
		return errNotYet
	}
	return nil
}

// Healthy says what is wrong with the store; nil = the last write was made.
func (s *Redis) Healthy() error { return s.health.check() }

// HealthySince is since when every write was made; zero = the last one was not.
func (s *Redis) HealthySince() time.Time {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return s.health.since
}
