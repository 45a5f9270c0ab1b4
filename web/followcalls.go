package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"baton/call"
)

const (
	listPause = 250 * time.Millisecond // between two lists of calls, however much happens
	listShare = 10                     // … and so many times as long as it takes to make one
	listPulse = 10 * time.Second       // a list at least, so that a peer that is gone is noticed
	listOther = time.Second            // the same where other nodes have calls too, whose changes nobody tells
)

// followCalls streams the list of live calls: now, and whenever it has changed, at most four times a second. Each is a JSON
// array on a line of its own. Nothing is queued for a client, and one that takes none is dropped.
func (s *Server) followCalls(w http.ResponseWriter, r *http.Request) {
	if err := s.running(); err != nil {
		s.fail(w, r, err)
		return
	}
	changed, stop := s.Calls.Changes() // before the first list, so that none is missed
	defer stop()
	if _, err := s.calls(r); err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	pulse := listPulse
	if s.Others != nil {
		pulse = listOther
	}
	out, done := newLineStream(w)
	defer done()
	for {
		began := time.Now()
		list, err := s.calls(r)
		if err != nil || out.send(list) != nil {
			return
		}
		if !pause(r.Context(), max(listPause, listShare*time.Since(began))) {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-time.After(pulse):
		}
	}
}

// lineStream is what a client follows, a JSON value on each.
type lineStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// newLineStream begins one; done must be called when it ends.
func newLineStream(w http.ResponseWriter) (l *lineStream, done func()) {
	l = &lineStream{w, http.NewResponseController(w)}
	return l, func() { _ = l.control.SetWriteDeadline(time.Time{}) }
}

// send fails where the client has gone, or has not taken the line within eventWrite: a stopped process must not be waited for.
func (l *lineStream) send(v any) error {
	_ = l.control.SetWriteDeadline(time.Now().Add(eventWrite)) // a test's recorder has none
	if err := json.NewEncoder(l.w).Encode(v); err != nil {
		return err
	}
	return l.control.Flush()
}

// pause waits and says whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// ErrStopped says that the node has ended a stream because it stops.
var ErrStopped = errors.New("the node has stopped")

// FollowCalls calls each with the live calls of a user ("" = all), now and whenever something of them has changed, until ctx
// ends, each fails or the node stops.
func (c *Client) FollowCalls(ctx context.Context, user string, each func([]call.Info) error) error {
	path := "calls/follow"
	if user != "" {
		path += "?" + url.Values{"user": {user}}.Encode()
	}
	resp, err := c.send(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for in := json.NewDecoder(resp.Body); ; {
		var list []call.Info
		if err := in.Decode(&list); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return ErrStopped
		}
		if err := each(list); err != nil {
			return err
		}
	}
}
