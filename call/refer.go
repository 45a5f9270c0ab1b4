package call

import (
	"fmt"
	"strings"
	"time"

	"baton/registrar"
	"baton/sip"
)

// referral is the subscription that a REFER makes (RFC 3515 §2.4). It is a value of the leg's record.
type referral struct {
	Event  string `json:"event"`  // refer, or refer;id=CSeq for the second and later ones
	Silent bool   `json:"silent"` // Refer-Sub: false, RFC 4488
}

// byeOfReferrer is how long a phone that has transferred is given to send its own BYE.
const byeOfReferrer = time.Second

// onRefer takes the transfer key: to one's own devices it is a move, to another user the ordinary blind transfer.
func (c *Call) onRefer(l *Leg, x *sip.Exchange) {
	m, err := c.referMove(l, x)
	if err == nil {
		err = c.addMove(m)
	}
	if err != nil {
		_ = x.Respond(c.b.reply(err))
		return
	}
	l.refers++
	r := &referral{Event: "refer", Silent: strings.EqualFold(strings.TrimSpace(x.Header("Refer-Sub")), "false")}
	if l.refers > 1 {
		r.Event = fmt.Sprintf("refer;id=%d", x.CSeq())
	}
	l.refer = r
	m.finished = func(code int, why string) { c.notifyRefer(l, r, code, true) }
	c.commit(func() {
		_ = x.Respond(sip.Reply{Code: 202, Headers: referSub(r)})
		if !m.pending() { // the call ended meanwhile
			return
		}
		c.notifyRefer(l, r, 100, false)
		c.beginMove(m)
	})
}

func referSub(r *referral) []sip.Header {
	if r.Silent {
		return []sip.Header{{Name: "Refer-Sub", Value: "false"}}
	}
	return nil
}

// referMove reads what a REFER asks for.
func (c *Call) referMove(l *Leg, x *sip.Exchange) (*move, error) {
	uri, replaces, err := sip.ReferTarget(x.Request)
	if err != nil {
		return nil, refusal(400, err.Error())
	}
	if replaces != nil {
		return nil, refusal(501, "attended transfer is not served: use the blind transfer key")
	}
	t, err := c.b.route(uri, l.seat.user)
	if err != nil {
		return nil, err
	}
	m := &move{c: c, seat: l.seat, into: l.seat, from: l, how: "refer", who: l.seat.user.Name, began: time.Now()}
	switch {
	case t.Code == codePull:
		return nil, refusal(404, "the pull code is dialled on the new device, not transferred to")
	case t.Code == codePush && t.N > 0:
		d, err := c.b.Registrar.Find(l.seat.user.Name, fmt.Sprint(t.N))
		if err != nil {
			return nil, refusal(404, err.Error())
		}
		m.only = &d
	case t.Code == codePush || t.User.Name == l.seat.user.Name:
		m.only = t.Device
	default:
		if t, m.hops, err = c.transferTo(t, l.seat); err != nil {
			return nil, err
		}
		m.into, m.only = newSeat(t.User), t.Device
	}
	return m, m.reachable()
}

// reachable refuses what cannot ring before the REFER is accepted.
func (m *move) reachable() error {
	if m.only != nil && m.into == m.seat && m.only.Key == m.from.device.Key {
		return refusal(480, "the call is on "+m.only.Name+" already") // a 200 in a NOTIFY would have the phone hang up
	}
	if m.only != nil && !m.only.Here() {
		return refusal(480, away(*m.only))
	}
	if m.only == nil && !m.somebodyElseHere() {
		return refusal(480, fmt.Sprintf("no other device of %s is here", m.into.user.Name))
	}
	return nil
}

func (m *move) somebodyElseHere() bool {
	for _, d := range m.c.b.Registrar.Lookup(m.into.user.Name) {
		if d.Key != m.exclude() {
			return true
		}
	}
	return false
}

func away(d registrar.Device) string {
	why := fmt.Sprintf("%s is away since %s", d.Name, d.Since.Local().Format("15:04"))
	if d.Reason != "" {
		why += " (" + d.Reason + ")"
	}
	return why
}

// notifyRefer tells the phone how its REFER stands (RFC 3515 §2.4.5).
func (c *Call) notifyRefer(l *Leg, r *referral, code int, final bool) {
	if r.Silent || l.state == legClosed {
		return
	}
	state := "active;expires=60"
	if final {
		state = "terminated;reason=noresource"
		l.refer = nil
	}
	out := l.dialog.NewRequest("NOTIFY", sip.Sipfrag(code, ""),
		sip.Header{Name: "Event", Value: r.Event}, sip.Header{Name: "Subscription-State", Value: state})
	c.request(l, out, requestPatience, func(err error) {
		if err != nil {
			c.log.Debug("notify", "leg", l.id, "device", l.device.Name, "err", err)
		}
	})
}
