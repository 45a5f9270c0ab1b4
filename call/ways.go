package call

import "baton/media"

// ways estimates what each seat hears of each other, by the legs that hold them.
func ways(seats []SeatInfo) []Way {
	var all []Way
	for i, from := range seats {
		for j, to := range seats {
			if i == j || from.Empty || to.Empty || len(from.Legs) == 0 || len(to.Legs) == 0 {
				continue
			}
			if q := media.Across(from.Legs[0].Stats, to.Legs[0].Stats); q != nil {
				all = append(all, Way{From: from.User, To: to.User, Quality: *q})
			}
		}
	}
	return all
}
