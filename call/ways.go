package call

import "baton/media"

// ways estimates what each seat hears of each other, by the legs that hold them; direct: past the node, whatever it has carried before.
func ways(seats []SeatInfo, direct bool) []Way {
	var all []Way
	for i, from := range seats {
		for j, to := range seats {
			if i == j || from.Empty || to.Empty || len(from.Legs) == 0 || len(to.Legs) == 0 {
				continue
			}
			if w, ok := wayBetween(from, to, direct); ok {
				all = append(all, w)
			}
		}
	}
	return all
}

// wayBetween is what the user of to hears of that of from: by the report of his device where there is one, for it knows what it hears, and
// beside that by what the node has measured.
func wayBetween(from, to SeatInfo, direct bool) (w Way, known bool) {
	a, z := from.Legs[0].end(), to.Legs[0].end()
	direct = direct || unrelayed(a.Stats, z.Stats)
	w = Way{From: from.User, To: to.User, Device: media.Told(a, z, direct)}
	if !direct {
		w.Node = media.Across(a.Stats, z.Stats)
	}
	switch {
	case w.Device != nil:
		w.By, w.Quality = ByDevice, *w.Device
	case w.Node != nil:
		w.By, w.Quality = ByNode, *w.Node
	}
	return w, w.By != ""
}

// end is the leg as one end of a call.
func (l LegInfo) end() media.End { return media.End{Stats: l.Stats, Report: l.Report} }

// unrelayed says that the node has carried no audio of a direction: it knows of that what the devices tell and nothing else.
func unrelayed(from, to media.Stats) bool { return from.In.Packets == 0 && to.Out.Packets == 0 }
