package call

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWayRemembered: one try in vain closes a way for half a minute, the second in a row for half an hour, as does one that leaves no doubt. What
// lies half an hour back counts no more, and nothing before a success does.
func TestWayRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b blocked
		expect := func(what string, after time.Duration, closed bool) {
			t.Helper()
			time.Sleep(after)
			if got := b.of("a|b"); (got != "") != closed {
				t.Errorf("%s: %q", what, got)
			}
		}
		b.add("a|b", "nothing is heard", false)
		expect("after one", doubtedFor-time.Second, true)
		if why := b.of("a|c"); why != "" {
			t.Errorf("another pair: %s", why)
		}
		expect("after one, later", 2*time.Second, false)
		b.add("a|b", "nothing is heard", false)
		expect("after two", blockedFor-time.Second, true)
		expect("after two, later", 2*time.Second, false)
		b.add("a|b", "nothing is heard", false)
		expect("after what is long ago", doubtedFor+time.Second, false)
		time.Sleep(blockedFor)
		b.add("a|b", "nothing is heard", false)
		expect("after another that is long ago", doubtedFor+time.Second, false)
		b.clear("a|b")
		b.add("a|b", "nothing is heard", false)
		expect("after a success", doubtedFor+time.Second, false)
		b.clear("a|b")
		b.add("a|b", "refused", true)
		expect("after a refusal", blockedFor-time.Second, true)
	})
}
