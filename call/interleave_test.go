package call_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/test/phone"
	"baton/test/wire"
)

// A sequence is one call and what befalls it: moves by every trigger, hang-ups, holds, transfers, re-INVITEs, changes of network, to
// devices that answer, refuse, ring for ever, hang up at once or say nothing, some of them over a network that loses and doubles
// SIP. Many are played at once on one node, each by people of its own. The model knows only what the people did; after each step
// and at the end the node and the phones are compared with it and with each other.
//
//	go test ./call -run TestInterleavings -sequences 20000 -timeout 60m
//	BATON_SEED=… go test ./call -run TestInterleavings     plays one again
var sequences = flag.Int("sequences", 240, "how many sequences TestInterleavings plays")

// happening is something that people or networks do. New triggers are added here and nowhere else.
type happening struct {
	name   string
	weight int
	do     func(*table)
}

var happenings = []happening{
	{"move by API", 6, (*table).moveByAPI},
	{"move by API, taken back", 2, (*table).moveTakenBack},
	{"REFER to one's own number", 3, func(p *table) { p.refer(p.number("alice")) }},
	{"REFER to a device", 2, func(p *table) { p.refer(fmt.Sprintf("%s*%d", p.number("alice"), 1+p.rand.IntN(3))) }},
	{"REFER to *41", 1, func(p *table) { p.refer("*41") }},
	{"REFER to *41N", 2, func(p *table) { p.refer(fmt.Sprintf("*41%d", 1+p.rand.IntN(3))) }},
	{"transfer with consultation", 2, (*table).consult},
	{"transfer to another user", 1, func(p *table) { p.refer(p.number("carol")) }},
	{"pull by number", 3, func(p *table) { p.pull(p.number("alice")) }},
	{"pull by *40", 3, func(p *table) { p.pull("*40") }},
	{"pull, given up", 2, (*table).pullGivenUp},
	{"pull by Replaces", 2, (*table).replaces},
	{"push code", 2, func(p *table) { p.push("*41") }},
	{"push code to a device", 1, func(p *table) { p.push(fmt.Sprintf("*41%d", 1+p.rand.IntN(3))) }},
	{"hold and resume", 3, (*table).holdAndResume},
	{"hold", 2, (*table).hold},
	{"the far side holds and resumes", 2, (*table).farHolds},
	{"re-INVITE", 2, func(p *table) { p.offer((*phone.Call).Resume) }},
	{"re-INVITE without offer", 2, func(p *table) { p.offer(func(c *phone.Call) error { return second(c.AskOffer()) }) }},
	{"UPDATE", 2, func(p *table) {
		p.offer(func(c *phone.Call) error { return c.Update([]phone.Codec{phone.PCMU, phone.DTMF}) })
	}},
	{"the network changes", 3, (*table).changeNetwork},
	{"the far side's network changes", 1, (*table).changeFarNetwork},
	{"hang up", 1, (*table).hangUp},
	{"the far side hangs up", 1, (*table).farHangsUp},
}

// table is where one sequence after another is played: users and phones of its own.
type table struct {
	*rig
	n       int
	devices []*phone.Phone // alice's
	bob     *phone.Phone
	carol   *phone.Phone
	paths   []*wire.Path // lossy, none = a good network

	rand  *rand.Rand
	far   *phone.Call
	began time.Time
	moved atomic.Bool  // a network has changed: what was said into the old one is missing, and what was asked there
	asked atomic.Bool  // alice has consulted carol, and they have heard each other
	holds atomic.Int64 // what a phone says between its offer to hold and the answer is dropped: a packet or two
	wrong []string

	mu    sync.Mutex
	story []string
	busy  sync.WaitGroup
}

func (p *table) user(name string) string   { return fmt.Sprintf("%s%d", name, p.n) }
func (p *table) users() []string           { return []string{p.user("alice"), p.user("bob"), p.user("carol")} }
func (p *table) number(name string) string { return p.numberOf(name, p.n) }
func (p *table) numberOf(name string, n int) string {
	return fmt.Sprint(map[string]int{"alice": 1000, "bob": 2000, "carol": 3000}[name] + n)
}

// newTable registers the people of a table. Every sixteenth is over a network that loses, doubles and reorders SIP; at every
// other one alice's third device is a browser.
func (r *rig) newTable(n int) *table {
	p := &table{rig: r, n: n}
	for _, name := range []string{"alice", "bob", "carol"} {
		r.user(p.user(name), p.number(name))
	}
	own := netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + n)}) // no port is another table's after it
	home := func(c *phone.Config) { c.Addr = own }
	at := func(user string, i int) *phone.Phone {
		switch {
		case n%2 == 0 && i == 3:
			return r.phone(p.user(user), i, home, r.over("wss"))
		case n%16 != 15:
			return r.phone(p.user(user), i, home)
		}
		f, path := r.behindNATAt(own, p.user(user), i)
		p.paths = append(p.paths, path)
		return f
	}
	for i := range 3 {
		p.devices = append(p.devices, at("alice", i+1))
	}
	p.bob, p.carol = at("bob", 1), at("carol", 1)
	return p
}

func (p *table) tell(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.story = append(p.story, fmt.Sprintf("%5d ms  ", time.Since(p.began).Milliseconds())+fmt.Sprintf(format, a...))
}

func (p *table) fail(format string, a ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wrong = append(p.wrong, fmt.Sprintf(format, a...))
}

func (p *table) phones() []*phone.Phone { return append(slices.Clone(p.devices), p.bob, p.carol) }

func (p *table) device() *phone.Phone { return p.devices[p.rand.IntN(len(p.devices))] }

// background plays what takes its time while the sequence goes on.
func (p *table) background(f func()) {
	p.busy.Add(1)
	go func() {
		defer p.busy.Done()
		f()
	}()
}

// talking is the leg of bob's peer: the one that is up at alice's devices or carol's; nil when none or several are.
func (p *table) talking() *phone.Call {
	var up *phone.Call
	for _, d := range append(slices.Clone(p.devices), p.carol) {
		for _, c := range d.Calls() {
			if c.State() == phone.Up && !c.Dialled("*41") {
				if up != nil {
					return nil
				}
				up = c
			}
		}
	}
	return up
}

// behaviours are what a device may do when it is rung.
var behaviours = []phone.Behaviour{
	{Answer: true},
	{Answer: true},
	{Ringless: true},
	{Answer: true, After: 60 * time.Millisecond},
	{Answer: true, HangUp: true},
	{Reject: 486},
	{Reject: 603, After: 30 * time.Millisecond},
	{},
	{Silent: true},
	{Answer: true, Reliable: true, After: 20 * time.Millisecond},
	{Answer: true, Early: true, After: 40 * time.Millisecond},
}

func (p *table) moveByAPI() { p.move(20*time.Second, 1+p.rand.IntN(len(p.devices))) }

func (p *table) moveTakenBack() {
	p.move(time.Duration(p.rand.IntN(60))*time.Millisecond, 1+p.rand.IntN(len(p.devices)))
}

func (p *table) move(limit time.Duration, index int) {
	p.background(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_, err := p.b.Move(ctx, call.MoveRequest{User: p.user("alice"), Device: fmt.Sprint(index), Who: "test", How: "api"})
		p.tell("move to %d: %v", index, err)
		if ctx.Err() != nil && limit > 10*time.Second {
			p.fail("a move was never answered")
		}
	})
}

func (p *table) refer(to string) {
	c := p.talking()
	if c == nil {
		return
	}
	p.background(func() {
		ref, err := c.Refer(to)
		p.tell("REFER by %s to %s: %v", c.Phone().Config().UserAgent, to, err)
		if err != nil {
			return
		}
		code, err := p.outcome(c, ref)
		p.tell("REFER by %s to %s: told %d, %v", c.Phone().Config().UserAgent, to, code, err)
		if err != nil && c.State() == phone.Up && len(p.paths) == 0 && !p.moved.Load() {
			p.fail("a REFER has no final NOTIFY: %v", err)
		}
	})
}

// consult has alice's phone hold, call carol, and bring the two others together: when she has answered, or while it rings.
func (p *table) consult() {
	c, early := p.talking(), p.rand.IntN(3) == 0
	if c == nil || c.Phone() == p.carol {
		return
	}
	p.holds.Add(1)
	p.asked.Store(true)
	p.background(func() {
		if err := c.Hold(phone.HoldSendonly); err != nil {
			p.tell("hold before the consultation: %v", err)
			return
		}
		w, err := c.Phone().Dial(p.number("carol"))
		if err != nil {
			p.fail("dial: %v", err)
			return
		}
		err = w.Await(map[bool]time.Duration{true: 30 * time.Millisecond, false: time.Second}[early])
		p.tell("consultation by %s: %v", c.Phone().Config().UserAgent, err)
		code := 0
		if w.State() == phone.Up || early && w.State() == phone.Calling {
			ref, err := c.ReferTo(w)
			if err == nil {
				code, err = p.outcome(c, ref)
			}
			p.tell("attended transfer by %s: told %d, %v", c.Phone().Config().UserAgent, code, err)
		}
		if code != 200 {
			_ = w.Hangup()
			_ = w.AwaitEnd(5 * time.Second)
			p.consulted()
		}
	})
}

// consulted has carol hang up who was only asked: the consultation may have been brought to another device of alice's meanwhile.
func (p *table) consulted() {
	for _, c := range p.carol.Calls() {
		if phone.UserPart(phone.AddrURI(c.Invite().Get("From"))) == p.number("alice") {
			_ = c.Hangup()
		}
	}
}

// outcome waits for the final NOTIFY of a REFER; a phone that has hung up gets none.
func (p *table) outcome(c *phone.Call, ref *phone.Referral) (code int, err error) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		ended := c.State() == phone.Ended
		if code, err = ref.Wait(200 * time.Millisecond); err == nil || ended {
			return code, err
		}
	}
	return code, err
}

func (p *table) pull(to string, o ...phone.DialOptions) {
	d := p.device()
	c, err := d.Dial(to, o...)
	if err != nil {
		p.fail("dial: %v", err)
		return
	}
	p.background(func() { p.tell("pull by %s with %s: %v", d.Config().UserAgent, to, c.Await(8*time.Second)) })
}

func (p *table) pullGivenUp() {
	d, after := p.device(), time.Duration(p.rand.IntN(30))*time.Millisecond
	c, err := d.Dial("*40")
	if err != nil {
		p.fail("dial: %v", err)
		return
	}
	p.background(func() {
		time.Sleep(after)
		p.tell("pull by %s, given up after %v: %v", d.Config().UserAgent, after, c.Cancel())
	})
}

func (p *table) replaces() {
	if c := p.talking(); c != nil {
		p.pull(p.number("bob"), phone.DialOptions{Headers: []phone.Header{header("Replaces", c.Replaces())}})
	}
}

// push holds and dials the code as a second call; the phone hangs that up by itself when it has waited long enough.
func (p *table) push(code string) {
	c := p.talking()
	if c == nil {
		return
	}
	p.holds.Add(1)
	p.background(func() {
		if err := c.Hold(phone.HoldSendonly); err != nil {
			p.tell("hold before the push code: %v", err)
			return
		}
		w, err := c.Phone().Dial(code)
		if err == nil {
			err = w.AwaitEnd(5 * time.Second)
		}
		p.tell("push code %s by %s: %v", code, c.Phone().Config().UserAgent, err)
		if err != nil && w != nil {
			_ = w.Hangup()
		}
	})
}

func (p *table) holdAndResume() {
	c, pause := p.talking(), time.Duration(p.rand.IntN(40))*time.Millisecond
	if c == nil {
		return
	}
	p.holds.Add(1)
	p.background(func() {
		p.tell("hold by %s: %v", c.Phone().Config().UserAgent, c.Hold(phone.HoldSendonly))
		time.Sleep(pause)
		p.tell("resume by %s: %v", c.Phone().Config().UserAgent, c.Resume())
	})
}

func (p *table) hold() {
	if c := p.talking(); c != nil {
		p.holds.Add(1)
		p.background(func() { p.tell("hold by %s: %v", c.Phone().Config().UserAgent, c.Hold(phone.HoldInactive)) })
	}
}

func (p *table) farHolds() {
	pause := time.Duration(p.rand.IntN(40)) * time.Millisecond
	p.background(func() {
		p.tell("the far side holds: %v", p.far.Hold(phone.HoldSendonly))
		time.Sleep(pause)
		p.tell("the far side resumes: %v", p.far.Resume())
	})
}

// offer has one side change its session.
func (p *table) offer(how func(*phone.Call) error) {
	c := p.far
	if p.rand.IntN(2) == 0 {
		c = p.talking()
	}
	if c == nil {
		return
	}
	p.background(func() { p.tell("offer by %s: %v", c.Phone().Config().UserAgent, how(c)) })
}

func (p *table) changeNetwork()    { p.relocate(p.device()) }
func (p *table) changeFarNetwork() { p.relocate(p.bob) }

// relocate changes a device's network, and has it say so as phones do: by REGISTER alone, or by a re-INVITE too.
func (p *table) relocate(d *phone.Phone) {
	if len(p.paths) > 0 { // its address is the path's
		return
	}
	p.moved.Store(true)
	to := phone.Relocation{Abrupt: p.rand.IntN(2) == 0}
	if p.rand.IntN(2) == 0 {
		to.Addr = netip.AddrFrom4([4]byte{127, 0, byte(2 + p.rand.IntN(200)), byte(1 + p.n)})
	}
	if t := []string{"udp", "tcp"}[p.rand.IntN(2)]; p.rand.IntN(3) == 0 && d.Config().Transport != "wss" { // a browser stays one
		to.Transport = t
	}
	offers := p.rand.IntN(2) == 0
	p.tell("%s of %s goes to %v", d.Config().UserAgent, d.Config().User, to)
	if err := d.Relocate(to); err != nil {
		p.fail("%v", err)
		return
	}
	p.background(func() {
		err := second(d.Register(10 * time.Minute))
		p.tell("%s registers from there: %v", d.Config().UserAgent, err)
		for _, c := range d.Calls() {
			if offers && c.State() == phone.Up && !c.Holding() {
				p.tell("%s offers from there: %v", d.Config().UserAgent, c.Resume())
			}
		}
	})
}

func (p *table) hangUp() {
	if c := p.talking(); c != nil {
		p.tell("%s hangs up: %v", c.Phone().Config().UserAgent, c.Hangup())
	}
}

func (p *table) farHangsUp() { p.tell("the far side hangs up: %v", p.far.Hangup()) }

// pick draws an event by its weight.
func (p *table) pick() happening {
	total := 0
	for _, e := range happenings {
		total += e.weight
	}
	n := p.rand.IntN(total)
	for _, e := range happenings {
		if n -= e.weight; n < 0 {
			return e
		}
	}
	return happenings[0]
}

// play is one sequence. It gives what was wrong.
func (p *table) play(seed uint64) []string {
	p.rand, p.began = rand.New(rand.NewPCG(seed, 1)), time.Now()
	p.treat(wire.Way{})
	if p.moved.Load() { // the REGISTER of before may not have reached the node
		for _, d := range p.phones() {
			if _, err := d.Register(10 * time.Minute); err != nil {
				p.wrong = []string{err.Error()}
				return p.wrong
			}
		}
	}
	p.story, p.wrong = nil, nil
	p.moved.Store(false)
	p.asked.Store(false)
	p.holds.Store(0)
	if !p.begin() {
		return p.wrong
	}
	p.treat(wire.Way{Loss: 0.05, Duplicate: 0.1, Reorder: 0.05})
	for range 2 + p.rand.IntN(7) {
		if p.far.State() != phone.Up {
			break
		}
		p.device().Behave(behaviours[p.rand.IntN(len(behaviours))])
		p.carol.Behave(behaviours[p.rand.IntN(len(behaviours))])
		e := p.pick()
		p.tell("— %s", e.name)
		e.do(p)
		p.pause()
		if err := p.b.Held(p.users()...); err != nil {
			p.fail("after %s: %v", e.name, err)
		}
	}
	p.treat(wire.Way{})
	p.busy.Wait()
	if p.settle() {
		p.compare()
	}
	p.finish()
	return p.wrong
}

// treat sets what the lossy networks do to SIP.
func (p *table) treat(w wire.Way) {
	for _, path := range p.paths {
		path.Set(wire.Ways{SIP: w}, wire.Ways{SIP: w})
	}
}

// pause lets nothing, little or some time pass.
func (p *table) pause() {
	time.Sleep([]time.Duration{0, time.Duration(p.rand.IntN(5)) * time.Millisecond, time.Duration(p.rand.IntN(120)) * time.Millisecond}[p.rand.IntN(3)])
}

// begin has one of the two call the other.
func (p *table) begin() bool {
	for _, d := range p.phones() {
		d.Behave(phone.AutoAnswer)
		for len(d.Incoming()) > 0 {
			<-d.Incoming()
		}
	}
	var out *phone.Call
	var err error
	for range 5 { // a machine that stands still for a moment lets it ring too long
		if out, err = p.devices[0].Dial(p.number("bob"), timed()); err != nil {
			break
		}
		if err = out.Await(8 * time.Second); err == nil {
			break
		}
	}
	for err == nil {
		if p.far, err = p.bob.Ringing(3 * time.Second); err == nil && p.far.State() == phone.Up {
			break
		}
	}
	if err != nil {
		p.fail("the call does not begin: %v", err)
		return false
	}
	if !p.far.Hears(out, 5*time.Second) || !out.Hears(p.far, 5*time.Second) {
		p.fail("they do not hear each other from the beginning")
		return false
	}
	return true
}

// legs are the calls that the phones have, by Call-ID.
func (p *table) legs() map[string]string {
	all := map[string]string{}
	for _, d := range p.phones() {
		for _, c := range d.Calls() {
			all[c.ID()] = d.Config().User + " " + d.Config().UserAgent + " " + string(c.State())
		}
	}
	return all
}

// settle waits until nothing is under way, and the phones and the node know the same legs. It says whether they do.
func (p *table) settle() bool {
	limit := 45 * time.Second // a phone that got no 200 sends no ACK: 32 s
	if len(p.paths) > 0 {
		limit = 90 * time.Second // Timer B and its kin
	}
	quiet := time.Time{}
	look := time.Now().Add(4 * time.Second)
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p.moved.Load() && time.Now().After(look) {
			look = time.Now().Add(4 * time.Second)
			p.lookForDead()
		}
		switch {
		case !p.still():
			quiet = time.Time{}
		case quiet.IsZero():
			quiet = time.Now()
		case time.Since(quiet) > 150*time.Millisecond:
			return true
		}
	}
	p.fail("it does not settle: phones %v, node %v", p.legs(), p.b.LegsOf(p.users()...))
	return false
}

// lookForDead has phones whose network has changed ask in the dialogs of which the node knows nothing: what it sent last, a BYE or the
// answer to a CANCEL, may have gone to where they were before. It must say that the dialog is none.
func (p *table) lookForDead() {
	node := p.b.LegsOf(p.users()...)
	for _, d := range p.phones() {
		for _, c := range d.Calls() {
			if _, known := node[c.ID()]; known {
				continue
			}
			if c.State() == phone.Up {
				if _, err := c.Request("OPTIONS", nil); err == nil || !strings.Contains(err.Error(), "481") {
					p.fail("%s of %s has a dialog that the node does not list, and is told %v", d.Config().UserAgent, d.Config().User, err)
				}
			}
			p.tell("%s finds its call dead (it was %s)", d.Config().UserAgent, c.State())
			c.Vanish()
		}
	}
}

func (p *table) still() bool {
	node, phones := p.b.LegsOf(p.users()...), p.legs()
	if !slices.Equal(slices.Sorted(maps.Keys(node)), slices.Sorted(maps.Keys(phones))) || len(node) != 0 && len(node) != 2 {
		return false
	}
	for id := range node {
		if !strings.HasSuffix(node[id], " up") || !strings.HasSuffix(phones[id], " "+string(phone.Up)) {
			return false
		}
	}
	return true
}

// compare holds the node and the phones against each other and against what the people did.
func (p *table) compare() {
	near := p.talking()
	switch up := len(p.b.LegsOf(p.users()...)) > 0; {
	case !up && p.far.State() != phone.Ended:
		p.fail("the call is gone and bob was not told")
	case !up && !p.somebodyHungUp():
		why, _ := p.far.Why()
		p.fail("nobody hung up, yet the call has ended (bob: %s)", why)
	case up && (near == nil || p.far.State() != phone.Up):
		p.fail("the call is up, and %v is in it with bob, who is %s", near, p.far.State())
	case up:
		p.hear(near)
	}
	p.listen()
}

// hear takes both out of hold, and checks that they hear each other.
func (p *table) hear(near *phone.Call) {
	for _, c := range []*phone.Call{near, p.far} {
		for tries := 0; c.Holding() && tries < 5; tries++ {
			p.tell("resume at the end: %v", c.Resume())
		}
	}
	if !p.far.Hears(near, 5*time.Second) {
		p.fail("bob does not hear %s of %s", near.Phone().Config().UserAgent, near.Phone().Config().User)
	}
	if !near.Hears(p.far, 5*time.Second) {
		p.fail("%s of %s does not hear bob", near.Phone().Config().UserAgent, near.Phone().Config().User)
	}
}

// listen checks what bob was sent: one stream without a hole, and nobody's sound but that of the others of his call. What a phone
// said into a network that it has left is missing, and so is what it said while its own session changed.
func (p *table) listen() {
	heard := p.far.Media().Heard()
	r := phone.Analyse(heard, 8000)
	if len(r.SSRCs) > 1 || r.Duplicates > 0 || r.Missing > 5*int(p.holds.Load()) && !p.moved.Load() {
		p.fail("bob's stream is broken: %v", r)
	}
	theirs, mine := p.sources(p.bob), p.sources(append(slices.Clone(p.devices), p.carol)...)
	for _, d := range p.phones() {
		others := mine
		if d != p.bob {
			others = theirs
		}
		if d != p.bob && p.asked.Load() {
			others = maps.Clone(theirs)
			maps.Copy(others, mine)
		}
		for _, c := range d.Made() {
			for s := range phone.Analyse(c.Media().Heard(), 8000).Sources {
				if !others[s] {
					p.fail("%s of %s hears source %d, which is not on the other side", d.Config().UserAgent, d.Config().User, s)
				}
			}
		}
	}
}

// sources are the sounds of all calls that these phones have had in the sequence.
func (p *table) sources(phones ...*phone.Phone) map[uint16]bool {
	all := map[uint16]bool{}
	for _, d := range phones {
		for _, c := range d.Made() {
			all[c.Media().Source()] = true
		}
	}
	return all
}

// somebodyHungUp says that a phone has sent BYE: by a person, or one that hangs up as it answers.
func (p *table) somebodyHungUp() bool {
	for _, d := range p.phones() {
		for _, m := range d.Log() {
			if m.Out && m.Method == "BYE" && m.At.After(p.began) {
				return true
			}
		}
	}
	return false
}

// finish hangs up what is left, and checks that the node holds nothing of these people any more.
func (p *table) finish() {
	for _, d := range p.phones() {
		for _, c := range d.Calls() {
			_ = c.Hangup()
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for len(p.b.LegsOf(p.users()...)) > 0 || len(p.legs()) > 0 {
		if time.Now().After(deadline) {
			p.fail("20 s after the end there is left: phones %v, node %v", p.legs(), p.b.LegsOf(p.users()...))
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, d := range p.phones() {
		d.Forget()
	}
	for _, path := range p.paths {
		path.Forget()
	}
}

// lastWords keeps the newest lines of the node's log.
type lastWords struct {
	mu    sync.Mutex
	lines []string
}

// Write takes one line.
func (w *lastWords) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lines = append(w.lines, strings.TrimSpace(string(line))); len(w.lines) > 20_000 {
		w.lines = slices.Clone(w.lines[10_000:])
	}
	return len(line), nil
}

// of gives the last lines about these users.
func (w *lastWords) of(users ...string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var some []string
	for _, line := range w.lines {
		if slices.ContainsFunc(users, func(u string) bool { return strings.Contains(line+" ", "="+u+" ") }) {
			some = append(some, line)
		}
	}
	return some[max(0, len(some)-12):]
}

// TestInterleavings plays sequences, as many at once as there are tables.
func TestInterleavings(t *testing.T) {
	tables, first, all := 48, uint64(time.Now().UnixNano()), *sequences
	if testing.Short() {
		all = 24
	}
	if s := os.Getenv("BATON_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		must(t, err)
		first, all, tables = seed, 1, 8
	}
	var said lastWords
	r := newRig(t, func(c *config.Config) {
		c.Call.Ring, c.Call.Announce, c.Call.PerUser = 700*time.Millisecond, false, 0
		c.Call.Session, c.Call.SessionMin = 2*time.Second, time.Second
		c.Call.Vanished, c.Call.HoldPing = 3*time.Second, 5*time.Second
	}, &said)
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for n := range min(tables, max(all, 1)) {
		p := r.newTable(n)
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(all) && failed.Load() < 10; i = next.Add(1) - 1 {
				seed := first + uint64(i)
				wrong := p.play(seed)
				if len(wrong) > 0 {
					failed.Add(1)
					t.Errorf("seed %d:\n\t%s\n%s", seed, strings.Join(wrong, "\n\t"), strings.Join(append(p.story, said.of(p.user("alice"), p.user("bob"))...), "\n"))
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	t.Logf("%d sequences from seed %d on in %v: %.1f a second, %d broken", min(next.Load(), int64(all)), first, took.Round(time.Second), float64(all)/took.Seconds(), failed.Load())
	r.nothingLeft()
}
