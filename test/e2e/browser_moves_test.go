package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/wire"
)

// place is a device, phone or browser, that can have a side of a call.
type place struct {
	name  string
	hz    float64
	index int                      // among its user's devices
	dial  func(to string) error    // calls, and waits until the call is up
	taken func() error             // waits until it has a call that it was given
	refer func(to string)          // transfers its call
	keys  func(digits string)      // presses keys
	hold  func(on bool) error      // puts the other side on hold, or back
	end   func()                   // hangs up
	over  func() error             // waits until its call has ended
	heard func() []float64         // what it heard since it was asked last; nil = not before the end
	heeds func(digits string) bool // has heard the keys pressed
	deaf  bool                     // records no more: Debian's baresip 1.0.0 after it had a call on hold
	page  *tab                     // of a browser
	call  *int                     // which of the page's calls it has
}

// baresipPlace runs a baresip for a user.
func (w *world) baresipPlace(name, user string, s softphone) (*place, *baresip) {
	w.t.Helper()
	var b *baresip
	index := w.added(user, func() { b = w.runBaresip(user, s) })
	read, file := 0, ""
	p := &place{name: name, hz: s.hz, index: index}
	up := func(limit time.Duration) error { p.deaf = false; return b.comes("CALL_ESTABLISHED", limit) }
	*p = place{
		name: name, hz: s.hz, index: index,
		dial:  func(to string) error { b.dial(to); return up(10 * time.Second) },
		taken: func() error { return up(5 * time.Second) },
		refer: func(to string) { b.do("transfer", "sip:"+to+b.server) },
		keys: func(digits string) {
			for _, k := range digits {
				b.do("sndcode", string(k))
				pause(250 * time.Millisecond)
			}
		},
		hold: func(on bool) error {
			b.do(map[bool]string{true: "hold", false: "resume"}[on], "")
			p.deaf = b.old()
			return nil
		},
		end:  func() { b.do("hangup", "") },
		over: func() error { return b.comes("CALL_CLOSED", 5*time.Second) },
		heard: func() []float64 {
			files := b.recordings()
			if len(files) == 0 {
				return nil
			}
			if newest := files[len(files)-1]; newest != file {
				read, file = 0, newest
			}
			samples, err := readWAV(file)
			if err != nil || len(samples) < read {
				return nil
			}
			since := samples[read:]
			read = len(samples)
			return since
		},
		heeds: func(digits string) bool {
			return len(b.keysOf()) >= len(digits) && b.keysOf()[len(b.keysOf())-len(digits):] == digits
		},
	}
	return p, b
}

// comes waits for an event as await does, but fails no test.
func (b *baresip) comes(kind string, limit time.Duration) error {
	for deadline := time.Now().Add(limit); ; pause(10 * time.Millisecond) {
		b.mu.Lock()
		for i := b.seen; i < len(b.events); i++ {
			if b.events[i].Type == kind {
				b.seen = i + 1
				b.mu.Unlock()
				return nil
			}
		}
		b.mu.Unlock()
		if time.Now().After(deadline) {
			return fmt.Errorf("baresip %d: no %s within %s\n%s", b.port, kind, limit, b.output())
		}
	}
}

// linphonePlace runs a linphonec for a user.
func (w *world) linphonePlace(name, user string, hz float64) (*place, *linphone) {
	w.t.Helper()
	var l *linphone
	index := w.added(user, func() { l = w.startLinphone(user, hz) })
	uri := func(to string) string { return "sip:" + to + "@" + w.UDP.String() }
	return &place{
		name: name, hz: hz, index: index,
		dial:  func(to string) error { l.do("call " + uri(to)); return nil },
		taken: func() error { return nil },
		refer: func(to string) { l.do("transfer " + uri(to)) },
		end:   func() { l.do("terminate") },
	}, l
}

// browserPlace opens a page of the tests for a user, which answers a call by itself where it is asked to.
func (w *world) browserPlace(name, user string, b *browser) *place {
	w.t.Helper()
	var p *tab
	index := w.added(user, func() { p = w.browserPhone(b, pageJsSIP, user, map[string]any{"ringless": true}) })
	at := new(int)
	up := func(limit int) error { return p.run(nil, "until", *at, "up", limit) }
	return &place{
		name: name, hz: b.hz, index: index, page: p, call: at,
		dial: func(to string) error { return errors.Join(p.run(at, "call", w.uri(to)), up(5000)) },
		taken: func() error {
			var in struct{ ID int }
			err := p.run(&in, "incoming", 5000)
			*at = in.ID
			return errors.Join(err, up(5000))
		},
		refer: func(to string) { p.must(nil, "transfer", *at, w.uri(to)) },
		keys:  func(digits string) { p.must(nil, "dtmf", *at, digits) },
		hold:  func(on bool) error { return p.run(nil, map[bool]string{true: "hold", false: "unhold"}[on], *at) },
		end:   func() { p.must(nil, "hangup", *at) },
		over:  func() error { return p.run(nil, "until", *at, "over", 5000) },
		heard: func() []float64 { return p.heard(*at) },
	}
}

// pagePlace signs a user in on the node's own page, which is used as a person would.
func (w *world) pagePlace(name, user string, b *browser) *place {
	w.t.Helper()
	p := b.page(w.t, fmt.Sprintf("https://%s/", w.Web))
	index := w.added(user, func() { p.signIn(user) })
	called := func(n int) string {
		for _, d := range w.devices(user) {
			if d.Index == n {
				return d.Name
			}
		}
		return ""
	}
	return &place{
		name: name, hz: b.hz, index: index, page: p,
		dial:  func(string) error { p.click(button("Move here")); p.says("On this browser"); return nil },
		taken: func() error { p.says("On this browser"); return nil },
		refer: func(to string) {
			var n int
			_, _ = fmt.Sscanf(to, "101*%d", &n)
			p.click(button(called(n)))
		},
		end:   func() { p.click(button("Hang up")) },
		over:  func() error { p.says("Move here"); return nil },
		heard: func() []float64 { return p.heard() },
	}
}

// added is the index of the device that a user has more when do has been done.
func (w *world) added(user string, do func()) int {
	w.t.Helper()
	before := w.devices(user)
	do()
	for _, d := range w.devices(user) {
		if d.Here && !slices.ContainsFunc(before, func(b device) bool { return b.Index == d.Index && b.Here }) {
			return d.Index
		}
	}
	w.t.Fatalf("%s has no further device", user)
	return 0
}

// moving is a call of alice's with bob, which is moved round her four devices.
type moving struct {
	*world
	places  []*place
	at      int
	far     *place
	control *place         // a browser whose call with somebody else stays where it is
	farEnd  netip.AddrPort // where it hears
	tap     *wire.Tap
	token   string
	id      string // of the call
	since   time.Time
	figures []movedFigures
	sources []uint32           // SSRCs of the devices that the call was moved away from
	buffer  [2][]time.Duration // how long the jitter buffers of the far browser and of the one beside were, at each look
}

// movedFigures are those of one move, as the far end saw it and as baton tells them.
type movedFigures struct {
	Far, From, To, How string
	Browser            bool          // is the new device
	Gap                time.Duration // longest time between two packets to the far end
	Switch             time.Duration // from the old device's last packet to the new one's first there, or to its second if that is more; 0 = not made out
	SwitchOwn          time.Duration // between these of the new device as they came
	Own                time.Duration // longest time between two packets of either device
	Stall              time.Duration // the same of the far end
	AnswerToMedia      float64       // ms
	Trigger            float64       // ms from the trigger to both directions
	Concealed          float64       // ms that the far browser made up
	Control            float64       // ms that one beside it did
}

// The ways to move the call; any of the devices can be asked in each.
var browserWays = []string{"pull", "page", "refer", "cli"}

// move brings the call to the next device.
func (m *moving) move(how string) {
	m.t.Helper()
	from, to := m.places[m.at], m.places[(m.at+1)%len(m.places)]
	before := m.reports()
	began := time.Now()
	figures, source := m.played(), m.ssrc()
	switch how {
	case "pull":
		m.must(to.dial("*40"))
	case "page":
		m.must(m.asUser(m.token, "POST", "/me/moves", map[string]string{"device": strconv.Itoa(to.index)}, nil))
	case "refer":
		from.refer(fmt.Sprintf("101*%d", to.index))
	case "cli":
		_, err := m.CLI("move", "--user", "alice", strconv.Itoa(to.index))
		m.must(err)
	}
	if how != "pull" {
		m.must(to.taken())
	}
	var now []report
	m.Eventually(5*time.Second, "the figures of the move", func() error {
		if now = m.reports(); len(now) != len(before)+1 {
			return fmt.Errorf("%d moves, before %d", len(now), len(before))
		}
		return nil
	})
	if len(now) != len(before)+1 {
		m.t.FailNow()
	}
	if from.over != nil {
		m.must(from.over())
	}
	m.at = (m.at + 1) % len(m.places)
	r := now[len(now)-1]
	f := movedFigures{
		Far: m.far.name, From: from.name, To: to.name, How: how, Browser: to.page != nil, AnswerToMedia: r.AnswerToMedia, Trigger: r.SwitchMS,
	}
	window := began.Add(-100 * time.Millisecond)
	f.Gap, _ = phone.LongestGap(packetsOf(m.toFar(window)), began, time.Now())
	f.Stall, _ = phone.LongestGap(packetsOf(m.fromFar(window)), began, time.Now())
	m.sources = append(m.sources, source)
	f.Switch, f.SwitchOwn = spliced(m.toFar(window), m.tap.Packets(window, m.from(m.ssrc())))
	f.Own = max(m.ownGap(source, window), m.ownGap(m.ssrc(), window))
	if m.far.page != nil {
		after, long := m.played(), time.Since(began)
		f.Concealed, f.Control = concealedMS(after[0].since(figures[0]), long), concealedMS(after[1].since(figures[1]), long)
	}
	m.figures = append(m.figures, f)
	m.t.Logf("%s → %s by %-5s: switch %s (as it came %s), gap %s (the devices' own %s, the far end's %s), baton says %.0f ms; answer → media %.0f ms, trigger → media %.0f ms; concealed %.0f ms, beside %.0f",
		from.name, to.name, how, f.Switch.Round(time.Millisecond), f.SwitchOwn.Round(time.Millisecond), f.Gap.Round(time.Millisecond), f.Own.Round(time.Millisecond), f.Stall.Round(time.Millisecond), r.Far.GapMS, f.AnswerToMedia, f.Trigger, f.Concealed, f.Control)
}

func (m *moving) from(ssrc uint32) func(wire.Heard) bool {
	return func(h wire.Heard) bool { return h.SSRC == ssrc }
}

// spliced finds the first of the packets out that is one of those in, and how long it and the next were after the packet before them, there
// and as they came. What is passed on has a number that differs by the same from its own all the time.
func spliced(out, in []wire.Heard) (there, own time.Duration) {
	came := map[uint16]int{}
	for i, h := range in {
		came[h.Seq] = i
	}
	passed := func(o wire.Heard, off uint16) (int, bool) {
		i, ok := came[o.Seq-off]
		if !ok {
			return 0, false
		}
		took := o.At.Sub(in[i].At)
		return i, took > -200*time.Microsecond && took < 15*time.Millisecond
	}
	best, most := uint16(0), 0
	for _, i := range in[max(0, len(in)-5):] {
		for _, o := range out[max(0, len(out)-8):] {
			n := 0
			for _, p := range out {
				if _, ok := passed(p, o.Seq-i.Seq); ok {
					n++
				}
			}
			if n > most {
				best, most = o.Seq-i.Seq, n
			}
		}
	}
	for k, o := range out {
		i, ok := passed(o, best)
		if !ok || most <= 10 || k == 0 {
			continue
		}
		for n := range 2 { // one of the new device's that was dropped may be taken for the old one's beside it
			if k+n < len(out) && i+n < len(in) {
				there = max(there, out[k+n].At.Sub(out[k+n-1].At))
				own = max(own, in[i+n].At.Sub(in[max(0, i+n-1)].At))
			}
		}
		return there, own
	}
	return 0, 0
}

// ownGap is the longest time between two packets of a source.
func (m *moving) ownGap(ssrc uint32, since time.Time) (longest time.Duration) {
	said := m.tap.Packets(since, m.from(ssrc))
	if len(said) == 0 {
		return 0
	}
	at := said[len(said)-1].From // also where it has begun anew with another SSRC
	all := m.tap.Packets(since, func(h wire.Heard) bool { return h.From == at })
	for i := 1; i < len(all); i++ {
		longest = max(longest, all[i].At.Sub(all[i-1].At))
	}
	return longest
}

// played are the figures of the far browser and of the one beside.
func (m *moving) played() []figures {
	if m.far.page == nil {
		return nil
	}
	return []figures{m.far.page.figures(*m.far.call), m.control.page.figures(*m.control.call)}
}

// concealedMS is how much was made up of what was played in a time; at which rate samples are counted depends on the codec.
func concealedMS(f figures, played time.Duration) float64 {
	return f.concealed() * float64(played) / float64(time.Millisecond)
}

// reports are those of the moves that are done.
func (m *moving) reports() (all []report) {
	m.t.Helper()
	var shown struct{ Moves []shownMove }
	m.must(m.JSON(&shown, "call", "show", m.id, "--json"))
	for _, s := range shown.Moves {
		if s.Report != nil {
			all = append(all, *s.Report)
		} else if s.Error != "" {
			m.t.Fatalf("a move failed: %s", s.Error)
		}
	}
	return all
}

// toFar are the packets to where the far end hears.
func (m *moving) toFar(since time.Time) []wire.Heard {
	at := m.farAt()
	return m.tap.Packets(since, func(h wire.Heard) bool { return h.To == at })
}

func (m *moving) fromFar(since time.Time) []wire.Heard {
	at := m.farAt()
	return m.tap.Packets(since, func(h wire.Heard) bool { return h.From == at })
}

// farAt is where baton sends bob's stream.
func (m *moving) farAt() netip.AddrPort {
	m.t.Helper()
	if m.farEnd.IsValid() {
		return m.farEnd
	}
	ssrc, err := strconv.ParseUint(m.sentTo("bob"), 10, 32)
	m.must(err)
	all := m.tap.Packets(m.since, func(h wire.Heard) bool { return h.SSRC == uint32(ssrc) })
	if len(all) == 0 {
		m.t.Fatalf("nothing was seen of SSRC %d, which bob is sent", ssrc)
	}
	m.farEnd = all[len(all)-1].To
	return m.farEnd
}

// packetsOf are for the analysis of a stream.
func packetsOf(heard []wire.Heard) (all []phone.Packet) {
	for _, h := range heard {
		all = append(all, phone.Packet{At: h.At, Seq: h.Seq, TS: h.TS, SSRC: h.SSRC, Marker: h.Marker, PT: h.PT})
	}
	return all
}

// asUser asks the API as the page does.
func (w *world) asUser(token, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, fmt.Sprintf("https://%s/api/v1%s", w.Web, path), bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, // the node's CA is its own
	}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode >= 300:
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, answer)
	case into == nil || len(answer) == 0:
		return nil
	}
	return json.Unmarshal(answer, into)
}

// listen has places listen for half a second: each must hear its tone for most of it.
func listen(t *testing.T, want map[*place]float64) {
	t.Helper()
	const long = 600 * time.Millisecond
	steadily(t, func() (err error) {
		for p := range want {
			p.heard()
		}
		pause(long)
		for p, hz := range want {
			samples := p.heard()
			if got := heardTone(samples, hz); got < long/2 {
				err = errors.Join(err, fmt.Errorf("%s heard %g Hz for %s of %d ms, listening for %s", p.name, hz, got, len(samples)*1000/rate, long))
			}
		}
		return err
	})
}

// hearEachOther wants the far end and the device that has the call to hear each other.
func (m *moving) hearEachOther() {
	m.t.Helper()
	here := m.places[m.at]
	want := map[*place]float64{m.far: here.hz}
	if here.heard != nil {
		want[here] = m.far.hz
	}
	listen(m.t, want)
}

// secondOf is the second browser: Firefox, but in a measurement another Chromium may be wanted, for Firefox's microphone without hardware leaves
// out a packet's time now and then.
func secondOf(fox, chrome *browser) *browser {
	if os.Getenv("BATON_TEST_SECOND") == "chromium" {
		return chrome
	}
	return fox
}

// newMoving makes the call: alice's desk phone calls bob, who has a phone or a browser.
func newMoving(t *testing.T, far string) *moving {
	t.Helper()
	chrome, fox := theBrowser(t, "chromium"), theBrowser(t, "firefox")
	w := newWorld(t, node.Options{Config: allowing(chrome, fox), Users: map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}})
	m := &moving{world: w}
	tap, err := wire.Listen()
	w.must(err)
	t.Cleanup(tap.Close)
	m.tap = tap
	desk, _ := w.baresipPlace("desk", "alice", plain("udp", 440))
	var soft *place
	switch far {
	case "RTP":
		m.far, _ = w.baresipPlace("baresip with RTP", "bob", plain("udp", 700))
		soft, _ = w.linphonePlace("softphone", "alice", 800)
	case "SDES":
		m.far, _ = w.baresipPlace("baresip with SDES", "bob", secured("srtp-mand", 700))
		soft, _ = w.baresipPlace("softphone", "alice", plain("tcp", 800))
	case "DTLS":
		m.far = w.browserPlace("Chromium", "bob", chrome)
		m.control = w.browserPlace("Chromium beside", "carol", chrome)
		soft, _ = w.baresipPlace("softphone", "alice", plain("tcp", 800))
		dave, _ := w.baresipPlace("dave", "dave", plain("udp", 900))
		w.answered(dave, "103", m.control)
		t.Cleanup(dave.end)
	}
	first := w.browserPlace("chromium", "alice", chrome)
	second := w.browserPlace("second browser", "alice", secondOf(fox, chrome))
	if far == "SDES" {
		first = w.pagePlace("page in chromium", "alice", chrome)
	}
	m.places = []*place{desk, soft, first, second}
	var session struct{ Token string }
	w.must(w.asUser("", "POST", "/session", map[string]string{"user": "alice", "password": node.Password("alice")}, &session))
	m.token, m.since = session.Token, time.Now()
	w.answered(desk, "102", m.far)
	m.id = w.callOf("alice")
	return m
}

// callOf is the id of the user's one call.
func (w *world) callOf(user string) string {
	w.t.Helper()
	var calls []struct {
		ID    string
		Seats []struct{ User string }
	}
	w.must(w.JSON(&calls, "calls", "--json"))
	for _, c := range calls {
		if slices.ContainsFunc(c.Seats, func(s struct{ User string }) bool { return s.User == user }) {
			return c.ID
		}
	}
	w.t.Fatalf("%s is in no call of %v", user, calls)
	return ""
}

// answered calls a place, which answers by itself or is told to.
func (w *world) answered(from *place, number string, to *place) {
	w.t.Helper()
	if to.page == nil {
		w.must(from.dial(number))
		w.must(to.taken())
		return
	}
	up := make(chan error, 1)
	go func() { up <- from.dial(number) }()
	var in struct{ ID int }
	to.page.must(&in, "incoming", 5000)
	*to.call = in.ID
	to.page.must(nil, "answer", in.ID)
	to.page.must(nil, "until", in.ID, "up", 5000)
	w.must(<-up)
}

// unbroken wants the far end to have been sent one stream since the call began, whose timestamps follow the clock.
func (m *moving) unbroken() {
	m.t.Helper()
	still := time.Duration(0) // a device whose clock stands still, at a move or between two, takes the timestamps with it
	for _, f := range m.figures {
		still += max(0, f.Own-phone.Frame)
	}
	for _, ssrc := range m.sources {
		still += phone.Analyse(packetsOf(m.tap.Packets(m.since, m.from(ssrc))), 8000).Drift
	}
	r := phone.Analyse(packetsOf(m.toFar(m.since)), 8000)
	m.t.Logf("%s was sent %s", m.far.name, r)
	if len(r.SSRCs) != 1 || r.Missing != 0 || r.Reordered != 0 || r.Duplicates != 0 || r.Markers > len(m.figures)+1 {
		m.t.Errorf("the stream to %s is broken: %s", m.far.name, r)
	}
	if r.Drift > 40*time.Millisecond+still {
		m.t.Errorf("timestamps to %s are off the clock: %s; the devices stood still for %s", m.far.name, r, still)
	}
}

// TestMovesRoundBrowsers moves a call from a desk phone to a softphone, to a browser, to another browser and back to the desk, each time
// in another way; the far end is a phone with RTP, one with SRTP, or a browser. What is on the wire to the far end, and what it hears, is
// the judge, so that nothing else runs beside. With rounds in the environment it is a measurement, whose figures go to a file: see make bench.
func TestMovesRoundBrowsers(t *testing.T) {
	rounds := 1
	if n, err := strconv.Atoi(os.Getenv("BATON_TEST_ROUNDS")); err == nil {
		rounds = n
	}
	for _, far := range []string{"RTP", "SDES", "DTLS"} {
		t.Run("far "+far, func(t *testing.T) {
			m := newMoving(t, far)
			m.hearEachOther()
			settle := func() { // what a browser has learnt of another device's rhythm, or of a pause, it forgets in seconds
				if rounds > 1 && m.far.page != nil {
					pause(5 * time.Second)
				}
			}
			look := func() {
				settle()
				m.buffers()
			}
			look()
			for i := range rounds * len(m.places) {
				m.move(browserWays[(i+i/len(m.places)+len(far))%len(browserWays)])
				m.hearEachOther()
				if (i+1)%10 == 0 && m.far.page != nil {
					look()
				}
			}
			if m.far.page == nil || rounds*len(m.places)%10 != 0 {
				look()
			}
			m.unbroken()
			m.places[m.at].end()
			m.must(m.far.over())
			m.judge()
		})
	}
}

// buffers notes how long the jitter buffers of the far browser and of the one beside are now, over a second.
func (m *moving) buffers() {
	if m.far.page == nil {
		return
	}
	before := m.played()
	pause(time.Second)
	after := m.played()
	for i := range m.buffer {
		m.buffer[i] = append(m.buffer[i], time.Duration(after[i].since(before[i]).Delay*float64(time.Second)))
	}
}

// judge holds the figures to limits that hold on a busy machine, and keeps them for who measures.
func (m *moving) judge() {
	m.t.Helper()
	unseen := 0
	for _, f := range m.figures {
		if f.Switch == 0 {
			unseen++
		}
		if f.Gap > 200*time.Millisecond+max(f.Stall, f.Own) {
			m.t.Errorf("%s → %s by %s: %s was sent nothing for %s", f.From, f.To, f.How, f.Far, f.Gap)
		}
		if f.Concealed-f.Control > 200 {
			m.t.Errorf("%s → %s by %s: %s made %.0f ms up, the one beside %.0f", f.From, f.To, f.How, f.Far, f.Concealed, f.Control)
		}
	}
	if unseen > len(m.figures)/4 {
		m.t.Errorf("%d switches of %d could not be made out in what %s was sent", unseen, len(m.figures), m.far.name)
	}
	media := make([]float64, 0, len(m.figures))
	for _, f := range m.figures {
		media = append(media, f.AnswerToMedia)
	}
	slices.Sort(media)
	if half := media[len(media)/2]; half > 500 { // a device that is not heard is taken for muted after a second
		m.t.Errorf("%.0f ms from the answer to sound both ways at half of the moves: %.0f", half, media)
	}
	if m.far.page != nil {
		said := fmt.Sprintf("jitter buffer of %s, before the moves and in their course: %s; that beside: %s", m.far.name, m.buffer[0], m.buffer[1])
		m.t.Log(said)
		grew := func(i int) time.Duration { return m.buffer[i][len(m.buffer[i])-1] - m.buffer[i][0] }
		longest, _ := phone.LongestGap(packetsOf(m.toFar(m.since)), m.since, time.Now()) // a browser learns from each to expect more of them
		if grew(0) > 150*time.Millisecond+max(0, grew(1))+longest {
			m.t.Error(said)
		}
	}
	keepFigures(m.t, map[string]any{"far": m.far.name, "moves": m.figures, "buffer": m.buffer[0], "beside": m.buffer[1]})
}

// keepFigures writes what moves came to as a line of the file that test/bench has named, if it has.
func keepFigures(t *testing.T, figures map[string]any) {
	t.Helper()
	path := os.Getenv("BATON_TEST_FIGURES")
	if path == "" {
		return
	}
	text, err := json.Marshal(figures)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(append(text, '\n')); err != nil {
		t.Fatal(err)
	}
}

// ssrc is that of what alice's device says.
func (m *moving) ssrc() uint32 {
	m.t.Helper()
	var shown struct {
		Seats []struct {
			User string
			Legs []struct {
				Stats struct{ In struct{ SSRC uint32 } }
			}
		}
	}
	m.must(m.JSON(&shown, "call", "show", m.id, "--json"))
	for _, s := range shown.Seats {
		if s.User == "alice" && len(s.Legs) > 0 {
			return s.Legs[0].Stats.In.SSRC
		}
	}
	m.t.Fatal("alice has no leg")
	return 0
}
