package registrar

import (
	"context"
	"errors"
)

// Store keeps users, their devices, and tokens. It is proved by the contract test in store/storetest.
type Store interface {
	// Users are all users, with their secrets.
	Users() ([]User, error)
	// PutUser adds or replaces a user; when it returns nil the user survives a power cut. ErrTaken when the name or a
	// number belongs to another user.
	PutUser(User) error
	// RemoveUser takes a user away, and is done when there is none. It leaves the user's devices to Bind.
	RemoveUser(name string) error
	// Tokens are all tokens, in no order.
	Tokens() ([]Token, error)
	// PutToken adds or replaces a token; when it returns nil the token survives a power cut.
	PutToken(Token) error
	// RemoveTokens takes tokens away, all or nothing, and survives a power cut likewise; those that there are not are passed over.
	RemoveTokens(ids []string) error
	// Devices are all devices, in no order.
	Devices() ([]Device, error)
	// Bind writes some of a user's devices and drops others by key, all or nothing. It does not wait: done is called
	// once, in the order of the calls to Bind. ErrUnsafe says that the store is out of reach, keeps the devices and writes them
	// when it can.
	Bind(user string, put []Device, drop []string, done func(error))
}

// Change is what another node has written.
type Change struct {
	Users   []string // names of users that were added, changed or removed
	Devices []string // names of users whose devices were
	Tokens  bool     // some were
	All     bool     // anything may have been
}

// Feed is a Store that other nodes write too.
type Feed interface {
	// Changes tells of what other nodes write, until ctx ends; first, and whenever some may have been missed, of All.
	Changes(ctx context.Context, tell func(Change)) error
	// ReadUser reads one user (nil = there is none) and its devices as they are stored.
	ReadUser(name string) (*User, []Device, error)
}

// Errors that callers of the registrar test for.
var (
	ErrTaken    = errors.New("already in use")
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("not valid")
	ErrUnsafe   = errors.New("not safe in the store yet")
)
