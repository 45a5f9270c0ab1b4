package web

import (
	"time"

	"baton/journal"
	"baton/registrar"
)

// User is a user as the API shows it: no secret is in it.
type User struct {
	Name    string    `json:"name"`
	Display string    `json:"display,omitempty"`
	Numbers []string  `json:"numbers"`
	Realm   string    `json:"realm"`
	Created time.Time `json:"created"`
	Devices int       `json:"devices"` // remembered
	Here    int       `json:"here"`    // reachable now

	Settings Settings `json:"settings"` // what the user has chosen for incoming calls
}

// NewUser is what POST /users takes. An empty password has one generated.
type NewUser struct {
	Name     string   `json:"name"`
	Display  string   `json:"display,omitempty"`
	Numbers  []string `json:"numbers,omitempty"`
	Password string   `json:"password,omitempty"`
}

// Added is a new user with the password, which is told this once.
type Added struct {
	User     User   `json:"user"`
	Password string `json:"password,omitempty"` // only if it was generated
}

// Password is what PUT …/password takes and gives; empty has one generated, told this once.
type Password struct {
	Password string `json:"password,omitempty"`
}

// Device is a device as the API shows it.
type Device struct {
	User       string     `json:"user"`
	Index      int        `json:"index"` // 1..9, 0 = known by name alone
	Name       string     `json:"name"`
	Kind       string     `json:"kind"`
	Here       bool       `json:"here"`
	Since      time.Time  `json:"since"` // here or away since
	Reason     string     `json:"reason,omitempty"`
	Address    string     `json:"address,omitempty"` // as seen by the node
	Transport  string     `json:"transport,omitempty"`
	Contact    string     `json:"contact,omitempty"`
	Registered *time.Time `json:"registered,omitempty"` // last time
	Expires    *time.Time `json:"expires,omitempty"`
	Instance   string     `json:"instance,omitempty"`
	Key        string     `json:"key"` // what it is known by: its own, and never changed
	UserAgent  string     `json:"user_agent,omitempty"`
	GRUU       string     `json:"gruu,omitempty"` // RFC 5627
	Ringless   bool       `json:"ringless"`       // it may be asked to answer by itself when a call is moved to it by name

	Media string `json:"media,omitempty"` // auto, relay or direct: how its sound goes; "" = as its user and the node have it

	Answering *registrar.Answering `json:"answering,omitempty"` // what became of asking it; nil = it was never asked
	Learnt    map[string]string    `json:"learnt,omitempty"`    // what else calls have taught of its phone
}

// DeviceChange is what PATCH of a device takes; what is not given stays.
type DeviceChange struct {
	Name     *string `json:"name,omitempty"`
	Ringless *bool   `json:"ringless,omitempty"`
	Media    *string `json:"media,omitempty"` // auto, relay, direct, or "" = as its user and the node have it
}

// Move is what POST /moves takes: a call (may be abbreviated) or a user, of whose calls docs/moves.md says which is meant, and the
// device that shall take it. Seat is the user whose device is meant when several users are in the call.
type Move struct {
	Call   string `json:"call,omitempty"`
	User   string `json:"user,omitempty"`
	Seat   string `json:"seat,omitempty"`
	Device string `json:"device"`
	How    string `json:"how,omitempty"` // cli or api, for the log
}

// Companion is what POST /companions takes: as for a move, the call or the user, and the device that shall listen to it, or do so no more.
type Companion struct {
	Move
	Leave bool `json:"leave,omitempty"`
}

// Rejoin is what POST /rejoins takes: a call (may be abbreviated) with an empty seat, and the device that shall take that, "" = all of the
// user's ring. Seat is the user who is missing, where that are several.
type Rejoin struct {
	Call   string `json:"call"`
	Seat   string `json:"seat,omitempty"`
	Device string `json:"device,omitempty"`
	How    string `json:"how,omitempty"` // cli or api, for the log
}

// Node is what GET /node tells.
type Node struct {
	Version string            `json:"version"`
	PID     int               `json:"pid"`
	Started time.Time         `json:"started"`
	Data    string            `json:"data"`
	Realm   string            `json:"realm"`
	Listen  map[string]string `json:"listen"` // transport → address
	Name    string            `json:"name,omitempty"`

	Store *StoreHealth `json:"store,omitempty"`

	MouthToEar *MouthToEar `json:"mouth_to_ear,omitempty"` // nil = no node runs

	ClockStep float64 `json:"clock_step"` // seconds that the clock was set by since Started
}

// StoreHealth is how the node's store is.
type StoreHealth struct {
	Kind    string     `json:"kind"`            // embedded, redis
	Place   string     `json:"place,omitempty"` // of Redis, without its password
	Healthy bool       `json:"healthy"`
	Error   string     `json:"error,omitempty"`
	Since   *time.Time `json:"since,omitempty"` // since when it is healthy

	// CutOff is since when the node has reached no other node either, and begins nothing; nil = it is not so.
	CutOff *time.Time `json:"cut_off,omitempty"`
}

// Failure is the body of every answer that is not 2xx.
type Failure struct {
	Error string `json:"error"`
}

// Entry is one line of the log.
type Entry = journal.Entry

func showUser(u registrar.User, devices []registrar.Device) User {
	shown := User{
		Name: u.Name, Display: u.Display, Numbers: u.Numbers, Realm: u.Realm, Created: u.Created, Devices: len(devices),
		Settings: showSettings(u.Settings),
	}
	if shown.Numbers == nil {
		shown.Numbers = []string{}
	}
	for _, d := range devices {
		if d.Here() {
			shown.Here++
		}
	}
	return shown
}
