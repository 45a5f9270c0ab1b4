package call

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"baton/media"
)

// The keys of a call (SRTP's, ICE passwords) stand in its record sealed: JSON shows dots in their places, and what belongs there, in the order
// of the places, is one AES-256-GCM ciphertext beside. Its key is the node's secret with the call's id (HKDF), so that nonces drawn
// at random are enough and no record can pass for another's.

// ErrSealed says that a record has keys which this node cannot open: they were sealed with another node's secret, or have been changed.
var ErrSealed = errors.New("keys in the call's record cannot be opened")

// vault is what seals and opens: the node's secret.
type vault []byte

// newVault takes a secret; without one it draws its own, which nobody can open later.
func newVault(secret []byte) vault {
	if len(secret) > 0 {
		return secret
	}
	v := make(vault, 32)
	_, _ = rand.Read(v) // never fails
	return v
}

func (v vault) aead(call string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, v, nil, "baton call record "+call, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// encode is the record as the store keeps it.
func (v vault) encode(r Record) ([]byte, error) {
	r.Sealed = nil
	var all []media.Secret
	secrets(reflect.ValueOf(&r).Elem(), func(s *media.Secret) { all = append(all, *s) })
	if len(all) > 0 {
		plain, err := json.Marshal(bare(all))
		if err != nil {
			return nil, err
		}
		aead, err := v.aead(r.ID)
		if err != nil {
			return nil, err
		}
		r.Sealed = aead.Seal(nil, nil, plain, []byte(r.ID))
	}
	return pack(&r)
}

// bare are secrets without what keeps them from showing.
func bare(all []media.Secret) [][]byte {
	var out [][]byte
	for _, s := range all {
		out = append(out, s)
	}
	return out
}

// decode reads a record. With ErrSealed it is whole but for its keys.
func (v vault) decode(blob []byte) (Record, error) {
	var r Record
	text, err := unpack(blob)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, err
	}
	var places []*media.Secret
	secrets(reflect.ValueOf(&r).Elem(), func(s *media.Secret) { places = append(places, s) })
	if len(places) == 0 && r.Sealed == nil {
		return r, nil
	}
	plain, err := v.unseal(r)
	if err == nil && len(plain) != len(places) {
		err = fmt.Errorf("%w: %d for %d places", ErrSealed, len(plain), len(places))
	}
	for i, at := range places {
		*at = nil
		if err == nil {
			*at = plain[i]
		}
	}
	r.Sealed = nil
	return r, err
}

func (v vault) unseal(r Record) (plain [][]byte, err error) {
	aead, err := v.aead(r.ID)
	if err != nil {
		return nil, err
	}
	b, err := aead.Open(nil, nil, r.Sealed, []byte(r.ID))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	if err := json.Unmarshal(b, &plain); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSealed, err)
	}
	return plain, nil
}

var secretType = reflect.TypeFor[media.Secret]()

// secrets calls f with every secret of a value that is not empty, in the order in which JSON has them.
func secrets(v reflect.Value, f func(*media.Secret)) {
	t := v.Type()
	if t == secretType {
		if v.Len() > 0 {
			f(v.Addr().Interface().(*media.Secret))
		}
		return
	}
	k := carrierOf(t)
	switch {
	case !k.has:
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			secrets(v.Elem(), f)
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			secrets(v.Index(i), f)
		}
	case v.Kind() == reflect.Struct:
		for _, i := range k.fields {
			secrets(v.Field(i), f)
		}
	}
}

// written says that JSON has the field.
func written(f reflect.StructField) bool {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return f.IsExported() && name != "-"
}

// carrier says whether values of a type can have secrets in them, and in which fields.
type carrier struct {
	has    bool
	fields []int
}

// carriers remembers that of each type: a record is written often.
var carriers sync.Map

func carrierOf(t reflect.Type) carrier {
	if known, ok := carriers.Load(t); ok {
		return known.(carrier)
	}
	k := carrier{has: contains(t, map[reflect.Type]bool{})}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			if field := t.Field(i); written(field) && contains(field.Type, map[reflect.Type]bool{}) {
				k.fields = append(k.fields, i)
			}
		}
	}
	carriers.Store(t, k)
	return k
}

func contains(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t == secretType || seen[t] {
		return t == secretType
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return contains(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if written(t.Field(i)) && contains(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}
