package call

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"baton/registrar"
	"baton/sip"
)

// The NOTIFYs of a subscription. One is on its way at a time, and between two of them is notifyPace; what changes meanwhile goes
// with the next, which tells how things stand when it leaves.
//
//	quiet ──change──▶ sending ──2xx──▶ quiet, or pausing where something has changed again
//	                     ├── its flow is gone ──▶ waiting for its device ──▶ sending
//	                     ├── not now (5xx …) ──▶ pausing ──▶ sending, three times
//	                     └── never again (481 …), silence ──▶ gone
const (
	notifyPace  = 100 * time.Millisecond
	notifyAgain = 5 * time.Second // after an answer that means "not now"
	notifyTries = 3
)

// changed is told by a call's agent that others see something else of it than before. It costs next to nothing where nobody
// watches.
func (n *notifier) changed(c *Call, was, is *summary) {
	if n.count.Load() == 0 {
		return
	}
	var users []string
	for _, s := range []*summary{was, is} {
		if s == nil {
			continue
		}
		for _, l := range s.legs {
			if _, ok := n.watched.Load(l.user); ok && !slices.Contains(users, l.user) {
				users = append(users, l.user)
			}
		}
	}
	if len(users) > 0 {
		n.mail.Post(func() { n.onChange(c, users) })
	}
}

// onChange has those told who watch the users.
func (n *notifier) onChange(c *Call, users []string) {
	for _, user := range users {
		w := n.seen[user]
		if w == nil {
			continue
		}
		w.check(c, user)
		for s := range w.by {
			s.due = true
			n.push(s)
		}
	}
}

// push sends a NOTIFY if one is due and may leave now.
func (n *notifier) push(s *watch) {
	if s.gone || s.opening || s.sending || s.unwatch != nil || s.pause != nil || !s.due && !s.must {
		return
	}
	if wait := notifyPace - time.Since(s.last); wait > 0 && s.ending == "" && !n.closing {
		n.pauseFor(s, wait)
		return
	}
	n.send(s)
}

func (n *notifier) pauseFor(s *watch, wait time.Duration) {
	s.pause = n.after(s, wait, func() {
		s.pause = nil
		n.push(s)
	})
}

// send sends a NOTIFY with how things stand.
func (n *notifier) send(s *watch) {
	if s.ending == "" {
		s.ending = n.b.forbidden(s)
	}
	if !n.reach(s) {
		return
	}
	body, news := s.pack.body(n, s)
	if s.due = false; !news && !s.must && s.ending == "" {
		return
	}
	s.must, s.sending, s.last = false, true, time.Now()
	out := s.Dialog.NewRequest("NOTIFY", body, sip.Header{Name: "Event", Value: s.Event}, s.state())
	if !s.poll && s.ending == "" && s.Dialog.LocalCSeq+numbersAhead/10 > s.reserved {
		n.write(s, func() {})
	}
	n.deliver(s, n.roomy(s, out))
}

// state is the Subscription-State of the next NOTIFY (RFC 6665 §8.2.3).
func (s *watch) state() sip.Header {
	h := sip.Header{Name: "Subscription-State", Value: "active;expires=" + seconds(max(time.Until(s.Expires), 0))}
	if s.ending != "" {
		h.Value = "terminated;reason=" + s.ending
	}
	return h
}

// forbidden says why a subscription cannot go on, as the phone is told it; "" = it can.
func (b *B2BUA) forbidden(s *watch) string {
	if _, ok := b.Registrar.User(s.Watched); !ok {
		return "noresource"
	}
	if _, ok := b.Registrar.User(s.User); !ok || s.pack.may(b, s.User, s.Watched) != nil {
		return "rejected"
	}
	return ""
}

// deliver waits, outside of the notifier, for what becomes of a NOTIFY.
func (n *notifier) deliver(s *watch, out sip.Outgoing) {
	n.open++
	n.notices.Go(func() {
		resp, err := n.exchange(out)
		n.mail.Do(func() {
			n.open--
			n.delivered(s, resp, err)
			n.settle()
		})
	})
}

func (n *notifier) exchange(out sip.Outgoing) (resp *sip.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			n.log.Error("NOTIFY panicked", "err", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	return n.b.Agent.Do(n.b.ctx, out)
}

// roomy sends what is long over a connection that the device has beside its UDP flow.
func (n *notifier) roomy(s *watch, out sip.Outgoing) sip.Outgoing {
	if out.Dialog.Flow.Transport != "udp" || !n.b.Agent.TooLong(out) {
		return out
	}
	if d, ok := n.device(s); ok {
		if way, ok := connection(d, n.b.Agent); ok {
			out.Dialog.Flow = way.Flow
		}
	}
	return out
}

// delivered takes the answer to a NOTIFY.
func (n *notifier) delivered(s *watch, resp *sip.Response, err error) {
	s.sending = false
	switch {
	case s.gone || n.b.ctx.Err() != nil:
	case err == nil:
		s.failed, s.Heard = 0, time.Now()
		s.Dialog.Refresh(resp)
		if s.ending != "" && !s.must {
			n.remove(s)
			return
		}
		n.push(s)
	case s.ending != "" && !s.must:
		n.remove(s)
	case unanswered(err):
		n.unreached(s, err)
	case passes(err) && s.failed < notifyTries:
		s.failed++
		s.must = true
		n.pauseFor(s, notifyAgain)
	default:
		n.log.Info("subscription ends", "user", s.User, "to", s.Watched, "event", s.Event, "err", err)
		n.remove(s)
	}
}

// passes says whether an answer to a NOTIFY leaves the subscription as it is (RFC 5057 §5.1, RFC 6665 §4.2.2).
func passes(err error) bool {
	var status *sip.StatusError
	if !errors.As(err, &status) {
		return false
	}
	return !slices.Contains([]int{404, 405, 408, 410, 416, 480, 481, 482, 483, 484, 485, 489, 501, 604}, status.Code)
}

// unreached is a NOTIFY that nobody has answered: it goes to where the device is by now. Where that is nowhere, a device whose
// connection has closed is waited for; one that is silent is gone.
func (n *notifier) unreached(s *watch, err error) {
	s.must = true
	switch {
	case n.elsewhere(s):
		n.push(s)
	case errors.Is(err, sip.ErrFlowGone):
		n.await(s)
	default:
		n.log.Info("subscription ends", "user", s.User, "to", s.Watched, "event", s.Event, "err", err)
		n.remove(s)
	}
}

// device is the subscription's device as it is registered now.
func (n *notifier) device(s *watch) (registrar.Device, bool) {
	return n.b.deviceHere(s.User, s.Device)
}

// reach sees to it that the next NOTIFY goes to where the device is; false: it is nowhere now.
func (n *notifier) reach(s *watch) bool {
	if n.b.Agent.Alive(s.Dialog.Flow) {
		if n.b.rebound(s.User, s.Device, s.Dialog.Flow, s.Heard) {
			n.elsewhere(s)
		}
		return true
	}
	if n.elsewhere(s) {
		return true
	}
	n.await(s)
	return false
}

// elsewhere has the dialog go on over the flow that the device is registered over; false if it has no other that is alive.
func (n *notifier) elsewhere(s *watch) bool {
	d, ok := n.device(s)
	if !ok || d.Binding.Flow == s.Dialog.Flow || !n.b.Agent.Alive(d.Binding.Flow) {
		return false
	}
	s.Dialog.Flow = d.Binding.Flow
	n.attach(s)
	return true
}

// await waits for the device to come back.
func (n *notifier) await(s *watch) {
	if s.ending != "" {
		n.remove(s)
		return
	}
	s.must = true
	s.unwatch = n.b.Registrar.Watch(s.User, func(d registrar.Device) {
		if d.Key == s.Device {
			n.mail.Post(func() { n.resume(s) })
		}
	})
	if n.elsewhere(s) { // it came between
		n.resume(s)
	}
}

// awaited ends the wait.
func (n *notifier) awaited(s *watch) {
	if s.unwatch != nil {
		s.unwatch()
		s.unwatch = nil
	}
}

// resume tells a device that is back, or a node that is, how things stand.
func (n *notifier) resume(s *watch) {
	if s.gone {
		return
	}
	n.awaited(s)
	s.pause = nil
	n.push(s)
}

// lastWords is how long a stopping node waits for its phones to be told that the calls have ended.
const lastWords = time.Second

// finish takes no subscription any more, tells at once what is to be told, and waits a little for it.
func (n *notifier) finish() {
	n.mail.Do(func() {
		n.closing = true
		for _, s := range n.all {
			stopTimer(s.pause)
			s.pause = nil
			n.push(s)
		}
		n.settle()
	})
	select {
	case <-n.told:
	case <-time.After(lastWords):
	}
}

// settle notices, once the notifier is closing, that all is told.
func (n *notifier) settle() {
	if n.closing && n.open == 0 && !n.over {
		n.over = true
		close(n.told)
	}
}

// messageSummary says that nobody has left a message (RFC 3842 §5.2).
func (n *notifier) messageSummary(s *watch) (sip.Body, bool) {
	text := strings.Join([]string{"Messages-Waiting: no", "Message-Account: " + s.Entity, ""}, "\r\n")
	return sip.Body{Type: s.pack.kind, Data: []byte(text)}, false
}
