package call

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/media"
	"baton/sip"
)

// Keys (docs/protocol.md). A phone tells them by RTP, as telephone-event, or by INFO. What the other side's phone takes as
// telephone-event passes by RTP alone; the rest comes here and is told one key after the other, to whoever is there then.

// The bodies of an INFO that tells a key; both are older than RFC 6086's packages and have none.
const (
	relayType = "application/dtmf-relay" // Signal=5, Duration=160
	plainType = "application/dtmf"       // 5
)

const (
	keyLength = 100 * time.Millisecond // of one that names no duration
	keyLeast  = 40 * time.Millisecond  // shorter ones are not heard (ITU-T Q.24)
	keyMost   = 5 * time.Second
	keyPause  = 60 * time.Millisecond // between two
	maxKeys   = 64                    // waiting, of one seat
)

// key is one that waits to be told to the other side.
type key struct {
	media.Key
	rate int // clock of the telephone-event that it was, 0 = it came by INFO
}

// keys are those of a seat's user, in order. They outlive the leg they came from.
type keys struct {
	waiting []key
	now     key // the one that is being told, while open
	open    int // ways in which the present one is still being told, and the pause after it
}

// onInfo takes an INFO, which baton knows for keys, and of browsers for their direct media. An empty one is the keep-alive of old phones.
func (c *Call) onInfo(l *Leg, x *sip.Exchange) {
	kind, _, _ := strings.Cut(strings.ToLower(x.Body().Type), ";")
	kind = strings.TrimSpace(kind)
	switch {
	case x.Header("Info-Package") != "":
		_ = x.Respond(sip.Reply{Code: 469, Headers: []sip.Header{{Name: "Recv-Info"}}}) // RFC 6086 §4.2.2: none
	case len(x.Body().Data) == 0:
		_ = x.Respond(sip.Reply{Code: 200})
	case kind == peerType && l.browser():
		c.onPeer(l, x)
	case kind != relayType && kind != plainType:
		_ = x.Respond(sip.Reply{Code: 415, Headers: []sip.Header{{Name: "Accept", Value: relayType + ", " + plainType}}})
	default:
		c.onKeyInfo(l, x, kind)
	}
}

func (c *Call) onKeyInfo(l *Leg, x *sip.Exchange, kind string) {
	k, err := readKey(kind, string(x.Body().Data))
	switch {
	case err != nil:
		_ = x.Respond(c.b.reply(refusal(400, err.Error())))
	case !c.keyOf(l, key{Key: k}):
		_ = x.Respond(c.b.reply(refusal(503, fmt.Sprintf("%d keys are waiting already", maxKeys))))
	default:
		_ = x.Respond(sip.Reply{Code: 200})
	}
}

// readKey reads the body of an INFO. Names may be in any case, spaces anywhere, the duration may be left out.
func readKey(kind, body string) (media.Key, error) {
	k := media.Key{Length: keyLength}
	signal := body
	if kind == relayType {
		fields := relayFields(body)
		signal = fields["signal"]
		if d := fields["duration"]; d != "" {
			n, err := strconv.ParseUint(d, 10, 31)
			if err != nil {
				return k, fmt.Errorf("the duration %q is no number of milliseconds", d)
			}
			k.Length = time.Duration(n) * time.Millisecond
		}
	}
	code, ok := keyCode(strings.TrimSpace(signal))
	if !ok {
		return k, fmt.Errorf("%q is no key: 0 to 9, *, # and A to D are", strings.TrimSpace(signal))
	}
	k.Code, k.Length = code, min(max(k.Length, keyLeast), keyMost)
	return k, nil
}

// relayFields reads lines of name=value; the first of a name counts.
func relayFields(body string) map[string]string {
	fields := map[string]string{}
	for _, line := range strings.FieldsFunc(body, func(r rune) bool { return r == '\r' || r == '\n' }) {
		name, value, _ := strings.Cut(line, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if _, known := fields[name]; !known {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields
}

// keyNames are the keys by their RFC 4733 codes; flash is written as Cisco's and Asterisk's phones do.
const keyNames = "0123456789*#ABCD!"

// keyCode is the code of a key, which some phones write as its number.
func keyCode(s string) (uint8, bool) {
	if i := strings.Index(keyNames, strings.ToUpper(s)); i >= 0 && len(s) == 1 {
		return uint8(i), true
	}
	if strings.EqualFold(s, "flash") {
		return media.LastKey, true
	}
	n, err := strconv.ParseUint(s, 10, 8)
	return uint8(n), err == nil && len(s) <= 2 && n <= media.LastKey
}

// keyInfo is the body of the INFO that tells a key.
func keyInfo(k media.Key) sip.Body {
	text := fmt.Sprintf("Signal=%c\r\nDuration=%d\r\n", keyNames[k.Code], k.Length.Milliseconds())
	return sip.Body{Type: relayType, Data: []byte(text)}
}

// keyOf takes a key of the leg's phone. False: too many are waiting.
func (c *Call) keyOf(l *Leg, k key) bool {
	l.traits.key(k)
	m := c.moveOf(l.seat)
	switch {
	case c.state != StateUp || l.state != legUp && !l.moved:
		return true
	case l.seat.holder != l && (m == nil || m.to != l) && !l.moved:
		return true // on its way out
	case l.twin(k):
		return true
	case len(l.seat.keys.waiting) >= maxKeys:
		return false
	}
	if c.aside(l) {
		k.rate = 0 // nobody has had it by RTP
	}
	q := &l.seat.keys
	q.waiting = append(q.waiting, k)
	if q.open == 0 {
		c.nextKey(l.seat)
	}
	return true
}

// twin says whether a key that has just come was told the other way already.
func (l *Leg) twin(k key) bool {
	now := time.Since(l.began)
	if k.rate > 0 { // told at its end
		return l.twins.Take(k.Code, true, now-k.Length, now)
	}
	return l.twins.Take(k.Code, false, now, now+k.Length)
}

// nextKey tells the other side the seat's next key, and goes on when that is over for everybody there.
func (c *Call) nextKey(s *Seat) {
	q := &s.keys
	if c.state != StateUp || !slices.Contains(c.allSeats(), s) {
		q.waiting = nil
	}
	if len(q.waiting) == 0 {
		return
	}
	k := q.waiting[0]
	q.waiting = q.waiting[1:]
	over := func() { c.keyOver(s) }
	q.now, q.open = k, 1
	c.after(keyPause, over)
	other := c.other(s)
	if other == nil {
		return
	}
	for _, l := range c.listeners(other) {
		if c.tellKey(l, k, over) {
			q.open++
		}
	}
}

// keyOver is the end of one way in which a seat's key was told.
func (c *Call) keyOver(s *Seat) {
	if s.keys.open--; s.keys.open == 0 {
		c.nextKey(s)
	}
}

// keyGoesOn tells a leg that has taken its seat the key of the other side that is still being played to the leg before it.
func (c *Call) keyGoesOn(old, l *Leg) {
	o := c.other(l.seat)
	if o == nil || !old.pressing || l.pressing {
		return
	}
	if c.tellKey(l, o.keys.now, func() { c.keyOver(o) }) {
		o.keys.open++
	}
}

// tellKey tells a leg's phone a key, as it can be told: over is called when that is done. False: it has heard it by RTP, does
// not want to hear anything, or knows no keys.
func (c *Call) tellKey(l *Leg, k key, over func()) bool {
	pause := func() { c.after(keyPause, over) }
	switch {
	case l.state != legUp || l.held || k.rate > 0 && l.takesEvents(k.rate):
		return false
	case l.stream.Press(k.Key, func() { c.post(func() { l.pressing = false; pause() }) }):
		l.pressing = true
		return true
	case l.can.Info:
		c.request(l, l.dialog.NewRequest("INFO", keyInfo(k.Key)), requestPatience, func(err error) {
			c.keyTold(l, err)
			pause()
		})
		return true
	}
	c.log.Debug("key dropped: the phone knows neither telephone-event nor INFO", "leg", l.id, "device", l.device.Name)
	return false
}

// keyTold looks at the answer to an INFO: a phone that does not know what it says is sent no more.
func (c *Call) keyTold(l *Leg, err error) {
	if err == nil {
		return
	}
	c.log.Debug("key told by INFO", "leg", l.id, "device", l.device.Name, "err", err)
	var status *sip.StatusError
	if errors.As(err, &status) && slices.Contains([]int{405, 415, 469, 489, 501}, status.Code) {
		l.can.Info = false
	}
}

// takesEvents says whether the leg's phone is passed telephone-events of a clock as they come.
func (l *Leg) takesEvents(rate int) bool {
	return slices.ContainsFunc(l.agreed.Send, func(k media.Codec) bool {
		return strings.EqualFold(k.Name, "telephone-event") && k.Rate == rate
	})
}
