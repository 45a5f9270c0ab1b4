package registrar

import (
	"time"

	"baton/sip"
)

const (
	maxIndex           = 9
	reasonUnregistered = "unregistered"
)

// User is an address-of-record with its numbers and credentials.
type User struct {
	Name    string                `json:"name"`
	Display string                `json:"display,omitempty"`
	Numbers []string              `json:"numbers"`
	Realm   string                `json:"realm"`
	Secrets map[string]sip.Secret `json:"-"` // by login: the name and each number
	Created time.Time             `json:"created"`
}

// UserSpec is what it takes to make a user.
type UserSpec struct {
	Name     string
	Display  string
	Numbers  []string
	Password string // "" = one is made
}

func (r *Registrar) Secret(login string) (sip.Secret, bool)            { return sip.Secret{}, false }
func (r *Registrar) Register(x *sip.Exchange)                          {}
func (r *Registrar) FlowClosed(f sip.Flow)                             {}
func (r *Registrar) User(nameOrNumber string) (User, bool)             { return User{}, false }
func (r *Registrar) Users() []User                                     { return nil }
func (r *Registrar) AddUser(s UserSpec) (User, string, error)          { return User{}, "", nil }
func (r *Registrar) SetPassword(name, password string) (string, error) { return "", nil }
func (r *Registrar) RemoveUser(name string) error                      { return nil }
func (r *Registrar) Devices(user string) []Device                      { return nil }
func (r *Registrar) Lookup(user string) []Device                       { return nil }
func (r *Registrar) Find(user, ref string) (Device, error)             { return Device{}, nil }
func (r *Registrar) Watch(user string, fn func(Device)) (stop func())  { return func() {} }
func (r *Registrar) Unreachable(user, key, why string)                 {}
func (r *Registrar) Learn(user, key, name, value string)               {}
func (r *Registrar) Rename(user, ref, name string) error               { return nil }
func (r *Registrar) Forget(user, ref string) error                     { return nil }
func (r *Registrar) DeviceOf(user string, f sip.Flow, contact sip.NameAddr) (Device, bool) {
	return Device{}, false
}
