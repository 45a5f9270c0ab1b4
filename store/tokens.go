package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"baton/registrar"
)

// Tokens are all tokens.
func (b *Bolt) Tokens() ([]registrar.Token, error) {
	var out []registrar.Token
	err := b.users.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(tokensBucket).ForEach(func(id, v []byte) error {
			var t registrar.Token
			if err := json.Unmarshal(v, &t); err != nil {
				return fmt.Errorf("token %q: %w", id, err)
			}
			out = append(out, t)
			return nil
		})
	})
	return out, err
}

// PutToken adds or replaces a token; it is on the disk when this returns.
func (b *Bolt) PutToken(t registrar.Token) error {
	v, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("token %s: %w", t.ID, err)
	}
	return b.users.Update(func(tx *bbolt.Tx) error { return tx.Bucket(tokensBucket).Put([]byte(t.ID), v) })
}

// RemoveTokens takes tokens away; that is on the disk when this returns.
func (b *Bolt) RemoveTokens(ids []string) error {
	return b.users.Update(func(tx *bbolt.Tx) error {
		var errs []error
		for _, id := range ids {
			errs = append(errs, tx.Bucket(tokensBucket).Delete([]byte(id)))
		}
		return errors.Join(errs...)
	})
}
