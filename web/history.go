package web

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"time"

	"baton/journal"
	"baton/registrar"
)

// Past is one call of a user's history.
type Past struct {
	Time     time.Time `json:"time"`     // when it began for the user
	Kind     string    `json:"kind"`     // out, in, missed
	Peer     string    `json:"peer"`     // number to call back; a user without one: his name
	Name     string    `json:"name"`     // as that user is called now
	Duration float64   `json:"duration"` // seconds that the user talked
	Call     string    `json:"call"`
	Text     string    `json:"text,omitempty"` // what became of it, if it was not simply answered and ended
}

// The kinds of Past.
const (
	pastOut    = "out"
	pastIn     = "in"
	pastMissed = "missed"
)

// pastKinds are the entries of the log that a history is made of.
var pastKinds = []journal.Kind{
	journal.CallStarted, journal.CallAnswered, journal.CallMoved, journal.CallForwarded, journal.CallPickedUp, journal.CallMissed, journal.CallEnded,
}

// episode is a user's part in a call, as far as the log tells.
type episode struct {
	Past
	peer     string // name of the user on the other side
	taker    string // name of the user who has it instead, "" = nobody
	answered time.Time
	over     bool
}

// chronicle makes a user's history of the log's entries, each given once and in order.
type chronicle struct {
	user string
	all  []*episode // oldest first
}

// last is the newest part that the user has had in a call, nil = none.
func (c *chronicle) last(id string) *episode {
	for _, e := range slices.Backward(c.all) {
		if e.Call == id {
			return e
		}
	}
	return nil
}

// open is the part in a call that is not over, nil = none.
func (c *chronicle) open(id string) *episode {
	if e := c.last(id); e != nil && !e.over {
		return e
	}
	return nil
}

func (c *chronicle) begin(e journal.Entry, kind, peer string) *episode {
	one := &episode{Past: Past{Time: e.Time, Kind: kind, Call: e.Call}, peer: peer}
	c.all = append(c.all, one)
	return one
}

// close ends a part, and says what became of it. One that is not there began before the log does.
func (e *episode) close(at time.Time, text, taker string) bool {
	if e == nil {
		return false
	}
	e.over = true
	if !e.answered.IsZero() {
		e.Duration = max(at.Sub(e.answered), 0).Seconds()
	}
	if text != "" {
		e.Text, e.taker = text, taker
	}
	return true
}

// take adds an entry and says whether something that can be seen has changed: a part is over.
func (c *chronicle) take(e journal.Entry) bool {
	switch e.Kind {
	case journal.CallStarted:
		if e.User == c.user {
			c.begin(e, pastOut, e.Peer)
		} else if e.Peer == c.user {
			c.begin(e, pastIn, e.User)
		}
	case journal.CallAnswered:
		if p := c.open(e.Call); p != nil && (e.User == c.user || e.Peer == c.user) && p.answered.IsZero() {
			p.answered = e.Time
		}
	case journal.CallForwarded:
		return c.forwarded(e)
	case journal.CallPickedUp:
		return c.pickedUp(e)
	case journal.CallMoved:
		return c.given(e)
	case journal.CallMissed:
		return c.missed(e)
	case journal.CallEnded:
		return c.open(e.Call).close(e.Time, "", "")
	}
	return false
}

func (c *chronicle) forwarded(e journal.Entry) bool {
	if e.Peer == c.user {
		c.begin(e, pastIn, e.User)
		return false
	}
	return e.From == c.user && c.open(e.Call).close(e.Time, "forwarded to", e.Peer)
}

func (c *chronicle) pickedUp(e journal.Entry) bool {
	if e.User == c.user {
		c.begin(e, pastIn, e.Peer).answered = e.Time
		return false
	}
	return e.From == c.user && c.open(e.Call).close(e.Time, "answered by", e.User)
}

// given is a transfer: from then on it is another's call.
func (c *chronicle) given(e journal.Entry) bool {
	to := e.Data[journal.Into]
	switch {
	case to == "":
		return false
	case to == c.user:
		c.begin(e, pastIn, e.Peer).answered = e.Time
		return false
	}
	return e.User == c.user && c.open(e.Call).close(e.Time, "transferred to", to)
}

// missed is told when the call is over: of who was called, of all who had it forwarded, and so of who called.
func (c *chronicle) missed(e journal.Entry) bool {
	if e.Peer == c.user {
		p := c.last(e.Call)
		if p != nil {
			p.Kind = pastMissed
		}
		return p.close(e.Time, e.Text, "")
	}
	if p := c.open(e.Call); p != nil && e.User == c.user {
		p.Text = "not answered" // why is told to the called alone: it may name a phone of theirs
	}
	return false
}

// list are the newest n that are over and began before a time (zero = now), newest first.
func (c *chronicle) list(n int, before time.Time, show func(*episode) Past) []Past {
	shown := []Past{}
	sorted := slices.Clone(c.all)
	slices.SortStableFunc(sorted, func(a, b *episode) int { return b.Time.Compare(a.Time) })
	for _, e := range sorted {
		if len(shown) == n {
			break
		}
		if e.over && (before.IsZero() || e.Time.Before(before)) {
			shown = append(shown, show(e))
		}
	}
	return shown
}

// trim forgets all that is over but the newest n.
func (c *chronicle) trim(n int) {
	if extra := len(c.all) - 2*n; extra > 0 {
		c.all = slices.DeleteFunc(c.all, func(e *episode) bool {
			extra--
			return extra >= 0 && e.over
		})
	}
}

// showPast names the one on the other side as he is called now.
func (a *UserAPI) showPast(e *episode) Past {
	shown := e.Past
	shown.Peer = e.peer
	if u, ok := a.Registrar.User(e.peer); ok {
		shown.Peer, shown.Name = numberOf(u), u.Display
	}
	if e.taker != "" {
		taker := e.taker
		if u, ok := a.Registrar.User(e.taker); ok {
			taker = cmp.Or(u.Display, numberOf(u))
		}
		shown.Text += " " + taker
	}
	return shown
}

func numberOf(u registrar.User) string {
	if len(u.Numbers) > 0 {
		return u.Numbers[0]
	}
	return u.Name
}

const (
	defaultPast = 50
	maxPast     = 500
	longCall    = 24 * time.Hour // one that began before a page of the history ends is looked for so long after it
)

func (a *UserAPI) history(r *http.Request, me person) (any, error) {
	n, before := defaultPast, time.Time{}
	q := r.URL.Query()
	if text := q.Get("n"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > maxPast {
			return nil, refuse(http.StatusBadRequest, "n: %q is not between 1 and %d", text, maxPast)
		}
	}
	if text := q.Get("before"); text != "" {
		var err error
		if before, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return nil, refuse(http.StatusBadRequest, "before: %q is no time as in 2026-01-31T12:00:00Z", text)
		}
	}
	c, _, err := a.chronicle(me.Name, n, before)
	if err != nil {
		return nil, err
	}
	return c.list(n, before, a.showPast), nil
}

// chronicle reads as much of the log as n parts of a user take, and gives what it has read.
func (a *UserAPI) chronicle(user string, n int, before time.Time) (*chronicle, []journal.Entry, error) {
	a.scans <- struct{}{}
	defer func() { <-a.scans }()
	q := journal.Query{User: user, Kinds: pastKinds}
	if !before.IsZero() {
		q.Until = before.Add(longCall)
	}
	for q.Limit = min(8*n+200, MaxEntries); ; q.Limit = min(4*q.Limit, MaxEntries) {
		entries, err := a.Entries.Select(q)
		if err != nil {
			return nil, nil, err
		}
		c := &chronicle{user: user}
		for _, e := range entries {
			c.take(e)
		}
		if len(entries) < q.Limit || q.Limit == MaxEntries || len(c.list(n, before, a.showPast)) == n {
			return c, entries, nil
		}
	}
}
