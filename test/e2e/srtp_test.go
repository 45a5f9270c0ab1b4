package e2e

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// secured is a baresip over TLS with libsrtp: mediaenc is srtp (RTP/AVP with keys), srtp-mand (RTP/SAVP) or srtp-mandf (RTP/SAVPF).
func secured(mediaenc string, hz float64) softphone {
	return softphone{transport: "tls", hz: hz, account: "answermode=auto;mediaenc=" + mediaenc, config: []string{"module srtp.so"}}
}

func plain(transport string, hz float64) softphone { return softphone{transport: transport, hz: hz} }

// legShown is what baton call show --json tells of a leg's protection.
type legShown struct {
	Stats struct {
		Secure  string
		Dropped map[string]uint64
		In, Out struct{ Packets, Lost uint64 }
	}
}

// protection is how the audio of the one call's legs is protected, by user.
func (w *world) protection() map[string]legShown {
	w.t.Helper()
	var shown struct {
		Seats []struct {
			User string
			Legs []legShown
		}
	}
	w.must(w.JSON(&shown, "call", "show", w.callID(), "--json"))
	all := map[string]legShown{}
	for _, s := range shown.Seats {
		for _, l := range s.Legs {
			all[s.User] = l
		}
	}
	return all
}

// protected checks that legs are protected as is said, and that nothing was taken for forged but the first RTCP packet of a baresip
// that calls: an APP packet in the clear, to open a NAT.
func (w *world) protected(want map[string]string) {
	w.t.Helper()
	all := w.protection()
	for user, secure := range want {
		l := all[user]
		if l.Stats.Secure != secure || l.Stats.Dropped["forged"] != 0 || l.Stats.Dropped["rtcp_forged"] > 1 || l.Stats.In.Packets == 0 {
			w.t.Errorf("%s's leg: %+v, want %s", user, l.Stats, secure)
		}
	}
}

// TestBaresipsOverSRTP has libsrtp in a real softphone at one side and at both, in each of its dialects, calling and called: both hear
// each other, keys pass, hold is heard, and the call goes on after it.
func TestBaresipsOverSRTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		alice, bob softphone
		want       map[string]string
	}{
		{"srtp calls RTP", secured("srtp", 440), plain("udp", 660), map[string]string{"alice": "sdes", "bob": "none"}},
		{"srtp-mand calls RTP", secured("srtp-mand", 440), plain("udp", 660), map[string]string{"alice": "sdes", "bob": "none"}},
		{"srtp-mandf calls RTP over TLS", secured("srtp-mandf", 440), plain("tls", 660), map[string]string{"alice": "sdes", "bob": "none"}},
		{"RTP calls srtp", plain("udp", 440), secured("srtp", 660), map[string]string{"alice": "none", "bob": "sdes"}},
		{"RTP calls srtp-mand", plain("tcp", 440), secured("srtp-mand", 660), map[string]string{"alice": "none", "bob": "sdes"}},
		{"srtp-mand calls srtp", secured("srtp-mand", 440), secured("srtp", 660), map[string]string{"alice": "sdes", "bob": "sdes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.runBaresip("alice", c.alice), w.runBaresip("bob", c.bob)
			alice.dial("102")
			bob.await("CALL_ESTABLISHED", 10*time.Second)
			alice.await("CALL_ESTABLISHED", 10*time.Second)
			pause(2 * time.Second)
			w.protected(c.want)
			for _, k := range "19*" {
				alice.do("sndcode", string(k))
				pause(400 * time.Millisecond)
			}
			bob.heardKeys("19*")
			bob.do("sndcode", "#")
			alice.heardKeys("#")
			alice.do("hold", "")
			pause(1500 * time.Millisecond)
			alice.do("resume", "")
			pause(2500 * time.Millisecond)
			w.protected(c.want)
			bob.do("hangup", "")
			alice.await("CALL_CLOSED", 5*time.Second)
			quit(alice.quit, bob.quit)
			alice.found(660, 3*time.Second)
			bob.found(440, 3*time.Second)
			bob.found(425, 100*time.Millisecond)
		})
	}
}

// TestMovesOverSRTP moves a call between a device with SRTP and one without, both ways, three times over; the far side is a baresip with
// SRTP, then one without. Its recording misses no more than that of any move.
func TestMovesOverSRTP(t *testing.T) {
	const moves, perMove = 6, 25 * time.Millisecond
	for name, far := range map[string]softphone{"far SRTP": secured("srtp-mand", 660), "far RTP": plain("udp", 660)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, node.Options{Users: map[string]string{"alice": "101", "bob": "102", "carol": "103", "dave": "104"}})
			bob, dave := w.runBaresip("bob", far), w.runBaresip("dave", softphone{far.transport, 660, far.account, far.config, nil})
			carol := w.runBaresip("carol", plain("udp", 440))
			alice := []*baresip{w.runBaresip("alice", secured("srtp", 440)), w.runBaresip("alice", plain("udp", 440))}
			index := map[bool]int{}
			for _, d := range w.devices("alice") {
				index[d.Transport == "udp"] = d.Index
			}
			carol.dial("104")
			alice[0].dial("102")
			up, controlUp := bob.await("CALL_ESTABLISHED", 10*time.Second).at, dave.await("CALL_ESTABLISHED", 10*time.Second).at
			pause(time.Second)
			ssrc := ""
			for i := range moves {
				to := 1 - i%2
				var r report
				if err := w.JSON(&r, "move", "--user", "alice", fmt.Sprint(index[to == 1]), "--json"); err != nil {
					t.Fatalf("move %d: %v", i+1, err)
				}
				t.Logf("move %d: far gap %.0f ms, %d lost, answer to media %.0f ms", i+1, r.Far.GapMS, r.Far.Lost, r.AnswerToMedia)
				alice[1-to].await("CALL_CLOSED", 5*time.Second)
				pause(700 * time.Millisecond)
				if got := w.sentTo("bob"); ssrc == "" && got != "" {
					ssrc = got
				} else if got != ssrc || got == "" {
					t.Errorf("bob hears SSRC %s, before it was %s", got, ssrc)
				}
			}
			alice[0].do("hangup", "")
			carol.do("hangup", "")
			down, controlDown := bob.await("CALL_CLOSED", 5*time.Second).at, dave.await("CALL_CLOSED", 5*time.Second).at
			quit(alice[0].quit, alice[1].quit, bob.quit, dave.quit, carol.quit)
			moved, control := missing(t, bob, down.Sub(up)), missing(t, dave, controlDown.Sub(controlUp))
			if each := (moved - control) / moves; each > perMove {
				t.Errorf("%s of sound missing per move, limit %s", each, perMove)
			}
			bob.found(440, down.Sub(up)-time.Second)
			for _, b := range alice {
				b.found(660, 300*time.Millisecond)
			}
		})
	}
}

// sentTo is the SSRC of what the user's leg in the one call is sent.
func (w *world) sentTo(user string) string {
	w.t.Helper()
	text, err := w.CLI("calls", "--json")
	w.must(err)
	_, text, _ = strings.Cut(text, `"user": "`+user+`"`)
	_, text, _ = strings.Cut(text, `"out": {`)
	_, text, _ = strings.Cut(text, `"ssrc": `)
	number, _, _ := strings.Cut(text, ",")
	return number
}

// TestLinphoneOverSRTP has linphonec, whose SRTP is libsrtp by mediastreamer, call and be called over TLS.
func TestLinphoneOverSRTP(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"linphonec", "baresip"} {
		t.Run(first+" calls", func(t *testing.T) {
			w := newWorld(t)
			need(t, "linphonec", "linphone-cli")
			b := w.startBaresip("alice", "udp", 440)
			l := w.startLinphoneAt("bob", 660, w.TLS, "media_encryption=srtp\nverify_server_certs=0\nverify_server_cn=0\n")
			l.do("call sip:101@" + w.TLS.String() + ";transport=tls")
			b.await("CALL_ESTABLISHED", 10*time.Second)
			if first == "baresip" { // by its own call the node has learnt how it wants SRTP to be offered
				b.do("hangup", "")
				b.await("CALL_CLOSED", 5*time.Second)
				pause(500 * time.Millisecond)
				b.dial("102")
				b.await("CALL_ESTABLISHED", 10*time.Second)
			}
			pause(3 * time.Second)
			w.protected(map[string]string{"alice": "none", "bob": "sdes"})
			pause(2 * time.Second)
			b.do("hangup", "")
			b.await("CALL_CLOSED", 5*time.Second)
			quit(b.quit, l.quit)
			b.found(660, 3*time.Second)
			l.found(440, 3*time.Second)
		})
	}
}

// TestForgedSRTP is S2 and S4 at a real node: 10,000 packets without a right tag at 500 a second, RTP and RTCP, from a third address, from the
// phone's own and in the SSRC that the phone speaks in. The call and its sound go on, nothing reaches the attacker or the other phone, and
// then a forged packet after a second of silence still moves nothing.
func TestForgedSRTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sdes := func(c *phone.Config) {
		c.Transport, c.SRTP, c.Suites = "tls", phone.OSRTP, []string{"AEAD_AES_128_GCM"}
	}
	alice, bob := w.phone("alice", "desk", sdes), w.phone("bob", "far", sdes)
	out, in := w.connect(alice, "102", bob)
	since := time.Now()
	attacker, err := net.ListenUDP("udp", &net.UDPAddr{IP: node.IP(19).AsSlice()})
	w.must(err)
	defer attacker.Close()
	target := net.UDPAddrFromAddrPort(out.Peer().Addr)
	if len(in.Media().Heard()) == 0 {
		t.Fatal("bob hears nothing")
	}
	said := out.Media().Heard()
	ssrc, seq := said[len(said)-1].SSRC, said[len(said)-1].Seq
	forge := func(i int) []byte {
		b := make([]byte, 188)
		for j := range b {
			b[j] = byte(rand.Uint32())
		}
		b[0], b[1] = 0x80, 0
		switch i % 4 {
		case 1:
			binary.BigEndian.PutUint16(b[2:], seq+uint16(i/10))
			binary.BigEndian.PutUint32(b[8:], ssrc)
		case 2:
			b[0], b[1] = 0xb3, 0x80 // padding, extension, CSRCs
		case 3:
			b[1] = 200 // RTCP on the RTP port
		}
		return b
	}
	const flood = 10_000
	for i := range flood {
		time.Sleep(time.Until(since.Add(time.Duration(i) * 2 * time.Millisecond)))
		if i%2 == 0 {
			_, err = attacker.WriteToUDP(forge(i/2), target)
		} else {
			err = out.Media().SendRaw(forge(i/2), false)
		}
		w.must(err)
	}
	w.talk(out, in)
	pause(300 * time.Millisecond)
	w.whole(in, since, 500*time.Millisecond, 25*time.Millisecond)
	legs := w.protection()
	forged := legs["alice"].Stats.Dropped["forged"] + legs["alice"].Stats.Dropped["rtcp_forged"]
	if forged < flood*99/100 || legs["alice"].Stats.Secure != "sdes" || legs["alice"].Stats.In.Lost != 0 {
		t.Errorf("alice's leg: %+v", legs["alice"])
	}
	if n := in.Media().Forged() + out.Media().Forged(); n != 0 {
		t.Errorf("the phones got %d packets that they could not open", n)
	}
	out.Media().Mute(true)
	pause(time.Second)
	for i := range 50 {
		_, err := attacker.WriteToUDP(forge(i), target)
		w.must(err)
		pause(10 * time.Millisecond)
	}
	attacker.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if n, _, err := attacker.ReadFromUDP(make([]byte, 2000)); err == nil {
		t.Errorf("%d bytes came to the attacker", n)
	}
	out.Media().Mute(false)
	w.talk(out, in)
	text, err := w.CLI("call", "show", w.callID())
	if err != nil || !strings.Contains(text, " forged") || !strings.Contains(text, "SRTP (SDES)") {
		t.Errorf("baton call show says (%v):\n%s", err, text)
	}
	w.must(out.Hangup())
	w.ended(in)
}

// callID is that of the one call.
func (w *world) callID() string {
	w.t.Helper()
	var calls []struct{ ID string }
	w.must(w.JSON(&calls, "calls", "--json"))
	if len(calls) != 1 {
		w.t.Fatalf("%d calls", len(calls))
	}
	return calls[0].ID
}
