package call

// ability is what a leg's phone has said that it can, by Allow and Supported. It is a value of the leg's record.
type ability struct {
	Update     bool `json:"update,omitempty"`      // RFC 3311
	FromChange bool `json:"from_change,omitempty"` // RFC 4916
	Info       bool `json:"info,omitempty"`        // RFC 6086: it can be told keys
}

// saying is a message that may say what its sender can.
type saying interface {
	Headers(name string) []string
	Allows(method string) bool
	Supports(option string) bool
}

// learn reads what a message says that its sender can; one that says nothing of it changes nothing.
func (l *Leg) learn(m saying) {
	l.traits.listen(m)
	if len(m.Headers("Allow")) > 0 {
		l.can.Update, l.can.Info = m.Allows("UPDATE"), m.Allows("INFO")
	}
	if len(m.Headers("Supported")) > 0 {
		l.can.FromChange = m.Supports("from-change")
	}
}

// showOther tells a leg's phone who is on the other side by now (RFC 4916, RFC 3325): its display and its list of calls are
// right again. A phone without UPDATE is left alone.
func (c *Call) showOther(l *Leg) {
	other := c.other(l.seat)
	if l.state != legUp || !l.can.Update || other == nil {
		return
	}
	id := c.identity(other, l.dialog.Flow)
	if l.can.FromChange {
		l.dialog.Local = id
	}
	c.update(l, identityHeaders(id), func(err error) {
		switch {
		case unknown(err) && l.state == legUp:
			c.lost(l, err)
		case err != nil:
			c.log.Debug("connected line", "leg", l.id, "device", l.device.Name, "err", err)
		}
	})
}
