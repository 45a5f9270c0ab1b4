package call

import (
	"testing"
	"time"

	"baton/sip"
)

// TestOneOwner: a leg that was on its way from one call to another stands in both records; the newer has it, the other has given it.
func TestOneOwner(t *testing.T) {
	t.Parallel()
	leg := func(id string, holds bool) LegRecord {
		return LegRecord{Dialog: sip.Dialog{CallID: id, LocalTag: "t"}, Holds: holds}
	}
	now := time.Now()
	giver := &leftover{Record: Record{Saved: now, Seats: []SeatRecord{{Legs: []LegRecord{leg("a", true)}}, {Legs: []LegRecord{leg("b", true), leg("r", false)}}}}}
	taker := &leftover{Record: Record{Saved: now.Add(time.Millisecond), Seats: []SeatRecord{{Legs: []LegRecord{leg("c", true)}}, {Legs: []LegRecord{leg("b", false)}}}}}
	oneOwner([]*leftover{giver, taker})
	if !giver.given || taker.given || len(giver.Seats[1].Legs) != 1 || giver.Seats[1].Legs[0].Dialog.CallID != "r" || len(taker.Seats[1].Legs) != 1 {
		t.Errorf("%+v\n%+v", giver, taker)
	}
}
