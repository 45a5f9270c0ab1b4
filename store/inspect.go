package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"

	"baton/registrar"
)

// Health is what Inspect has found.
type Health struct {
	Users   int
	Devices []registrar.Device
}

// Inspect reads the whole store without changing anything. A node that has it open is ErrRunning, no store at all
// os.ErrNotExist; what is broken is an error that names the file.
func Inspect(dir string) (Health, error) {
	var h Health
	err := inspect(filepath.Join(dir, "users.db"), func(tx *bbolt.Tx) error {
		meta, users := tx.Bucket(metaBucket), tx.Bucket(usersBucket)
		if meta == nil || users == nil || meta.Get(realmKey) == nil || len(meta.Get(secretKey)) < 32 {
			return errors.New("has no realm and secret: it is no users.db of baton")
		}
		return users.ForEach(func(_, _ []byte) error { h.Users++; return nil })
	})
	if err != nil {
		return h, err
	}
	err = inspect(filepath.Join(dir, "state.db"), func(tx *bbolt.Tx) error {
		devices := tx.Bucket(devicesBucket)
		if devices == nil {
			return nil // begun, and not written yet
		}
		return devices.ForEach(func(k, v []byte) error {
			d, err := readDevice(v)
			if err != nil {
				return fmt.Errorf("device %q: %w", k, err)
			}
			h.Devices = append(h.Devices, d)
			return nil
		})
	})
	if errors.Is(err, os.ErrNotExist) {
		err = nil // made at the next start
	}
	return h, err
}

// inspect opens one file to read, walks its pages and looks at what it holds.
func inspect(path string, look func(*bbolt.Tx) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("%s: file is empty", path)
	}
	o := options(false)
	o.ReadOnly, o.PreLoadFreelist = true, true
	err = guard(func() error {
		db, err := bbolt.Open(path, 0o600, o)
		if err != nil {
			return err
		}
		if err = check(db); err == nil {
			err = db.View(look)
		}
		return errors.Join(err, db.Close())
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
