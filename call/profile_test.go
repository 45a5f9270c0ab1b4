package call_test

import (
	"strings"
	"testing"
	"time"

	"baton/registrar"
	"baton/test/phone"
)

// TestProfileIsLearnt has a phone do what phones do in a call; afterwards it is known of it, and it is written once.
func TestProfileIsLearnt(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.AutoAnswer)
	out := mustDial(t, alice, "102", phone.DialOptions{
		Codecs:  []phone.Codec{phone.PCMA, phone.PCMU, phone.DTMF},
		Headers: []phone.Header{{Name: "Supported", Value: "replaces, timer"}},
	})
	in, err := bob.Ringing(3 * time.Second)
	must(t, err)
	must(t, out.Await(3*time.Second))
	if !out.Hears(in, 3*time.Second) || !in.Hears(out, 3*time.Second) {
		t.Fatal("they do not hear each other")
	}
	must(t, out.Hold(phone.HoldNullAddr))
	must(t, out.Resume())
	out.Media().Press('5', 100*time.Millisecond)
	_, err = out.Request("INFO", []byte("Signal=7\r\nDuration=100\r\n"), phone.Header{Name: "Content-Type", Value: "application/dtmf-relay"})
	must(t, err)
	profile := func() map[string]string {
		d, err := r.reg.Find("alice", "1")
		must(t, err)
		return d.Profile
	}
	if p := profile(); len(p) > 0 {
		t.Errorf("written in the midst of the call: %v", p)
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))
	r.nothingLeft()
	want := map[string]string{
		registrar.LearntCodecs: "PCMA PCMU", registrar.LearntHold: "0.0.0.0", registrar.LearntSRTP: "none", registrar.LearntKeys: "both",
		registrar.LearntReliable: "no", registrar.LearntTimer: "yes", registrar.LearntUpdate: "yes",
	}
	r.eventually("the profile is known", 3*time.Second, func() bool { return len(profile()) == len(want) })
	for name, value := range want {
		if got := profile()[name]; got != value {
			t.Errorf("%s: %q, want %q", name, got, value)
		}
	}
}

// TestProfileOfOfferedSRTP has a phone offer keys with RTP/AVP (RFC 8643), as some do that have SRTP set to optional.
func TestProfileOfOfferedSRTP(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.AutoAnswer)
	sdp := strings.ReplaceAll(`v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 4000 RTP/AVP 0
a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj
`, "\n", "\r\n")
	out := mustDial(t, alice, "102", phone.DialOptions{SDP: []byte(sdp)})
	must(t, out.Await(3*time.Second))
	must(t, out.Hangup())
	r.nothingLeft()
	r.eventually("its dialect of SRTP is known", 3*time.Second, func() bool {
		d, err := r.reg.Find("alice", "1")
		must(t, err)
		return d.Profile[registrar.LearntSRTP] == "osrtp"
	})
}
