package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// The buckets of users.db and state.db.
var (
	metaBucket    = []byte("meta")
	usersBucket   = []byte("users")   // name -> user
	loginsBucket  = []byte("logins")  // name or number -> name
	tokensBucket  = []byte("tokens")  // id -> token
	devicesBucket = []byte("devices") // user NUL key -> device
	callsBucket   = []byte("calls")   // id -> epoch, version, blob
	logBucket     = []byte("log")     // time, number -> entry
	watchesBucket = []byte("watches") // id -> subscription

	realmKey  = []byte("realm")
	secretKey = []byte("secret")
	beatKey   = []byte("beat") // when a node was last known to run, in state.db
)

const (
	realm       = "baton"
	lockTimeout = 300 * time.Millisecond
)

func options(sync bool) *bbolt.Options {
	return &bbolt.Options{
		Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType,
		NoSync: !sync, NoGrowSync: !sync, NoStatistics: true,
	}
}

// openUsers opens users.db. It comes into being whole, with realm and secret: a node killed at its first start leaves
// none.
func openUsers(path string) (*bbolt.DB, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := makeUsers(path); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
	}
	db, err := open(path, options(true))
	if err == nil {
		err = addTokens(db)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, nil
}

// addTokens makes room for tokens in a file of an earlier version, which knew none.
func addTokens(db *bbolt.DB) error {
	there := false
	err := db.View(func(tx *bbolt.Tx) error {
		there = tx.Bucket(tokensBucket) != nil
		return nil
	})
	if err == nil && !there {
		err = db.Update(func(tx *bbolt.Tx) error { return ensure(tx, tokensBucket) })
	}
	if err != nil {
		err = errors.Join(err, db.Close())
	}
	return err
}

func makeUsers(path string) error {
	fresh := path + ".new"
	db, err := open(fresh, options(true))
	if err != nil && !errors.Is(err, ErrRunning) { // what an earlier attempt has left
		if err = os.Remove(fresh); err == nil {
			db, err = open(fresh, options(true))
		}
	}
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret)
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		return errors.Join(
			meta.Put(realmKey, []byte(realm)), meta.Put(secretKey, secret),
			ensure(tx, usersBucket), ensure(tx, loginsBucket), ensure(tx, tokensBucket),
		)
	})
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func ensure(tx *bbolt.Tx, bucket []byte) error {
	_, err := tx.CreateBucketIfNotExists(bucket)
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openState opens state.db; one that cannot be read is moved aside and begun anew. What it held comes back by itself:
// devices register again.
func openState(path string, log *slog.Logger) (*bbolt.DB, error) {
	db, err := openSound(path)
	if err == nil || errors.Is(err, ErrRunning) || errors.Is(err, os.ErrPermission) {
		return db, err
	}
	aside := fmt.Sprintf("%s.unreadable-%s", path, time.Now().UTC().Format("20060102T150405"))
	if moveErr := os.Rename(path, aside); moveErr != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Join(err, moveErr))
	}
	log.Warn("state is unreadable and begun anew: devices must register again, calls and log are lost", "file", aside, "err", err)
	return openSound(path)
}

// openSound opens a file and reads all of its pages.
func openSound(path string) (*bbolt.DB, error) {
	var db *bbolt.DB
	err := guard(func() (err error) {
		if db, err = bbolt.Open(path, 0o600, options(false)); err != nil {
			return err
		}
		if err = extend(db); err == nil {
			err = db.Update(func(tx *bbolt.Tx) error {
				return errors.Join(ensure(tx, devicesBucket), ensure(tx, callsBucket), ensure(tx, logBucket), ensure(tx, metaBucket), ensure(tx, watchesBucket))
			})
		}
		if err == nil {
			err = check(db)
		}
		if err != nil {
			err = errors.Join(err, db.Close())
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return db, nil
}

func open(path string, o *bbolt.Options) (db *bbolt.DB, err error) {
	err = guard(func() (err error) {
		db, err = bbolt.Open(path, 0o600, o)
		return err
	})
	return db, err
}

// guard makes an error of what bbolt does with a broken file: it panics, or faults where the file is shorter than it
// says. The file then stays open and locked, for bbolt cannot close it any more.
func guard(try func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("file is broken: %v", broken)
		}
	}()
	if err = try(); errors.Is(err, bolterrors.ErrTimeout) {
		err = ErrRunning
	}
	return err
}

// extend gives a file the length it says it has. The pages that are missing may be free ones, which nobody wrote; if
// they are not, check finds zeros in their place, where bbolt would have read behind the end of a mapped file.
func extend(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(db.Path())
		if err == nil && info.Size() < tx.Size() {
			err = os.Truncate(db.Path(), tx.Size())
		}
		return err
	})
}

// check walks the whole file.
func check(db *bbolt.DB) error {
	return db.View(func(tx *bbolt.Tx) error {
		var first error
		for err := range tx.Check() {
			if first == nil {
				first = err
			}
		}
		return first
	})
}

// readIdentity reads what was made with the store.
func (b *Bolt) readIdentity() error {
	return b.users.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil || meta.Get(realmKey) == nil || len(meta.Get(secretKey)) < 32 {
			return errors.New("users.db has no realm and secret")
		}
		b.realm = string(meta.Get(realmKey))
		b.secret = append([]byte(nil), meta.Get(secretKey)...)
		return nil
	})
}
