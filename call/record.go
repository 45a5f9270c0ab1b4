package call

import (
	"errors"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Stored is a call's record as the store keeps it: the blob is opaque to it.
type Stored struct {
	ID      string
	Epoch   uint64 // how often the call has changed its node
	Version uint64 // rises with every write
	Owner   string // name of the node that has the call; "" = the only one
	Blob    []byte // a Record as JSON
}

// Store keeps the records of live calls. Its writes are asynchronous and keep their order; done is called exactly once,
// with ErrStale when a higher epoch is stored (the call is someone else's), and must not wait for the store. PutLater and End, which nothing waits for, may be
// held back for a tenth of a second, or until Hurry; no later write overtakes them. A store that several nodes share may be out of
// reach: done then gets ErrUnsafe, at once, and the store keeps the newest record and writes it as soon as it can.
type Store interface {
	Put(s Stored, done func(error))
	PutLater(s Stored, done func(error))
	Hurry()
	End(id string, epoch uint64, done func(error))
	// Claim makes owner the owner of a call that is stored under just this epoch, and gives its record under the next one. It waits
	// for the store. ErrStale says that the call is stored under another epoch, or not at all. A claim may be repeated.
	Claim(id string, epoch uint64, owner string) (Stored, error)
	Calls() ([]Stored, error)
	SubscriptionStore
}

// ErrStale says that a write carried an epoch lower than the stored one.
var ErrStale = errors.New("call record is owned under a higher epoch")

// ErrUnsafe says that a write is not yet where it survives the store's next failure. It is not lost: the store goes on trying.
var ErrUnsafe = registrar.ErrUnsafe

// Record is all that is needed to go on with a call: whoever holds it can (docs/failures.md). It is a plain value.
type Record struct {
	ID      string       `json:"id"`
	Domain  string       `json:"domain"`
	Epoch   uint64       `json:"epoch"`
	State   State        `json:"state"`
	Started time.Time    `json:"started"`
	Up      time.Time    `json:"up,omitzero"`
	Saved   time.Time    `json:"saved"`
	Seats   []SeatRecord `json:"seats"`
	Closing []sip.Dialog `json:"closing,omitempty"` // dialogs that still need their BYE
	Sealed  []byte       `json:"sealed,omitempty"`  // its keys (seal.go)
}

// SeatRecord is a user's place; it has two legs in mid-move, the holder first.
type SeatRecord struct {
	User   string      `json:"user"`
	Number string      `json:"number"`
	Name   string      `json:"name,omitempty"`
	Legs   []LegRecord `json:"legs,omitempty"`
	Left   time.Time   `json:"left,omitzero"` // when its user left, who may come back until call.wait is over
}

// LegRecord is a dialog with its media.
type LegRecord struct {
	ID      string            `json:"id"`
	Device  string            `json:"device"` // device key
	State   legState          `json:"state"`
	Dialog  sip.Dialog        `json:"dialog"`
	Local   media.Description `json:"local"`
	Remote  media.Description `json:"remote"`
	Agreed  media.Agreement   `json:"agreed"`
	SRTP    *media.Standing   `json:"srtp,omitempty"`
	Knows   []media.Codec     `json:"knows,omitempty"` // all that the phone has said that it can play
	Held    bool              `json:"held,omitempty"`
	Listens bool              `json:"listens,omitempty"` // a companion: it hears both sides and is muted
	Refer   *referral         `json:"refer,omitempty"`   // the phone's subscription to its REFER
	Can     ability           `json:"can"`
	Session session           `json:"session"`
}

// record makes the value of this moment.
func (c *Call) record() Record {
	r := Record{
		ID: c.id, Domain: c.b.Domain, Epoch: c.epoch, State: c.state,
		Started: c.started, Up: c.up, Saved: time.Now(),
	}
	for _, s := range c.allSeats() {
		sr := SeatRecord{User: s.user.Name, Number: s.number, Name: s.name}
		if s.away != nil {
			sr.Left = s.away.from
		}
		for _, l := range c.legsOf(s) {
			sr.Legs = append(sr.Legs, l.record())
		}
		r.Seats = append(r.Seats, sr)
	}
	for _, l := range c.legs {
		if l.state == legClosing {
			r.Closing = append(r.Closing, l.dialog)
		}
	}
	return r
}

func (l *Leg) record() LegRecord {
	return LegRecord{
		ID: l.id, Device: l.device.Key, State: l.state, Dialog: l.dialog, SRTP: l.stream.Standing(),
		Local: l.local, Remote: l.remote, Agreed: l.agreed, Knows: l.knows, Held: l.held, Listens: l.listens() || l.joins(), Refer: l.refer,
		Can: l.can, Session: l.session,
	}
}

// lastUp is when the call was last known to live: when its record was last saved, or at the last sign of life of the node
// that had it.
func (r Record) lastUp(run time.Time) time.Time {
	if run.After(r.Saved) {
		return run
	}
	return r.Saved
}

// lasted is how long the call had been up at its end.
func (r Record) lasted(end time.Time) time.Duration {
	if r.Up.IsZero() {
		return 0
	}
	return end.Sub(r.Up)
}
