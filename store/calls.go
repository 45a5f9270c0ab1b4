package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"baton/call"
)

const callHeader = 16 // epoch and version, big-endian

// Put writes a call's record unless it is owned under a higher epoch (call.ErrStale).
func (b *Bolt) Put(s call.Stored, done func(error)) { b.commit.add(put(s, done)) }

// PutLater is Put for a record that nothing waits for.
func (b *Bolt) PutLater(s call.Stored, done func(error)) { b.commit.later(put(s, done)) }

// Hurry has what is held back written now.
func (b *Bolt) Hurry() { b.commit.signal() }

func put(s call.Stored, done func(error)) write {
	v := make([]byte, callHeader, callHeader+len(s.Blob))
	binary.BigEndian.PutUint64(v, s.Epoch)
	binary.BigEndian.PutUint64(v[8:], s.Version)
	v = append(v, s.Blob...)
	return write{func(tx *bbolt.Tx) error {
		if stale(tx, s.ID, s.Epoch) {
			return fmt.Errorf("call %s: %w", s.ID, call.ErrStale)
		}
		return tx.Bucket(callsBucket).Put([]byte(s.ID), v)
	}, done}
}

// End deletes a call's record unless it is owned under a higher epoch (call.ErrStale).
func (b *Bolt) End(id string, epoch uint64, done func(error)) {
	b.commit.later(write{func(tx *bbolt.Tx) error {
		if stale(tx, id, epoch) {
			return fmt.Errorf("call %s: %w", id, call.ErrStale)
		}
		return tx.Bucket(callsBucket).Delete([]byte(id))
	}, done})
}

func stale(tx *bbolt.Tx, id string, epoch uint64) bool {
	v := tx.Bucket(callsBucket).Get([]byte(id))
	return len(v) >= callHeader && binary.BigEndian.Uint64(v) > epoch
}

// CountCalls is how many records of calls there are.
func (b *Bolt) CountCalls() (n int, err error) {
	b.commit.catchUp()
	err = b.state.View(func(tx *bbolt.Tx) error {
		n = tx.Bucket(callsBucket).Stats().KeyN
		return nil
	})
	return n, err
}

// Calls are the records of all calls that have not ended.
func (b *Bolt) Calls() ([]call.Stored, error) {
	b.commit.catchUp()
	var out []call.Stored
	err := b.state.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(callsBucket).ForEach(func(k, v []byte) error {
			if len(v) < callHeader {
				return fmt.Errorf("record of call %q is cut short", k)
			}
			out = append(out, call.Stored{
				ID: string(k), Epoch: binary.BigEndian.Uint64(v), Version: binary.BigEndian.Uint64(v[8:]),
				Blob: bytes.Clone(v[callHeader:]),
			})
			return nil
		})
	})
	return out, err
}
