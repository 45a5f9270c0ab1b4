package journal

import (
	"slices"
	"strings"
	"time"
)

// Query says which entries are wanted. What is not set leaves nothing out.
type Query struct {
	Since time.Time // from then on
	Until time.Time // before then
	User  string    // caller, called, who forwards, or whose device it is
	Peer  string    // who was called
	Call  string    // id, may be abbreviated
	Kinds []Kind    // any of them
	Limit int       // that many at most, the newest; 0 = all
}

// Matches says whether an entry is wanted. Limit is not for it to judge.
func (q Query) Matches(e Entry) bool {
	switch {
	case !q.Since.IsZero() && e.Time.Before(q.Since), !q.Until.IsZero() && !e.Time.Before(q.Until):
		return false
	case q.User != "" && !e.concerns(q.User), q.Peer != "" && e.Peer != q.Peer:
		return false
	case q.Call != "" && !strings.HasPrefix(e.Call, q.Call):
		return false
	}
	return len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)
}

func (e Entry) concerns(user string) bool {
	return e.User == user || e.Peer == user || e.Data[Into] == user || (e.Kind == CallForwarded || e.Kind == CallPickedUp) && e.From == user
}
