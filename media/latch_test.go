package media

import (
	"net/netip"
	"testing"
	"time"
)

// from sends the device's next packet from another address.
func (d *dev) from(at string) bool {
	before := d.s.ear.reception.packets.Load()
	d.emit(netip.MustParseAddrPort(at), 0, d.body, d.hdr.Timestamp, false)
	d.hdr.SequenceNumber++
	d.hdr.Timestamp += 160
	return d.s.ear.reception.packets.Load() > before
}

// step is a packet from an address after a while, and whether it is the peer's.
type step struct {
	wait time.Duration
	from string
	want bool
}

func TestLatch(t *testing.T) {
	const (
		sdp      = "198.51.100.7:5000" // what SDP says; the signalling IP is 198.51.100.7 too
		natted   = "198.51.100.7:61000"
		natted2  = "198.51.100.7:61002"
		attacker = "203.0.113.66:9999"
		private  = "192.168.1.20:5000"
		cgnat    = "198.51.100.99:4444" // the NAT's other address
	)
	burst := func(n int, from string, want ...bool) (out []step) {
		for i := range n {
			out = append(out, step{time.Millisecond, from, i < len(want) && want[i] || len(want) == 1 && want[0]})
		}
		return out
	}
	join := func(parts ...[]step) (out []step) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	for name, c := range map[string]struct {
		remote string
		steps  []step
		dest   string
	}{
		"nobody yet":                          {sdp, nil, sdp},
		"sdp address":                         {sdp, []step{{0, sdp, true}}, sdp},
		"nat at the signalling ip":            {private, []step{{0, natted, true}, {20 * ms, natted2, false}, {0, natted, true}}, natted},
		"attacker first, no nat":              {sdp, join(burst(3000, attacker), []step{{0, natted, true}}, burst(50, attacker)), natted},
		"attacker first, nat, phone in time":  {private, join(burst(400, attacker), []step{{0, natted, true}}, burst(3000, attacker)), natted},
		"attacker after":                      {sdp, join([]step{{0, sdp, true}, {time.Second, attacker, false}}), sdp},
		"sdp address is the better one":       {sdp, []step{{0, natted, true}, {20 * ms, sdp, true}, {20 * ms, natted, false}}, sdp},
		"but not for ever":                    {sdp, []step{{0, natted, true}, {1900 * ms, natted, true}, {200 * ms, sdp, false}}, natted},
		"silence, same ip":                    {sdp, []step{{0, sdp, true}, {399 * ms, natted, false}, {2 * ms, natted, true}}, natted},
		"silence, other ip":                   {sdp, []step{{0, sdp, true}, {time.Second, attacker, false}}, sdp},
		"other ip of the nat, proved":         {private, join([]step{{600 * ms, cgnat, false}}, burst(3, cgnat), burst(2, cgnat, true)), cgnat},
		"other ip gives way":                  {private, join([]step{{600 * ms, cgnat, false}}, burst(3, cgnat), burst(1, cgnat, true), burst(1, natted, true), burst(1, cgnat)), natted},
		"other ip too late":                   {private, join([]step{{2001 * ms, cgnat, false}}, burst(20, cgnat)), private},
		"other ip not where there is no nat":  {sdp, join([]step{{600 * ms, cgnat, false}}, burst(20, cgnat)), sdp},
		"nothing is sent to internal hosts":   {"127.0.0.1:6379", nil, "invalid AddrPort"},
		"nor mapped ones":                     {"[::ffff:127.0.0.1]:6379", nil, "invalid AddrPort"},
		"nor to everybody":                    {"255.255.255.255:5000", nil, "invalid AddrPort"},
		"nor to a group":                      {"224.0.0.1:5000", nil, "invalid AddrPort"},
		"nor to link-local from outside":      {"169.254.169.254:80", nil, "invalid AddrPort"},
		"nor to this host":                    {"0.1.2.3:80", nil, "invalid AddrPort"},
		"a phone that says so is heard still": {"127.0.0.1:6379", []step{{0, natted, true}}, natted},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			d := r.phone("198.51.100.7", pcmu)
			d.s.Apply(agreed(netip.MustParseAddrPort(c.remote), pcmu))
			for i, s := range c.steps {
				r.now += s.wait
				if got := d.from(s.from); got != s.want {
					t.Fatalf("step %d: %s admitted: %v, want %v", i, s.from, got, s.want)
				}
			}
			if got := d.s.dest(d.s.terms).String(); got != c.dest {
				t.Errorf("packets go to %s, want %s", got, c.dest)
			}
		})
	}
}

// TestHoldWithoutAddress: a phone that holds by 0.0.0.0 and sends a last packet then is heard at once when it has resumed.
func TestHoldWithoutAddress(t *testing.T) {
	r := newRoom(t)
	d := r.phone("198.51.100.7", pcmu)
	at := netip.MustParseAddrPort("198.51.100.7:5000")
	d.s.Apply(agreed(at, pcmu))
	d.from(at.String())
	d.s.Apply(agreed(netip.MustParseAddrPort("0.0.0.0:5000"), pcmu))
	r.now += 20 * ms
	d.from(at.String())
	d.s.Apply(agreed(at, pcmu))
	r.now += 20 * ms
	if !d.from(at.String()) {
		t.Error("its first packet after the hold was taken for a straggler")
	}
}

// TestApplyAgain: the latch holds over a re-INVITE that changes nothing, and opens for one that moves the media.
func TestApplyAgain(t *testing.T) {
	r := newRoom(t)
	d := r.phone("198.51.100.7", pcmu)
	private := netip.MustParseAddrPort("192.168.1.20:5000")
	d.s.Apply(agreed(private, pcmu))
	d.from("198.51.100.7:61000")
	if d.heard != 1 {
		t.Fatalf("heard %d times", d.heard)
	}
	d.s.Apply(agreed(private, pcmu))
	if got := d.s.dest(d.s.terms).String(); got != "198.51.100.7:61000" {
		t.Errorf("after a refresh packets go to %s", got)
	}
	r.now += 20 * ms
	d.from("198.51.100.7:61000")
	d.from("198.51.100.7:61000")
	if d.heard != 2 {
		t.Errorf("heard %d times after two offers", d.heard)
	}
	d.s.Apply(agreed(netip.MustParseAddrPort("198.51.100.7:7000"), pcmu))
	if got := d.s.dest(d.s.terms).String(); got != "198.51.100.7:7000" {
		t.Errorf("after a move packets go to %s", got)
	}
	r.now += 20 * ms
	if d.from("198.51.100.7:61000") {
		t.Error("a straggler of the old source was taken")
	}
	if !d.from("198.51.100.7:61002") {
		t.Error("the new source was not taken")
	}
	d.s.SetPeer(netip.MustParseAddr("203.0.113.80"))
	r.now += latchSilence
	if !d.from("203.0.113.80:61004") {
		t.Error("the source at the new signalling address was not taken")
	}
}

// TestPeerMoves: a device has proved that its signalling comes from another IP. What is heard there takes over at once, until then
// the old source goes on; where SDP says that the sound comes from elsewhere, that source has to be silent first. Nobody else gains by it.
func TestPeerMoves(t *testing.T) {
	const (
		oldNAT, newNAT = "198.51.100.7:61000", "203.0.113.80:61004"
		beside         = "198.51.100.7:61002" // another port at the old address
		attacker       = "192.0.2.66:9999"
	)
	for name, c := range map[string]struct {
		sdp   string
		steps []step
		dest  string
	}{
		"behind a NAT": {"192.168.1.20:5000", []step{
			{20 * ms, oldNAT, true},
			{20 * ms, attacker, false},
			{20 * ms, beside, false},
			{20 * ms, newNAT, true},
			{0, oldNAT, false},
			{500 * ms, oldNAT, false},
			{0, attacker, false},
			{0, newNAT, true},
		}, newNAT},
		"behind a NAT, old source silent": {"192.168.1.20:5000", []step{{300 * ms, attacker, false}, {300 * ms, newNAT, true}}, newNAT},
		"behind a NAT, sound stays":       {"192.168.1.20:5000", []step{{20 * ms, oldNAT, true}, {2 * time.Second, oldNAT, true}, {500 * ms, attacker, false}}, oldNAT},
		"without one": {oldNAT, []step{
			{20 * ms, oldNAT, true}, {20 * ms, newNAT, false}, {390 * ms, newNAT, true}, {20 * ms, attacker, false}, {20 * ms, newNAT, true},
		}, newNAT},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			d := r.phone("198.51.100.7", pcmu)
			d.s.Apply(agreed(netip.MustParseAddrPort(c.sdp), pcmu))
			d.from(oldNAT)
			d.s.SetPeer(netip.MustParseAddr("203.0.113.80"))
			if got := d.s.dest(d.s.terms).String(); got != oldNAT {
				t.Errorf("before it is heard elsewhere packets go to %s", got)
			}
			for i, s := range c.steps {
				r.now += s.wait
				if got := d.from(s.from); got != s.want {
					t.Fatalf("step %d: %s admitted: %v, want %v", i, s.from, got, s.want)
				}
			}
			if got := d.s.dest(d.s.terms).String(); got != c.dest {
				t.Errorf("packets go to %s, want %s", got, c.dest)
			}
		})
	}
}

// TestSprayer is RTP bleed and injection (a third party sends RTP to the port at 1 kpps from before the answer): none of it is relayed, and
// nothing is sent to him.
func TestSprayer(t *testing.T) {
	r := newRoom(t)
	victim, far := r.phone("198.51.100.7", pcmu), r.phone("203.0.113.5", pcmu)
	bridge(victim, far)
	sprayer := netip.MustParseAddrPort("203.0.113.66:9999")
	spray := r.phone("203.0.113.66", pcmu) // numbers its packets; its own stream plays no part
	spray.s = victim.s
	evil := []byte("evil")
	talked := 0
	for i := range 3000 {
		r.now += ms
		spray.emit(sprayer, 0, evil, spray.hdr.Timestamp, false)
		victim.s.receiveRTCP([]byte{0x81, 201, 0, 1, 0, 0, 0, 1}, sprayer, r.now, nil)
		spray.hdr.SequenceNumber++
		if i > 200 && i%20 == 0 {
			victim.send()
			far.send()
			talked++
		}
	}
	for to, all := range r.wire {
		if to.Addr() == sprayer.Addr() {
			t.Errorf("%d packets to the sprayer", len(all))
		}
		for _, p := range all {
			if string(payloadOf(p.b)) == string(evil) {
				t.Fatal("a sprayed packet was relayed")
			}
		}
	}
	if n := len(r.got(far)); n != talked {
		t.Errorf("far heard %d packets of %d", n, talked)
	}
	if d := victim.s.Stats().Dropped; d["foreign"] != 3000 || d["rtcp_foreign"] != 3000 {
		t.Errorf("dropped %v", d)
	}
}
