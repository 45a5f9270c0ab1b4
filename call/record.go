package call

import (
	"errors"
	"slices"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Stored is a call's record as the store keeps it: the blob is opaque to it.
type Stored struct {
	ID      string
	Epoch   uint64   // how often the call has changed its node
	Version uint64   // rises with every write
	Owner   string   // name of the node that has the call; "" = the only one
	Blob    []byte   // a Record as JSON, packed (pack.go)
	Dialogs []string // their Call-IDs, by which other nodes find the owner; a store need not give them back, and none are set where nobody asks
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
	ID      string          `json:"id"`
	Form    int             `json:"form,omitempty"` // of the record; below recordForm it cannot be gone on with
	Domain  string          `json:"domain"`
	Epoch   uint64          `json:"epoch"`
	State   State           `json:"state"`
	Started time.Time       `json:"started"`
	Up      time.Time       `json:"up,omitzero"`
	Saved   time.Time       `json:"saved"`
	By      string          `json:"by,omitempty"`    // the user who began it
	Quiet   bool            `json:"quiet,omitempty"` // an announcement, or a trial of a device
	Why     string          `json:"why,omitempty"`   // it is ending
	Seats   []SeatRecord    `json:"seats"`
	Closing []ClosingRecord `json:"closing,omitempty"` // dialogs that still need their BYE
	Sealed  []byte          `json:"sealed,omitempty"`  // its keys (seal.go)
}

// recordForm is that of records which have all that a restart needs.
const recordForm = 1

// SeatRecord is a user's place; it has two legs in mid-move, the holder first.
type SeatRecord struct {
	User   string      `json:"user"`
	Number string      `json:"number"`
	Name   string      `json:"name,omitempty"`
	Legs   []LegRecord `json:"legs,omitempty"`
	Left   time.Time   `json:"left,omitzero"`  // since when it is empty: its user may come back until call.wait is over
	Lost   bool        `json:"lost,omitempty"` // he has not left: his device was lost. Its leg is kept as long as it may come back with it
	Last   *LegRecord  `json:"last,omitempty"` // that held it until then
	Into   bool        `json:"into,omitempty"` // no seat yet: a transfer or a pick-up is about to make it one
}

// LegRecord is a dialog with its media.
type LegRecord struct {
	ID       string            `json:"id"`
	Device   string            `json:"device"` // device key
	Called   string            `json:"called"` // and its name
	State    legState          `json:"state"`
	Holds    bool              `json:"holds,omitempty"`    // the seat
	Incoming bool              `json:"incoming,omitempty"` // the phone called us
	Began    time.Time         `json:"began,omitzero"`
	Answer   time.Time         `json:"answer,omitzero"` // of its INVITE
	Invite   *InviteRecord     `json:"invite,omitempty"`
	Dialog   sip.Dialog        `json:"dialog"`
	Local    media.Description `json:"local"`
	Remote   media.Description `json:"remote"`
	Agreed   media.Agreement   `json:"agreed"`
	Offers   media.Security    `json:"offers,omitempty"` // how it is offered audio
	Place    *media.Place      `json:"place,omitempty"`  // of its stream; none = one of WebRTC without keys
	SRTP     *media.Standing   `json:"srtp,omitempty"`
	Knows    []media.Codec     `json:"knows,omitempty"` // all that the phone has said that it can play
	Held     bool              `json:"held,omitempty"`
	Straight bool              `json:"straight,omitempty"` // the phone sends past the node: Local says where to
	Listens  bool              `json:"listens,omitempty"`  // a companion: it hears both sides and is muted
	Refer    *referral         `json:"refer,omitempty"`    // the phone's subscription to its REFER
	Can      ability           `json:"can"`
	Session  session           `json:"session"`
}

// InviteRecord is an INVITE of ours that is not over: its phone has not answered it, or was not acknowledged.
type InviteRecord struct {
	CSeq   uint32 `json:"cseq"`
	Branch string `json:"branch"`
}

// ClosingRecord is a dialog that still needs its BYE, and whose it is.
type ClosingRecord struct {
	sip.Dialog
	User   string `json:"user,omitempty"`
	Device string `json:"device,omitempty"` // device key
}

// dialogs are the Call-IDs of all that has one.
func (r Record) dialogs() []string {
	var all []string
	add := func(d sip.Dialog) {
		if d.CallID != "" && !slices.Contains(all, d.CallID) {
			all = append(all, d.CallID)
		}
	}
	for _, s := range r.Seats {
		for _, l := range s.Legs {
			add(l.Dialog)
		}
		if s.Last != nil {
			add(s.Last.Dialog)
		}
	}
	for _, d := range r.Closing {
		add(d.Dialog)
	}
	return all
}

// record makes the value of this moment.
func (c *Call) record() Record {
	r := Record{
		ID: c.id, Form: recordForm, Domain: c.b.Domain, Epoch: c.epoch, State: c.state,
		Started: c.started, Up: c.up, Saved: time.Now(), By: c.by, Quiet: c.quiet, Why: c.why,
	}
	for _, s := range c.allSeats() {
		r.Seats = append(r.Seats, c.seatRecord(s))
	}
	for _, l := range c.legs {
		if l.state == legClosing {
			r.Closing = append(r.Closing, ClosingRecord{l.dialog, l.seat.user.Name, l.device.Key})
		}
	}
	return r
}

func (c *Call) seatRecord(s *Seat) SeatRecord {
	r := SeatRecord{User: s.user.Name, Number: s.number, Name: s.name, Into: !slices.Contains(c.seats, s)}
	if s.away != nil {
		l := s.away.leg
		last := LegRecord{ID: l.id, Device: l.device.Key, Called: l.device.Name, Agreed: l.agreed, Knows: l.knows}
		r.Left, r.Lost, r.Last = s.away.from, s.away.lost, last.remembered()
	}
	for _, l := range c.legsOf(s) {
		r.Legs = append(r.Legs, l.record())
	}
	return r
}

func (l *Leg) record() LegRecord {
	r := LegRecord{
		ID: l.id, Device: l.device.Key, Called: l.device.Name, State: l.state, Holds: l.seat.holder == l, Incoming: l.incoming, Began: l.began,
		Answer: l.answer, Dialog: l.dialog, Offers: l.dialect(), Place: l.stream.Place(), SRTP: l.stream.Standing(),
		Local: l.local, Remote: l.remote, Agreed: l.agreed, Knows: l.knows, Held: l.held, Straight: l.straight, Listens: l.listens() || l.joins(), Refer: l.refer,
		Can: l.can, Session: l.session,
	}
	if l.invite != nil && !l.acked {
		r.Invite = &InviteRecord{l.invite.CSeq, l.invite.Branch}
	}
	return r
}

// remembered is what has to be known of a leg that is over: whose it was, and what its phone can play.
func (r LegRecord) remembered() *LegRecord {
	return &LegRecord{ID: r.ID, Device: r.Device, Called: r.Called, State: legClosed, Agreed: media.Agreement{Send: r.Agreed.Send}, Knows: r.Knows}
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
