package media

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/config"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// freePort is a UDP port that nobody had a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// startWebRTC is an engine with a port for browsers, and one for their TCP connections if asked for.
func startWebRTC(t testing.TB, tcp bool) *running {
	t.Helper()
	var listener net.Listener
	o := Options{Config: config.Media{Ports: config.PortRange{First: 17500, Last: 17899}, WebRTC: freePort(t)}}
	if tcp {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		o.WebTCP = uint16(listener.Addr().(*net.TCPAddr).Port)
	}
	r := startEngineWith(t, o)
	if listener != nil {
		t.Cleanup(func() { listener.Close() })
		go accept(r.Engine, listener)
	}
	return r
}

func accept(e *Engine, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go e.ServeConn(c)
	}
}

// browser is a WebRTC client as far from ours as a browser's: pion's PeerConnection.
type browser struct {
	t     testing.TB
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	s     *Stream

	mu    sync.Mutex
	heard []rtp.Packet
	more  chan struct{}

	first chan time.Time // OnHeard
	lost  chan time.Time // OnConsentLost
	told  time.Time      // when its description was applied

	hdr rtp.Header
}

type browserOptions struct {
	tcp    bool
	active bool // we begin the DTLS handshake
	offers bool // we make the offer
}

var browserPCMU = webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}

// newBrowser connects a client to a new stream of e; it returns when both have all that they need.
func newBrowser(t testing.TB, e *Engine, o browserOptions) *browser {
	t.Helper()
	b := &browser{t: t, more: make(chan struct{}, 1), first: make(chan time.Time, 4), lost: make(chan time.Time, 4)}
	b.pc = newPeerConnection(t, o)
	var err error
	if b.track, err = webrtc.NewTrackLocalStaticRTP(browserPCMU, "audio", "mic"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pc.AddTrack(b.track); err != nil {
		t.Fatal(err)
	}
	b.pc.OnTrack(func(r *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { b.listen(r) })
	b.s, err = e.Open(StreamOptions{
		Peer: netip.MustParseAddr("127.0.0.1"), WebRTC: true,
		OnHeard:       func(at time.Time) { b.first <- at },
		OnConsentLost: func(at time.Time) { b.lost <- at },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.close() })
	b.hdr = rtp.Header{Version: 2, SequenceNumber: 60000, Timestamp: 0xffffff00}
	if o.offers {
		b.answers()
	} else {
		b.offers(o)
	}
	return b
}

func newPeerConnection(t testing.TB, o browserOptions) *webrtc.PeerConnection {
	t.Helper()
	var engine webrtc.MediaEngine
	if err := engine.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: browserPCMU, PayloadType: 0}, webrtc.RTPCodecTypeAudio); err != nil {
		t.Fatal(err)
	}
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIPFilter(func(ip net.IP) bool { return ip.String() == "127.0.0.1" })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	if o.tcp {
		s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeTCP4})
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&engine), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	return pc
}

func (b *browser) close() {
	b.pc.Close()
	b.s.Close()
}

// offers has the client offer and us answer.
func (b *browser) offers(o browserOptions) {
	b.t.Helper()
	b.offer(o, nil)
}

func (b *browser) offer(o browserOptions, options *webrtc.OfferOptions) {
	b.t.Helper()
	offer, err := b.pc.CreateOffer(options)
	if err != nil {
		b.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(offer); err != nil {
		b.t.Fatal(err)
	}
	<-gathered
	theirs, err := ParseSDP([]byte(b.pc.LocalDescription().SDP))
	if err != nil {
		b.t.Fatal(err)
	}
	local := b.s.LocalFor(theirs)
	local.Active = o.active
	answer, err := NewAnswer(Origin{User: "baton", ID: 1, Version: 1}, theirs, []Codec{pcmu}, local, SendRecv)
	if err != nil {
		b.t.Fatal(err)
	}
	b.agree(answer, theirs)
	b.told = time.Now()
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer.Marshal())}); err != nil {
		b.t.Fatal(err)
	}
}

// answers has us offer and the client answer.
func (b *browser) answers() {
	b.t.Helper()
	offer := NewOffer(Origin{User: "baton", ID: 1, Version: 1}, []Codec{pcmu}, b.s.Local(), SendRecv)
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: string(offer.Marshal())}); err != nil {
		b.t.Fatal(err)
	}
	answer, err := b.pc.CreateAnswer(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(answer); err != nil {
		b.t.Fatal(err)
	}
	<-gathered
	theirs, err := ParseSDP([]byte(b.pc.LocalDescription().SDP))
	if err != nil {
		b.t.Fatal(err)
	}
	b.told = time.Now()
	b.agree(offer, theirs)
}

// agree applies what two descriptions come to.
func (b *browser) agree(ours, theirs Description) {
	b.t.Helper()
	a, err := Agree(ours, theirs)
	if err != nil {
		b.t.Fatal(err)
	}
	b.s.Apply(a)
}

func (b *browser) listen(r *webrtc.TrackRemote) {
	for {
		p, _, err := r.ReadRTP()
		if err != nil {
			return
		}
		b.mu.Lock()
		b.heard = append(b.heard, *p)
		b.mu.Unlock()
		select {
		case b.more <- struct{}{}:
		default:
		}
	}
}

// say sends a packet of a marked payload, if the client can send yet.
func (b *browser) say(mark byte) {
	body := make([]byte, 160)
	for i := range body {
		body[i] = mark
	}
	h := b.hdr
	b.hdr.SequenceNumber++
	b.hdr.Timestamp += 160
	if err := b.track.WriteRTP(&rtp.Packet{Header: h, Payload: body}); err != nil && !errors.Is(err, net.ErrClosed) {
		b.t.Log(err)
	}
}

func (b *browser) packets() []rtp.Packet {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]rtp.Packet(nil), b.heard...)
}

// marked counts what it heard of a mark.
func (b *browser) marked(mark byte) int {
	n := 0
	for _, p := range b.packets() {
		if len(p.Payload) == 160 && p.Payload[0] == mark {
			n++
		}
	}
	return n
}

// until has clients speak every 20 ms until all of what is awaited is so.
func until(t testing.TB, within time.Duration, speak func(), awaited func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * ms)
	defer tick.Stop()
	for end := time.Now().Add(within); !awaited(); <-tick.C {
		if time.Now().After(end) {
			t.Helper()
			t.Fatal("not in time")
		}
		speak()
	}
}

func bridgeStreams(a, b *Stream) {
	a.Feed(b)
	b.Feed(a)
	a.Follow(b)
	b.Follow(a)
}

// TestBrowsers connects two clients by each way and role, and has them hear one another.
func TestBrowsers(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b browserOptions
	}{
		{"they offer and are DTLS clients", browserOptions{}, browserOptions{}},
		{"they offer and are DTLS servers", browserOptions{active: true}, browserOptions{active: true}},
		{"we offer", browserOptions{offers: true}, browserOptions{offers: true}},
		{"over TCP", browserOptions{tcp: true}, browserOptions{tcp: true, active: true}},
		{"one over TCP", browserOptions{tcp: true, offers: true}, browserOptions{active: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := startWebRTC(t, true)
			a, b := newBrowser(t, e.Engine, c.a), newBrowser(t, e.Engine, c.b)
			bridgeStreams(a.s, b.s)
			until(t, 20*time.Second, func() { a.say('a'); b.say('b') }, func() bool { return a.marked('b') >= 25 && b.marked('a') >= 25 })
			for _, x := range []*browser{a, b} {
				checkBrowser(t, x, 0)
			}
			if d := e.WebRTCDropped(); d["stranger"]+d["malformed"] != 0 {
				t.Errorf("dropped %v", d)
			}
			a.close()
			b.close()
			if n := len(*e.shared.agents.Load()) + len(*e.shared.pairs.Load()); n != 0 {
				t.Errorf("%d entries are left", n)
			}
			e.stop(t)
		})
	}
}

// checkBrowser wants one line of one SSRC, of which so many numbers may be missing in a row, and a call that was told.
func checkBrowser(t *testing.T, b *browser, lost uint16) {
	t.Helper()
	all := b.packets()
	for i, p := range all {
		if p.SSRC != b.s.Local().SSRC || i > 0 && p.SequenceNumber-all[i-1].SequenceNumber-1 > lost {
			t.Errorf("packet %d: SSRC %d, number %d", i, p.SSRC, p.SequenceNumber)
			break
		}
	}
	select {
	case <-b.first:
	default:
		t.Error("the call was not told of the first packet")
	}
	if st := b.s.Stats(); st.Secure != "dtls" || st.Way == "" || st.In.Packets < 20 || st.Dropped["forged"] != 0 || !strings.HasPrefix(st.Remote, "127.0.0.1:") {
		t.Errorf("%+v", st)
	}
}

// TestBrowserRestart has a client restart ICE in mid-call: nothing of what it hears begins anew.
func TestBrowserRestart(t *testing.T) {
	t.Parallel()
	e := startWebRTC(t, true)
	for _, tcp := range []bool{false, true} {
		o := browserOptions{tcp: tcp, active: tcp}
		a, b := newBrowser(t, e.Engine, o), newBrowser(t, e.Engine, browserOptions{})
		bridgeStreams(a.s, b.s)
		speak := func() { a.say('a'); b.say('b') }
		until(t, 20*time.Second, speak, func() bool { return a.marked('b') >= 10 && b.marked('a') >= 10 })
		was := a.s.Local().ICE.Ufrag
		heard, spoke := a.marked('b'), b.marked('a')
		a.offer(o, &webrtc.OfferOptions{ICERestart: true})
		until(t, 20*time.Second, speak, func() bool {
			a.s.ice.mu.Lock()
			defer a.s.ice.mu.Unlock()
			return a.s.ice.old == nil && a.marked('b') >= heard+10 && b.marked('a') >= spoke+10
		})
		if a.s.Local().ICE.Ufrag == was {
			t.Error("the old credentials are announced still")
		}
		checkBrowser(t, a, 50) // pion hears nothing until its next checks, every 200 ms, have found a pair
		checkBrowser(t, b, 50)
		a.close()
		b.close()
	}
}

// TestBrowserReports: both sides know of loss and round trips by RTCP, sealed and on the same port.
func TestBrowserReports(t *testing.T) {
	t.Parallel()
	e := startWebRTC(t, false)
	a, b := newBrowser(t, e.Engine, browserOptions{}), newBrowser(t, e.Engine, browserOptions{active: true})
	bridgeStreams(a.s, b.s)
	a.s.ctrl.mu.Lock()
	a.s.ctrl.due = 0 // at the next tick
	a.s.ctrl.mu.Unlock()
	reported := make(chan struct{}, 8)
	go func() {
		for {
			packets, _, err := a.pc.GetSenders()[0].ReadRTCP()
			if err != nil {
				return
			}
			for _, p := range packets {
				if r, ok := p.(*rtcp.SenderReport); ok && r.SSRC == a.s.Local().SSRC || isReceiverReport(p, a.s.Local().SSRC) {
					reported <- struct{}{}
				}
			}
		}
	}()
	sent := false
	until(t, 30*time.Second, func() {
		a.say('a')
		b.say('b')
		if len(reported) > 0 && !sent {
			sent = true
			r := &rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: a.s.Local().SSRC, TotalLost: 3}}}
			if err := a.pc.WriteRTCP([]rtcp.Packet{r}); err != nil {
				t.Error(err)
			}
		}
	}, func() bool { return a.s.Stats().Reported })
	if st := a.s.Stats(); st.Out.Lost != 3 || st.Dropped["rtcp_forged"]+st.Dropped["rtcp_foreign"] != 0 {
		t.Errorf("%+v", st)
	}
}

func isReceiverReport(p rtcp.Packet, of uint32) bool {
	r, ok := p.(*rtcp.ReceiverReport)
	return ok && r.SSRC == of
}

// TestSixBrowsers has three calls of browsers on one port, by UDP and TCP, each heard by its own far side alone.
func TestSixBrowsers(t *testing.T) {
	t.Parallel()
	e := startWebRTC(t, true)
	var all []*browser
	for i := range 6 {
		all = append(all, newBrowser(t, e.Engine, browserOptions{tcp: i%3 == 0, offers: i%2 == 0, active: i == 5}))
	}
	for i := 0; i < 6; i += 2 {
		bridgeStreams(all[i].s, all[i+1].s)
	}
	until(t, 30*time.Second, func() {
		for i, b := range all {
			b.say(byte('a' + i))
		}
	}, func() bool {
		for i, b := range all {
			if b.marked(byte('a'+(i^1))) < 20 {
				return false
			}
		}
		return true
	})
	for i, b := range all {
		for j := range all {
			if n := b.marked(byte('a' + j)); j != i^1 && n != 0 {
				t.Errorf("%d heard %d packets of %d", i, n, j)
			}
		}
	}
}
