package sip

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Subscribe is what a SUBSCRIBE asks for (RFC 6665 §4.1.2, §8.2.1).
type Subscribe struct {
	Package string // the event package, in lower case; "" = no Event was given
	Event   string // the package as it was written, with its id: what NOTIFYs repeat
	Params  Params // of Event
	Expires time.Duration
	Given   bool // Expires was given
}

// ReadSubscribe reads Event and Expires of a SUBSCRIBE.
func ReadSubscribe(r *Request) (s Subscribe, err error) {
	if s.Event, s.Params, err = parseEvent(r.Header("Event")); err != nil {
		return s, err
	}
	s.Package = EventPackage(s.Event)
	if v := r.Header("Expires"); v != "" {
		s.Given = true
		s.Expires, err = parseSeconds(v)
	}
	return s, err
}

// EventPackage is the package's name in an Event value, in lower case.
func EventPackage(event string) string {
	name, _, _ := strings.Cut(strings.ToLower(event), ";")
	return name
}

// parseEvent reads an Event value. What it gives as event is the package and the id alone (RFC 6665 §4.4.1: other
// parameters are no part of the subscription's name).
func parseEvent(v string) (event string, p Params, err error) {
	event, rest := trim(v), ""
	if i := strings.IndexByte(event, ';'); i >= 0 {
		event, rest = trim(event[:i]), event[i:]
	}
	if event == "" && rest == "" {
		return "", nil, nil
	}
	if !isToken(event) {
		return "", nil, fmt.Errorf("the Event %q has no package", v)
	}
	if p, err = parseParams(rest); err != nil {
		return "", nil, fmt.Errorf("the Event %q: %w", v, err)
	}
	if id, ok := p.Get("id"); ok {
		if !isToken(id) {
			return "", nil, fmt.Errorf("the Event %q: the id is no token", v)
		}
		event += ";id=" + id
	}
	return event, p, nil
}

// parseSeconds reads delta-seconds (RFC 3261 §25.1); what is beyond 2^32-1 is that (§20.19).
func parseSeconds(v string) (time.Duration, error) {
	n, err := strconv.ParseUint(trim(v), 10, 32)
	if errors.Is(err, strconv.ErrRange) {
		n, err = math.MaxUint32, nil
	}
	if err != nil {
		return 0, fmt.Errorf("an Expires of %q is no number of seconds", v)
	}
	return time.Duration(n) * time.Second, nil
}

// Accepts reports whether the Accept headers, if there are any, take a media type.
func (r *Request) Accepts(kind string) bool { return r.accepts(kind) }

// Size is how many bytes the request had as it came.
func (r *Request) Size() int { return r.length }
