package bench

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pion/srtp/v3"

	"baton/test/phone"
)

// cipher is how one side of a call is sealed.
type cipher struct {
	name, suite string
	profile     srtp.ProtectionProfile
	salt        int
}

// ciphers are the suites that are measured; the first is plain RTP.
var ciphers = []cipher{
	{"RTP", "", 0, 0},
	{"AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_80", srtp.ProtectionProfileAes128CmHmacSha1_80, 14},
	{"AEAD_AES_128_GCM", "AEAD_AES_128_GCM", srtp.ProtectionProfileAeadAes128Gcm, 12},
}

// key makes a master key and, behind it, a master salt.
func (c cipher) key() []byte {
	key := make([]byte, 16+c.salt)
	rand.Read(key)
	return key
}

// seal gives a leg a key with which it seals, and returns that.
func (c cipher) seal(t *testing.T, l *leg) []byte {
	t.Helper()
	key := c.key()
	var err error
	l.tx, err = srtp.CreateContext(key[:16], key[16:], c.profile)
	must(t, err)
	return key
}

// TestSRTP measures what it takes to relay between RTP and SRTP by SDES, beside RTP on both sides, on one node: of the packets
// one half is opened, the other sealed.
func TestSRTP(t *testing.T) {
	for _, calls := range []int{100, 500} {
		t.Run(strconv.Itoa(calls), func(t *testing.T) {
			g := newGenerator(t)
			l := newLoaded(t, 20, g)
			phones := securePhones(t, l)
			base := 0.0
			for _, c := range ciphers {
				var up, down func(i int) error
				if c.suite == "" {
					all := make([]*dialled, calls)
					up = func(i int) (err error) { all[i], err = l.callers[i%20].dial(l.callees[i%20].user); return err }
					down = func(i int) error { return all[i].bye() }
				} else {
					all := make([]*phone.Call, calls)
					up = func(i int) (err error) {
						all[i], err = dialSecure(phones[i%20], l.callees[i%20].user, g, c)
						return err
					}
					down = func(i int) error { return all[i].Hangup() }
				}
				from := len(g.legs)
				if failed := paced(t, calls, 50, up); failed > 0 {
					t.Fatalf("%d of %d calls failed", failed, calls)
				}
				each := secured(t, of(l.node), g, g.legs[from:], c.name, calls)
				if base == 0 {
					base = each
				}
				note("baton, %d calls: RTP to %s costs %+.1f CPU-s per million packets beside RTP to RTP", calls, c.name, each-base)
				paced(t, calls, 200, down)
			}
		})
	}
}

// secured measures a relay of which one side may be SRTP, and gives its CPU-seconds per million packets.
func secured(t *testing.T, s server, g *generator, legs []*leg, name string, calls int) float64 {
	t.Helper()
	if len(legs) != 2*calls {
		t.Fatalf("%d legs, want %d", len(legs), 2*calls)
	}
	var cpu []time.Duration
	m := g.measure(legs, relayTime, func() { cpu = append(cpu, s.cpu()) })
	lost := 100 * (1 - float64(m.heard)/float64(m.sent))
	if opened := int64(len(m.delays)); opened == 0 || name != "RTP" && m.heard == opened { // what a busy machine loses is told below
		t.Fatalf("%s: %d of %d packets came through, %d of them to the RTP side", name, m.heard, m.sent, opened)
	}
	each := (cpu[1] - cpu[0]).Seconds() * 1e6 / float64(m.heard)
	p50, p99 := phone.Quantile(m.delays, 0.5), phone.Quantile(m.delays, 0.99)
	note("%s, %d calls, RTP to %s: %.0f packets/s, %.1f CPU-s per million; to the RTP side p50 %s, p99 %s µs; %.3f %% lost",
		s.name, calls, name, float64(m.heard)/relayTime.Seconds(), each, micro(p50), micro(p99), max(lost, 0))
	less(fmt.Sprintf("%s: relay of RTP to %s, %d calls: CPU-seconds per million packets", s.name, name, calls), each, "s")
	return each
}

// securePhones are a phone over TLS for each caller: keys go over nothing else.
func securePhones(t *testing.T, l *loaded) []*phone.Phone {
	t.Helper()
	var all []*phone.Phone
	for _, a := range l.callers {
		all = append(all, newPhone(t, l.node, a.user, "secure", quiet, func(c *phone.Config) { c.Transport, c.Server = "tls", l.node.TLS }))
	}
	return all
}

// dialSecure calls with audio of the generator's, sealed with a key of its own; the phone does the talking with the node alone.
func dialSecure(p *phone.Phone, user string, g *generator, by cipher) (*phone.Call, error) {
	key := by.key()
	tx, err := srtp.CreateContext(key[:16], key[16:], by.profile)
	if err != nil {
		return nil, err
	}
	l := g.newLeg()
	offer := string(description(netip.AddrPortFrom(l.addr, rtpPort))) + "a=crypto:1 " + by.suite + " inline:" + base64.StdEncoding.EncodeToString(key) + "\r\n"
	c, err := p.Dial(user, phone.DialOptions{SDP: []byte(offer)})
	if err != nil {
		return nil, err
	}
	c.Media().Mute(true)
	if err := c.Await(10 * time.Second); err != nil {
		return nil, err
	}
	if answer := string(c.Final().Body); !strings.Contains(answer, " "+by.suite+" ") {
		return nil, fmt.Errorf("%s is answered with\n%s", by.suite, answer)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l.to, l.tx = c.Peer().Addr, tx
	return c, nil
}
