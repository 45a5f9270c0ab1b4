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
			d, err := readDevice(v)
			if err != nil {
				return fmt.Errorf("device %q: %w", k, err)
			}
			out = append(out, d)
			return nil
		})
	})
	return out, err
}

// readDevice reads a stored device: packed, or as JSON, which was written once.
func readDevice(v []byte) (d registrar.Device, err error) {
	if len(v) > 0 && v[0] == '{' {
		err = json.Unmarshal(v, &d)
		return d, err
	}
	return registrar.Unpack(string(v))
}

// Bind writes and drops devices of a user, all or nothing.
func (b *Bolt) Bind(user string, put []registrar.Device, drop []string, done func(error)) {
	values := make([][]byte, len(put))
	for i, d := range put {
		values[i] = d.Pack(nil)
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
