package registrar

import "errors"

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
	// once, in the order of the calls to Bind.
	Bind(user string, put []Device, drop []string, done func(error))
}

// Errors that callers of the registrar test for.
var (
	ErrTaken    = errors.New("already in use")
	ErrNotFound = errors.New("not found")
	ErrInvalid  = errors.New("not valid")
)
