package web

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"baton/journal"
)

// Entries that a listing holds unless it asks for another number, and the most it can ask for.
const (
	defaultEntries = 50
	MaxEntries     = 10000
)

// entries lists the newest entries that are wanted, oldest first.
func (s *Server) entries(r *http.Request) (any, error) {
	q, err := s.query(r)
	if err != nil {
		return nil, err
	}
	shown, err := s.Entries.Select(q)
	if err != nil {
		return nil, err
	}
	if shown == nil {
		shown = []Entry{}
	}
	return shown, nil
}

// query reads which entries are wanted.
func (s *Server) query(r *http.Request) (journal.Query, error) {
	asked := r.URL.Query()
	q := journal.Query{Limit: defaultEntries, Call: asked.Get("call"), User: s.name(asked.Get("user")), Peer: s.name(asked.Get("peer"))}
	if text := asked.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > MaxEntries {
			return q, refuse(http.StatusBadRequest, "n: %q is not between 1 and %d", text, MaxEntries)
		}
		q.Limit = n
	}
	for name, to := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		text := asked.Get(name)
		if text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return q, refuse(http.StatusBadRequest, "%s: %q is no time as in 2026-01-31T12:00:00Z", name, text)
		}
		*to = at
	}
	for _, kind := range asked["kind"] {
		q.Kinds = append(q.Kinds, journal.Kind(kind))
	}
	return q, nil
}

// name is the user with that name or number. The log also tells of users who are there no more.
func (s *Server) name(nameOrNumber string) string {
	if u, ok := s.Registrar.User(nameOrNumber); ok {
		return u.Name
	}
	return nameOrNumber
}

// follow streams entries as they come, one JSON object per line, until the client goes or falls behind.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	if s.Tail == nil {
		s.fail(w, r, refuse(http.StatusServiceUnavailable, "no node is running; nothing new will be logged"))
		return
	}
	q, err := s.query(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	entries, stop := s.Tail.Follow()
	defer stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	out, done := newLineStream(w)
	defer done()
	_ = out.control.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-entries:
			if ok && !q.Matches(e) {
				continue
			}
			if !ok || out.send(e) != nil {
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
