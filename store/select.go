package store

import (
	"bytes"
	"encoding/json"
	"slices"

	"go.etcd.io/bbolt"

	"baton/journal"
)

// page is how many entries one transaction reads: a long one would keep the file from growing, and writes waiting.
const page = 2000

// Select gives the entries of the log that are wanted, in order.
func (b *Bolt) Select(q journal.Query) ([]journal.Entry, error) {
	b.commit.catchUp()
	return b.written(q)
}

// written is Select of what has been committed.
func (b *Bolt) written(q journal.Query) ([]journal.Entry, error) {
	r := reader{query: q}
	if q.User != "" {
		r.name, _ = json.Marshal(q.User) // a string can be written
	}
	for !r.over {
		if err := b.state.View(r.page); err != nil {
			return nil, err
		}
	}
	slices.Reverse(r.found)
	return r.found, nil
}

// reader goes through the log from its end.
type reader struct {
	query journal.Query
	name  []byte          // of the user who must be in an entry, as JSON has it; nil = any
	found []journal.Entry // newest first
	last  []byte          // key that was read last
	over  bool
}

func (r *reader) page(tx *bbolt.Tx) error {
	cur := tx.Bucket(logBucket).Cursor()
	k, v := r.start(cur)
	for range page {
		if r.over = k == nil || r.enough(k); r.over {
			return nil
		}
		if r.mayMatch(v) {
			var e journal.Entry
			if err := json.Unmarshal(v, &e); err != nil {
				return err
			}
			if r.query.Matches(e) {
				r.found = append(r.found, e)
			}
		}
		r.last = append(r.last[:0], k...)
		k, v = cur.Prev()
	}
	return nil
}

// mayMatch passes most entries over that are of others without reading them: that takes a tenth of the time.
func (r *reader) mayMatch(v []byte) bool { return r.name == nil || bytes.Contains(v, r.name) }

// start sets the cursor to the first entry of a page. What was read last may have been trimmed meanwhile.
func (r *reader) start(cur *bbolt.Cursor) (k, v []byte) {
	if r.last == nil {
		return before(cur, r.query.Until)
	}
	if k, _ := cur.Seek(r.last); k == nil {
		return cur.Last()
	}
	return cur.Prev()
}

// enough says whether nothing from the entry of this key on can be wanted.
func (r *reader) enough(k []byte) bool {
	q := r.query
	return q.Limit > 0 && len(r.found) >= q.Limit || !q.Since.IsZero() && bytes.Compare(k[:8], timeKey(q.Since)) < 0
}
