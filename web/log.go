package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"

	"baton/journal"
)

// Entries that a listing holds unless it asks for another number, and the most it can ask for.
const (
	defaultEntries = 50
	maxEntries     = 10000
)

// entries lists the newest n entries, oldest first; since leaves out what is older.
func (s *Server) entries(r *http.Request) (any, error) {
	n, since, err := span(r)
	if err != nil {
		return nil, err
	}
	shown, err := s.Entries.Entries(since, time.Time{}, n)
	if err != nil {
		return nil, err
	}
	if shown == nil {
		shown = []Entry{}
	}
	return shown, nil
}

// span reads which entries are wanted.
func span(r *http.Request) (n int, since time.Time, err error) {
	n = defaultEntries
	if text := r.URL.Query().Get("n"); text != "" {
		n, err = strconv.Atoi(text)
		if err != nil || n < 1 || n > maxEntries {
			return 0, since, refuse(http.StatusBadRequest, "n: %q is not between 1 and %d", text, maxEntries)
		}
	}
	if text := r.URL.Query().Get("since"); text != "" {
		since, err = time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return 0, since, refuse(http.StatusBadRequest, "since: %q is no time as in 2026-01-31T12:00:00Z", text)
		}
	}
	return n, since, nil
}

// follow streams entries as they come, one JSON object per line, until the client goes or falls behind.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	if s.Tail == nil {
		s.fail(w, r, refuse(http.StatusServiceUnavailable, "no node is running; nothing new will be logged"))
		return
	}
	entries, stop := s.Tail.Follow()
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush()
	out := json.NewEncoder(w)
	for {
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-entries:
			if !ok || out.Encode(e) != nil || flush.Flush() != nil {
				return
			}
		}
	}
}

// Tail passes entries on to the journal and to everybody who follows.
type Tail struct {
	next journal.Journal // set once

	mu        sync.Mutex
	followers map[chan Entry]struct{} // guarded by mu
}

// NewTail makes a Tail before next.
func NewTail(next journal.Journal) *Tail {
	return &Tail{next: next, followers: map[chan Entry]struct{}{}}
}

// followBuffer is how far a follower may fall behind before it is cut off.
const followBuffer = 1024

// Append passes e on. It never blocks: who has fallen behind is cut off.
func (t *Tail) Append(e journal.Entry) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	t.next.Append(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	for f := range t.followers {
		select {
		case f <- e:
		default:
			delete(t.followers, f)
			close(f)
		}
	}
}

// Follow gives what is appended from now on. The channel is closed when its reader has fallen behind.
func (t *Tail) Follow() (entries <-chan Entry, stop func()) {
	f := make(chan Entry, followBuffer)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.followers[f] = struct{}{}
	return f, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.followers, f)
	}
}
