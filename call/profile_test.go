package call_test

import (
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
	since := time.Now()
	out.Media().Press('5', 100*time.Millisecond)
	if _, ok := in.Media().Await(since, 3*time.Second, func(p phone.Packet) bool { return p.Event != nil && p.Event.End }); !ok {
		t.Error("the key has not passed")
	}
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

// TestProfileOfOfferedSRTP has a phone offer keys with RTP/AVP (RFC 8643), as some do that have SRTP set to optional, then two
// lines, then SRTP alone, which is refused.
func TestProfileOfOfferedSRTP(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	bob.Behave(phone.AutoAnswer)
	const (
		head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
		key  = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj\r\n"
		avp  = "m=audio 4000 RTP/AVP 0\r\n"
		savp = "m=audio 4002 RTP/SAVP 0\r\n" + key
	)
	for _, offer := range []struct{ sdp, dialect string }{{avp, "none"}, {avp + key, "osrtp"}, {savp + avp, "savp+avp"}, {savp, "savp"}} {
		out := mustDial(t, alice, "102", phone.DialOptions{SDP: []byte(head + offer.sdp)})
		if offer.dialect == "savp" {
			r.refused(out, 488)
		} else {
			must(t, out.Await(3*time.Second))
			must(t, out.Hangup())
		}
		r.eventually("its dialect of SRTP is known: "+offer.dialect, 3*time.Second, func() bool {
			d, err := r.reg.Find("alice", "1")
			must(t, err)
			return d.Profile[registrar.LearntSRTP] == offer.dialect
		})
	}
	r.nothingLeft()
}
