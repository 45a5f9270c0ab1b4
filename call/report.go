package call

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"slices"
	"strconv"
	"sync"
	"time"

	"baton/media"
	"baton/sip"
)

// What devices report of the audio that they are in (docs/quality.md): it belongs to a leg by its dialog, is taken from the user alone
// whose leg that is, stands beside what the node measures itself, and is gone with the leg. A phone's report of a call that has just ended is
// still counted.

// reports counts what devices have told, and holds the estimated delays of calls that have ended.
type reports struct {
	mu     sync.Mutex
	taken  map[[2]string]uint64 // by how it was told, and what became of it
	delays map[string]*Delays   // by who has measured: node, device
}

// What became of a report.
const (
	reportTaken   = "taken"   // it is of a leg of a live call
	reportLate    = "late"    // it is of one that has just ended
	reportUnknown = "unknown" // it is of none that is known, or of another user's
)

// Delays are estimated delays from mouth to ear, as a histogram: one for each direction of each call, at its end.
type Delays struct {
	Count   uint64   `json:"count"`
	Sum     float64  `json:"sum_ms"`
	Buckets []uint64 `json:"-"` // how many are no longer than DelayBounds, each with those before it
}

// DelayBounds are the upper bounds of the buckets, in milliseconds: the project's own aim is below 300.
var DelayBounds = []float64{50, 75, 100, 125, 150, 200, 250, 300, 400, 600, 1000}

// Mean is the average, 0 if there are none.
func (d Delays) Mean() float64 {
	if d.Count == 0 {
		return 0
	}
	return d.Sum / float64(d.Count)
}

// Who has measured what an estimate stands on.
const (
	ByNode   = "node"
	ByDevice = "device"
)

func (r *reports) observe(by string, delay float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.delays == nil {
		r.delays = map[string]*Delays{}
	}
	d := r.delays[by]
	if d == nil {
		d = &Delays{Buckets: make([]uint64, len(DelayBounds))}
		r.delays[by] = d
	}
	d.Count++
	d.Sum += delay
	for i, most := range DelayBounds {
		if delay <= most {
			d.Buckets[i]++
		}
	}
}

func (r *reports) count(by, became string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken == nil {
		r.taken = map[[2]string]uint64{}
	}
	r.taken[[2]string{by, became}]++
}

// Delays are those of the calls that have ended on this node since it was started, by who has measured: ByNode and ByDevice.
func (b *B2BUA) Delays() map[string]Delays {
	b.reports.mu.Lock()
	defer b.reports.mu.Unlock()
	out := map[string]Delays{}
	for by, d := range b.reports.delays {
		c := *d
		c.Buckets = slices.Clone(d.Buckets)
		out[by] = c
	}
	return out
}

// Reports counts what devices have told since the node was started, by how (vq-rtcpxr, getstats, bye) and what became of it (taken, late,
// unknown).
func (b *B2BUA) Reports() map[[2]string]uint64 {
	b.reports.mu.Lock()
	defer b.reports.mu.Unlock()
	return maps.Clone(b.reports.taken)
}

// Publish takes a PUBLISH or NOTIFY outside of a dialog from an authenticated user: a report (RFC 6035), and nothing else.
func (b *B2BUA) Publish(x *sip.Exchange) { _ = x.Respond(b.published(x, x.User())) }

// published is the answer to a report of the user's, wherever it came: once it can be read 200, whatever call it is about. A phone would only
// try again.
func (b *B2BUA) published(x *sip.Exchange, user string) sip.Reply {
	v, fresh, err := b.readReport(x)
	if err != nil {
		b.Log.Info("report refused", "user", user, "from", x.Flow().String(), "err", err)
		return b.reply(err)
	}
	if fresh {
		b.report(user, v.dialog, v.report)
	}
	if x.Method() != "PUBLISH" {
		return sip.Reply{Code: 200}
	}
	// Nothing of it is kept that could be refreshed or taken back: each 200 says the same.
	return sip.Reply{Code: 200, Headers: []sip.Header{{Name: "SIP-ETag", Value: newID()}, {Name: "Expires", Value: expiresOf(x)}}}
}

// longestPublish is how long a publication is said to last (RFC 3903 §6), in seconds.
const longestPublish = 3600

func expiresOf(x *sip.Exchange) string {
	n, err := strconv.ParseUint(x.Header("Expires"), 10, 32)
	if err != nil || n > longestPublish {
		n = longestPublish
	}
	return strconv.FormatUint(n, 10)
}

// readReport reads the report of a request. One that is refreshed or taken back brings none: it is not fresh.
func (b *B2BUA) readReport(x *sip.Exchange) (v voiceReport, fresh bool, err error) {
	if e := sip.EventPackage(x.Header("Event")); e != reportEvent {
		return v, false, refusal(489, fmt.Sprintf("the event package %.40q is not served for %s", e, x.Method()))
	}
	body := x.Body()
	if len(body.Data) == 0 && x.Header("SIP-If-Match") != "" {
		return v, false, nil
	}
	if len(body.Data) == 0 {
		return v, false, refusal(400, "the report is empty")
	}
	if len(body.Data) > maxReport {
		return v, false, refusal(413, fmt.Sprintf("a report may have %d octets", maxReport))
	}
	if kind, _, err := mime.ParseMediaType(body.Type); err != nil || kind != reportType {
		return v, false, &Refusal{Code: 415, Why: fmt.Sprintf("a report of the type %.60q cannot be read", body.Type), Headers: []sip.Header{
			{Name: "Accept", Value: reportType},
		}}
	}
	if v, err = parseVoiceReport(string(body.Data)); err != nil {
		return v, false, refusal(400, "the report cannot be read: "+err.Error())
	}
	v.report.At = time.Now()
	return v, true, nil
}

// ErrNoReport says that a report is about no call of the user's.
var ErrNoReport = errors.New("no live call of yours has that dialog")

// Report takes what a page reports of a leg of the user's, which is named by its dialog.
func (b *B2BUA) Report(user string, dialog sip.Replaces, r media.Report) error {
	if b.report(user, dialog, r) != reportTaken {
		return ErrNoReport
	}
	return nil
}

// report gives a report to the leg of the user's that it is about, counts it, and says what became of it.
func (b *B2BUA) report(user string, dialog sip.Replaces, r media.Report) (became string) {
	became = reportUnknown
	if o, ok := b.reported(user, dialog); ok {
		o.call.do(func() { o.call.withLeg(o.leg, func(_ *Call, l *Leg) { l.report = &r }) })
		became = reportTaken
	} else if last, ok := b.reportedLate(user, dialog); ok {
		b.conclude(last, r)
		became = reportLate
	}
	b.reports.count(r.By, became)
	b.Log.Debug("report", "user", user, "by", r.By, "final", r.Final, "became", became)
	return became
}

// reported finds the confirmed dialog of the user's that a report is about. Of others' dialogs nothing is told.
func (b *B2BUA) reported(user string, dialog sip.Replaces) (found dialogOwner, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, o := range b.dialogs.live[dialog.CallID] {
		if o.user == user && o.kind == dialogConfirmed && dialog.Names(o.id) {
			return o, true
		}
	}
	return found, false
}

// reportedLate finds what is known of a dialog that has just ended, once.
func (b *B2BUA) reportedLate(user string, dialog sip.Replaces) (last *lastWay, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.dialogs.ended {
		if e := &b.dialogs.ended[i]; e.user == user && dialog.Names(e.id) && time.Since(e.at) <= endedFor {
			last, e.last = e.last, nil
			return last, true
		}
	}
	return nil, false
}

// lastWay is what a leg's device heard last when its call ended, as far as the node knows.
type lastWay struct {
	call, device string
	codec        string
	packet       float64
	far, near    float64 // round trips: to who speaks, and to the device
	direct       bool
	theirs       *media.Report // of who speaks
}

// conclude counts the estimate that a device's last report makes of its last way, nil = there is none.
func (b *B2BUA) conclude(w *lastWay, r media.Report) {
	if w == nil {
		return
	}
	from := media.End{Stats: media.Stats{RTT: w.far, Packet: w.packet}, Report: w.theirs}
	to := media.End{Stats: media.Stats{RTT: w.near, Out: media.Traffic{Codec: w.codec}}, Report: &r}
	q := media.Told(from, to, w.direct)
	if q == nil {
		return
	}
	b.reports.observe(ByDevice, q.Delay)
	b.Log.Info(
		"quality at the end as reported", "call", w.call, "device", w.device, "by", r.By,
		"loss_percent", q.Loss, "delay_ms", q.Delay, "mos", q.MOS,
	)
}

// lastWays counts what each device hears as the call ends by what the node has measured, and keeps what its own last report needs.
func (c *Call) lastWays() {
	for _, to := range c.seats {
		for _, from := range c.seats {
			if from == to || from.holder == nil || to.holder == nil {
				continue
			}
			a, z := from.holder.stream.Stats(), to.holder.stream.Stats()
			direct := c.path.state == pathDirect || from.holder.straight && to.holder.straight || unrelayed(a, z)
			if q := media.Across(a, z); q != nil && !direct {
				c.b.reports.observe(ByNode, q.Delay)
			}
			to.holder.last = &lastWay{
				call: c.id, device: to.holder.device.Name, codec: z.Out.Codec, packet: a.Packet, far: a.RTT, near: z.RTT, direct: direct,
				theirs: from.holder.report,
			}
		}
	}
}

// retire takes the dialog of a leg that is over out of the index. What its device has reported is counted; else it may still report.
func (b *B2BUA) retire(l *Leg) {
	last := l.last
	if l.report != nil {
		b.conclude(last, *l.report)
		last = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialogs.drop(l.dialog.ID(), last)
}

// sumUp takes what a phone sums up in its BYE, or in the 200 to ours.
func (c *Call) sumUp(l *Leg, header func(string) string) {
	r := summedUp(header, time.Now())
	if r == nil {
		return
	}
	c.b.reports.count(r.By, reportTaken)
	if was := l.report; was != nil { // what it has told before, and sums do not tell
		r.RTT, r.Hears.Buffer = was.RTT, was.Hears.Buffer
	}
	l.report = r
}
