package call

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"baton/sip"
)

// Browsers' direct media (docs/direct.md#browsers). A page keeps its connection to the node as long as the call lasts, and makes a second one
// straight to the other page beside it: what is said goes by both until each page hears the other by the second, then by that alone. To step in is
// to say so: the pages send by the connections that have stood all the while, and nothing is negotiated.
//
//	relay ──invite──▶ stepping out ──both have heard──▶ direct
//	  ▲                    │ 6 s, any change               │ any change, a page says that the way has broken
//	  └─both are heard── stepping in ◀─────────────────────┘
//
// The pages' descriptions of the second connection pass through the node by INFO in their own dialogs, and are nothing to it but text for the other.

// peerType is the body of an INFO between a page and the node about the page's connection to another.
const peerType = "application/vnd.baton.peer+json"

const (
	// peerPatience is how long two pages may take to hear each other.
	peerPatience = 6 * time.Second
	// maxPeer is how long such a body may be, in octets: an offer of audio with some 20 candidates has 4,000.
	maxPeer = 16 << 10
	// homeLook is how often it is looked whether pages are heard here again.
	homeLook = 20 * time.Millisecond
	// heardHome is how long a page may take to be heard here again; then it is asked whether it is there.
	heardHome = 700 * time.Millisecond
	// peerRest is how long a call stays in relay when its pages had to come back by themselves.
	peerRest = 5 * time.Second
	// peerPause is how long what a page is home for may take to come.
	peerPause = 2 * time.Second
	// aloneWithin is how long a page may take to send nothing here, when it was told that it need not.
	aloneWithin = 10 * time.Second
	// maxBreaks are those in a row after which a way is not tried again for a while. One that has lasted is good.
	maxBreaks = 3
	peerGood  = time.Minute
)

// peerMessage is what a page and the node tell each other.
type peerMessage struct {
	Say string `json:"say"`
	ID  string `json:"id,omitempty"`  // of the connection that it is about
	SDP string `json:"sdp,omitempty"` // of offer and answer
	Why string `json:"why,omitempty"`
}

// What they say.
const (
	peerCan    = "can"    // page: it can talk straight to another page. With an id: it has such a connection
	peerInvite = "invite" // node: make an offer
	peerOffer  = "offer"  // either: of a page for the other one
	peerAnswer = "answer"
	peerHeard  = "heard"  // page: it hears the other by the second connection, and plays that
	peerAlone  = "alone"  // node: both do; nothing need be sent to the node any more
	peerHome   = "home"   // node: send to the node again, and end the second connection. Page: it has begun to, for something that it is about to do
	peerBroken = "broken" // page: it has done that, because the second connection came to nothing
)

// peering is a second connection between the pages of two legs. Owned by the call's agent.
type peering struct {
	id       string
	legs     [2]*Leg // the first makes the offer
	begun    time.Time
	offered  bool
	answered bool
	heard    [2]bool   // each hears the other
	alone    time.Time // since when nothing comes here; zero = it does
	home     time.Time // since when they are to send here again; zero = they are not
}

func (q *peering) of(l *Leg) int {
	for i, k := range q.legs {
		if k == l {
			return i
		}
	}
	return -1
}

// between says that the connection is that of these two legs.
func (q *peering) between(a, b *Leg) bool { return q.of(a) >= 0 && q.of(b) >= 0 && a != b }

// invitePeers has a page offer another one a connection.
func (c *Call) invitePeers(a, b *Leg) {
	p := &c.path
	if time.Now().Before(p.rest) || time.Now().Before(p.shy) || a.negotiates() || b.negotiates() {
		return
	}
	q := &peering{id: newID(), legs: [2]*Leg{a, b}, begun: time.Now()}
	p.peer = q
	c.setPath(pathOut, "")
	c.tellPeer(a, peerMessage{Say: peerInvite, ID: q.id})
}

// provePeers looks whether it has taken too long.
func (c *Call) provePeers(a, b *Leg) {
	q := c.path.peer
	switch why := c.whyRelay(a, b); {
	case why != "":
		c.stepIn(why)
	case time.Since(q.begun) > peerPatience:
		c.doubtDirect(q.legs[0], q.legs[1], "the two browsers have not heard each other straight within "+peerPatience.String())
	}
}

// tellPeer tells a page something of its connection to another.
func (c *Call) tellPeer(l *Leg, m peerMessage) {
	if l.state != legUp {
		return
	}
	data, err := json.Marshal(m)
	if err != nil {
		return
	}
	c.request(l, l.dialog.NewRequest("INFO", sip.Body{Type: peerType, Data: data}), requestPatience, func(err error) {
		q := c.path.peer
		if err == nil || q == nil || q.id != m.ID || m.Say == peerHome {
			return
		}
		c.log.Info("page was not told of its connection to another", "leg", l.id, "device", l.device.Name, "say", m.Say, "err", err)
		c.stepIn(l.device.Name + " does not answer")
		c.path.shy = time.Now().Add(peerRest)
	})
}

// onPeer takes what a page says of its connection to another.
func (c *Call) onPeer(l *Leg, x *sip.Exchange) {
	var m peerMessage
	data := x.Body().Data
	switch {
	case len(data) > maxPeer:
		_ = x.Respond(c.b.reply(refusal(413, fmt.Sprintf("%d octets are too many, %d may be", len(data), maxPeer))))
		return
	case json.Unmarshal(data, &m) != nil:
		_ = x.Respond(c.b.reply(refusal(400, "the body is no JSON of that kind")))
		return
	}
	_ = x.Respond(sip.Reply{Code: 200})
	if m.Say == peerCan {
		l.peers = true
	}
	q := c.path.peer
	i := -1
	if q != nil && q.id == m.ID {
		i = q.of(l)
	}
	switch {
	case m.ID == "":
		c.reviewPath()
	case i < 0: // of a connection that the node knows nothing of (any more)
		if m.Say != peerHome && m.Say != peerBroken {
			c.tellPeer(l, peerMessage{Say: peerHome, ID: m.ID})
		}
	case !q.home.IsZero():
	default:
		c.peerSays(q, i, m)
	}
}

// peerSays takes what the page of a leg says of the connection that is under way or stands.
func (c *Call) peerSays(q *peering, i int, m peerMessage) {
	l, far := q.legs[i], q.legs[1-i]
	switch {
	case m.Say == peerOffer && i == 0 && !q.offered && strings.HasPrefix(m.SDP, "v=0"):
		q.offered = true
		c.tellPeer(far, peerMessage{Say: peerOffer, ID: q.id, SDP: m.SDP})
	case m.Say == peerAnswer && i == 1 && q.offered && !q.answered && strings.HasPrefix(m.SDP, "v=0"):
		q.answered = true
		c.tellPeer(far, peerMessage{Say: peerAnswer, ID: q.id, SDP: m.SDP})
	case m.Say == peerHeard && q.answered && q.alone.IsZero():
		if q.heard[i] = true; q.heard[1-i] {
			c.peersAlone(q)
		}
	case m.Say == peerHome:
		c.path.shy = time.Now().Add(peerPause)
		c.stepIn(fmt.Sprintf("%s of %s needs the sound at the node", l.device.Name, l.seat.user.Name))
	case m.Say == peerBroken:
		c.peerBroke(q, l, far, clip(m.Why))
	}
}

// clip keeps what a page gives as a reason short and on one line.
func clip(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if r := []rune(s); len(r) > 100 {
		s = string(r[:100])
	}
	return s
}

// peersAlone leaves two pages alone with what they say: both hear the other.
func (c *Call) peersAlone(q *peering) {
	q.alone = time.Now()
	for _, l := range q.legs {
		l.stream.Elsewhere(true)
	}
	c.setPath(pathDirect, "")
	c.b.blocked.clear(pairOf(q.legs[0], q.legs[1]))
	c.commit(func() {})
	for _, l := range q.legs {
		c.tellPeer(l, peerMessage{Say: peerAlone, ID: q.id})
	}
}

// checkAlone looks whether pages that are said to be alone are: what still comes here is not encrypted from end to end.
func (c *Call) checkAlone(q *peering) {
	for i, l := range q.legs {
		if q.home.IsZero() && l.stream.LastSound().Sub(q.alone) > aloneWithin {
			c.giveUpDirect(q.legs[1-i], l, fmt.Sprintf("%s of %s goes on sending to the node", l.device.Name, l.seat.user.Name))
			return
		}
	}
}

// peerBroke takes that a page hears nothing of the other straight, and plays what comes from here again. What never was is not tried again for a
// while. What has broken may be a page that is loaded anew, and is tried a few times.
func (c *Call) peerBroke(q *peering, l, far *Leg, why string) {
	p := &c.path
	why = fmt.Sprintf("%s of %s hears nothing of %s of %s straight: %s", l.device.Name, l.seat.user.Name, far.device.Name, far.seat.user.Name, why)
	if q.alone.IsZero() {
		c.doubtDirect(far, l, why)
		return
	}
	if time.Since(q.alone) > peerGood {
		p.breaks = 0
	}
	if p.breaks++; p.breaks >= maxBreaks {
		p.breaks = 0
		c.giveUpDirect(far, l, why)
		return
	}
	p.shy = time.Now().Add(peerRest)
	c.stepIn(why)
}

// peersHome has two pages send to the node again; stepped follows when both are heard.
func (c *Call) peersHome() {
	q := c.path.peer
	if !q.home.IsZero() {
		return
	}
	q.home = time.Now()
	for _, l := range q.legs {
		c.tellPeer(l, peerMessage{Say: peerHome, ID: q.id})
	}
	c.awaitPeers(q)
}

// awaitPeers waits until two pages are heard here again. One that is not is asked whether it is there.
func (c *Call) awaitPeers(q *peering) {
	if c.path.peer != q || c.state != StateUp {
		return
	}
	var missing []*Leg
	told := false // a page whose connection has broken, as when it is loaded anew, cannot be, and is not waited for
	for _, l := range q.legs {
		if l.state == legUp && !l.stream.LastSound().After(q.home) {
			missing = append(missing, l)
			told = told || c.b.Agent.Alive(l.dialog.Flow)
		}
	}
	if told && time.Since(q.home) < heardHome {
		c.after(homeLook, func() { c.awaitPeers(q) })
		return
	}
	c.path.peer = nil
	for _, l := range q.legs {
		l.stream.Elsewhere(false)
	}
	for _, l := range missing {
		c.log.Info("page is not heard at the node again", "leg", l.id, "device", l.device.Name, "after", time.Since(q.home).Round(time.Millisecond))
		if !l.asking && !l.offers {
			c.checkWithin(l, probePatience)
		}
	}
	c.stepped()
}
