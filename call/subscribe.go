package call

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"baton/registrar"
	"baton/sip"
)

// Events are the event packages that phones can subscribe to, and the one that they publish.
var Events = append(slices.Sorted(maps.Keys(packages)), reportEvent)

// eventPackage is what a notifier has to know of an event package (RFC 6665 §5.4).
type eventPackage struct {
	kind string // media type of its documents
	// may says why a user may not subscribe to another's.
	may func(b *B2BUA, watcher, watched string) error
	// body makes the document of this moment; false: nothing is new.
	body func(n *notifier, s *watch) (sip.Body, bool)
}

// packages are those that are served. Phones ask for message-summary at boot, and some go on asking for ever when they are
// refused; what they are told is true: nobody has a mailbox here.
var packages = map[string]eventPackage{
	"dialog":          {dialogInfoType, (*B2BUA).mayWatchDialogs, (*notifier).dialogInfo},
	"message-summary": {"application/simple-message-summary", (*B2BUA).mayWatchMessages, (*notifier).messageSummary},
}

// How long a subscription may last (RFC 6665 §4.2.1.1, RFC 4235 §3.4).
const (
	usualExpires    = time.Hour
	longestExpires  = time.Hour
	shortestExpires = time.Minute
)

// largestSubscribe bounds what is remembered of one: its addresses and routes.
const largestSubscribe = 8 << 10

// Subscribe takes a SUBSCRIBE outside of a dialog from an authenticated user. It runs on the dispatcher's queue and does not
// block.
func (b *B2BUA) Subscribe(x *sip.Exchange) {
	watcher, ok := b.Registrar.User(x.User())
	if !ok {
		_ = x.Respond(sip.Reply{Code: 403})
		return
	}
	if err := b.subscribe(x, watcher); err != nil {
		b.refuseSubscribe(x, watcher.Name, err)
	}
}

func (b *B2BUA) refuseSubscribe(x *sip.Exchange, user string, err error) {
	b.Log.Info("subscription refused", "user", user, "to", x.RequestURI().User, "event", x.Header("Event"), "err", err)
	_ = x.Respond(b.reply(err))
}

func (b *B2BUA) subscribe(x *sip.Exchange, watcher registrar.User) error {
	ask, pack, err := b.wanted(x)
	if err != nil {
		return err
	}
	if _, ok := x.Contact(); !ok {
		return refusal(400, "a SUBSCRIBE needs a Contact")
	}
	if x.Size() > largestSubscribe {
		return refusal(513, fmt.Sprintf("a SUBSCRIBE may have %d octets", largestSubscribe))
	}
	target, err := b.route(x.RequestURI(), watcher)
	if err == nil && target.Code != codeNone {
		err = refusal(404, "a star code is dialled, not watched")
	}
	if err != nil {
		return err
	}
	if err := pack.may(b, watcher.Name, target.User.Name); err != nil {
		return err
	}
	s := &watch{pack: pack, Subscription: Subscription{
		ID: newID() + newID(), User: watcher.Name, Device: b.device(x, watcher.Name).Key, Event: ask.Event,
		Entity: entity(x.RequestURI()), Watched: target.User.Name, Dialog: x.Dialog(0), Heard: time.Now(),
	}}
	if target.Device != nil {
		s.Only = target.Device.Key
	}
	if !b.notifier.mail.Do(func() { b.notifier.begin(s, x, ask) }) {
		return refusal(503, "baton is stopping")
	}
	return nil
}

// wanted reads which package a SUBSCRIBE is for.
func (b *B2BUA) wanted(x *sip.Exchange) (sip.Subscribe, eventPackage, error) {
	ask, err := sip.ReadSubscribe(x.Request)
	if err != nil {
		return ask, eventPackage{}, refusal(400, err.Error())
	}
	pack, ok := packages[ask.Package]
	if !ok {
		return ask, pack, refusal(489, fmt.Sprintf("the event package %q is not served", ask.Package))
	}
	if !x.Accepts(pack.kind) {
		return ask, pack, &Refusal{Code: 406, Why: "only " + pack.kind + " is to be had", Headers: []sip.Header{{Name: "Accept", Value: pack.kind}}}
	}
	if _, one := ask.Params.Get("call-id"); one { // RFC 4235 §3.2
		return ask, pack, refusal(489, "a subscription to a single dialog is not served")
	}
	return ask, pack, nil
}

// lasts is how long a subscription lasts, 0 = it is to end, or was a question only. From 90 to 100 percent of what was asked
// for are granted, so that phones that have all begun at once do not all come again at once.
func (n *notifier) lasts(ask sip.Subscribe) (time.Duration, error) {
	asked := usualExpires
	if ask.Given {
		asked = min(ask.Expires, longestExpires)
	}
	if asked > 0 && asked < n.shortest {
		return 0, &Refusal{Code: 423, Why: "a subscription lasts a minute at least", Headers: []sip.Header{
			{Name: "Min-Expires", Value: seconds(n.shortest)},
		}}
	}
	if asked > n.shortest {
		asked = max(asked-rand.N(asked/10+1), n.shortest)
	}
	return asked.Truncate(time.Second), nil
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// entity is the address that was asked for, as it was written.
func entity(u sip.URI) string {
	u.Params, u.Headers = nil, nil
	return u.String()
}

func (b *B2BUA) mayWatchDialogs(watcher, watched string) error {
	if !b.mayWatch(watcher, watched) {
		return refusal(403, fmt.Sprintf("%s may not watch %s (settings groups, watch)", watcher, watched))
	}
	return nil
}

func (b *B2BUA) mayWatchMessages(watcher, watched string) error {
	if watcher != watched {
		return refusal(403, "one's own messages alone can be watched")
	}
	return nil
}

// begin takes a new subscription in, in place of one that its device has left behind, and answers.
func (n *notifier) begin(s *watch, x *sip.Exchange, ask sip.Subscribe) {
	expires, err := n.lasts(ask)
	s.poll = expires == 0
	var old *watch
	if err == nil {
		old, err = n.place(s)
	}
	if err != nil {
		n.b.refuseSubscribe(x, s.User, err)
		return
	}
	if old != nil {
		n.remove(old)
	}
	s.opening = true
	n.add(s)
	n.log.Debug("subscription", "user", s.User, "to", s.Watched, "event", s.Event, "expires", expires)
	n.grant(s, x, expires)
}

// place finds room for a subscription: in place of old, which the same device has made for the same thing before it has started
// anew.
func (n *notifier) place(s *watch) (old *watch, err error) {
	for o := range n.of[s.User] {
		switch {
		case o.Dialog.CallID == s.Dialog.CallID && o.Dialog.RemoteTag == s.Dialog.RemoteTag && s.Dialog.RemoteCSeq <= o.Dialog.RemoteCSeq:
			return nil, refusal(482, "this request has come by another way already") // RFC 3261 §8.2.2.2
		case !s.poll && !o.poll && o.Device == s.Device && o.Event == s.Event && o.Entity == s.Entity:
			old = o
		}
	}
	switch {
	case n.closing:
		return nil, refusal(503, "baton is stopping")
	case old != nil:
		return old, nil
	case len(n.of[s.User]) >= subscriptionsOfUser:
		return nil, refusal(403, fmt.Sprintf("%s has %d subscriptions and may have no more", s.User, subscriptionsOfUser))
	case len(n.all) >= n.room:
		return nil, refusal(503, "the node has no room for more subscriptions")
	}
	return nil, nil
}

// grant answers a SUBSCRIBE with how long the subscription lasts from now, and tells the phone how things stand.
func (n *notifier) grant(s *watch, x *sip.Exchange, expires time.Duration) {
	if expires == 0 {
		s.ending = "timeout"
		n.granted(s, x, expires)
		return
	}
	s.Expires = time.Now().Add(expires)
	n.expireAt(s, s.Expires)
	n.commit(s, func() { n.granted(s, x, expires) })
}

func (n *notifier) granted(s *watch, x *sip.Exchange, expires time.Duration) {
	if s.gone { // replaced meanwhile: its phone does not want it any more
		_ = x.Respond(sip.Reply{Code: 481})
		return
	}
	_ = x.Respond(sip.Reply{Code: 200, Headers: []sip.Header{{Name: "Expires", Value: seconds(expires)}}})
	s.opening, s.must = false, true
	n.push(s)
}

// expireAt has the subscription end.
func (n *notifier) expireAt(s *watch, at time.Time) {
	stopTimer(s.expiry)
	s.expiry = n.after(s, time.Until(at), func() { n.end(s, "timeout") })
}

// end tells the phone that its subscription is over, and why (RFC 6665 §4.1.3).
func (n *notifier) end(s *watch, why string) {
	if s.ending != "" {
		return
	}
	if s.unwatch != nil { // nobody is there to be told
		n.remove(s)
		return
	}
	s.ending, s.must = why, true
	n.drop(s)
	n.push(s)
}

// inDialog takes a request of the phone in the subscription's dialog.
func (n *notifier) inDialog(s *watch, x *sip.Exchange) {
	if x.Method() == "PUBLISH" || x.Method() == "NOTIFY" { // it has nothing to do with the subscription, and does not end it
		_ = x.Respond(n.b.published(x, s.User))
		return
	}
	if s.gone || s.ending != "" || x.Method() != "SUBSCRIBE" {
		_ = x.Respond(sip.Reply{Code: 481})
		return
	}
	flow := s.Dialog.Flow
	if err := s.Dialog.Receive(x.Request); err != nil {
		_ = x.Respond(sip.Reply{Code: 500, Headers: []sip.Header{warning(err.Error())}})
		return
	}
	s.Heard = time.Now()
	if s.Dialog.Flow != flow {
		n.attach(s) // its next request is known from there
	}
	if err := n.refresh(s, x); err != nil {
		n.b.refuseSubscribe(x, s.User, err)
	}
}

// refresh prolongs the subscription, or ends it where its phone wants that.
func (n *notifier) refresh(s *watch, x *sip.Exchange) error {
	ask, err := sip.ReadSubscribe(x.Request)
	if err != nil {
		return refusal(400, err.Error())
	}
	if ask.Event != s.Event {
		return refusal(489, fmt.Sprintf("this dialog is of the subscription to %q", s.Event))
	}
	expires, err := n.lasts(ask)
	if err != nil {
		return err
	}
	n.awaited(s)
	if expires == 0 {
		n.drop(s)
	}
	n.grant(s, x, expires)
	return nil
}
