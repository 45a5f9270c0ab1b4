package call

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"baton/registrar"
	"baton/sip"
)

// Messages between users (RFC 3428, docs/protocol.md): each is passed on to all devices of the user it is for that are here
// now, built anew. Nothing is kept for those that are away.

// Types are the media types, beside SDP, of the bodies that baton understands.
var Types = append([]string{relayType, plainType, reportType}, messageTypes...)

// messageTypes may be passed on in a MESSAGE. message/cpim is not among them: the sender that it names is nobody's to check.
var messageTypes = []string{"text/plain", "application/im-iscomposing+xml"}

const (
	maxMessage      = 16 << 10         // octets of a body
	maxDatagram     = 1300             // octets of a whole MESSAGE over UDP (RFC 3428 §8)
	messagePatience = 10 * time.Second // for a device's answer; the sender gives up after 32 s
	messagesOfUser  = 32               // on their way to devices at once
	messagesOfAll   = 1024
)

// messages knows what is on its way.
type messages struct {
	mu   sync.Mutex
	of   map[string]int // by sender, how many
	all  int
	last map[string]chan struct{} // by device, closed when it has answered the newest
}

// line gives a message its place behind the one before it to the same device: before is closed when that is answered, nil
// if there is none; done is to be called at its own answer.
func (m *messages) line(device string) (before chan struct{}, done func()) {
	own := make(chan struct{})
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		m.last = map[string]chan struct{}{}
	}
	before, m.last[device] = m.last[device], own
	return before, func() {
		close(own)
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.last[device] == own {
			delete(m.last, device)
		}
	}
}

// enter makes room for n of a user's.
func (m *messages) enter(user string, n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of[user]+n > messagesOfUser || m.all+n > messagesOfAll {
		return false
	}
	if m.of == nil {
		m.of = map[string]int{}
	}
	m.of[user] += n
	m.all += n
	return true
}

func (m *messages) leave(user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all--
	if m.of[user]--; m.of[user] == 0 {
		delete(m.of, user)
	}
}

// Message takes a MESSAGE outside of a dialog from an authenticated user. It runs on the dispatcher's queue and does not block.
func (b *B2BUA) Message(x *sip.Exchange) {
	sender, ok := b.Registrar.User(x.User())
	if !ok {
		_ = x.Respond(sip.Reply{Code: 403})
		return
	}
	if err := b.message(x, sender); err != nil {
		b.Log.Info("message refused", "user", sender.Name, "to", x.RequestURI().User, "err", err)
		_ = x.Respond(b.messageReply(err))
	}
}

// messageReply is the answer that says why; to a type that is not passed on also which ones are.
func (b *B2BUA) messageReply(err error) sip.Reply {
	rep := b.reply(err)
	if rep.Code == 415 {
		rep.Headers = append(rep.Headers, sip.Header{Name: "Accept", Value: strings.Join(messageTypes, ", ")})
	}
	return rep
}

func (b *B2BUA) message(x *sip.Exchange, sender registrar.User) error {
	body, err := messageBody(x.Body())
	if err != nil {
		return err
	}
	if _, ok := b.officeCode(x.RequestURI()); ok {
		return refusal(404, "a star code is dialled, not written to")
	}
	target, err := b.route(x.RequestURI(), sender)
	if err != nil {
		return err
	}
	if target.Code != codeNone {
		return refusal(404, "a star code is dialled, not written to")
	}
	devices := b.readers(target, b.device(x, sender.Name))
	if len(devices) == 0 && target.Device != nil && !target.Device.Here() {
		return refusal(480, away(*target.Device))
	}
	if len(devices) == 0 {
		return refusal(480, fmt.Sprintf("no device of %s is here", target.User.Name))
	}
	return b.deliver(x, sender, target.User, devices, body)
}

// messageBody checks what is to be passed on and names its type by what is known of it alone.
func messageBody(body sip.Body) (sip.Body, error) {
	if len(body.Data) == 0 {
		return body, refusal(400, "the message is empty")
	}
	if len(body.Data) > maxMessage {
		return body, refusal(413, fmt.Sprintf("the message has more than %d octets", maxMessage))
	}
	kind, params, err := mime.ParseMediaType(body.Type)
	if err != nil || !slices.Contains(messageTypes, kind) {
		return body, refusal(415, fmt.Sprintf("a body of the type %q is not passed on", body.Type))
	}
	known := map[string]string{}
	if set := params["charset"]; set != "" {
		known["charset"] = set
	}
	if body.Type = mime.FormatMediaType(kind, known); body.Type == "" {
		return body, refusal(415, "the charset cannot be read")
	}
	return body, nil
}

// readers are the devices of the target that are here, without the one that has sent the message.
func (b *B2BUA) readers(t Target, sender registrar.Device) []registrar.Device {
	return slices.DeleteFunc(b.Registrar.Lookup(t.User.Name), func(d registrar.Device) bool {
		return d.Key == sender.Key && d.User == sender.User || t.Device != nil && t.Device.Key != d.Key
	})
}

// deliver sends a message to devices; the sender is answered when the first has taken it, or when none will.
func (b *B2BUA) deliver(x *sip.Exchange, sender, to registrar.User, devices []registrar.Device, body sip.Body) error {
	if !b.join() {
		return refusal(503, "baton is stopping")
	}
	if !b.messages.enter(sender.Name, len(devices)) {
		b.running.Done()
		return refusal(503, "too many messages are on their way")
	}
	headers := passedOn(x)
	told := make(chan error, len(devices))
	for _, d := range devices {
		before, done := b.messages.line(d.User + " " + d.Key)
		go func() {
			defer b.messages.leave(sender.Name)
			defer done()
			waitFor(before)
			err := errors.New("internal error")
			b.guard(func(sip.Reply) error { return nil }, func() { err = b.hand(d, sender, to, body, headers) })
			told <- err
		}()
	}
	go func() {
		defer b.running.Done()
		b.guard(x.Respond, func() { b.delivered(x, sender, to, told) })
	}()
	return nil
}

// passedOn are the headers of a message that go on with it (RFC 3428 §4, §11); one that cannot be read does not.
func passedOn(x *sip.Exchange) []sip.Header {
	var out []sip.Header
	if n, err := strconv.ParseUint(x.Header("Max-Forwards"), 10, 8); err == nil && n > 0 {
		out = append(out, sip.Header{Name: "Max-Forwards", Value: strconv.FormatUint(n-1, 10)})
	}
	if at, err := http.ParseTime(x.Header("Date")); err == nil {
		out = append(out, sip.Header{Name: "Date", Value: at.UTC().Format(http.TimeFormat)})
	}
	if n, err := strconv.ParseUint(x.Header("Expires"), 10, 32); err == nil {
		out = append(out, sip.Header{Name: "Expires", Value: strconv.FormatUint(n, 10)})
	}
	return out
}

// hand sends a message to one device and waits for its answer.
func (b *B2BUA) hand(d registrar.Device, sender, to registrar.User, body sip.Body, headers []sip.Header) error {
	flow := d.Binding.Flow
	us, them := b.identity(newSeat(sender), flow), b.identity(newSeat(to), flow)
	dialog := b.Agent.NewDialog(us, them, d.Binding.Target(), d.Binding.Path, flow, 0)
	out := dialog.NewRequest("MESSAGE", body, append(identityHeaders(us), headers...)...)
	if size, err := b.Agent.Size(out); err == nil && flow.Transport == "udp" && size > maxDatagram {
		return refusal(413, fmt.Sprintf("%s is reached over UDP, where a message may have %d octets", d.Name, maxDatagram))
	}
	ctx, cancel := context.WithTimeout(b.ctx, messagePatience)
	defer cancel()
	_, err := b.Agent.Do(ctx, out)
	if errors.Is(err, sip.ErrFlowGone) {
		b.Registrar.Unreachable(d.User, d.Key, "its connection is gone")
	}
	if err != nil {
		return refusal(messageCode(err), fmt.Sprintf("%s: %v", d.Name, err))
	}
	return nil
}

// messageCode is what the sender is told of a device's refusal. That one does not know MESSAGE, wants a password or is broken
// says nothing of the message.
func messageCode(err error) int {
	var status *sip.StatusError
	if !errors.As(err, &status) {
		return 480
	}
	switch status.Code {
	case 403, 406, 413, 415, 486, 488, 493, 513, 600, 603, 606:
		return status.Code
	}
	return 480
}

// delivered answers the sender: 200 with the first device that takes the message, else the refusal that tells most.
func (b *B2BUA) delivered(x *sip.Exchange, sender, to registrar.User, told chan error) {
	var why error
	taken := false
	for range cap(told) {
		err := <-told
		if err == nil && !taken {
			taken = true
			_ = x.Respond(sip.Reply{Code: 200})
		}
		if err != nil && (why == nil || statusOf(why, 500) == 480) {
			why = err
		}
		b.Log.Debug("message", "from", sender.Name, "to", to.Name, "err", err)
	}
	if !taken {
		b.Log.Info("message refused", "user", sender.Name, "to", to.Name, "err", why)
		_ = x.Respond(b.messageReply(why))
	}
}

// onMessage takes a MESSAGE within a call's dialog (RFC 3428 §10 advises against it, some phones send it): it goes on in the
// other side's dialogs.
func (c *Call) onMessage(l *Leg, x *sip.Exchange) {
	body, err := messageBody(x.Body())
	if err == nil {
		err = c.passMessage(l, x, body)
	}
	if err != nil {
		_ = x.Respond(c.b.messageReply(err))
	}
}

func (c *Call) passMessage(l *Leg, x *sip.Exchange, body sip.Body) error {
	other := c.other(l.seat)
	if c.state != StateUp || other == nil {
		return refusal(480, "nobody is on the other side")
	}
	legs := slices.DeleteFunc(c.listeners(other), func(k *Leg) bool { return k.state != legUp })
	if len(legs) == 0 {
		return refusal(480, "nobody is on the other side")
	}
	if !c.b.messages.enter(l.seat.user.Name, len(legs)) {
		return refusal(503, "too many messages are on their way")
	}
	headers, open := passedOn(x), len(legs)
	for _, k := range legs {
		c.request(k, k.dialog.NewRequest("MESSAGE", body, headers...), messagePatience, func(err error) {
			c.b.messages.leave(l.seat.user.Name)
			switch open--; {
			case err == nil:
				_ = x.Respond(sip.Reply{Code: 200})
			case open == 0:
				_ = x.Respond(c.b.messageReply(refusal(messageCode(err), fmt.Sprintf("%s: %v", k.device.Name, err))))
			}
		})
	}
	return nil
}
