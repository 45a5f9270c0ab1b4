package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"baton/journal"
)

// skew is how far the clocks of nodes and server may be apart: an entry stands in the stream under the server's time, and no
// entry is from more than that after it.
const skew = time.Minute

// Append writes an entry of the log, soon. It does not wait; an entry that is lost is logged.
func (s *Redis) Append(e journal.Entry) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	v, err := json.Marshal(e)
	if err != nil {
		s.log.Error("log entry is lost", "kind", e.Kind, "user", e.User, "err", err)
		return
	}
	s.mu.Lock()
	most := s.keep.entries
	s.keep.next++
	own := s.run + ":" + strconv.FormatUint(s.keep.next, 10) // an entry that is sent twice is told by it
	s.mu.Unlock()
	s.write.later(&change{entry: true, issue: func(ctx context.Context, p redis.Pipeliner, _ uint64) *redis.Cmd {
		return p.Do(ctx, "XADD", s.key("log"), "MAXLEN", "~", most, "*", "e", v, "n", own)
	}})
}

// Entries are the log's entries from a time up to, not including, another (zero = from the beginning, to the end), in
// order. With limit > 0 there are that many at most, the newest.
func (s *Redis) Entries(from, to time.Time, limit int) ([]journal.Entry, error) {
	return s.Select(journal.Query{Since: from, Until: to, Limit: limit})
}

// Select gives the entries of the log that are wanted, in order.
func (s *Redis) Select(q journal.Query) ([]journal.Entry, error) {
	s.write.catchUp()
	r := streamReader{query: q, seen: map[string]bool{}}
	for end := "+"; !r.over; {
		ctx, cancel := waiting()
		messages, err := s.client.XRevRangeN(ctx, s.key("log"), end, "-", page).Result()
		cancel()
		if err == nil {
			err = r.read(messages)
		}
		if err != nil {
			return nil, fmt.Errorf("read the log: %w", err)
		}
		if len(messages) < page {
			break
		}
		end = "(" + messages[len(messages)-1].ID
	}
	return r.result(), nil
}

// streamReader goes through the log from its end.
type streamReader struct {
	query journal.Query
	found []journal.Entry // the last that was written first
	seen  map[string]bool // numbers of entries
	over  bool
}

func (r *streamReader) read(messages []redis.XMessage) error {
	for _, m := range messages {
		if r.over = r.enough(m.ID); r.over {
			return nil
		}
		number, _ := m.Values["n"].(string)
		text, _ := m.Values["e"].(string)
		if r.seen[number] {
			continue
		}
		r.seen[number] = true
		var e journal.Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return fmt.Errorf("entry %s: %w", m.ID, err)
		}
		if r.query.Matches(e) {
			r.found = append(r.found, e)
		}
	}
	return nil
}

// enough says whether nothing from this place of the stream on can be wanted: all of it is older than what is wanted or was found.
func (r *streamReader) enough(id string) bool {
	ms, _, _ := strings.Cut(id, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return false
	}
	newest := time.UnixMilli(n).Add(skew)
	if q := r.query; q.Limit > 0 && len(r.found) >= q.Limit && len(r.found)%q.Limit == 0 {
		r.found = r.newest()
		if r.found[q.Limit-1].Time.After(newest) {
			return true
		}
	}
	return !r.query.Since.IsZero() && newest.Before(r.query.Since)
}

// newest are those found that the limit allows, the newest first.
func (r *streamReader) newest() []journal.Entry {
	slices.SortStableFunc(r.found, func(a, b journal.Entry) int { return b.Time.Compare(a.Time) })
	if n := r.query.Limit; n > 0 && len(r.found) > n {
		return slices.Clone(r.found[:n])
	}
	return r.found
}

func (r *streamReader) result() []journal.Entry {
	all := r.newest()
	slices.Reverse(all)
	return all
}
