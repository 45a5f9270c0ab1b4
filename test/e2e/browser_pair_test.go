package e2e

import (
	"testing"
	"time"
)

// TestBrowserPairs has two browsers talk without a server, the test carrying their descriptions: what it finds is what browsers
// and harness are worth here, before anything of baton's is between them.
func TestBrowserPairs(t *testing.T) {
	t.Parallel()
	for _, kinds := range [][2]string{{"chromium", "chromium"}, {"firefox", "chromium"}} {
		t.Run(kinds[0]+" and "+kinds[1], func(t *testing.T) {
			a, b := theBrowser(t, kinds[0]).open(t, "/pair"), theBrowser(t, kinds[1]).open(t, "/pair")
			var offer, answer string
			a.must(&offer, "offer", 0)
			b.must(&answer, "answer", offer, 700) // another tone than the microphone's
			a.must(nil, "accept", answer)
			a.must(nil, "connected", 5000)
			b.must(nil, "connected", 5000)
			pause(500 * time.Millisecond) // until both jitter buffers are settled
			faultless(t, time.Second, ear{tab: a, hz: 700}, ear{tab: b, hz: a.hz})
		})
	}
}
