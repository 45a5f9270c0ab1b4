package call

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"baton/media"
	"baton/registrar"
)

// Direct media (docs/direct.md): where two phones can reach each other, their sound goes from one to the other and not through the node. A call is
// always set up, moved, held and left in relay; direct is what it enters from there when nothing else is under way, and leaves at any change:
//
//	relay ──stepOut──▶ stepping out ──both ways proven──▶ direct
//	  ▲                     │ not proven, any change         │ any change, no proof any more
//	  └──────home───── stepping in ◀──────────────────────────┘
//
// Stepping out takes two halves. One phone, the talker, is told by re-INVITE (RFC 3725 §4.1) to send to the other, and what it sends is proven by
// the other's next RTCP report, which comes here all the while (RFC 3605): it tells of packets that never passed this node. Then the other is told.
// Each half begins shortly before the listener's report is due, so that a way that is blocked costs two seconds of one direction, twice: then it is
// remembered for the two devices. Phones that send no RTCP stay relayed, unless direct media is forced.

// pathState is the way that the sound of a call takes.
type pathState string

const (
	pathRelay  pathState = "relay"
	pathOut    pathState = "stepping out"
	pathDirect pathState = "direct"
	pathIn     pathState = "stepping in"
)

const (
	// proofPatience is how long a way is tried without proof.
	proofPatience = 2 * time.Second
	// reportWithin is how long a phone with the usual cadence takes to report at the most: 5 s ÷ 1.21828 × 1.5 (RFC 3550 §6.3.1, A.7).
	reportWithin = 6200 * time.Millisecond
	// proofLook is how often it is looked for proof, and for the moment to begin.
	proofLook = 100 * time.Millisecond
	// pathLook is how often a call looks whether its sound still arrives, or could go another way.
	pathLook = time.Second
	// pathRest is how long a call is left alone after a change before its sound goes another way.
	pathRest = 800 * time.Millisecond
	// halfPatience bounds the wait for the moment of the second half.
	halfPatience = 40 * time.Second
	// homePatience is how long a move waits for the sound to be at the node.
	homePatience = 1500 * time.Millisecond
	// maxTries are those that may end without a report that says anything.
	maxTries = 5
	// proofPackets are heard straight when a way is proven: one that was on its way when the talker changed over proves nothing.
	proofPackets = 3
	// blockedFor is how long a way that was found closed is not tried again, and doubtedFor how long one is not of which a single try says so: a
	// report may be late, or empty for another reason.
	blockedFor = 30 * time.Minute
	doubtedFor = 30 * time.Second
	// maxFailed are the tries in a row without a sign of the other after which a way is taken for closed.
	maxFailed = 2
)

// path is the state of a call's direct media. Owned by its agent.
type path struct {
	state   pathState
	why     string    // why it is relayed
	rest    time.Time // nothing is begun before
	look    *time.Timer
	talker  *Leg      // whose sound goes straight and is not proven yet
	offered *Leg      // whose phone is being told to send straight
	begun   time.Time // of this half: when the talker had agreed; zero = the moment is waited for
	half    time.Time // when the first half was proven; zero = it is not
	tries   int
	left    bool // it has been direct, and has stepped in for a change
	waiting []func()
	overdue *time.Timer
	peer    *peering         // of two browsers (peer.go), nil = there is none
	shy     time.Time        // no other is begun before
	breaks  int              // of such, in a row
	heard   map[*Leg]arrival // what each phone has last reported of the other
}

// arrival is what a phone has reported of what it hears straight.
type arrival struct {
	at      time.Time
	highest uint32
	sent    uint32 // by the other's count
	silent  int    // reports in a row that tell of nothing new
}

// blocked remembers the pairs of devices between which no sound passes.
type blocked struct {
	mu    sync.Mutex
	pairs map[string]blockage
	doubt time.Duration // in place of doubtedFor, 0 = that
}

type blockage struct {
	until  time.Time // it is not tried
	kept   time.Time // what failed before is remembered
	failed int       // tries in a row
	why    string
}

// add takes that sound does not pass between a pair, for certain or by what one try says. It gives how long the way is not tried now.
func (b *blocked) add(pair, why string, certain bool) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.pairs == nil {
		b.pairs = map[string]blockage{}
	}
	for k, v := range b.pairs {
		if now.After(v.kept) {
			delete(b.pairs, k)
		}
	}
	failed := b.pairs[pair].failed + 1
	rest := blockedFor
	if !certain && failed < maxFailed {
		rest = cmp.Or(b.doubt, doubtedFor)
	}
	b.pairs[pair] = blockage{now.Add(rest), now.Add(blockedFor), failed, why}
	return rest
}

// clear takes that sound passes between a pair.
func (b *blocked) clear(pair string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.pairs, pair)
}

func (b *blocked) of(pair string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.pairs[pair]; ok && time.Now().Before(v.until) {
		return v.why
	}
	return ""
}

// pairOf names two legs' devices and where their sound is.
func pairOf(a, b *Leg) string {
	names := []string{a.ending(), b.ending()}
	slices.Sort(names)
	return names[0] + "|" + names[1]
}

func (l *Leg) ending() string {
	line, _, _ := l.remote.Audio()
	at := line.Addr.Addr()
	if l.browser() { // each of its connections has candidates of its own
		at = l.dialog.Flow.Remote.Addr()
	}
	return l.seat.user.Name + " " + l.device.Key + " " + at.String()
}

// setPath is the only place where the way of a call's sound changes.
func (c *Call) setPath(to pathState, why string) {
	p := &c.path
	if p.state != to && (p.state != "" || to != pathRelay) {
		c.log.Info("media path", "from", cmp.Or(p.state, pathRelay), "to", to, "why", why)
	}
	p.state, p.why = to, why
	if to == pathRelay {
		p.talker, p.begun, p.half, p.heard = nil, time.Time{}, time.Time{}, nil
	}
}

// pair are the legs that hold the two seats of a call; false: there are no two.
func (c *Call) pair() (a, b *Leg, ok bool) {
	if len(c.seats) != 2 || c.seats[0].holder == nil || c.seats[1].holder == nil {
		return nil, nil, false
	}
	return c.seats[0].holder, c.seats[1].holder, true
}

// opposite is the leg on the other side of l; nil = none.
func (c *Call) opposite(l *Leg) *Leg {
	if o := c.other(l.seat); o != nil {
		return o.holder
	}
	return nil
}

// mediaMode is how a leg's sound is to go: as was said of its device, its user or the node.
func (c *Call) mediaMode(l *Leg) string {
	if said := c.deviceOf(l.seat, LegRecord{Device: l.device.Key}).Profile[registrar.MediaMode]; said != "" {
		return said
	}
	if u, ok := c.b.Registrar.User(l.seat.user.Name); ok && u.Settings.Media != "" {
		return u.Settings.Media
	}
	return cmp.Or(c.b.Media.Mode, "relay")
}

// forced says that both are to send straight without proof.
func (c *Call) forced(a, b *Leg) bool {
	return c.mediaMode(a) == "direct" && c.mediaMode(b) == "direct"
}

// straightWay is how a leg's sound can go straight, and why not if it cannot. Two legs can whose ways are the same.
func (l *Leg) straightWay() (way media.Security, why string) {
	switch {
	case l.browser() && !l.peers:
		return media.DTLS, "the sound of a browser goes through the node, unless its page says that it can do more"
	case l.browser():
		return media.DTLS, ""
	case l.agreed.Security != media.Clear:
		return l.agreed.Security, "sound that is encrypted for the node goes through it"
	case l.agreed.Mux:
		return media.Clear, fmt.Sprintf("%s sends RTCP on the port of its sound", l.device.Name)
	}
	return media.Clear, ""
}

// whyRelay says why the sound of two legs goes through the node; "" = it need not. At rest it is asked without what only a moment tells.
func (c *Call) whyRelay(a, b *Leg) string {
	var ways [2]media.Security
	for i, l := range []*Leg{a, b} {
		if c.mediaMode(l) == "relay" {
			return fmt.Sprintf("media.mode is relay for %s of %s", l.device.Name, l.seat.user.Name)
		}
		way, why := l.straightWay()
		if why != "" {
			return why
		}
		ways[i] = way
	}
	if ways[0] != ways[1] {
		return "one has a browser, the other a phone"
	}
	if why := c.busy(a, b); why != "" {
		return why
	}
	if c.path.left && !c.b.Media.Return {
		return "media.return_to_direct is off"
	}
	if ways[0] == media.DTLS { // whether they reach each other, and in what codec, they find out themselves
		return c.b.blocked.of(pairOf(a, b))
	}
	if why := c.apartFrom(a, b); why != "" {
		return why
	}
	_, why := straightCodecs(a, b)
	return why
}

// busy says what needs the sound at the node, or is about to.
func (c *Call) busy(a, b *Leg) string {
	switch {
	case c.state != StateUp || c.quiet || c.over || c.lending != nil || c.pledged > 0:
		return "the call is not at rest"
	case len(c.moves) > 0:
		return "a move is under way"
	}
	for _, l := range []*Leg{a, b} {
		switch s := l.seat; {
		case l.state != legUp || !l.acked || s.away != nil:
			return l.device.Name + " is not in the call"
		case len(s.companions) > 0 || s.joining != nil:
			return "another device listens"
		case l.held || l.agreed.Direction != media.SendRecv:
			return "the call is on hold"
		case l.astray && !l.straight:
			return l.device.Name + " has not been told where its sound goes"
		}
	}
	return ""
}

// apartFrom says why two phones may not reach each other.
func (c *Call) apartFrom(a, b *Leg) string {
	var at [2]netip.Addr
	for i, l := range []*Leg{a, b} {
		line, _, _ := l.remote.Audio()
		at[i] = line.Addr.Addr()
		latched := l.stream.Latched()
		if at[i] != l.dialog.Flow.Remote.Addr().Unmap().WithZone("") || latched.IsValid() && latched != line.Addr {
			return fmt.Sprintf("%s is behind NAT: it is heard from elsewhere than it says", l.device.Name)
		}
	}
	if at[0].Is4() != at[1].Is4() {
		return "one has IPv4, the other IPv6"
	}
	if c.forced(a, b) {
		return ""
	}
	if !c.b.Engine.Adjacent(at[0], at[1], c.b.Media.LocalNetworks) {
		return fmt.Sprintf("%s and %s are in no network in common (media.local_networks)", at[0], at[1])
	}
	return c.b.blocked.of(pairOf(a, b))
}

// straightCodecs are the codecs in which two phones can talk past the node, the one in use first: with the payload types that both know already.
func straightCodecs(a, b *Leg) ([]media.Codec, string) {
	same := func(k media.Codec, in []media.Codec) bool {
		return slices.ContainsFunc(in, func(o media.Codec) bool { return o.Is(k) && o.PT == k.PT })
	}
	var both []media.Codec
	for _, k := range a.agreed.Send {
		if same(k, b.agreed.Send) && same(k, codecsOf(a.local)) && same(k, codecsOf(b.local)) {
			both = append(both, k)
		}
	}
	usedA, okA := inUse(a)
	usedB, okB := inUse(b)
	first := slices.IndexFunc(both, usedA.Is)
	switch {
	case !okA || !okB || !usedA.Is(usedB):
		return nil, fmt.Sprintf("%s is converted to %s", usedA.Name, usedB.Name)
	case first < 0:
		return nil, "the payload types of " + usedA.Name + " are not the same"
	case len(eventsOf(both)) == 0 && len(eventsOf(a.agreed.Send)) != len(eventsOf(b.agreed.Send)):
		return nil, "keys are told to one of the phones by INFO"
	}
	return append([]media.Codec{both[first]}, slices.Delete(slices.Clone(both), first, first+1)...), ""
}

// reviewPath is called when anything has changed: what does not fit direct media ends it, and what may be direct is looked at again.
func (c *Call) reviewPath() {
	p := &c.path
	c.forgetLost()
	c.followStraight()
	a, b, ok := c.pair()
	switch why := ""; {
	case c.state != StateUp:
		return
	case !ok:
		why = "somebody is not in the call"
		fallthrough
	default:
		if ok {
			why = c.whyRelay(a, b)
		}
		switch p.state {
		case pathOut, pathDirect:
			if ok && c.halfHome(a, b) {
				why = cmp.Or(why, "a phone has changed its session")
			}
			if why != "" {
				c.stepIn(why)
			}
		case pathIn:
		default:
			if c.anyStraight() {
				c.stepIn(cmp.Or(why, "it is looked at anew"))
				return
			}
			c.setPath(pathRelay, why)
			p.rest = time.Now().Add(pathRest)
		}
	}
	c.lookLater(pathLook)
}

// halfHome says that a phone which was told to send straight is sent to the node since, because it has changed its session.
func (c *Call) halfHome(a, b *Leg) bool {
	switch p := &c.path; {
	case p.peer != nil:
		return !p.peer.between(a, b)
	case p.state == pathDirect:
		return !a.straight || !b.straight
	case p.offered != nil:
		return false
	default:
		return (!p.half.IsZero() || !p.begun.IsZero()) && !a.straight && !b.straight
	}
}

// forgetLost has a phone that is gone be told, when it is back, to send to the node.
func (c *Call) forgetLost() {
	for _, l := range c.legs {
		if l.straight && l.state == legLost {
			l.local = l.versioned(l.homeOffer())
			l.straight, l.astray = false, true
		}
	}
}

// followStraight has the streams know whose sound goes past them.
func (c *Call) followStraight() {
	for _, l := range c.legs {
		far := c.opposite(l)
		if l.straight && far != nil && c.path.state != pathIn {
			l.stream.Bypass(far.stream)
		} else {
			l.stream.Bypass(nil)
		}
	}
}

// anyStraight says that a phone still sends past the node.
func (c *Call) anyStraight() bool {
	return c.path.offered != nil || c.path.peer != nil || slices.ContainsFunc(c.legs, func(l *Leg) bool { return l.straight && l.state == legUp })
}

// lookLater looks at the path again, unless that is about to be done.
func (c *Call) lookLater(d time.Duration) {
	p := &c.path
	if p.look != nil || c.state != StateUp || cmp.Or(c.b.Media.Mode, "relay") == "relay" && !c.wanted() {
		return
	}
	p.look = c.after(d, func() {
		p.look = nil
		c.lookAtPath()
	})
}

// wanted says that somebody's sound is to go straight where the node's is not.
func (c *Call) wanted() bool {
	a, b, ok := c.pair()
	return ok && c.mediaMode(a) != "relay" && c.mediaMode(b) != "relay"
}

// lookAtPath does what the moment asks for.
func (c *Call) lookAtPath() {
	a, b, ok := c.pair()
	if !ok || c.state != StateUp {
		return
	}
	again := pathLook
	switch c.path.state {
	case pathOut:
		c.prove(a, b)
		again = proofLook
	case pathDirect:
		c.listenOn(a, b)
	case pathIn:
	default:
		if why := c.whyRelay(a, b); why != "" {
			c.setPath(pathRelay, why)
		} else {
			c.mayStepOut(a, b)
			again = proofLook
		}
	}
	c.lookLater(again)
}

// mayStepOut begins with the leg whose listener is about to report.
func (c *Call) mayStepOut(a, b *Leg) {
	p := &c.path
	p.why = "it is about to be direct"
	if a.browser() {
		c.invitePeers(a, b)
		return
	}
	if time.Now().Before(p.rest) && !a.stays && !b.stays || p.offered != nil || a.negotiates() || b.negotiates() {
		return
	}
	if c.forced(a, b) || a.stays || b.stays {
		if c.setPath(pathOut, ""); b.stays { // who sends to nobody is told first
			a, b = b, a
		}
		c.sendStraight(a, b)
		return
	}
	for _, l := range []*Leg{a, b} {
		if l.stream.Report().At.IsZero() {
			p.why = fmt.Sprintf("%s of %s has sent no RTCP yet, which would prove that it hears", l.device.Name, l.seat.user.Name)
			return
		}
	}
	for _, k := range [][2]*Leg{{a, b}, {b, a}} {
		if k[0].talksNow() && k[1].reportsSoon() {
			c.setPath(pathOut, "")
			c.sendStraight(k[0], k[1])
			return
		}
	}
}

// soundsOf is how recently a phone that talks was heard.
const soundsOf = 200 * time.Millisecond

// talksNow says that the leg's phone sends: a muted one would prove nothing.
func (l *Leg) talksNow() bool { return time.Since(l.stream.LastSound()) < soundsOf }

// reportsSoon says that the phone's next report is due within the time that a way is tried, for certain.
func (l *Leg) reportsSoon() bool {
	r := l.stream.Report()
	if r.Often() {
		return true
	}
	within := reportWithin
	if r.Steady > proofPatience {
		within = r.Steady + r.Steady/20
	} else if r.Longest > within && r.Longest < 30*time.Second {
		within = r.Longest + r.Longest/20
	}
	last := r.At
	if l.agreedAt.After(last) { // some begin to count anew with each offer
		last = l.agreedAt
	}
	passed := time.Since(last)
	return !r.At.IsZero() && passed >= within-proofPatience && passed < within
}

// sendStraight tells a talker's phone to send to the listener's.
func (c *Call) sendStraight(t, l *Leg) {
	p := &c.path
	codecs, why := straightCodecs(t, l)
	home := t.local
	offer, err := home.Straight(l.remote, codecs, t.stream.Control())
	if why != "" || err != nil {
		c.stepIn(cmp.Or(why, "no codec is left"))
		return
	}
	p.talker, p.offered, p.begun = t, t, time.Time{}
	c.commit(func() {
		if p.state != pathOut || p.talker != t || t.negotiates() {
			p.offered = nil
			c.stepIn("something else is under way")
			return
		}
		t.home = &home
		c.propose(c.ctx, t, t.versioned(offer), func(err error) { c.sentStraight(t, l, err) })
	})
}

// sentStraight takes what became of the offer.
func (c *Call) sentStraight(t, l *Leg, err error) {
	p := &c.path
	p.offered = nil
	c.followStraight()
	switch line, _, _ := l.remote.Audio(); {
	case err == nil && p.state == pathOut && p.talker == t:
		told, _, _ := t.local.Audio()
		if told.Addr != line.Addr {
			c.giveUpDirect(t, l, fmt.Sprintf("%s of %s has changed its address", l.device.Name, l.seat.user.Name))
			return
		}
		p.begun = time.Now()
		c.commit(func() {})
		if c.forced(t, l) || t.stays || l.stays {
			c.proven(t, l)
		}
		c.lookSoon()
	case err == nil, isGlare(err), errors.Is(err, errPending):
		c.stepIn(cmp.Or(p.why, "something else is under way"))
	case t.alive() && deadly(err) != nil:
		c.stepIn("no answer")
		c.check(t)
	default:
		c.giveUpDirect(t, l, fmt.Sprintf("%s of %s did not take it: %v", t.device.Name, t.seat.user.Name, err))
	}
}

// lookSoon looks at the path as often as is needed for proof.
func (c *Call) lookSoon() {
	c.stop(c.path.look)
	c.path.look = nil
	c.lookLater(proofLook)
}

// prove looks whether what the talker sends has arrived, or for the moment of the second half.
func (c *Call) prove(a, b *Leg) {
	p := &c.path
	if p.peer != nil {
		c.provePeers(a, b)
		return
	}
	if why := c.whyRelay(a, b); why != "" {
		c.stepIn(why)
		return
	}
	t := p.talker
	switch {
	case p.offered != nil:
	case t == nil:
		c.secondHalf(a, b)
	case !p.begun.IsZero():
		c.proveTalker(t, c.opposite(t))
	}
}

// proveTalker looks at what the listener has reported since.
func (c *Call) proveTalker(t, l *Leg) {
	p, r := &c.path, l.stream.Report()
	ssrc, seq, ok := t.stream.Newest()
	heard, there := r.Of(ssrc)
	passed := time.Since(p.begun)
	arrives := ok && there && int16(uint16(heard.Highest)-seq) >= proofPackets
	switch {
	case arrives: // by a report of any time: it tells of what never came here
		c.proven(t, l)
	case r.At.Sub(p.begun) > proofPatience/4 && passed > proofPatience*3/4:
		c.doubtDirect(t, l, fmt.Sprintf("%s of %s hears nothing of %s of %s straight", l.device.Name, l.seat.user.Name, t.device.Name, t.seat.user.Name))
	case passed > proofPatience:
		c.unsaid(t, l)
	}
}

// unsaid takes that no report came in time: another time is tried, a few times.
func (c *Call) unsaid(t, l *Leg) {
	p := &c.path
	if p.tries++; p.tries >= maxTries {
		c.giveUpDirect(t, l, fmt.Sprintf("%s of %s does not report in time what it hears", l.device.Name, l.seat.user.Name))
		return
	}
	c.stepIn("no report came in time")
}

// proven takes that the listener hears the talker straight.
func (c *Call) proven(t, l *Leg) {
	p := &c.path
	p.talker, p.begun = nil, time.Time{}
	if l.straight {
		p.tries, t.stays, l.stays = 0, false, false
		c.setPath(pathDirect, "")
		c.b.blocked.clear(pairOf(t, l))
		c.commit(func() {})
		return
	}
	p.half = time.Now()
	if c.forced(t, l) || t.stays || l.stays {
		c.sendStraight(l, t)
	}
}

// secondHalf tells the listener of the first to send straight too, when the other is about to report.
func (c *Call) secondHalf(a, b *Leg) {
	t, l := a, b
	if a.straight {
		t, l = b, a
	}
	switch {
	case time.Since(c.path.half) > halfPatience:
		c.unsaid(t, l)
	case l.reportsSoon() && !t.negotiates():
		c.sendStraight(t, l)
	}
}

// source is the SSRC of what the leg's phone sends; what it is that another has reported where nothing of it ever came here.
func (l *Leg) source(r media.RTCPReport) uint32 {
	ssrc, _, ok := l.stream.Newest()
	if !ok && len(r.Sources) > 0 {
		return r.Sources[0].SSRC
	}
	return ssrc
}

// giveUpDirect steps in and remembers why, for long.
func (c *Call) giveUpDirect(t, l *Leg, why string) { c.notDirect(t, l, why, true) }

// doubtDirect steps in where a try has ended without a sign that one hears the other: it may be tried once more soon.
func (c *Call) doubtDirect(t, l *Leg, why string) { c.notDirect(t, l, why, false) }

func (c *Call) notDirect(t, l *Leg, why string, certain bool) {
	rest := c.b.blocked.add(pairOf(t, l), why, certain)
	c.path.tries = 0
	c.log.Warn("no direct media", "from", t.device.Name, "to", l.device.Name, "why", why, "not_for", rest)
	c.stepIn(why)
}

// listenOn looks whether the phones of a direct call go on hearing each other.
func (c *Call) listenOn(a, b *Leg) {
	p := &c.path
	if why := c.whyRelay(a, b); why != "" {
		c.stepIn(why)
		return
	}
	if p.peer != nil { // the pages themselves listen
		c.checkAlone(p.peer)
		return
	}
	if p.heard == nil {
		p.heard = map[*Leg]arrival{}
	}
	for _, k := range [][2]*Leg{{a, b}, {b, a}} {
		if p.state != pathDirect {
			return
		}
		if l := k[0]; !l.asking && !l.offers && !l.stream.Report().At.IsZero() && time.Since(l.spoke()) > reportWithin+time.Second {
			c.checkWithin(l, probePatience)
		}
		c.hearsOn(k[0], k[1])
	}
}

// hearsOn looks whether the listener of a direct call still hears the talker. If not, the talker is asked whether it is there; if it is and goes on
// sending, the way between the two has broken.
func (c *Call) hearsOn(t, l *Leg) {
	r, was := l.stream.Report(), c.path.heard[l]
	heard, ok := r.Of(t.source(r))
	if !ok || r.At.Equal(was.at) {
		return
	}
	now := arrival{r.At, heard.Highest, t.stream.Report().Sent, 0}
	if !was.at.IsZero() && now.highest == was.highest {
		now.silent = was.silent + 1
	}
	c.path.heard[l] = now
	switch more := now.sent - was.sent; { // of what was sent before the first silent report the next ones say nothing
	case now.silent > 1 && more > proofPackets && more < 1<<31:
		c.giveUpDirect(t, l, fmt.Sprintf("%s of %s hears nothing of %s of %s any more", l.device.Name, l.seat.user.Name, t.device.Name, t.seat.user.Name))
	case now.silent > 0 && !t.asking && !t.offers:
		c.checkWithin(t, probePatience)
	}
}

// atNode has then done when the sound of the call is at the node: now, if it is.
func (c *Call) atNode(then func()) {
	p := &c.path
	if !c.anyStraight() && p.state != pathIn {
		if p.state == pathOut {
			c.setPath(pathRelay, "something else is under way")
		}
		then()
		return
	}
	p.waiting = append(p.waiting, then)
	if p.overdue == nil {
		p.overdue = c.after(homePatience, c.arrived)
	}
	c.stepIn("a move is under way")
}

// arrived does what has waited for the sound.
func (c *Call) arrived() {
	p := &c.path
	c.stop(p.overdue)
	all := p.waiting
	p.waiting, p.overdue = nil, nil
	for _, f := range all {
		f()
	}
}

// stepIn has both phones send to the node again. They go on talking meanwhile, and are heard either way.
func (c *Call) stepIn(why string) {
	p := &c.path
	if p.state == pathIn {
		return
	}
	p.left = p.left || p.state == pathDirect
	c.setPath(pathIn, why)
	c.followStraight()
	for _, l := range slices.Clone(c.legs) {
		if l.straight && l.state == legUp && l != p.offered {
			c.bringHome(l, time.Now().Add(alignPatience))
		}
	}
	if p.peer != nil {
		c.peersHome()
	}
	c.stepped()
}

// stepped is the end of stepping in, when no phone sends past the node any more.
func (c *Call) stepped() {
	p := &c.path
	if p.state != pathIn || c.anyStraight() {
		return
	}
	c.setPath(pathRelay, p.why)
	p.rest = time.Now().Add(pathRest)
	c.followStraight()
	c.commit(func() {})
	c.arrived()
	c.lookLater(pathLook)
}

// homeOffer is what a phone is offered that is to send to the node again.
func (l *Leg) homeOffer() media.Description {
	home := l.local
	if l.home != nil {
		home = *l.home
	}
	return home.Home(l.stream.Endpoint())
}

// bringHome offers a phone the node's address, until it has taken or refused it.
func (c *Call) bringHome(l *Leg, until time.Time) {
	if !l.straight || l.state != legUp {
		c.stepped()
		return
	}
	again := func(pause time.Duration) { c.after(pause, func() { c.bringHome(l, until) }) }
	c.propose(c.ctx, l, l.versioned(l.homeOffer()), func(err error) {
		switch {
		case err == nil:
			c.wire()
			c.stepped()
		case time.Now().Before(until) && errors.Is(err, errPending):
			again(pendingPause / 4)
		case time.Now().Before(until) && isGlare(err):
			again(c.glareDelay(l))
		case l.tooShort(err):
			again(0)
		default:
			c.notHome(l, err)
		}
	})
}

// notHome takes that a phone did not come back. One that is gone is lost; one that refuses talks to where it did, and is told where the new device is
// as soon as that has the call (RFC 3725): that is heard, as a pause.
func (c *Call) notHome(l *Leg, err error) {
	c.log.Warn("phone did not take the sound back to the node", "leg", l.id, "device", l.device.Name, "err", err)
	l.straight, l.stays = false, !unanswered(err)
	if l.alive() && deadly(err) != nil && !errors.Is(err, errPending) {
		c.lost(l, err)
	}
	c.stepped()
}

// placed is our description of the leg with the place that its stream has by now.
func (l *Leg) placed() media.Description {
	if l.straight { // its sound goes elsewhere; only RTCP comes here
		return l.local.Controlled(l.stream.Control())
	}
	return l.local.Moved(l.stream.Local())
}

// pointsAway says whether our description of a leg has its phone send past the node.
func (l *Leg) pointsAway(local media.Description) bool {
	line, _, ok := local.Audio()
	return ok && !l.browser() && line.Addr != l.stream.Endpoint()
}

// unchanged says that an offer of the phone's asks for nothing that it has not: it may go on as it is.
func (l *Leg) unchanged(offer media.Description) bool {
	was, _, _ := l.remote.Audio()
	is, _, ok := offer.Audio()
	return ok && len(offer.Lines) == len(l.remote.Lines) && is.Addr == was.Addr && is.RTCP == was.RTCP && is.Direction == was.Direction &&
		is.Direction == media.SendRecv && slices.Equal(is.Codecs, was.Codecs)
}

// mediaPath is how the sound of a call goes, and why it is relayed.
func (c *Call) mediaPath() (way, why string) {
	if c.path.state == pathDirect {
		return "direct", ""
	}
	return "relay", c.path.why
}
