package store

import (
	"bytes"
	"slices"

	"go.etcd.io/bbolt"

	"baton/call"
)

// PutSubscription writes a subscription.
func (b *Bolt) PutSubscription(s call.StoredSubscription, done func(error)) {
	b.commit.add(write{func(tx *bbolt.Tx) error {
		return tx.Bucket(watchesBucket).Put([]byte(s.ID), packOwned(s.Owner, s.Blob))
	}, done})
}

// DropSubscription deletes a subscription.
func (b *Bolt) DropSubscription(id string, done func(error)) {
	b.commit.later(write{func(tx *bbolt.Tx) error {
		return tx.Bucket(watchesBucket).Delete([]byte(id))
	}, done})
}

// Subscriptions are all that have not been dropped.
func (b *Bolt) Subscriptions() ([]call.StoredSubscription, error) {
	b.commit.catchUp()
	var out []call.StoredSubscription
	err := b.state.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(watchesBucket).ForEach(func(k, v []byte) error {
			owner, blob := readOwned(v)
			out = append(out, call.StoredSubscription{ID: string(k), Owner: owner, Blob: bytes.Clone(blob)})
			return nil
		})
	})
	return out, err
}

// packOwned puts the owner's name before a blob, which begins with no NUL itself.
func packOwned(owner string, blob []byte) []byte {
	if owner == "" {
		return blob
	}
	return slices.Concat([]byte{0, byte(len(owner))}, []byte(owner), blob)
}

// readOwned undoes packOwned.
func readOwned(v []byte) (owner string, blob []byte) {
	if len(v) < 2 || v[0] != 0 || len(v) < 2+int(v[1]) {
		return "", v
	}
	n := 2 + int(v[1])
	return string(v[2:n]), v[n:]
}
