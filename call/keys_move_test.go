package call_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"baton/test/phone"
)

// rtpKeys and infoKeys are phones that tell keys in one of the two ways; pt is what they take telephone-event by.
func rtpKeys(pt uint8, codecs ...phone.Codec) func(*phone.Config) {
	return func(c *phone.Config) {
		c.OwnPT, c.Codecs = true, nil
		for _, k := range codecs {
			keys := phone.DTMF
			if k.Rate == phone.WideDTMF.Rate {
				keys = phone.WideDTMF
			}
			keys.PT = pt
			pt++
			c.Codecs = append(c.Codecs, k, keys)
		}
	}
}

func infoKeys(codecs ...phone.Codec) func(*phone.Config) {
	return func(c *phone.Config) { c.Codecs, c.Allow = codecs, knowsInfo }
}

// told are the keys that a phone was told by INFO, and heard by RTP in all its calls.
func told(t *testing.T, phones ...*phone.Phone) (byInfo, byRTP string) {
	t.Helper()
	for _, p := range phones {
		for _, m := range p.Received(time.Time{}) {
			if m.Method == "INFO" {
				byInfo += string(m.Body[strings.Index(string(m.Body), "=")+1])
			}
		}
	}
	return byInfo, byRTP
}

// TestKeysOverAMove presses keys on both sides before a move, while the new device rings, held down across the switch, and after it: the
// other side is told each once, whichever way it is told keys, and whatever the payload types and clocks of the legs.
func TestKeysOverAMove(t *testing.T) {
	t.Parallel()
	wide := phone.OPUS
	for name, c := range map[string]struct {
		alice, desk, bob func(*phone.Config)
		aliceInfo        bool // and the desk
		bobInfo          bool
	}{
		"RTP to RTP": {
			alice: rtpKeys(97, phone.PCMU), desk: rtpKeys(98, phone.PCMU), bob: rtpKeys(101, phone.PCMU),
		},
		"RTP to RTP of another clock": {
			alice: rtpKeys(97, phone.PCMU), desk: rtpKeys(98, wide), bob: rtpKeys(101, phone.PCMU, wide),
		},
		"RTP to INFO":                  {alice: rtpKeys(97, phone.PCMU), desk: rtpKeys(98, phone.PCMU), bob: infoKeys(phone.PCMU), bobInfo: true},
		"RTP to INFO of another clock": {alice: rtpKeys(97, wide), desk: rtpKeys(98, phone.PCMU), bob: infoKeys(phone.PCMU, wide), bobInfo: true},
		"INFO to RTP":                  {alice: infoKeys(phone.PCMU), desk: infoKeys(phone.PCMU), bob: rtpKeys(101, phone.PCMU), aliceInfo: true},
		"INFO to RTP of another clock": {alice: infoKeys(phone.PCMU), desk: infoKeys(wide), bob: rtpKeys(101, phone.PCMU, wide), aliceInfo: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.user("alice", "101")
			r.user("bob", "102")
			m := &mixed{rig: r, alice: r.phone("alice", 1, c.alice), desk: r.phone("alice", 2, c.desk), bob: r.phone("bob", 1, c.bob)}
			m.in, m.out = m.callAlice()
			tap := func(from *phone.Call, byInfo bool, key byte, long time.Duration) {
				if byInfo {
					press(t, from, string(key), int(long/time.Millisecond))
					time.Sleep(long)
					return
				}
				from.Media().Press(key, long)
			}
			both := func(near *phone.Call, a, b byte, long time.Duration) {
				var wg sync.WaitGroup
				wg.Go(func() { tap(near, c.aliceInfo, a, long) })
				wg.Go(func() { tap(m.in, c.bobInfo, b, long) })
				wg.Wait()
				time.Sleep(100 * time.Millisecond)
			}
			both(m.out, '1', 'A', 100*time.Millisecond)
			m.desk.Behave(phone.Behaviour{})
			moved := m.beginMove()
			at, err := m.desk.Ringing(3 * time.Second)
			must(t, err)
			both(m.out, '2', 'B', 100*time.Millisecond)
			held := make(chan struct{})
			go func() {
				both(m.out, '3', 'C', 600*time.Millisecond)
				close(held)
			}()
			time.Sleep(200 * time.Millisecond)
			must(t, at.Answer())
			must(t, <-moved)
			<-held
			both(at, '4', 'D', 100*time.Millisecond)
			if !m.in.Hears(at, 3*time.Second) || !at.Hears(m.in, 3*time.Second) {
				t.Error("they do not hear each other")
			}
			time.Sleep(400 * time.Millisecond)
			farInfo, _ := told(t, m.bob)
			if got := farInfo + phone.Keys(m.in.Media().Heard()); got != "1234" {
				t.Errorf("bob was told %q (%q by INFO)", got, farInfo)
				for _, p := range m.in.Media().Heard() {
					if p.Event != nil {
						t.Log(p.Seq, p.TS, p.PT, *p.Event)
					}
				}
			}
			nearInfo, _ := told(t, m.alice, m.desk)
			if got := nearInfo + phone.Keys(m.out.Media().Heard()) + phone.Keys(at.Media().Heard()); got != "ABCD" {
				t.Errorf("alice was told %q (%q by INFO)", got, nearInfo)
			}
			rep := phone.Analyse(m.in.Media().Heard(), 8000)
			if rep.Missing != 0 || len(rep.SSRCs) != 1 || rep.Reordered+rep.Duplicates != 0 {
				t.Errorf("bob's stream: %v", rep)
			}
			must(t, m.in.Hangup())
			m.nothingLeft()
		})
	}
}

// TestKeyWhileAsked presses a key on the new device, and one on the old, while the far phone is asked for another codec.
func TestKeyWhileAsked(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]phone.Codec{"same clock": phone.G722, "other clock": phone.OPUS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.user("alice", "101")
			r.user("bob", "102")
			m := &mixed{rig: r, alice: r.phone("alice", 1, rtpKeys(97, phone.PCMU)), desk: r.phone("alice", 2, rtpKeys(98, other))}
			m.bob = r.phone("bob", 1, rtpKeys(101, phone.PCMU, other))
			m.in, m.out = m.callAlice()
			m.bob.Behave(phone.Behaviour{Late: 1200 * time.Millisecond})
			moved := m.beginMove()
			at, err := m.desk.Ringing(3 * time.Second)
			must(t, err)
			m.reinvited(m.bob, 1)
			m.out.Media().Press('1', 100*time.Millisecond)
			time.Sleep(100 * time.Millisecond)
			at.Media().Press('2', 100*time.Millisecond)
			must(t, <-moved)
			at.Media().Press('3', 100*time.Millisecond)
			heardKeys(r, m.in, "123")
			must(t, m.in.Hangup())
			m.nothingLeft()
		})
	}
}
