package call

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"baton/registrar"
)

// summary is what the rest of the node may know of a call without asking its agent.
type summary struct {
	state State
	quiet bool
	seats []seatSummary
	rings []ringSummary

	// What else can be seen of it, so that a change is noticed.
	legs   []legSummary
	moves  int
	unsafe bool
	media  string // the way of its sound
}

type legSummary struct {
	user, device  string
	state         legState
	held, listens bool
	view          *view // the same one as long as it is
}

type seatSummary struct {
	user, device string
	held         bool  // its phone has the call on hold
	away         bool  // its user has left, or was lost
	sign         *sign // of life of its device, the same one as long as it is; not looked at for changes
}

// looksLike says whether nobody could see a difference.
func (t seatSummary) looksLike(was seatSummary) bool {
	t.sign = was.sign
	return t == was
}

// ringSummary is what rings for a user: a call to him, or one that is transferred to him.
type ringSummary struct {
	dial  *dial // for the call's agent alone
	user  string
	from  string // who is on the other side
	since time.Time
}

// unlessChanged is what was, as long as that is as it is now: who keeps it sees by the pointer that it has not changed.
func unlessChanged[T comparable](was *T, now T) *T {
	if was != nil && *was == now {
		return was
	}
	changed := now // now itself stays on the stack: this runs after each event of a call
	return &changed
}

// drafts are summaries that are not published, for most events of a call change nothing that is in one.
var drafts = sync.Pool{New: func() any { return new(summary) }}

// publish renews the summary.
func (c *Call) publish() {
	draft, was := drafts.Get().(*summary), c.public.Load()
	defer drafts.Put(draft)
	if c.sum(draft); was != nil && draft.equal(was) {
		return
	}
	s := draft.clone()
	c.public.Store(s)
	if was == nil || !s.looksLike(was) {
		c.b.roster.renew(c)
		c.b.changes.tell(was, s)
		c.b.notifier.changed(c, was, s)
	}
}

// sum makes s the summary of this moment; what room it has is used again.
func (c *Call) sum(s *summary) {
	*s = summary{
		state: c.state, quiet: c.quiet, moves: len(c.history), unsafe: c.store.unsafe,
		seats: s.seats[:0], rings: s.rings[:0], legs: s.legs[:0],
	}
	s.media, _ = c.mediaPath()
	for _, seat := range c.seats {
		t := seatSummary{user: seat.user.Name, away: seat.away != nil, sign: &noSign}
		if l := seat.holder; l != nil {
			t.device, t.held, t.sign = l.device.Key, l.held, l.sign()
		}
		s.seats = append(s.seats, t)
	}
	for _, d := range c.dials() {
		if other := c.other(d.seat); other != nil && d.rings() {
			s.rings = append(s.rings, ringSummary{d, d.seat.user.Name, other.user.Name, d.began})
		}
	}
	for _, l := range c.legs {
		s.legs = append(s.legs, legSummary{l.seat.user.Name, l.device.Key, l.state, l.held, l.listens(), c.shows(l)})
	}
}

// clone is one that shares no room with s.
func (s *summary) clone() *summary {
	n := *s
	n.seats, n.rings, n.legs = slices.Clone(s.seats), slices.Clone(s.rings), slices.Clone(s.legs)
	return &n
}

// equal says whether two are the same, seen or not.
func (s *summary) equal(t *summary) bool { return slices.Equal(s.seats, t.seats) && s.looksLike(t) }

// looksLike says whether nobody could see a difference.
func (s *summary) looksLike(was *summary) bool {
	return s.state == was.state && s.quiet == was.quiet && s.moves == was.moves && s.unsafe == was.unsafe && s.media == was.media &&
		slices.EqualFunc(s.seats, was.seats, seatSummary.looksLike) && slices.Equal(s.rings, was.rings) && slices.Equal(s.legs, was.legs)
}

// has says whether the user is in the call, or it rings for him.
func (s *summary) has(user string) bool {
	return slices.ContainsFunc(s.seats, func(t seatSummary) bool { return t.user == user }) ||
		slices.ContainsFunc(s.rings, func(r ringSummary) bool { return r.user == user })
}

// concerns says whether the call is shown to a user, or was until now.
func (s *summary) concerns(user string) bool { return s.has(user) || s.involves(user) }

// otherThan is whom the user talks with; himself where nobody else is.
func (s *summary) otherThan(user string) string {
	for _, t := range s.seats {
		if t.user != user {
			return t.user
		}
	}
	return user
}

// involves says whether the user has a leg in the call, whatever its state.
func (s *summary) involves(user string) bool {
	return slices.ContainsFunc(s.legs, func(l legSummary) bool { return l.user == user })
}

// describePatience bounds the wait for a call's agent, which never waits for the network itself.
const describePatience = 2 * time.Second

// Calls shows the live calls, oldest first, then those that are ending; user "" is everybody's.
func (b *B2BUA) Calls(user string) []Info {
	ctx, cancel := context.WithTimeout(b.ctx, describePatience)
	defer cancel()
	infos := []Info{}
	for _, c := range b.callsOf(user) {
		if info, err := c.describe(ctx); err == nil {
			infos = append(infos, info)
		}
	}
	return infos
}

// Call shows one call; its id may be abbreviated.
func (b *B2BUA) Call(id string) (Info, error) {
	ctx, cancel := context.WithTimeout(b.ctx, describePatience)
	defer cancel()
	c, err := b.find(id)
	if err != nil {
		return Info{}, err
	}
	return c.describe(ctx)
}

// describe has the call's agent describe it.
func (c *Call) describe(ctx context.Context) (Info, error) {
	return inAgent(ctx, c, c.info)
}

// inAgent runs f in the call's agent and brings its result back.
func inAgent[T any](ctx context.Context, c *Call, f func() T) (T, error) {
	result := make(chan T, 1)
	var none T
	if !c.post(func() { result <- f() }) {
		return none, ErrNoCall
	}
	select {
	case r := <-result:
		return r, nil
	case <-c.done:
		return last(result, none)
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// last takes what an agent said before it went.
func last[T any](result chan T, none T) (T, error) {
	select {
	case r := <-result:
		return r, nil
	default:
		return none, ErrNoCall
	}
}

func (c *Call) info() Info {
	i := Info{ID: c.id, State: string(c.state), Started: c.started, Unsafe: c.store.unsafe, Moves: slices.Clone(c.history), Seats: []SeatInfo{}}
	if !c.up.IsZero() {
		up := c.up
		i.Up = &up
	}
	if i.Moves == nil {
		i.Moves = []MoveInfo{}
	}
	for _, s := range c.allSeats() {
		si := SeatInfo{User: s.user.Name, Number: s.number, Name: s.name, Empty: s.holder == nil, Lost: s.away != nil && s.away.lost, Legs: []LegInfo{}}
		for _, l := range c.legsOf(s) {
			si.Legs = append(si.Legs, l.info())
		}
		i.Seats = append(i.Seats, si)
	}
	i.Media, i.MediaWhy = c.mediaPath()
	i.Ways = ways(i.Seats, i.Media == "direct")
	return i
}

func (l *Leg) info() LegInfo {
	i := LegInfo{
		ID: l.id, Device: l.device.Name, Index: l.device.Index, State: string(l.state), Held: l.held, Listens: l.listens(),
		Remote: l.dialog.Flow.Transport + ":" + l.dialog.Flow.Remote.String(), Codecs: []string{}, Stats: l.stream.Stats(),
		Report: l.report,
	}
	for _, k := range l.agreed.Send {
		i.Codecs = append(i.Codecs, k.Name)
	}
	i.Secure, i.Via = i.Stats.Secure, cmp.Or(i.Stats.Way, "udp")
	i.In, i.Out = i.Stats.Quality()
	return i
}

// End hangs a call up.
func (b *B2BUA) End(ctx context.Context, id, who string) error {
	c, err := b.find(id)
	if err != nil {
		return err
	}
	_, err = inAgent(ctx, c, func() struct{} {
		c.end("ended by " + who)
		return struct{}{}
	})
	return err
}

// MoveRequest asks for a move: of the call named, or of the one of the user's that is meant (choose.go).
type MoveRequest struct {
	Call   string `json:"call,omitempty"` // id, may be abbreviated
	User   string `json:"user,omitempty"` // instead of Call
	Seat   string `json:"seat,omitempty"` // user whose leg moves; needed where the device does not tell
	Device string `json:"device"`         // name, index, +sip.instance URN or contact
	Who    string `json:"who"`            // for the log
	How    string `json:"how"`            // for the log: cli, api
}

// Move moves a seat to a named device and returns the figures when both sides are settled, or why it could not be. The end
// of ctx takes a move back that has not switched yet.
func (b *B2BUA) Move(ctx context.Context, r MoveRequest) (MoveReport, error) {
	c, err := b.moveCall(r)
	if err != nil {
		return MoveReport{}, err
	}
	return ask(ctx, c, func(tell func(MoveReport, error)) func() { return c.requested(r, tell) })
}

// ask has the call's agent begin something that takes its time and waits until it is told what became of it. begin gives the way to take
// it back, which the end of ctx does; nil = there is none.
func ask[T any](ctx context.Context, c *Call, begin func(tell func(T, error)) (undo func())) (T, error) {
	type outcome struct {
		report T
		err    error
	}
	var none T
	told := make(chan outcome, 1)
	var undo func() // owned by the agent
	if !c.post(func() { undo = begin(func(report T, err error) { told <- outcome{report, err} }) }) {
		return none, ErrNoCall
	}
	select {
	case o := <-told:
		return o.report, o.err
	case <-c.done:
		o, err := last(told, outcome{})
		return o.report, errors.Join(err, o.err)
	case <-ctx.Done():
		c.post(func() {
			if undo != nil {
				undo()
			}
		})
		return none, ctx.Err()
	}
}

func (b *B2BUA) moveCall(r MoveRequest) (*Call, error) {
	if err := b.mayBegin(); err != nil {
		return nil, err
	}
	if r.Call != "" {
		return b.find(r.Call)
	}
	user, ok := b.Registrar.User(r.User)
	if !ok {
		return nil, fmt.Errorf("there is no user %q", r.User)
	}
	k, err := b.choose(user.Name, "", 0)
	return k.call, err
}

// requested starts a move that a person or program asked for. It gives the way to take it back.
func (c *Call) requested(r MoveRequest, tell func(MoveReport, error)) (undo func()) {
	seat, device, err := c.seatFor(r)
	if err == nil && c.state == StateSetup && seat == c.seats[0] {
		err = notYet(c.seats[1].user.Name)
	}
	if err != nil {
		tell(MoveReport{}, err)
		return nil
	}
	if d := c.ringsAt(seat); d != nil {
		return c.moveRinging(d, r, device, tell)
	}
	if seat.holder != nil && seat.holder.device.Key == device.Key { // already there: nothing changes
		tell(MoveReport{Call: c.id, User: seat.user.Name, From: device.Name, To: device.Name}, nil)
		return nil
	}
	m := &move{
		c: c, seat: seat, into: seat, from: seat.lastLeg(), only: &device, how: r.How, who: r.Who, began: time.Now(), reported: tell,
	}
	if !device.Here() {
		tell(MoveReport{}, refusal(480, away(device)))
		return nil
	}
	if err := c.addMove(m); err != nil {
		tell(MoveReport{}, err)
		return nil
	}
	c.beginMove(m)
	return func() { c.failMove(m, "taken back", 487) }
}

// seatsUser is the name of the user whose seat a request is about.
func (b *B2BUA) seatsUser(r MoveRequest) (string, error) {
	want := cmp.Or(r.Seat, r.User)
	user, ok := b.Registrar.User(want)
	if !ok {
		return "", fmt.Errorf("there is no user %q", want)
	}
	return user.Name, nil
}

// seatFor finds the seat whose user has the device.
func (c *Call) seatFor(r MoveRequest) (*Seat, registrar.Device, error) {
	want := ""
	if r.Seat != "" || r.User != "" {
		var err error
		if want, err = c.b.seatsUser(r); err != nil {
			return nil, registrar.Device{}, err
		}
	}
	var (
		seat   *Seat
		device registrar.Device
		unfit  error
	)
	for _, s := range c.allSeats() {
		if want != "" && s.user.Name != want {
			continue
		}
		d, err := c.b.Registrar.Find(s.user.Name, r.Device)
		switch {
		case err != nil:
			unfit = and(unfit, err)
		case seat != nil && seat.user.Name != s.user.Name:
			return nil, d, fmt.Errorf("both %s and %s have a device %q: say whose with --seat", seat.user.Name, s.user.Name, r.Device)
		case seat == nil || seat.holder != nil && seat.holder.device.Key == d.Key || c.ringsAt(s) != nil:
			seat, device = s, d
		}
	}
	if seat != nil {
		return seat, device, nil
	}
	if unfit == nil {
		return nil, device, fmt.Errorf("%s is not in this call", want)
	}
	return nil, device, unfit
}

// and joins two errors in one line.
func and(a, b error) error {
	if a == nil {
		return b
	}
	return fmt.Errorf("%w; %w", a, b)
}
