package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"baton/call"
	"baton/media"
)

// myCalls are the calls that a user is in or that ring for him, as he may see them.
func (a *UserAPI) myCalls(ctx context.Context, user string) []call.Info {
	shown := []call.Info{}
	all := a.allCalls(ctx, user)
	if len(all) == 0 {
		return shown
	}
	var own []string
	for _, d := range a.Registrar.Devices(user) {
		own = append(own, d.Name)
	}
	for _, c := range all {
		shown = append(shown, seenBy(c, user, own))
	}
	return shown
}

// seenBy is a call as one of its users may see it: his own seats in full; of others the number and name that his phone shows too, and
// how their audio fares, but no login, device or address. What is not named here is not shown. own are the names of his devices.
func seenBy(c call.Info, user string, own []string) call.Info {
	seen := call.Info{ID: c.ID, State: c.State, Started: c.Started, Up: c.Up, Seats: []call.SeatInfo{}, Moves: []call.MoveInfo{}, Media: c.Media}
	shown := map[string]string{user: user} // what each user is called in it
	for _, s := range c.Seats {
		if s.User == user {
			seen.Seats = append(seen.Seats, s)
			continue
		}
		shown[s.User] = s.Number
		seen.Seats = append(seen.Seats, seatOfOther(s))
	}
	for _, m := range c.Moves {
		if m.User == user {
			seen.Moves = append(seen.Moves, moveSeenBy(m, user, own))
		}
	}
	for _, w := range c.Ways {
		seen.Ways = append(seen.Ways, call.Way{From: shown[w.From], To: shown[w.To], Quality: w.Quality, By: w.By, Node: w.Node, Device: w.Device})
	}
	return seen
}

func seatOfOther(s call.SeatInfo) call.SeatInfo {
	seen := call.SeatInfo{Number: s.Number, Name: s.Name, Empty: s.Empty, Lost: s.Lost, Legs: []call.LegInfo{}}
	if s.Empty || len(s.Legs) == 0 { // how many devices ring is nobody's business
		return seen
	}
	l := s.Legs[0]
	seen.Legs = append(seen.Legs, call.LegInfo{
		State: l.State, Held: l.Held, Codecs: l.Codecs, Secure: l.Secure, Via: l.Via, In: l.In, Out: l.Out, Report: reportOfOther(l.Report),
		Stats: media.Stats{
			Latched: l.Stats.Latched, RTT: l.Stats.RTT, Packet: l.Stats.Packet, Reported: l.Stats.Reported,
			In: trafficOfOther(l.Stats.In), Out: trafficOfOther(l.Stats.Out),
		},
	})
	return seen
}

// reportOfOther is the figures of a report alone.
func reportOfOther(r *media.Report) *media.Report {
	if r == nil {
		return nil
	}
	figures := func(h media.Heard) media.Heard {
		h.Codec = ""
		return h
	}
	seen := media.Report{At: r.At, Final: r.Final, RTT: r.RTT, Hears: figures(r.Hears)}
	if r.Says != nil {
		says := figures(*r.Says)
		seen.Says = &says
	}
	return &seen
}

func trafficOfOther(t media.Traffic) media.Traffic {
	return media.Traffic{Codec: t.Codec, Packets: t.Packets, Octets: t.Octets, Lost: t.Lost, LossPercent: t.LossPercent, Jitter: t.Jitter}
}

// moveSeenBy hides whose device somebody has been given the call on.
func moveSeenBy(m call.MoveInfo, user string, own []string) call.MoveInfo {
	given := m.Report != nil && m.Report.User != user
	if !given && (m.To == "" || slices.Contains(own, m.To)) {
		return m
	}
	m.To = ""
	if m.Error != "" {
		m.Error = "nobody took it"
	}
	if m.Report != nil {
		r := *m.Report
		r.To = ""
		if given {
			r.User = ""
		}
		m.Report = &r
	}
	return m
}

// MyMove is what POST /me/moves takes: a call (may be abbreviated; none: the one that docs/moves.md says is meant), and the device of
// one's own that shall have it.
type MyMove struct {
	Call   string `json:"call,omitempty"`
	Device string `json:"device"`
}

// move answers when the move is over. A client that goes away before takes it back, if it rings yet.
func (a *UserAPI) move(r *http.Request, me person) (any, error) {
	var want MyMove
	if err := read(r, &want); err != nil {
		return nil, err
	}
	if want.Device == "" {
		return nil, refuse(http.StatusBadRequest, "name the device that shall take the call")
	}
	ask := call.MoveRequest{User: me.Name, Seat: me.Name, Device: want.Device, Who: me.Name, How: "page"}
	if done, report, err := a.moveElsewhere(r, me.Name, want); done {
		return report, err
	}
	if want.Call != "" {
		c, err := a.mine(want.Call, me.Name)
		if err != nil {
			return nil, err
		}
		ask.Call, ask.User = c.ID, ""
	}
	report, err := a.Calls.Move(r.Context(), ask)
	if err != nil {
		return nil, conflict(err)
	}
	return report, nil
}

// mine is the call of a user that an id means, which may be abbreviated. Others' calls are not there.
func (a *UserAPI) mine(id, user string) (call.Info, error) {
	return oneOf(a.Calls.Calls(user), id)
}

// oneOf is the call that an id means, which may be abbreviated.
func oneOf(all []call.Info, id string) (call.Info, error) {
	var found []call.Info
	for _, c := range all {
		if c.ID == id {
			return c, nil
		}
		if id != "" && strings.HasPrefix(c.ID, id) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return call.Info{}, fmt.Errorf("%w: %q", call.ErrNoCall, id)
	case 1:
		return found[0], nil
	}
	return call.Info{}, fmt.Errorf("%w: %q fits %d calls, give more of the id", call.ErrNoCall, id, len(found))
}

// end hangs up a call that the user has a place in. One that is only being given to him is others' to end.
func (a *UserAPI) end(r *http.Request, me person) (any, error) {
	if done, err := a.doneElsewhere(r, me.Name, r.PathValue("call"), nil, nil); done {
		return nil, err
	}
	c, err := a.mine(r.PathValue("call"), me.Name)
	if err != nil {
		return nil, err
	}
	if !placed(c, me.Name) {
		return nil, refuse(http.StatusConflict, "call %s is not yours yet: it only rings for you", c.ID)
	}
	return nil, a.Calls.End(r.Context(), c.ID, me.Name)
}

// placed says whether a user is one of the two whom a call connects or is to connect, or has taken the place of one. The seats that
// are only about to be filled stand behind theirs.
func placed(c call.Info, user string) bool {
	for i, s := range c.Seats {
		if s.User == user && (i < 2 || !s.Empty) {
			return true
		}
	}
	return false
}

// leave hangs the user's device up; the call waits for him.
func (a *UserAPI) leave(r *http.Request, me person) (any, error) {
	if done, err := a.doneElsewhere(r, me.Name, r.PathValue("call"), nil, nil); done {
		return nil, err
	}
	c, err := a.mine(r.PathValue("call"), me.Name)
	if err != nil {
		return nil, err
	}
	if err := a.Calls.Leave(r.Context(), call.MoveRequest{Call: c.ID, Seat: me.Name, Who: me.Name, How: "page"}); err != nil {
		return nil, conflict(err)
	}
	return nil, nil
}

// MyReturn is what POST /me/calls/{call}/rejoin may say: the device that shall take the call, "" = all of one's own ring.
type MyReturn struct {
	Device string `json:"device,omitempty"`
}

// rejoin answers when a device has taken a call that was left. A client that goes away before takes it back, if it rings yet.
func (a *UserAPI) rejoin(r *http.Request, me person) (any, error) {
	var want MyReturn
	if r.ContentLength != 0 {
		if err := read(r, &want); err != nil {
			return nil, err
		}
	}
	var there call.MoveReport
	if done, err := a.doneElsewhere(r, me.Name, r.PathValue("call"), want, &there); done {
		return there, err
	}
	c, err := a.mine(r.PathValue("call"), me.Name)
	if err != nil {
		return nil, err
	}
	report, err := a.Calls.Rejoin(r.Context(), call.MoveRequest{Call: c.ID, Seat: me.Name, Device: want.Device, Who: me.Name, How: "page"})
	if err != nil {
		return nil, conflict(err)
	}
	return report, nil
}
