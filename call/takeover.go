package call

import (
	"errors"
	"sync"
	"time"

	"baton/media"
	"baton/sip"
)

// Takeover: a node goes on with the calls of another one that is dead, or that stops, at its own address (docs/cluster.md). Who claims a call in the
// store first has it, under the next epoch. What a call becomes is as after a restart (restore.go); but the ports and connections of the other
// node are gone, so that every leg has a new stream, and its phone is told of that by a re-INVITE, all at once:
//
//	the phone is reached     re-INVITE with the place, SSRC and keys of the new stream, and the codec in use first
//	  … answers                  it is heard again
//	  … 491                      once more, later (RFC 3261 §14.1)
//	  … 481, 408                 its seat is empty, and waited for (loss.go)
//	  … says nothing for 2 s     the same, and its answer is its coming back
//	its connection is gone   its seat is waited for; when its device has registered again it is told over the new connection
//
// The CSeq of the new epoch is far above all that the other node may have sent: to a phone, what a woken node still says is old (RFC 3261 §12.2.2).

// errNodeLost is why a device is waited for whose connection has gone with its node.
var errNodeLost = errors.New("the node that it was connected to is gone")

// errNoWord is why a device is waited for that has not said that it knows where its call is now.
var errNoWord = errors.New("it does not answer the node that has taken its call over")

const (
	// wordPatience is how long a phone is given to answer before the other side hears that it is not there.
	wordPatience = 2 * time.Second
	// reconnects is how long a device whose node is gone is given to find another, before others are rung for it.
	reconnects = 5 * time.Second
)

// TakeOver goes on with calls that this node has claimed from another, and says how many it is that it has now. It may be called while the node
// runs. None of them is another's by now: what this node does not take up, because it stops, is as the other has left it.
func (b *B2BUA) TakeOver(from string, claimed ...Stored) int {
	all := b.readAll(claimed, from)
	oneOwner(all)
	return b.reviveAll(all, func(l *leftover) uint64 { return l.Stored.Epoch })
}

// TakeOverSubscriptions goes on with subscriptions that this node has claimed from another: their phones are told how things stand.
func (b *B2BUA) TakeOverSubscriptions(from string, claimed []StoredSubscription) {
	n := b.notifier
	n.mail.Do(func() {
		for i, v := range claimed {
			n.restore(v, from, time.Duration(i)*restorePace)
		}
	})
}

// YieldSubscriptions lets go of those that other nodes have by now: stored is all that there are.
func (b *B2BUA) YieldSubscriptions(stored []StoredSubscription) (lost int) {
	n, done := b.notifier, make(chan struct{})
	taken := n.mail.Do(func() {
		defer close(done)
		for _, v := range stored {
			if s := n.all[v.ID]; s != nil && !b.owns(v.Owner) {
				n.remove(s)
				lost++
			}
		}
	})
	if taken {
		<-done
	}
	return lost
}

// Owned is the calls that this node has, and under which epochs.
func (b *B2BUA) Owned() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string]uint64, len(b.calls))
	for id, c := range b.calls {
		all[id] = c.epoch
	}
	return all
}

// Has says that a call is this node's and has been taken up: its dialogs are known.
func (b *B2BUA) Has(id string) bool {
	b.mu.Lock()
	c := b.calls[id]
	b.mu.Unlock()
	return c != nil && c.public.Load() != nil
}

// yieldPatience bounds the wait for calls to fall silent.
const yieldPatience = time.Second

// Yield falls silent about calls that another node has by now, as a refused write does (commit.go), and returns when that is done.
func (b *B2BUA) Yield(ids []string) {
	var silent sync.WaitGroup
	for _, id := range ids {
		if c, err := b.find(id); err == nil {
			silent.Add(1)
			done := sync.OnceFunc(silent.Done)
			if !c.post(func() {
				defer done()
				c.abandon()
			}) {
				done()
			}
		}
	}
	all := make(chan struct{})
	go func() {
		silent.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-time.After(yieldPatience):
	}
}

// overtaken is a flow that the record of another node names, as it is from here: by UDP a phone is reached from anywhere, a connection is at
// the node that had it.
func (c *Call) overtaken(f sip.Flow) sip.Flow { return c.b.overtaken(f, c.predecessor) }

func (b *B2BUA) overtaken(f sip.Flow, predecessor string) sip.Flow {
	if predecessor == "" {
		return f
	}
	f = f.At(predecessor, b.Node)
	if f.Transport == "udp" && (f.Node == predecessor || f.Node != "" && !b.Agent.Alive(f)) { // it may stand still, and be linked all the same
		if here, ok := b.Agent.FlowTo(f.Remote); ok {
			return here
		}
	}
	return f
}

// takeUp tells the phone of a leg that was taken over where it is now, or waits for it to be there.
func (c *Call) takeUp(l *Leg) {
	c.tellPlace(l)
	if !c.b.Agent.Alive(l.dialog.Flow) {
		if l.seat.holder == l { // a companion is looked for by the look at the legs
			c.lost(l, errNodeLost)
		}
		return
	}
	c.after(wordPatience, func() {
		if l.state == legUp && l.astray && l.offers {
			c.lost(l, errNoWord)
		}
	})
}

// tellPlace offers a phone the stream that its leg has now, over the flow that its device has now, if there is one. Who holds goes on holding.
func (c *Call) tellPlace(l *Leg) {
	offer := l.placed().Rekeyed(l.stream.Crypto())
	if first, err := offer.Reoffer(media.Merge(l.agreed.Send, codecsOf(offer))); err == nil {
		line, _, _ := offer.Audio()
		offer = first.WithDirection(line.Direction)
	}
	l.local, l.astray = l.versioned(offer), true
	if c.repoint(l); c.b.Agent.Alive(l.dialog.Flow) {
		c.reinvite(l, l.local)
	}
}
