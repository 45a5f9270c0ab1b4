package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// The limits of coming back to a call whose device was killed: audio both ways after the answer of the device that pulls it, and the longest
// pause of the other side's stream once the tone is there.
const (
	rejoinMedia  = 300 * time.Millisecond
	rejoinHole   = 200 * time.Millisecond
	rejoinRounds = 20
)

// rejoined is one round.
type rejoined struct {
	known, media, hole time.Duration // until the tone; from the answer to audio both ways; longest pause since the tone
}

// TestRejoin kills the device that has the call, in mid-word, and pulls the call on another one, twenty times for each way of being connected.
func TestRejoin(t *testing.T) {
	for _, transport := range []string{"udp", "tcp", "tls"} {
		n := node.Start(t, node.Options{Users: map[string]string{"alice": "101", "bob": "102"}})
		bob := newPhone(t, n, "bob", "far")
		var rounds []rejoined
		device := func(i int) *phone.Phone {
			return newPhone(t, n, "alice", fmt.Sprintf("dev%c", 'a'+i%2), connected(n, transport), func(c *phone.Config) {
				c.Instance = fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", 900+i%2)
			})
		}
		has := device(0)
		leg, far := connect(t, has, "bob", bob)
		for i := range rejoinRounds {
			next := device(i + 1)
			time.Sleep(1200*time.Millisecond + time.Duration(i)*time.Millisecond) // a second of talk, and the next phase of a frame
			r, pulled := rejoin(t, n, has, next, far)
			rounds, has, leg = append(rounds, r), next, pulled
		}
		judgeRejoin(t, transport, far, rounds)
		must(t, leg.Hangup())
		must(t, far.AwaitEnd(5*time.Second))
	}
}

// connected is how a device is connected to the node.
func connected(n *node.Node, transport string) func(*phone.Config) {
	return func(c *phone.Config) {
		switch c.Transport = transport; transport {
		case "tcp":
			c.Server = n.TCP
		case "tls":
			c.Server = n.TLS
		}
	}
}

// rejoin is one round: the device that has the call is killed, and the next one pulls it when who waits hears the tone.
func rejoin(t *testing.T, n *node.Node, has, next *phone.Phone, far *phone.Call) (r rejoined, pulled *phone.Call) {
	t.Helper()
	killed := time.Now()
	has.Vanish()
	tone, ok := far.Media().Await(killed, 10*time.Second, func(p phone.Packet) bool { return p.Source == 0 })
	if !ok {
		t.Fatal("who waits hears nothing")
	}
	pulled, err := next.Dial("*40")
	must(t, err)
	must(t, pulled.Await(5*time.Second))
	there, ok := far.Media().Await(killed, 5*time.Second, func(p phone.Packet) bool { return p.Source == pulled.Media().Source() })
	here, also := pulled.Media().Await(killed, 5*time.Second, func(p phone.Packet) bool { return p.Source == far.Media().Source() })
	if !ok || !also {
		t.Fatal("no sound on the device that pulled")
	}
	time.Sleep(after)
	r.known, r.media = tone.At.Sub(killed), later(there.At, here.At).Sub(pulled.Times().Answered)
	r.hole, _ = phone.LongestGap(phone.Between(far.Media().Heard(), tone.At, time.Now()), tone.At, time.Now())
	return r, pulled
}

func judgeRejoin(t *testing.T, transport string, far *phone.Call, rounds []rejoined) {
	t.Helper()
	in, worst := 0, rejoined{}
	var media, known []time.Duration
	for _, r := range rounds {
		if r.media <= rejoinMedia {
			in++
		}
		worst.hole = max(worst.hole, r.hole)
		media, known = append(media, r.media), append(known, r.known)
	}
	slices.Sort(media)
	slices.Sort(known)
	s := phone.Analyse(far.Media().Heard(), 8000)
	ok := in == len(rounds) && worst.hole <= rejoinHole && len(s.SSRCs) == 1 && s.Missing == 0 && s.Reordered+s.Duplicates == 0
	verdict(t, ok, "rejoin after a kill, %s: %d of %d with audio both ways within %s ms of the answer, p50 %s max %s ms; the tone after p50 %s max %s ms, no pause over %s ms since (limit %s); "+
		"other side: %d SSRC, %d missing, %d out of order", transport, in, len(rounds), ms(rejoinMedia), ms(media[len(media)/2]), ms(media[len(media)-1]),
		ms(known[len(known)/2]), ms(known[len(known)-1]), ms(worst.hole), ms(rejoinHole), len(s.SSRCs), s.Missing, s.Reordered+s.Duplicates)
}
