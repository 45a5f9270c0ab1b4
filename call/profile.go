package call

import (
	"strings"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// traits are what a leg's phone was seen to do. They are kept in its device's profile when the leg ends, in one write and only
// if there is something new.
type traits struct {
	codecs string // that it has offered, in its order
	srtp   string // how it has offered SRTP
	hold   string // how it has put the call on hold

	allows, supports        bool   // it has sent such a header
	update, reliable, timer bool   // … that names it
	byRTP, byINFO           bool   // its keys came so
	options                 string // "yes" or "no": it answers OPTIONS in the dialog
	long                    bool   // our INVITE was too long for one datagram
}

// offer notes what an INVITE of the phone offers. An answer or a change tells less: it holds what the other side can.
func (t *traits) offer(d media.Description) {
	t.srtp, t.codecs = d.Encryption(), codecNames(d)
}

// codecNames are the codecs for speech of a description, in its order.
func codecNames(d media.Description) string {
	var names []string
	for _, k := range codecsOf(d) {
		if k.Name != "telephone-event" && k.Name != "CN" {
			names = append(names, printable(k.Name))
		}
	}
	return strings.Join(names, " ")
}

// reoffer notes how a change of the phone's says that it holds.
func (t *traits) reoffer(d media.Description) {
	if how := d.HoldDialect(); how != "" {
		t.hold = how
	}
}

// listen notes what a message of the phone says that it can.
func (t *traits) listen(m saying) {
	if len(m.Headers("Allow")) > 0 {
		t.allows, t.update = true, m.Allows("UPDATE")
	}
	if len(m.Headers("Supported")) > 0 {
		t.supports, t.reliable, t.timer = true, m.Supports("100rel"), m.Supports("timer")
	}
}

// key notes which way a key came.
func (t *traits) key(k key) {
	t.byRTP, t.byINFO = t.byRTP || k.rate > 0, t.byINFO || k.rate == 0
}

// printable makes a word of what a phone has written.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// learnt are the traits as they stand in a profile; what was not seen is not there.
func (l *Leg) learnt() map[string]string {
	t := l.traits
	what := map[string]string{}
	seen := func(name, value string) {
		if value != "" {
			what[name] = value
		}
	}
	seen(registrar.LearntCodecs, t.codecs)
	seen(registrar.LearntSRTP, t.srtp)
	seen(registrar.LearntHold, t.hold)
	if t.allows {
		seen(registrar.LearntUpdate, yes(t.update))
	}
	if t.supports {
		seen(registrar.LearntReliable, yes(t.reliable))
		seen(registrar.LearntTimer, yes(t.timer))
	}
	if t.options == "no" || l.device.Profile[registrar.LearntOptions] != "" { // that it answers is what is thought of every phone
		seen(registrar.LearntOptions, t.options)
	}
	seen(registrar.LearntKeys, t.keys(l.device.Profile[registrar.LearntKeys]))
	if t.long && !l.answer.IsZero() {
		way := "connection"
		if l.dialog.Flow.Transport == "udp" {
			way = "udp"
		}
		seen(registrar.LearntLarge, way)
	}
	return what
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// keys adds the ways in which keys came to those known before.
func (t *traits) keys(before string) string {
	rtp, info := t.byRTP || before == "rtp" || before == "both", t.byINFO || before == "info" || before == "both"
	switch {
	case rtp && info:
		return "both"
	case rtp:
		return "rtp"
	case info:
		return "info"
	}
	return ""
}

// keepTraits learns, at the leg's end, what was seen of its phone. Nothing is asked of the registrar where nothing is new.
func (c *Call) keepTraits(l *Leg) {
	l.traits.byRTP = l.traits.byRTP || l.stream.Keys() > 0
	if l.ringless && l.answer.IsZero() && !l.rangAt.IsZero() && time.Since(l.rangAt) > rangInVain {
		c.learnWay(l, registrar.ByHand)
	}
	if l.device.Key == "" || c.abandoned {
		return
	}
	if !l.incoming && len(l.agreed.Send) > 0 {
		l.tookDialect()
	}
	what := l.learnt()
	for name, value := range what {
		if l.device.Profile[name] == value {
			delete(what, name)
		}
	}
	if len(what) > 0 {
		c.b.Registrar.Learn(l.device, what)
	}
}

// learnRefused keeps why a phone's calls are refused, if it is that it offers SRTP alone: that can be seen beside the device.
func (b *B2BUA) learnRefused(x *sip.Exchange, caller registrar.User) {
	d, err := media.ParseSDP(x.Body().Data)
	if err != nil || d.Encryption() != "savp" {
		return
	}
	if device := b.device(x, caller.Name); device.Profile[registrar.LearntSRTP] != "savp" {
		b.Registrar.Learn(device, map[string]string{registrar.LearntSRTP: "savp"})
	}
}
