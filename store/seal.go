package store

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
)

// keySize is the length of a cluster key in bytes.
const keySize = 32

// makeKey is how an operator makes one.
const makeKey = "openssl rand -base64 32"

// errSealed says that a value cannot be opened.
var errSealed = errors.New("it was sealed with another cluster key, or has been changed")

// ReadKey reads a cluster key from its file: 32 bytes as base64. Its error says how to make one.
func ReadKey(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("cluster.key_file: a store that nodes share needs a key that they share too; make it once with '" + makeKey +
			" > cluster.key' and give each node a copy of it")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cluster.key_file: %w; copy it from another node or, for the first one, make it with '%s > %s'", err, makeKey, path)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != keySize {
		return nil, fmt.Errorf("cluster.key_file: %s holds no key of %d bytes in base64, as '%s' makes it", path, keySize, makeKey)
	}
	return key, nil
}

// sealer keeps secret what it is given: AES-256-GCM. A value is sealed for its place, so that none passes for another's.
type sealer struct{ aead cipher.AEAD }

func newSealer(key []byte) (sealer, error) {
	own, err := hkdf.Key(sha256.New, key, nil, "baton store", keySize)
	if err != nil {
		return sealer{}, err
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

func (s sealer) seal(place string, plain []byte) []byte {
	return s.aead.Seal(nil, nil, plain, []byte(place))
}

func (s sealer) open(place string, sealed []byte) ([]byte, error) {
	plain, err := s.aead.Open(nil, nil, sealed, []byte(place))
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}
