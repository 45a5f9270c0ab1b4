package call

import "testing"

// TestConsentGoneWhileLost: a browser that was lost by its signalling, and whose last way has gone since, is not back because it answers: nobody
// would hear it.
func TestConsentGoneWhileLost(t *testing.T) {
	t.Parallel()
	c := &Call{state: StateUp}
	l := &Leg{state: legLost, seat: &Seat{}}
	l.seat.away = &absence{leg: l, lost: true}
	c.consentGone(l)
	c.sought(l, nil, "answer")
	if l.state != legLost || !l.seat.away.mute {
		t.Errorf("it is %s", l.state)
	}
}
