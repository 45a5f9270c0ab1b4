package store

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"go.etcd.io/bbolt"

	"baton/call"
)

const (
	callHeader = 16   // epoch and version, big-endian
	owned      = 0x80 // in the first byte, which no epoch reaches: the owner's name follows the header, behind its length
)

// Put writes a call's record unless it is owned under a higher epoch (call.ErrStale).
func (b *Bolt) Put(s call.Stored, done func(error)) { b.commit.add(put(s, done)) }

// PutLater is Put for a record that nothing waits for.
func (b *Bolt) PutLater(s call.Stored, done func(error)) { b.commit.later(put(s, done)) }

// Hurry has what is held back written now.
func (b *Bolt) Hurry() { b.commit.signal() }

func put(s call.Stored, done func(error)) write {
	v := packCall(s)
	return write{func(tx *bbolt.Tx) error {
		if stale(tx, s.ID, s.Epoch) || anothers(tx.Bucket(callsBucket).Get([]byte(s.ID)), s) {
			return fmt.Errorf("call %s: %w", s.ID, call.ErrStale)
		}
		return tx.Bucket(callsBucket).Put([]byte(s.ID), v)
	}, done}
}

// anothers says that a stored record has the epoch of s and another owner: an epoch has one.
func anothers(v []byte, s call.Stored) bool {
	if len(v) <= callHeader || v[0]&owned == 0 || epochOf(v) != s.Epoch {
		return false
	}
	name := v[callHeader+1:]
	n := int(v[callHeader])
	return n <= len(name) && string(name[:n]) != s.Owner
}

// packCall writes epoch, version, the owner if there is one, and the blob.
func packCall(s call.Stored) []byte {
	v := make([]byte, callHeader, callHeader+1+len(s.Owner)+len(s.Blob))
	binary.BigEndian.PutUint64(v, s.Epoch)
	binary.BigEndian.PutUint64(v[8:], s.Version)
	if s.Owner != "" {
		v[0] |= owned
		v = append(append(v, byte(len(s.Owner))), s.Owner...)
	}
	return append(v, s.Blob...)
}

// readCall reads a record; it shares nothing with v.
func readCall(id, v []byte) (call.Stored, error) {
	cut := fmt.Errorf("record of call %q is cut short", id)
	if len(v) < callHeader {
		return call.Stored{}, cut
	}
	s := call.Stored{ID: string(id), Epoch: epochOf(v), Version: binary.BigEndian.Uint64(v[8:])}
	rest := v[callHeader:]
	if v[0]&owned != 0 {
		if len(rest) == 0 || len(rest) <= int(rest[0]) {
			return s, cut
		}
		n := 1 + int(rest[0])
		s.Owner, rest = string(rest[1:n]), rest[n:]
	}
	s.Blob = bytes.Clone(rest)
	return s, nil
}

func epochOf(v []byte) uint64 { return binary.BigEndian.Uint64(v) &^ (owned << 56) }

// Claim makes owner the owner of a call that is stored under just this epoch. In this store nobody else could be one.
func (b *Bolt) Claim(id string, epoch uint64, owner string) (s call.Stored, err error) {
	result := make(chan error, 1)
	b.commit.add(write{func(tx *bbolt.Tx) (err error) {
		s, err = claim(tx.Bucket(callsBucket), []byte(id), epoch, owner)
		return err
	}, func(err error) { result <- err }})
	b.commit.catchUp()
	return s, <-result
}

func claim(calls *bbolt.Bucket, id []byte, epoch uint64, owner string) (call.Stored, error) {
	v := calls.Get(id)
	if v == nil {
		return call.Stored{}, fmt.Errorf("claim call %s: there is no record: %w", id, call.ErrStale)
	}
	s, err := readCall(id, v)
	switch {
	case err != nil:
		return s, err
	case s.Epoch == epoch+1 && s.Owner == owner: // claimed already
		return s, nil
	case s.Epoch != epoch:
		return call.Stored{}, fmt.Errorf("claim call %s of epoch %d, it is at %d: %w", id, epoch, s.Epoch, call.ErrStale)
	}
	s.Epoch, s.Owner = epoch+1, owner
	return s, calls.Put(id, packCall(s))
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
	return len(v) >= callHeader && epochOf(v) > epoch
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
			s, err := readCall(k, v)
			if err != nil {
				return err
			}
			out = append(out, s)
			return nil
		})
	})
	return out, err
}
