package call

import (
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"baton/serial"
	"baton/sip"
)

// Subscription is a phone's wish to be told of a user's calls (RFC 6665). It is a plain value: whoever holds it can go on
// telling the phone.
type Subscription struct {
	ID      string     `json:"id"`
	User    string     `json:"user"`          // who watches
	Device  string     `json:"device"`        // key of the device that asked
	Event   string     `json:"event"`         // the package with its id, as it is repeated
	Entity  string     `json:"entity"`        // the URI that was asked for
	Watched string     `json:"watched"`       // the user it means
	Only    string     `json:"only,omitzero"` // key of the one device of his that is meant; "" = all
	Dialog  sip.Dialog `json:"dialog"`        // LocalCSeq is a number that no NOTIFY has reached
	Heard   time.Time  `json:"heard"`         // the phone's last request or 2xx
	Expires time.Time  `json:"expires"`
}

// StoredSubscription is a subscription as the store keeps it: the blob is opaque to it.
type StoredSubscription struct {
	ID    string
	Owner string // name of the node that sends its NOTIFYs; "" = the only one
	Blob  []byte // a Subscription as JSON
}

// SubscriptionStore keeps subscriptions. Its writes are asynchronous and keep their order; done is called exactly once and must
// not wait for the store. DropSubscription may be held back for a tenth of a second.
type SubscriptionStore interface {
	PutSubscription(s StoredSubscription, done func(error))
	DropSubscription(id string, done func(error))
	Subscriptions() ([]StoredSubscription, error)
}

// notifier tells phones of what they have subscribed to. It owns all subscriptions of the node: the closures of its mailbox,
// which run one at a time. It waits for nothing: a NOTIFY on its way has a goroutine of its own, which posts what became of it.
type notifier struct {
	// set once
	b    *B2BUA
	log  *slog.Logger
	mail serial.Queue

	// read by everybody
	watched sync.Map     // user → struct{}: whom somebody watches
	count   atomic.Int64 // of subscriptions
	notices sync.WaitGroup

	// owned by mail
	all     map[string]*watch
	of      map[string]map[*watch]struct{} // by who watches
	seen    map[string]*seen               // by who is watched
	open    int                            // NOTIFYs on their way
	closing bool
	over    bool          // told is closed
	told    chan struct{} // closed when none is, and there will be none
	tidying *time.Timer

	room     int           // for subscriptions
	shortest time.Duration // that a subscription may last
	tidyEach time.Duration
}

// seen is a user whom somebody watches.
type seen struct {
	by    map[*watch]struct{}
	calls map[*Call]struct{} // that he has legs in
}

// watch is a subscription at work.
type watch struct {
	Subscription
	pack     eventPackage
	reserved uint32 // the CSeq that is stored: NOTIFYs stay below it
	poll     bool   // it was asked for no time at all: one NOTIFY, nothing is stored
	opening  bool   // its 200 is still to leave
	sending  bool   // a NOTIFY is on its way
	due      bool   // something may have changed since the last one
	must     bool   // the next NOTIFY leaves even if nothing has
	ending   string // why the next NOTIFY is the last; "" = it is not
	gone     bool
	failed   int       // NOTIFYs in a row that the phone did not take
	told     []view    // what the phone knows
	lit      []string  // ids of the dialogs that it was told of since it last was told of none
	last     time.Time // of its last NOTIFY
	pause    *time.Timer
	expiry   *time.Timer
	unwatch  func() // it waits for its device to come back; nil = it does not
}

// Limits of subscriptions.
const (
	subscriptionsOfUser = 200
	subscriptionsOfAll  = 20_000
)

// numbersAhead is how many NOTIFYs are numbered before the store has to know: after a crash their CSeq and version go on above
// all that may have been sent.
const numbersAhead = 1000

func newNotifier(b *B2BUA) *notifier {
	n := &notifier{
		b: b, log: b.Log, all: map[string]*watch{}, of: map[string]map[*watch]struct{}{}, seen: map[string]*seen{},
		told: make(chan struct{}), room: subscriptionsOfAll, shortest: shortestExpires, tidyEach: tidyEach,
	}
	n.mail.Guard = func(f func()) { b.guard(func(sip.Reply) error { return nil }, f) }
	return n
}

// Subscriptions counts those that have not ended.
func (b *B2BUA) Subscriptions() int { return int(b.notifier.count.Load()) }

// add takes a subscription in.
func (n *notifier) add(s *watch) {
	n.all[s.ID] = s
	if n.of[s.User] == nil {
		n.of[s.User] = map[*watch]struct{}{}
	}
	n.of[s.User][s] = struct{}{}
	n.count.Add(1)
	n.look(s)
	n.attach(s)
}

// look has the calls of the watched user tell of themselves.
func (n *notifier) look(s *watch) {
	w := n.seen[s.Watched]
	if w == nil {
		w = &seen{by: map[*watch]struct{}{}, calls: map[*Call]struct{}{}}
		n.seen[s.Watched] = w
		n.watched.Store(s.Watched, struct{}{}) // before the calls are looked at: from here on each tells of a change itself
		for _, c := range n.b.roster.calls(s.Watched) {
			w.check(c, s.Watched)
		}
	}
	w.by[s] = struct{}{}
}

// check keeps only calls that the user has legs in.
func (w *seen) check(c *Call, user string) {
	delete(w.calls, c)
	if p := c.public.Load(); p != nil && p.involves(user) {
		w.calls[c] = struct{}{}
	}
}

// attach has the phone's requests in the subscription's dialog come here.
func (n *notifier) attach(s *watch) {
	n.b.Agent.Attach(s.Dialog, s.User, func(x *sip.Exchange) {
		if !n.mail.Do(func() { n.inDialog(s, x) }) {
			_ = x.Respond(sip.Reply{Code: 481})
		}
	})
}

// remove lets go of all that a subscription holds.
func (n *notifier) remove(s *watch) {
	if s.gone {
		return
	}
	s.gone = true
	stopTimer(s.pause)
	stopTimer(s.expiry)
	n.awaited(s)
	n.b.Agent.Detach(s.Dialog.ID())
	delete(n.all, s.ID)
	if delete(n.of[s.User], s); len(n.of[s.User]) == 0 {
		delete(n.of, s.User)
	}
	if w := n.seen[s.Watched]; w != nil {
		if delete(w.by, s); len(w.by) == 0 {
			delete(n.seen, s.Watched)
			n.watched.Delete(s.Watched)
		}
	}
	n.count.Add(-1)
	n.drop(s)
}

// drop takes a subscription out of the store.
func (n *notifier) drop(s *watch) {
	if s.poll {
		return
	}
	n.b.Store.DropSubscription(s.ID, func(err error) {
		if err != nil && !errors.Is(err, ErrStale) {
			n.log.Warn("delete a subscription's record", "user", s.User, "err", err)
		}
	})
}

func stopTimer(t *time.Timer) {
	if t != nil {
		t.Stop()
	}
}

// after runs f in the notifier when d has passed, unless the subscription has gone.
func (n *notifier) after(s *watch, d time.Duration, f func()) *time.Timer {
	return time.AfterFunc(d, func() {
		n.mail.Do(func() {
			if !s.gone {
				f()
			}
		})
	})
}

// commit writes a subscription and then runs then, after patience even if the store has not answered.
func (n *notifier) commit(s *watch, then func()) {
	then = sync.OnceFunc(then)
	act := func() { n.mail.Do(then) }
	overdue := time.AfterFunc(patience, act)
	n.write(s, func() {
		overdue.Stop()
		act()
	})
}

// write stores a subscription, with a CSeq that its NOTIFYs will not reach for a while.
func (n *notifier) write(s *watch, done func()) {
	s.reserved = s.Dialog.LocalCSeq + numbersAhead
	value := s.Subscription
	value.Dialog.LocalCSeq = s.reserved
	blob, err := json.Marshal(value)
	if err != nil {
		n.log.Error("encode a subscription", "user", s.User, "err", err)
		done()
		return
	}
	n.b.Store.PutSubscription(StoredSubscription{ID: s.ID, Owner: n.b.Owner, Blob: blob}, func(err error) {
		if errors.Is(err, ErrStale) { // another node has taken it over
			n.mail.Do(func() { n.remove(s) })
		} else if err != nil && !errors.Is(err, ErrUnsafe) {
			n.log.Warn("a subscription is not safe in the store", "user", s.User, "err", err)
		}
		done()
	})
}

// restorePace is how long after one another restored subscriptions are told how things stand.
const restorePace = 10 * time.Millisecond

// load goes on with the subscriptions that an earlier run has left.
func (n *notifier) load() error {
	stored, err := n.b.Store.Subscriptions()
	if err != nil {
		return err
	}
	n.mail.Do(func() {
		for i, v := range stored {
			if !n.b.owns(v.Owner) {
				continue
			}
			n.restore(v, "", time.Duration(i)*restorePace)
		}
		n.tidyLater()
	})
	return nil
}

// tidyEach is how often the notifier looks for subscriptions whose users are there no more.
const tidyEach = 30 * time.Second

func (n *notifier) tidyLater() { n.tidying = time.AfterFunc(n.tidyEach, func() { n.mail.Do(n.tidy) }) }

// tidy ends the subscriptions of and to users who have been removed.
func (n *notifier) tidy() {
	for _, s := range n.all {
		if why := n.b.forbidden(s); why != "" {
			n.end(s, why)
		}
	}
	n.tidyLater()
}

// restore takes a stored subscription in, and tells its phone after wait how things stand. What cannot be read, has expired or
// is nobody's any more is forgotten. from is the node that had it, "" = this one.
func (n *notifier) restore(v StoredSubscription, from string, wait time.Duration) {
	if n.all[v.ID] != nil || n.closing {
		return
	}
	s := &watch{}
	err := json.Unmarshal(v.Blob, &s.Subscription)
	if err == nil && s.ID != v.ID {
		err = errors.New("it has another's id")
	}
	if err != nil {
		n.log.Warn("a stored subscription cannot be read", "id", v.ID, "err", err)
	}
	pack, known := packages[sip.EventPackage(s.Event)]
	_, here := n.b.Registrar.User(s.User)
	if err != nil || !known || !here || !time.Now().Before(s.Expires) {
		s.ID = v.ID
		n.drop(s)
		return
	}
	s.pack, s.reserved, s.must = pack, s.Dialog.LocalCSeq, true
	s.Dialog.Flow = n.b.overtaken(s.Dialog.Flow, from)
	n.add(s)
	if from != "" {
		n.write(s, func() {}) // its flow is named otherwise here
	}
	n.expireAt(s, s.Expires)
	s.pause = n.after(s, wait, func() { n.resume(s) })
}

// close ends the notifier's work, not the subscriptions: they go on in the node's next run.
func (n *notifier) close() {
	n.mail.Do(func() {
		stopTimer(n.tidying)
		for _, s := range n.all {
			stopTimer(s.pause)
			stopTimer(s.expiry)
			n.awaited(s)
		}
	})
	n.mail.Finish()
	n.notices.Wait()
}
