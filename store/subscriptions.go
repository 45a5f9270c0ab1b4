package store

import (
	"bytes"

	"go.etcd.io/bbolt"

	"baton/call"
)

// PutSubscription writes a subscription.
func (b *Bolt) PutSubscription(s call.StoredSubscription, done func(error)) {
	b.commit.add(write{func(tx *bbolt.Tx) error {
		return tx.Bucket(watchesBucket).Put([]byte(s.ID), s.Blob)
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
			out = append(out, call.StoredSubscription{ID: string(k), Blob: bytes.Clone(v)})
			return nil
		})
	})
	return out, err
}
