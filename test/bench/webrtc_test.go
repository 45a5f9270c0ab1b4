package bench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"baton/media"
	"baton/test/phone"

	"github.com/pion/dtls/v3"
	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
	"github.com/pion/stun/v3"
	"github.com/pion/webrtc/v4"
	"golang.org/x/sys/unix"
)

// party is the far end of a leg of the engine: a socket of its own at an address of its own, with SRTP if it is a browser's.
type party struct {
	conn    *net.UDPConn
	to      netip.AddrPort
	packet  [172]byte
	seq     uint16
	hdr     rtp.Header
	seal    *srtp.Context
	sealed  []byte
	heard   atomic.Int64
	records chan []byte // of DTLS
}

// newParty opens one; with a certificate it is a browser's, and has its keys when this returns.
func newParty(t *testing.T, e *engine, n int, browser bool) (*party, int) {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{10, 78, byte(10 + n>>8), byte(n)})
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, rtpPort)))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	p := &party{conn: conn, records: make(chan []byte, 64)}
	p.packet[0] = 0x80
	binary.BigEndian.PutUint32(p.packet[8:], uint32(n+1))
	leg, at := e.open(addr, browser)
	p.to = at.At
	go p.read()
	if !browser {
		e.tell(order{Do: "apply", Leg: leg, At: netip.AddrPortFrom(addr, rtpPort)})
		return p, leg
	}
	cert, print := certificate(t)
	e.tell(order{Do: "apply", Leg: leg, Ufrag: "bench", Fingerprint: print})
	p.check(t, at)
	p.shake(t, cert)
	return p, leg
}

func certificate(t *testing.T) (tls.Certificate, media.Fingerprint) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &c, &c, key.Public(), key)
	must(t, err)
	sum := sha256.Sum256(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, media.Fingerprint{Hash: "sha-256", Value: strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")}
}

// check nominates the party's address.
func (p *party) check(t *testing.T, at result) {
	t.Helper()
	m, err := stun.Build(stun.TransactionID, stun.BindingRequest, stun.NewUsername(at.Ufrag+":bench"), stun.RawAttribute{Type: stun.AttrICEControlling, Value: make([]byte, 8)},
		stun.RawAttribute{Type: stun.AttrPriority, Value: []byte{1, 0, 0, 0}}, stun.RawAttribute{Type: stun.AttrUseCandidate}, stun.NewShortTermIntegrity(at.Pwd), stun.Fingerprint)
	must(t, err)
	_, err = p.conn.WriteToUDPAddrPort(m.Raw, p.to)
	must(t, err)
}

// shake does the DTLS handshake as the client, and takes its keys.
func (p *party) shake(t *testing.T, cert tls.Certificate) {
	t.Helper()
	conn, err := dtls.ClientWithOptions(handshakeConn{p}, net.UDPAddrFromAddrPort(p.to), dtls.WithCertificates(cert), dtls.WithInsecureSkipVerify(true),
		dtls.WithSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM), dtls.WithFlightInterval(200*time.Millisecond))
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	must(t, conn.HandshakeContext(ctx))
	state, _ := conn.ConnectionState()
	key, err := state.ExportKeyingMaterial("EXTRACTOR-dtls_srtp", nil, 2*(16+12))
	must(t, err)
	p.seal, err = srtp.CreateContext(key[:16], key[32:44], srtp.ProtectionProfileAeadAes128Gcm)
	must(t, err)
	close(p.records)
	conn.Close()
}

// handshakeConn gives pion what the party reads of DTLS.
type handshakeConn struct{ *party }

func (h handshakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	r, ok := <-h.records
	if !ok {
		return 0, nil, net.ErrClosed
	}
	return copy(b, r), net.UDPAddrFromAddrPort(h.to), nil
}

func (h handshakeConn) WriteTo(b []byte, _ net.Addr) (int, error) {
	if len(b) > 0 && b[0] == 21 {
		return len(b), nil
	}
	return h.conn.WriteToUDPAddrPort(b, h.to)
}

func (h handshakeConn) Close() error                     { return nil }
func (h handshakeConn) LocalAddr() net.Addr              { return h.conn.LocalAddr() }
func (h handshakeConn) SetDeadline(time.Time) error      { return nil }
func (h handshakeConn) SetReadDeadline(time.Time) error  { return nil }
func (h handshakeConn) SetWriteDeadline(time.Time) error { return nil }

func (p *party) read() {
	buf := make([]byte, 2048)
	for {
		n, _, err := p.conn.ReadFromUDPAddrPort(buf)
		switch {
		case err != nil:
			return
		case n > 0 && buf[0] >= 128:
			p.heard.Add(1)
		case n > 0 && buf[0] >= 20 && buf[0] < 64 && p.seal == nil:
			p.records <- append([]byte(nil), buf[:n]...)
		}
	}
}

// send sends the next packet of audio.
func (p *party) send() {
	p.seq++
	binary.BigEndian.PutUint16(p.packet[2:], p.seq)
	binary.BigEndian.PutUint32(p.packet[4:], uint32(p.seq)*160)
	b := p.packet[:]
	if p.seal != nil {
		p.sealed, _ = p.seal.EncryptRTP(p.sealed[:0], b, &p.hdr)
		b = p.sealed
	}
	p.conn.WriteToUDPAddrPort(b, p.to)
}

// chatter sends 50 packets a second of each party, evenly spread, for so long.
func chatter(all []*party, length time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	apart := 20 * time.Millisecond / time.Duration(len(all))
	start := time.Now()
	for i := 0; ; i++ {
		due := time.Duration(i) * apart
		if due >= length {
			return
		}
		if wait := due - time.Since(start); wait > 0 {
			ts := unix.NsecToTimespec(int64(wait))
			unix.Nanosleep(&ts, nil)
		}
		all[i%len(all)].send()
	}
}

// TestWebRTC measures the media engine alone, with the same traffic over RTP and over DTLS-SRTP legs, and what a leg of a browser holds.
func TestWebRTC(t *testing.T) {
	must(t, exec.Command("ip", "route", "replace", "local", rtpNetwork, "dev", "lo").Run())
	for _, calls := range []int{40, 200} {
		for _, kind := range []struct {
			name string
			a, b bool
		}{{"RTP and RTP", false, false}, {"RTP and DTLS-SRTP", false, true}, {"DTLS-SRTP and DTLS-SRTP", true, true}} {
			name := fmt.Sprintf("engine: %d calls, %s", calls, kind.name)
			t.Run(name, func(t *testing.T) { chat(t, name, calls, kind.a, kind.b) })
		}
	}
	t.Run("pion", pionClients)
}

func chat(t *testing.T, name string, calls int, a, b bool) {
	e := newEngine(t)
	before := e.tell(order{Do: "weigh"})
	var all []*party
	for i := range calls {
		x, leg := newParty(t, e, 2*i, a)
		y, with := newParty(t, e, 2*i+1, b)
		e.tell(order{Do: "bridge", Leg: leg, With: with})
		all = append(all, x, y)
	}
	done := make(chan struct{})
	go func() { defer close(done); chatter(all, relayTime+2500*time.Millisecond) }()
	time.Sleep(2 * time.Second)
	heard := func() (n int64) {
		for _, p := range all {
			n += p.heard.Load()
		}
		return n
	}
	had, cpu := heard(), e.cpu()
	time.Sleep(relayTime)
	n, spent := heard()-had, e.cpu()-cpu
	<-done
	after := e.tell(order{Do: "weigh"})
	want := relayTime.Seconds() * 50 * float64(len(all))
	lost := max(0, 100*(1-float64(n)/want))
	legs := float64(len(all))
	heap, goroutines := float64(after.Heap-before.Heap)/1024/legs, float64(after.Goroutines-before.Goroutines)/legs
	note("%s: %.1f CPU-s per million packets, %.0f %% of a core, %.2f %% lost; a leg holds %.1f KB of heap and %.2f goroutines",
		name, spent.Seconds()*1e6/float64(max(n, 1)), 100*spent.Seconds()/relayTime.Seconds(), lost, heap, goroutines)
	less(name+", CPU-seconds per million packets", spent.Seconds()*1e6/float64(max(n, 1)), "s")
	less(name+", packets lost", lost, "%")
	less(name+", heap of a leg", heap, "KB")
	if a && b {
		verdict(t, goroutines <= 4 && heap <= 35, "%s: %.2f goroutines (at most 4) and %.1f KB of heap (at most 35) a leg", name, goroutines, heap)
	}
}

// pionClients measures from the answer to the first packet that a client hears and to the one that we hear of it.
func pionClients(t *testing.T) {
	e := newEngine(t)
	for _, tcp := range []bool{false, true} {
		var took []time.Duration
		for range 40 {
			took = append(took, firstMedia(t, e, tcp))
		}
		way := map[bool]string{false: "UDP", true: "TCP"}[tcp]
		p50, p95 := phone.Quantile(took, 0.5), phone.Quantile(took, 0.95)
		lessMS("engine: answer to first media, pion client, "+way+", p50", p50)
		lessMS("engine: answer to first media, pion client, "+way+", p95", p95)
		verdict(t, p95 <= 300*time.Millisecond, "engine: a pion client hears its first packet over %s %.0f ms after its answer, p95 %.0f (at most 300; pion itself waits 200 before it nominates)",
			way, float64(p50)/1e6, float64(p95)/1e6)
	}
}

func firstMedia(t *testing.T, e *engine, tcp bool) time.Duration {
	t.Helper()
	var me webrtc.MediaEngine
	must(t, me.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypePCMU, ClockRate: 8000}}, webrtc.RTPCodecTypeAudio))
	var s webrtc.SettingEngine
	s.SetIncludeLoopbackCandidate(true)
	s.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	s.SetNetworkTypes([]webrtc.NetworkType{map[bool]webrtc.NetworkType{false: webrtc.NetworkTypeUDP4, true: webrtc.NetworkTypeTCP4}[tcp]})
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&me), webrtc.WithSettingEngine(s), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	must(t, err)
	defer pc.Close()
	_, err = pc.AddTransceiverFromKind(webrtc.RTPCodecTypeAudio)
	must(t, err)
	heard := make(chan time.Time, 1)
	pc.OnTrack(func(r *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		if _, _, err := r.ReadRTP(); err == nil {
			heard <- time.Now()
		}
	})
	offer, err := pc.CreateOffer(nil)
	must(t, err)
	gathered := webrtc.GatheringCompletePromise(pc)
	must(t, pc.SetLocalDescription(offer))
	<-gathered
	theirs, err := media.ParseSDP([]byte(pc.LocalDescription().SDP))
	must(t, err)
	leg, at := e.open(netip.AddrFrom4([4]byte{10, 77, 0, 1}), true)
	defer e.tell(order{Do: "close", Leg: leg})
	local := media.Local{
		Addr: at.At, SSRC: at.SSRC, CNAME: "bench", Fingerprints: []media.Fingerprint{at.Fingerprint},
		ICE: &media.ICE{Ufrag: at.Ufrag, Pwd: media.Secret(at.Pwd), Lite: true, Candidates: []media.Candidate{
			{Foundation: "1", Transport: "udp", Priority: 2, Addr: at.At, Type: "host"},
			{Foundation: "2", Transport: "tcp", Priority: 1, Addr: at.TCP, Type: "host", TCPType: "passive"},
		}},
	}
	answer, err := media.NewAnswer(media.Origin{User: "baton", ID: 1, Version: 1}, theirs, []media.Codec{benchPCMU}, local, media.SendRecv)
	must(t, err)
	a, err := media.Agree(answer, theirs)
	must(t, err)
	begun := time.Now()
	e.tell(order{Do: "apply", Leg: leg, Ufrag: a.ICE.Ufrag, Fingerprint: a.Fingerprints[0], Active: a.Active})
	e.tell(order{Do: "ring", Leg: leg})
	must(t, pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: string(answer.Marshal())}))
	select {
	case at := <-heard:
		return at.Sub(begun)
	case <-time.After(10 * time.Second):
		t.Fatal("nothing heard")
		return 0
	}
}
