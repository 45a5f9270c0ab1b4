package call

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"baton/registrar"
	"baton/sip"
)

// referral is the subscription that a REFER makes (RFC 3515 §2.4). It is a value of the leg's record.
type referral struct {
	Event  string `json:"event"`  // refer, or refer;id=CSeq for the second and later ones
	Silent bool   `json:"silent"` // nobody wants to be told: Refer-Sub: false, nosub, or unsubscribed
	Told   int    `json:"told"`   // the status that the phone was told last
}

// referTerms are how a REFER wants to be answered.
type referTerms struct {
	silent bool
	answer []sip.Header
}

// byeOfReferrer is how long a phone that has transferred is given to send its own BYE.
const byeOfReferrer = time.Second

// Refer refuses a REFER outside of a dialog: there is no call that it could be about (RFC 3515 §2.4.2 leaves it to us).
func (b *B2BUA) Refer(x *sip.Exchange) {
	_ = x.Respond(b.reply(refusal(403, "a REFER outside of a call is not served: transfer within the call")))
}

// onRefer takes the transfer key: to one's own devices it is a move, to another user the ordinary transfer.
func (c *Call) onRefer(l *Leg, x *sip.Exchange) {
	err := refusal(403, "this device only listens; take the call first")
	if !l.listens() {
		err = c.referred(l, x)
	}
	if err != nil {
		_ = x.Respond(c.b.reply(err))
	}
}

func (c *Call) referred(l *Leg, x *sip.Exchange) error {
	if err := c.b.mayBegin(); err != nil {
		return err
	}
	uri, replaces, err := sip.ReferTarget(x.Request)
	switch {
	case errors.Is(err, sip.ErrReferMethod):
		return refusal(501, err.Error()+": a transfer is an INVITE")
	case err != nil:
		return refusal(400, err.Error())
	}
	t, err := termsOf(x)
	if err != nil {
		return refusal(400, err.Error())
	}
	if replaces != nil {
		return c.attend(l, x, *replaces, t)
	}
	if to, err := c.b.route(uri, l.seat.user); err == nil && to.Code == codeLeave && to.N == 0 {
		return c.referLeave(l, x, t)
	}
	m, err := c.referMove(l, uri)
	if err == nil {
		err = c.addMove(m)
	}
	if err != nil {
		return err
	}
	r := c.subscribe(l, x, t)
	m.finished = func(code int, why string) { c.notifyRefer(l, r, code, true) }
	m.rings = func() { c.notifyRefer(l, r, 180, false) }
	c.commit(func() {
		c.acceptRefer(l, x, t, r)
		if m.pending() { // the call has not ended meanwhile
			c.beginMove(m)
		}
	})
	return nil
}

// termsOf reads what a REFER says of itself. Who it says has referred is looked at and not believed: that is the user whose
// dialog it is in.
func termsOf(x *sip.Exchange) (referTerms, error) {
	if _, _, err := sip.ReferredBy(x.Request); err != nil {
		return referTerms{}, err
	}
	silent, answer, err := sip.ReferSilent(x.Request)
	return referTerms{silent, answer}, err
}

// subscribe begins the subscription that an accepted REFER makes.
func (c *Call) subscribe(l *Leg, x *sip.Exchange, t referTerms) *referral {
	l.refers++
	r := &referral{Event: "refer", Silent: t.silent, Told: 100}
	if l.refers > 1 {
		r.Event = fmt.Sprintf("refer;id=%d", x.CSeq())
	}
	l.refer = r
	return r
}

// acceptRefer answers a REFER, and sends the first NOTIFY, which follows at once (RFC 3515 §2.4.4).
func (c *Call) acceptRefer(l *Leg, x *sip.Exchange, t referTerms, r *referral) {
	code := 202
	if x.Requires("nosub") { // RFC 7614 §4
		code = 200
	}
	_ = x.Respond(sip.Reply{Code: code, Headers: t.answer})
	c.notifyRefer(l, r, 100, false)
}

// referMove reads what a blind transfer asks for.
func (c *Call) referMove(l *Leg, uri sip.URI) (*move, error) {
	if _, office := c.b.officeCode(uri); office {
		return nil, refusal(404, "a code is dialled, not transferred to")
	}
	t, err := c.b.route(uri, l.seat.user)
	if err != nil {
		return nil, err
	}
	m := &move{
		c: c, seat: l.seat, into: l.seat, from: l, how: "refer", who: l.seat.user.Name, began: time.Now(), referred: true,
	}
	switch {
	case t.Code == codePickup:
		return nil, refusal(404, "a pick-up code is dialled, not transferred to")
	case t.Code == codePull:
		return nil, refusal(404, "the pull code is dialled on the new device, not transferred to")
	case t.Code == codeCompanion:
		return nil, refusal(404, "the companion code is dialled on the device that shall listen, not transferred to")
	case t.Code == codePush && t.N > 0:
		d, err := c.b.Registrar.Find(l.seat.user.Name, fmt.Sprint(t.N))
		if err != nil {
			return nil, refusal(404, err.Error())
		}
		m.only = &d
	case t.Code != codePush && t.Code != codeNone:
		return nil, refusal(404, "a code is dialled, not transferred to")
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
	state := "active;expires=60"
	if final {
		state = "terminated;reason=noresource"
	}
	c.notify(l, r, code, state)
	if final && l.refer == r {
		l.refer = nil
	}
}

func (c *Call) notify(l *Leg, r *referral, code int, state string) {
	r.Told = code
	if r.Silent || l.state == legClosed {
		return
	}
	out := l.dialog.NewRequest("NOTIFY", sip.Sipfrag(code, ""),
		sip.Header{Name: "Event", Value: r.Event}, sip.Header{Name: "Subscription-State", Value: state})
	c.request(l, out, requestPatience, func(err error) {
		if err != nil {
			c.log.Debug("notify", "leg", l.id, "device", l.device.Name, "err", err)
		}
	})
}

// onSubscribe takes a phone's word about the subscription that its REFER has made: it refreshes that, or ends it (RFC 6665
// §4.1.2). Others are not made within a call.
func (c *Call) onSubscribe(l *Leg, x *sip.Exchange) {
	event, id, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(x.Header("Event"), " ", "")), ";")
	r := l.refer
	switch {
	case event != "refer":
		_ = x.Respond(sip.Reply{Code: 489, Headers: []sip.Header{{Name: "Allow-Events", Value: "refer"}}})
		return
	case r == nil || r.Silent || id != "" && !strings.HasSuffix(r.Event, ";"+id):
		_ = x.Respond(c.b.reply(refusal(403, "no transfer of this call is under way: a REFER makes the subscription")))
		return
	}
	left, err := strconv.ParseUint(strings.TrimSpace(x.Header("Expires")), 10, 32)
	if err == nil && left == 0 {
		_ = x.Respond(sip.Reply{Code: 200, Headers: []sip.Header{{Name: "Expires", Value: "0"}}})
		c.notify(l, r, r.Told, "terminated;reason=timeout")
		r.Silent = true
		return
	}
	_ = x.Respond(sip.Reply{Code: 200, Headers: []sip.Header{{Name: "Expires", Value: "60"}}})
	c.notify(l, r, r.Told, "active;expires=60")
}
