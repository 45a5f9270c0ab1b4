package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"baton/journal"
)

const (
	eventPause   = 100 * time.Millisecond // between two answers to what happens, however much that is
	eventLongest = 2 * time.Second        // … and no longer, when another node has been slow to tell
	eventComment = 15 * time.Second       // so that who has gone is noticed, and no proxy takes the stream for dead
	eventFigures = 5 * time.Second        // live calls are sent anew, for their figures
	eventWrite   = 10 * time.Second       // a client that has not taken an event by then is dropped
	perUser      = 20                     // streams of one user
	allStreams   = 5000
	overlapping  = time.Minute // entries younger than that may come again when a stream begins
)

// crowd counts streams by user.
type crowd struct {
	mu  sync.Mutex
	all int
	of  map[string]int
}

// enter counts one more, or refuses it.
func (c *crowd) enter(user string) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of[user] >= perUser || c.all >= allStreams {
		return nil, &refusal{code: http.StatusTooManyRequests, text: "too many event streams are open", wait: 5 * time.Second}
	}
	c.of[user]++
	c.all++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all--
		if c.of[user]--; c.of[user] == 0 {
			delete(c.of, user)
		}
	}, nil
}

// events streams what happens to the user's calls, devices and history (server-sent events): each list as it is, then again when it
// has changed. Nothing is queued for a client: one that is slow gets fewer lists, and one that takes none is dropped.
func (a *UserAPI) events(w http.ResponseWriter, r *http.Request) {
	me, err := a.person(r)
	var leave func()
	if err == nil {
		leave, err = a.streams.enter(me.Name)
	}
	if err != nil {
		failWith(w, r, a.Log, err)
		return
	}
	defer leave()
	ctx, done := me.bearer.AsLong(r.Context())
	defer done()
	s := &eventStream{a: a, me: me, w: w, control: http.NewResponseController(w)}
	defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }()
	s.serve(ctx)
}

// eventStream is one client that follows.
type eventStream struct {
	a       *UserAPI
	me      person
	w       http.ResponseWriter
	control *http.ResponseController

	past    *chronicle
	given   map[string]bool // entries that were read and may come again
	devices []byte          // as sent last
	live    bool            // there are calls

	newCalls, newDevices, newPast bool // what is to be sent
}

// serve streams until ctx ends, the token is over, or the client has gone or fallen behind.
func (s *eventStream) serve(ctx context.Context) {
	calls, stopCalls := s.a.Calls.ChangesOf(s.me.Name) // before the first lists, so that nothing is missed
	defer stopCalls()
	devices, stopDevices := s.a.Registrar.Changes(s.me.Name)
	defer stopDevices()
	entries, stopEntries := s.a.follow()
	defer stopEntries()
	opened := time.Now()
	if s.begin(ctx) != nil {
		return
	}
	comment, figures := time.NewTicker(eventComment), time.NewTicker(eventFigures)
	defer comment.Stop()
	defer figures.Stop()
	pause := time.NewTimer(eventPause) // what happens meanwhile is gathered
	defer pause.Stop()
	resting := true
	for {
		select {
		case <-ctx.Done():
			return
		case <-calls:
			s.newCalls = true
		case <-devices:
			s.newDevices = true
		case e, ok := <-entries:
			if !ok { // so many that it has fallen behind
				return
			}
			s.note(e)
		case <-figures.C:
			s.newCalls = s.newCalls || s.live
		case <-comment.C:
			if time.Since(opened) > overlapping {
				s.given = nil
			}
			if !s.a.Registrar.Still(s.me.bearer) || s.write([]byte(": still here\n\n")) != nil {
				return
			}
		case <-pause.C:
			resting = false
		}
		if resting || !s.newCalls && !s.newDevices && !s.newPast {
			continue
		}
		began := time.Now()
		if s.send(ctx) != nil {
			return
		}
		resting = true
		pause.Reset(max(eventPause, min(listShare*time.Since(began), eventLongest)))
	}
}

// follow gives the log's new entries; a nil channel where nothing is logged.
func (a *UserAPI) follow() (<-chan Entry, func()) {
	if a.Tail == nil {
		return nil, func() {}
	}
	return a.Tail.Follow()
}

// begin sends the head and the lists as they are.
func (s *eventStream) begin(ctx context.Context) error {
	past, read, err := s.a.chronicle(s.me.Name, defaultPast, time.Time{})
	if err != nil {
		failWith(s.w, &http.Request{}, s.a.Log, err)
		return err
	}
	s.past, s.given = past, map[string]bool{}
	for _, e := range read {
		if time.Since(e.Time) < overlapping {
			s.given[keyOf(e)] = true
		}
	}
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	if err := s.write([]byte("retry: 500\n\n")); err != nil {
		return err
	}
	s.newCalls, s.newDevices, s.newPast = true, true, true
	return s.send(ctx)
}

// keyOf tells an entry from others.
func keyOf(e journal.Entry) string {
	return fmt.Sprint(e.Time.UnixNano(), e.Kind, e.Call, e.User, e.Peer, e.From)
}

// note takes an entry of the log into the history.
func (s *eventStream) note(e Entry) {
	q := journal.Query{User: s.me.Name, Kinds: pastKinds}
	if !q.Matches(e) || s.given[keyOf(e)] {
		return
	}
	s.newPast = s.past.take(e) || s.newPast
	s.past.trim(defaultPast)
}

// send sends what is new, in one write.
func (s *eventStream) send(ctx context.Context) error {
	var out bytes.Buffer
	if s.newCalls {
		list := s.a.myCalls(ctx, s.me.Name)
		s.live = len(list) > 0
		event(&out, "calls", list)
	}
	if s.newDevices {
		var now bytes.Buffer
		event(&now, "devices", s.a.myDevices(s.me.Name))
		if !bytes.Equal(now.Bytes(), s.devices) {
			s.devices = now.Bytes()
			out.Write(s.devices)
		}
	}
	if s.newPast {
		event(&out, "history", s.past.list(defaultPast, time.Time{}, s.a.showPast))
	}
	s.newCalls, s.newDevices, s.newPast = false, false, false
	if out.Len() == 0 {
		return nil
	}
	return s.write(out.Bytes())
}

// event writes one event; JSON has no line ends in it.
func event(out *bytes.Buffer, name string, list any) {
	fmt.Fprintf(out, "event: %s\ndata: ", name)
	_ = json.NewEncoder(out).Encode(list) // a buffer takes everything
	out.WriteByte('\n')
}

func (s *eventStream) write(b []byte) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(s.a.patience)) // a test's recorder has none
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}
