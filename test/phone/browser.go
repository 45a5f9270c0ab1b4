package phone

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// browser is the sound of a call as a browser has it: ICE, DTLS-SRTP, one port. The PeerConnection is told nothing of hold: directions are
// written into what is sent and taken out of what is read, as SIP libraries for pages do.
//
// Its other end may be another one with a re-INVITE. Chromium makes a new association then, when the fingerprint is another; pion has that by a new
// PeerConnection only.
type browser struct {
	cfg   Config
	media *Media
	voice *voice

	mu    sync.Mutex
	pc    *webrtc.PeerConnection
	their string // fingerprint
	said  string // the last description of ours, as the PeerConnection made it
}

// voice is the track that the phone speaks on: it takes whole RTP packets, of any payload type.
type voice struct {
	mu   sync.Mutex
	ssrc uint32
	to   webrtc.TrackLocalWriter
}

func (v *voice) Bind(c webrtc.TrackLocalContext) (webrtc.RTPCodecParameters, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ssrc, v.to = uint32(c.SSRC()), c.WriteStream()
	for _, p := range c.CodecParameters() {
		if !strings.HasSuffix(p.MimeType, "telephone-event") {
			return p, nil
		}
	}
	return webrtc.RTPCodecParameters{}, errors.New("no codec for a voice")
}

func (v *voice) Unbind(webrtc.TrackLocalContext) error { return nil }
func (v *voice) ID() string                            { return "mic" }
func (v *voice) RID() string                           { return "" }
func (v *voice) StreamID() string                      { return "phone" }
func (v *voice) Kind() webrtc.RTPCodecType             { return webrtc.RTPCodecTypeAudio }

func (v *voice) write(b []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var p rtp.Packet
	if v.to == nil || p.Unmarshal(b) != nil {
		return
	}
	p.SSRC = v.ssrc
	_, _ = v.to.WriteRTP(&p.Header, p.Payload)
}

// openBrowser makes the sound of a call. What it hears goes to m.
func openBrowser(cfg Config, m *Media) (*browser, error) {
	b := &browser{cfg: cfg, media: m, voice: &voice{}}
	return b, b.open()
}

// open makes the PeerConnection, and ends the one before.
func (b *browser) open() error {
	pc, err := newPeerConnection(b.cfg, b.media, b.voice)
	if err != nil {
		return err
	}
	b.mu.Lock()
	old := b.pc
	b.pc = pc
	b.mu.Unlock()
	if old != nil {
		_ = old.GracefulClose()
	}
	return nil
}

// peer is the PeerConnection of now.
func (b *browser) peer() *webrtc.PeerConnection {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pc
}

func newPeerConnection(cfg Config, m *Media, v *voice) (*webrtc.PeerConnection, error) {
	var engine webrtc.MediaEngine
	for _, c := range cfg.Codecs {
		k := webrtc.RTPCodecCapability{MimeType: "audio/" + c.Name, ClockRate: uint32(c.Rate), Channels: uint16(c.Channels), SDPFmtpLine: c.Fmtp}
		if err := engine.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: k, PayloadType: webrtc.PayloadType(c.PT)}, webrtc.RTPCodecTypeAudio); err != nil {
			return nil, err
		}
	}
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetIPFilter(func(ip net.IP) bool { return ip.String() == cfg.Addr.String() })
	s.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&engine), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{BundlePolicy: webrtc.BundlePolicyMaxBundle})
	if err != nil {
		return nil, err
	}
	if _, err := pc.AddTrack(v); err != nil {
		_ = pc.GracefulClose()
		return nil, err
	}
	pc.OnTrack(func(t *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		buf := make([]byte, 2048)
		for {
			n, _, err := t.Read(buf)
			if err != nil {
				return
			}
			m.record(buf[:n], time.Now(), cfg.Server)
		}
	})
	return pc, nil
}

func (b *browser) write(packet []byte) { b.voice.write(packet) }

func (b *browser) close() { _ = b.peer().GracefulClose() }

// offer makes an offer with a direction. restart begins ICE anew.
func (b *browser) offer(direction string, restart bool) ([]byte, error) {
	d, err := b.peer().CreateOffer(&webrtc.OfferOptions{ICERestart: restart})
	if err != nil {
		return nil, err
	}
	return b.say(d, direction)
}

// answer makes the answer to the offer that was heard; once more, it is the same.
func (b *browser) answer(direction string) ([]byte, error) {
	if b.peer().SignalingState() != webrtc.SignalingStateHaveRemoteOffer {
		b.mu.Lock()
		defer b.mu.Unlock()
		return []byte(directed(b.said, direction)), nil
	}
	d, err := b.peer().CreateAnswer(nil)
	if err != nil {
		return nil, err
	}
	return b.say(d, direction)
}

func (b *browser) say(d webrtc.SessionDescription, direction string) ([]byte, error) {
	pc := b.peer()
	if err := pc.SetLocalDescription(d); err != nil {
		return nil, err
	}
	for began := time.Now(); pc.ICEGatheringState() != webrtc.ICEGatheringStateComplete; { // the promise is that of who asked last
		if time.Since(began) > 5*time.Second || pc.ConnectionState() == webrtc.PeerConnectionStateClosed {
			return nil, errors.New("no candidates were gathered")
		}
		time.Sleep(time.Millisecond)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = pc.LocalDescription().SDP
	return []byte(directed(b.said, direction)), nil
}

// takeBack ends an offer that was refused. pion has no rollback (JSEP §4.1.10.2): what was agreed before is taken for the answer.
func (b *browser) takeBack() {
	pc := b.peer()
	agreed := pc.CurrentRemoteDescription()
	if pc.SignalingState() != webrtc.SignalingStateHaveLocalOffer || agreed == nil {
		return
	}
	answer := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: strings.ReplaceAll(agreed.SDP, "a=setup:actpass", "a=setup:passive")}
	if err := pc.SetRemoteDescription(answer); err != nil {
		panic("a browser takes its offer back: " + err.Error())
	}
}

// hear takes the other side's description.
func (b *browser) hear(sdp []byte, isOffer bool) error {
	d := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: directed(string(sdp), "sendrecv")}
	if isOffer {
		d.Type = webrtc.SDPTypeOffer
	}
	if b.another(string(sdp)) && isOffer {
		if err := b.open(); err != nil {
			return err
		}
	}
	if !isOffer && b.peer().SignalingState() == webrtc.SignalingStateStable { // the 200 repeats what the 183 said
		return nil
	}
	if err := b.peer().SetRemoteDescription(d); err != nil {
		return fmt.Errorf("description is refused: %w\n%s", err, sdp)
	}
	return nil
}

// another says whether a description is of another other end than those before.
func (b *browser) another(sdp string) bool {
	_, rest, _ := strings.Cut(sdp, "a=fingerprint:")
	now, _, _ := strings.Cut(rest, "\r\n")
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.their
	b.their = now
	return was != "" && was != now
}

// directed is a description with another direction.
func directed(sdp, direction string) string {
	var out strings.Builder
	for line := range strings.Lines(sdp) {
		switch strings.TrimSpace(line) {
		case "a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive":
			line = "a=" + direction + "\r\n"
		}
		out.WriteString(line)
	}
	return out.String()
}
