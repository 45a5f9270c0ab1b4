package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"

	"baton/journal"
)

// counter knows how many entries the log has and the number of the next one.
type counter struct {
	now, marked struct {
		count int
		next  uint32
	}
}

func (c *counter) load(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		c.now.count = tx.Bucket(logBucket).Stats().KeyN
		if k, _ := tx.Bucket(logBucket).Cursor().Last(); len(k) == 12 {
			c.now.next = binary.BigEndian.Uint32(k[8:]) + 1
		}
		return nil
	})
}

// drop deletes the oldest entries, step at most: those over most, and those from before a time. more says that some of
// them are left.
func (c *counter) drop(tx *bbolt.Tx, most int, old time.Time, step int) (more bool, err error) {
	limit := timeKey(old)
	cur := tx.Bucket(logBucket).Cursor()
	for range step {
		k, _ := cur.First()
		if k == nil || c.now.count <= most && bytes.Compare(k[:8], limit) >= 0 {
			return false, nil
		}
		if err := cur.Delete(); err != nil {
			return false, err
		}
		c.now.count--
	}
	return true, nil
}

func (c *counter) mark()  { c.marked = c.now }
func (c *counter) reset() { c.now = c.marked }

// add writes one entry under its time; the number keeps apart what happened at the same time.
func (c *counter) add(tx *bbolt.Tx, at time.Time, v []byte) error {
	k := append(timeKey(at), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(k[8:], c.now.next)
	c.now.next++
	c.now.count++
	return tx.Bucket(logBucket).Put(k, v)
}

// keyTime is the time of a key.
func keyTime(k []byte) time.Time { return time.Unix(0, int64(binary.BigEndian.Uint64(k))) }

func timeKey(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(max(at.UnixNano(), 0)))
}

// Append writes an entry of the log, soon. It does not wait; an entry that is lost is logged.
func (b *Bolt) Append(e journal.Entry) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	lost := func(err error) {
		if err != nil {
			b.log.Error("log entry is lost", "kind", e.Kind, "user", e.User, "err", err)
		}
	}
	v, err := json.Marshal(e)
	if err != nil {
		lost(err)
		return
	}
	b.commit.later(write{func(tx *bbolt.Tx) error { return b.commit.entries.add(tx, e.Time, v) }, lost})
}

// Entries are the log's entries from a time up to, not including, another (zero = from the beginning, to the end), in
// order. With limit > 0 there are that many at most, the newest.
func (b *Bolt) Entries(from, to time.Time, limit int) ([]journal.Entry, error) {
	return b.Select(journal.Query{Since: from, Until: to, Limit: limit})
}

// before sets the cursor to the last entry before a time.
func before(cur *bbolt.Cursor, to time.Time) (k, v []byte) {
	if to.IsZero() {
		return cur.Last()
	}
	if k, _ := cur.Seek(timeKey(to)); k == nil {
		return cur.Last()
	}
	return cur.Prev()
}
