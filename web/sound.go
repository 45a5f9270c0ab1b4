package web

import (
	"errors"
	"net/http"
	"time"

	"baton/call"
	"baton/media"
	"baton/sip"
)

// What devices report of their audio, as a page posts it, and how long sound takes from mouth to ear over all calls.

// MyReport is what POST /me/reports takes: what a page's connection has measured of a call of its device, which is named by the SIP dialog as
// the page knows it.
type MyReport struct {
	CallID    string       `json:"call_id"`
	LocalTag  string       `json:"local_tag"`
	RemoteTag string       `json:"remote_tag"`
	RTT       float64      `json:"rtt_ms,omitempty"`
	Hears     media.Heard  `json:"hears"`
	Says      *media.Heard `json:"says,omitempty"` // as the other end has told the page
}

// The most that is believed of a page's figures.
const (
	mostShare  = 100
	mostTime   = 10_000
	mostCodec  = 32
	mostCallID = 256
)

func (a *UserAPI) report(r *http.Request, me person) (any, error) {
	var told MyReport
	if err := read(r, &told); err != nil {
		return nil, err
	}
	if told.CallID == "" || max(len(told.CallID), len(told.LocalTag), len(told.RemoteTag)) > mostCallID {
		return nil, refuse(http.StatusBadRequest, "call_id and the tags name the dialog that the report is about")
	}
	if told.RTT < 0 || told.RTT > mostTime || !believable(told.Hears) || told.Says != nil && !believable(*told.Says) {
		return nil, refuse(http.StatusBadRequest, "a figure of the report is out of its range: shares are 0 to %d percent, times 0 to %d ms", mostShare, mostTime)
	}
	dialog := sip.Replaces{CallID: told.CallID, ToTag: told.RemoteTag, FromTag: told.LocalTag}
	err := a.Calls.Report(me.Name, dialog, media.Report{By: "getstats", At: time.Now(), RTT: told.RTT, Hears: told.Hears, Says: told.Says})
	if errors.Is(err, call.ErrNoReport) {
		return nil, refuse(http.StatusNotFound, "%v", err)
	}
	return nil, err
}

func believable(h media.Heard) bool {
	in := func(v *float64, most float64) bool { return v == nil || *v >= 0 && *v <= most }
	return in(h.Loss, mostShare) && in(&h.Discarded, mostShare) && in(h.Concealed, mostShare) && in(h.Jitter, mostTime) && in(&h.Buffer, mostTime) &&
		in(&h.MOS, 5) && len(h.Codec) <= mostCodec
}

// MouthToEar is how long sound takes on a node's calls, as estimated, each direction of a call counted for itself.
type MouthToEar struct {
	Live     Mean `json:"live"`     // the calls of this moment, by the best that is known of each
	Ended    Mean `json:"ended"`    // those that have ended since the node was started, at their end, as the node has measured them
	Reported Mean `json:"reported"` // the same, as the devices that hear have told
}

// Mean is an average over so many directions of calls.
type Mean struct {
	Ways uint64  `json:"ways"`
	Mean float64 `json:"mean_ms"` // 0 where there are none
}

func mouthToEar(c Calls) *MouthToEar {
	ended := c.Delays()
	of := func(by string) Mean { return Mean{Ways: ended[by].Count, Mean: tenth(ended[by].Mean())} }
	return &MouthToEar{Live: liveMean(c.Calls("")), Ended: of(call.ByNode), Reported: of(call.ByDevice)}
}

// liveMean is the average over all that is measured of live calls.
func liveMean(calls []call.Info) (m Mean) {
	sum := 0.0
	for _, c := range calls {
		for _, w := range c.Ways {
			sum += w.Delay
			m.Ways++
		}
	}
	if m.Ways > 0 {
		m.Mean = tenth(sum / float64(m.Ways))
	}
	return m
}

// tenth rounds to one digit behind the point.
func tenth(v float64) float64 { return float64(int64(v*10+0.5)) / 10 }
