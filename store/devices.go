package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"baton/registrar"
)

// deviceKey cannot be mistaken for another user's: a user name has no NUL.
func deviceKey(user, key string) []byte { return []byte(user + "\x00" + key) }

// Devices are all devices of all users.
func (b *Bolt) Devices() ([]registrar.Device, error) {
	var out []registrar.Device
	err := b.state.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(devicesBucket).ForEach(func(k, v []byte) error {
			var d registrar.Device
			if err := json.Unmarshal(v, &d); err != nil {
				return fmt.Errorf("device %q: %w", k, err)
			}
			out = append(out, d)
			return nil
		})
	})
	return out, err
}

// Bind writes and drops devices of a user, all or nothing.
func (b *Bolt) Bind(user string, put []registrar.Device, drop []string, done func(error)) {
	values := make([][]byte, len(put))
	for i, d := range put {
		v, err := json.Marshal(d)
		if err != nil {
			b.commit.add(write{func(*bbolt.Tx) error { return fmt.Errorf("device %s: %w", d.Key, err) }, done})
			return
		}
		values[i] = v
	}
	b.commit.add(write{func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(devicesBucket)
		for _, key := range drop {
			if err := bucket.Delete(deviceKey(user, key)); err != nil {
				return err
			}
		}
		for i, d := range put {
			if err := bucket.Put(deviceKey(user, d.Key), values[i]); err != nil {
				return err
			}
		}
		return nil
	}, done})
}
