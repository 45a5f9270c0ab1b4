package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"baton/registrar"
	"baton/sip"
)

// storedUser is a user with the secrets that registrar.User keeps out of JSON.
type storedUser struct {
	registrar.User
	Secrets map[string]sip.Secret `json:"secrets"`
}

// Users are all users, with their secrets.
func (b *Bolt) Users() ([]registrar.User, error) {
	var out []registrar.User
	err := b.users.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(usersBucket).ForEach(func(name, v []byte) error {
			u, err := readUser(v)
			if err != nil {
				return fmt.Errorf("user %q: %w", name, err)
			}
			out = append(out, u)
			return nil
		})
	})
	return out, err
}

func readUser(v []byte) (registrar.User, error) {
	var s storedUser
	err := json.Unmarshal(v, &s)
	s.User.Secrets = s.Secrets
	return s.User, err
}

// PutUser adds or replaces a user; it is on the disk when this returns.
func (b *Bolt) PutUser(u registrar.User) error {
	v, err := json.Marshal(storedUser{u, u.Secrets})
	if err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	return b.users.Update(func(tx *bbolt.Tx) error {
		logins := tx.Bucket(loginsBucket)
		if err := dropLogins(tx, u.Name); err != nil {
			return err
		}
		for _, login := range append([]string{u.Name}, u.Numbers...) {
			if owner := logins.Get([]byte(login)); owner != nil {
				return fmt.Errorf("%s is %w by user %s", login, registrar.ErrTaken, owner)
			}
			if err := logins.Put([]byte(login), []byte(u.Name)); err != nil {
				return err
			}
		}
		return tx.Bucket(usersBucket).Put([]byte(u.Name), v)
	})
}

// RemoveUser takes a user away.
func (b *Bolt) RemoveUser(name string) error {
	return b.users.Update(func(tx *bbolt.Tx) error {
		if err := dropLogins(tx, name); err != nil {
			return err
		}
		return tx.Bucket(usersBucket).Delete([]byte(name))
	})
}

// dropLogins frees the name and numbers that a user has had.
func dropLogins(tx *bbolt.Tx, name string) error {
	v := tx.Bucket(usersBucket).Get([]byte(name))
	if v == nil {
		return nil
	}
	was, err := readUser(v)
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	for _, login := range append([]string{was.Name}, was.Numbers...) {
		if err := tx.Bucket(loginsBucket).Delete([]byte(login)); err != nil {
			return err
		}
	}
	return nil
}
