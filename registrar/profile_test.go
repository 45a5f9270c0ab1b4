package registrar

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestLearn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, p, "")
		before := o.Devices("alice")[0]
		writes := o.store.writes()
		o.Learn(before, map[string]string{LearntHold: "inactive", LearntSRTP: "osrtp", LearntCodecs: strings.Repeat("x", 300)})
		synctest.Wait()
		if n := o.store.writes() - writes; n != 1 {
			t.Errorf("%d writes for what was learnt at once", n)
		}
		o.Learn(before, map[string]string{LearntHold: "inactive", LearntSRTP: "osrtp", LearntKeys: ""})
		o.Learn(Device{User: "alice", Key: "nothing"}, map[string]string{LearntSRTP: "none"})
		o.Learn(Device{User: "nobody", Key: before.Key}, map[string]string{LearntSRTP: "none"})
		synctest.Wait()
		if n := o.store.writes() - writes; n != 1 {
			t.Errorf("%d writes after nothing new", n)
		}
		o.expect(200, p, "")
		d := o.Devices("alice")[0]
		if d.Profile[LearntHold] != "inactive" || d.Profile[LearntSRTP] != "osrtp" || before.Profile != nil {
			t.Errorf("profile %v, before %v", d.Profile, before.Profile)
		}
		if n := len(d.Profile[LearntCodecs]); n != maxLearnt {
			t.Errorf("a long value has %d bytes", n)
		}
		o.Learn(d, map[string]string{LearntHold: ""})
		synctest.Wait()
		if _, there := o.Devices("alice")[0].Profile[LearntHold]; there || d.Profile[LearntHold] != "inactive" {
			t.Error("a value is not forgotten, or an old snapshot has changed")
		}
		o.stop()
		o.open()
		if p := o.Devices("alice")[0].Profile; p[LearntSRTP] != "osrtp" {
			t.Errorf("after a restart: %v", p)
		}
	})
}

// TestNewFirmwareIsUnknown gives a phone another firmware: what was learnt is forgotten, what its user has said is not, and what
// a call that began before learns is not believed of the new one.
func TestNewFirmwareIsUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		p := app("alice", "Yealink SIP-T46S 66.85.0.5", "urn:uuid:1", udp("198.51.100.7:5060"))
		o.expect(200, p, "")
		old := o.Devices("alice")[0]
		o.Learn(old, map[string]string{Ringless: "off", LearntHold: "inactive", LearntAnswer: "headers 3 1 0"})
		synctest.Wait()
		o.expect(200, p, "")
		if got := o.Devices("alice")[0].Profile; len(got) != 3 {
			t.Errorf("after a refresh: %v", got)
		}
		p.agent = "Yealink SIP-T46S 66.86.0.15"
		o.expect(200, p, "")
		o.Learn(old, map[string]string{LearntHold: "sendonly"})
		synctest.Wait()
		if got := o.Devices("alice")[0].Profile; !maps.Equal(got, map[string]string{Ringless: "off"}) {
			t.Errorf("after the new firmware: %v", got)
		}
	})
}

func TestAnswering(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	a := Answering{}
	for i, step := range []struct{ way, want string }{
		{ByHeaders, "headers 1 0"},
		{ByHeaders, "headers 2 0"},
		{ByHand, "headers 2 1"},
		{ByHand, "headers 2 2"},
		{ByHeaders, "headers 3 0"},
		{ByHand, "headers 3 1"},
		{ByHand, "headers 3 2"},
		{ByHand, "never 1 0"},
		{ByHand, "never 2 0"},
		{ByTalk, "talk 1 0"},
		{ByHeaders, "headers 1 0"},
	} {
		a = a.Then(step.way, now)
		d := Device{Profile: map[string]string{LearntAnswer: a.String()}}
		if got := d.Answering(); got != a {
			t.Errorf("%d: %+v is read as %+v", i, a, got)
		}
		way, rest, _ := strings.Cut(a.String(), " ")
		times, rest, _ := strings.Cut(rest, " ")
		_, misses, _ := strings.Cut(rest, " ")
		if got := way + " " + times + " " + misses; got != step.want {
			t.Errorf("%d: after %s %s, want %s", i, step.way, got, step.want)
		}
	}
	for _, bad := range []string{"", "headers", "headers x 1 0", "1 2 3"} {
		if got := (Device{Profile: map[string]string{LearntAnswer: bad}}).Answering(); got != (Answering{}) {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

// TestLearntIsSmall packs a device of which all is known.
func TestLearntIsSmall(t *testing.T) {
	d := usual()
	bare := len(d.Pack(nil))
	d.Profile = map[string]string{
		LearntAnswer: "headers 12 1790000000 0", LearntCodecs: "opus G722 PCMA PCMU G729", LearntKeys: "rtp", LearntHold: "sendonly", LearntSRTP: "none",
		LearntReliable: "no", LearntUpdate: "yes", LearntTimer: "yes", LearntOptions: "yes", LearntLarge: "udp",
	}
	if n := len(d.Pack(nil)) - bare; n > 160 {
		t.Errorf("what is learnt takes %d bytes", n)
	}
}
