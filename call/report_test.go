package call_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/media"
	"baton/sip"
	"baton/test/phone"
)

var vqEvent = phone.Header{Name: "Event", Value: "vq-rtcpxr"}

// tells is a report of a call as its phone makes it; final ends the session.
func tells(c *phone.Call, final bool) string {
	kind := "VQIntervalReport"
	if final {
		kind = "VQSessionReport: CallTerm"
	}
	return kind + "\r\nCallID: " + c.ID() + "\r\nLocalID: <" + c.Phone().URI() + ">\r\nRemoteID: <sip:x@y>\r\n" +
		"LocalMetrics:\r\nSessionDesc: PT=0 PD=PCMU SR=8000\r\nJitterBuffer: JBA=3 JBN=70\r\nPacketLoss: NLR=2.0 JDR=1.0\r\nDelay: RTD=40 IAJ=5\r\n"
}

// publish has a phone send a report and gives its answer.
func (r *rig) publish(from *phone.Phone, text string, headers ...phone.Header) *phone.Message {
	r.t.Helper()
	res, err := from.Send("PUBLISH", "sip:"+r.server.String(), []byte(text), append([]phone.Header{vqEvent, typed("application/vq-rtcpxr")}, headers...)...)
	must(r.t, err)
	return res
}

// measured has both phones send RTCP until the node knows the round trips to them.
func (r *rig) measured(calls ...*phone.Call) {
	r.t.Helper()
	r.eventually("the node to know the round trips", 15*time.Second, func() bool {
		for _, c := range calls {
			_ = c.Media().ReportTrip(0, 10*time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
		all := r.b.Calls("")
		return len(all) == 1 && len(all[0].Ways) == 2
	})
}

// one is the only call.
func (r *rig) one() call.Info {
	r.t.Helper()
	all := r.b.Calls("")
	if len(all) != 1 {
		r.t.Fatalf("%d calls", len(all))
	}
	return all[0]
}

// reportsOf counts what became of the reports that came in one way.
func (r *rig) reportsOf(by string) string {
	n := r.b.Reports()
	return fmt.Sprintf("taken %d late %d unknown %d", n[[2]string{by, "taken"}], n[[2]string{by, "late"}], n[[2]string{by, "unknown"}])
}

// TestReport: a phone's report stands beside what the node has measured, of that phone's leg and way alone; nobody else's does.
func TestReport(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	r.measured(out, in)
	if res := r.publish(bob, tells(out, false)); res.Code != 200 { // of a dialog of alice's
		t.Errorf("of another's call: %s", res.Line())
	}
	if res := r.publish(bob, strings.Replace(tells(in, false), in.ID(), "nobody-knows", 1)); res.Code != 200 {
		t.Errorf("of no call: %s", res.Line())
	}
	if n := r.reportsOf("vq-rtcpxr"); n != "taken 0 late 0 unknown 2" {
		t.Error(n)
	}
	for _, w := range r.one().Ways {
		if w.By != call.ByNode || w.Device != nil || w.Node == nil || *w.Node != w.Quality {
			t.Errorf("%+v", w)
		}
	}
	res := r.publish(bob, tells(in, false), phone.Header{Name: "Expires", Value: "60"})
	if res.Code != 200 || res.Get("SIP-ETag") == "" || res.Get("Expires") != "60" {
		t.Errorf("%s, SIP-ETag %q, Expires %q", res.Line(), res.Get("SIP-ETag"), res.Get("Expires"))
	}
	c := r.one()
	if c.Seats[0].Legs[0].Report != nil {
		t.Error("alice's leg has bob's report")
	}
	got := c.Seats[1].Legs[0].Report
	if got == nil || got.By != "vq-rtcpxr" || got.Final || got.RTT != 40 || *got.Hears.Loss != 2 || got.Hears.Buffer != 70 || time.Since(got.At) > time.Minute {
		t.Fatalf("bob's leg: %+v", got)
	}
	for _, w := range c.Ways {
		switch {
		case w.From == "alice" && (w.By != call.ByDevice || w.Device == nil || w.Node == nil || w.Loss != 3 || w.Delay < 90 || *w.Device != w.Quality):
			t.Errorf("what bob hears: %+v, node %+v, device %+v", w, w.Node, w.Device)
		case w.From == "bob" && (w.By != call.ByNode || w.Device != nil):
			t.Errorf("what alice hears: %+v", w)
		}
	}
	must(t, out.Hangup())
	r.eventually("both ways to be counted", 5*time.Second, func() bool {
		d := r.b.Delays()
		return d[call.ByNode].Count == 2 && d[call.ByDevice].Count == 1
	})
	if mean := r.b.Delays()[call.ByDevice].Mean(); mean < 90 || mean > 200 {
		t.Errorf("%v ms by the device", mean)
	}
	r.nothingLeft()
}

// TestReportInDialog: phones that report within the call's dialog, by PUBLISH or NOTIFY.
func TestReportInDialog(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	for i, method := range []string{"PUBLISH", "NOTIFY"} {
		res, err := in.Request(method, []byte(tells(in, false)), vqEvent, typed("application/vq-rtcpxr"))
		must(t, err)
		if want := fmt.Sprintf("taken %d late 0 unknown 0", i+1); res.Code != 200 || r.reportsOf("vq-rtcpxr") != want {
			t.Errorf("%s: %s, %s", method, res.Line(), r.reportsOf("vq-rtcpxr"))
		}
	}
	if r.one().Seats[1].Legs[0].Report == nil {
		t.Error("no report")
	}
	must(t, out.Hangup())
	r.nothingLeft()
}

// TestReportLate: the usual phone reports once, when the call is over; that counts once.
func TestReportLate(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	r.measured(out, in)
	must(t, out.Hangup())
	r.nothingLeft()
	for range 2 {
		if res := r.publish(bob, tells(in, true)); res.Code != 200 {
			t.Error(res.Line())
		}
	}
	if n, d := r.reportsOf("vq-rtcpxr"), r.b.Delays(); n != "taken 0 late 2 unknown 0" || d[call.ByDevice].Count != 1 || d[call.ByNode].Count != 2 {
		t.Errorf("%s, %+v", n, d)
	}
	if res := r.publish(alice, tells(in, true)); res.Code != 200 || r.reportsOf("vq-rtcpxr") != "taken 0 late 2 unknown 1" {
		t.Errorf("of another's: %s, %s", res.Line(), r.reportsOf("vq-rtcpxr"))
	}
}

// TestReportInBye: what a phone sums up in its BYE counts as its report.
func TestReportInBye(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	r.measured(out, in)
	res, err := out.Request("BYE", nil, phone.Header{Name: "P-RTP-Stat", Value: "PS=9,PR=90,PL=10,JI=25,DE=PCMU"})
	must(t, err)
	must(t, in.AwaitEnd(5*time.Second))
	r.eventually("it to be counted", 3*time.Second, func() bool { return r.b.Delays()[call.ByDevice].Count == 1 })
	if d := r.b.Delays()[call.ByDevice]; res.Code != 200 || d.Mean() < 120 || d.Mean() > 250 || r.reportsOf("bye") != "taken 1 late 0 unknown 0" {
		t.Errorf("%s, mean %v ms, %s", res.Line(), d.Mean(), r.reportsOf("bye")) // a packet, and four times the jitter
	}
	_ = out.Hangup()
	r.nothingLeft()
}

// TestReportOfPage: the dialog by its tags, and nobody else's.
func TestReportOfPage(t *testing.T) {
	t.Parallel()
	r, alice, bob := newPair(t)
	out, in := r.connect(alice, bob)
	dialog, err := sip.ParseReplaces(strings.TrimPrefix(out.Replaces(), "Replaces: "))
	must(t, err)
	told := media.Report{By: "getstats", RTT: 7}
	wrong := dialog
	wrong.ToTag += "x"
	for _, c := range []struct {
		user   string
		dialog sip.Replaces
		err    error
	}{{"bob", dialog, call.ErrNoReport}, {"alice", wrong, call.ErrNoReport}, {"alice", dialog, nil}} {
		if err := r.b.Report(c.user, c.dialog, told); err != c.err {
			t.Errorf("%s, %+v: %v, want %v", c.user, c.dialog, err, c.err)
		}
	}
	if got := r.one().Seats[0].Legs[0].Report; got == nil || got.RTT != 7 {
		t.Errorf("%+v", got)
	}
	must(t, in.Hangup())
	r.nothingLeft()
}

// TestReportRefused: each with a status that says why, and a refresh of what is not kept with none.
func TestReportRefused(t *testing.T) {
	t.Parallel()
	r, alice, _ := newPair(t)
	body := "VQSessionReport\r\nCallID: x\r\nLocalMetrics:\r\n"
	for _, c := range []struct {
		what    string
		text    string
		headers []phone.Header
		code    int
		why     string
	}{
		{"another event", body, []phone.Header{{Name: "Event", Value: "presence"}}, 489, `\"presence\" is not served`},
		{"another type", body, []phone.Header{typed("text/plain")}, 415, "cannot be read"},
		{"nothing", "", nil, 400, "empty"},
		{"no report", "hello", nil, 400, "begins with"},
		{"no number", body + "PacketLoss: NLR=a\r\n", nil, 400, "is no number"},
		{"too much", body + strings.Repeat("X", 9000), nil, 413, "8192 octets"},
		{"a refresh", "", []phone.Header{{Name: "SIP-If-Match", Value: "x"}}, 200, ""},
		{"a removal", "", []phone.Header{{Name: "SIP-If-Match", Value: "x"}, {Name: "Expires", Value: "0"}}, 200, ""},
	} {
		res := r.publish(alice, c.text, c.headers...)
		if res.Code != c.code || !strings.Contains(res.Get("Warning"), c.why) {
			t.Errorf("%s: %s, %s; want %d, %q", c.what, res.Line(), res.Get("Warning"), c.code, c.why)
		}
		if c.code == 489 && !strings.Contains(res.Get("Allow-Events"), "vq-rtcpxr") {
			t.Errorf("Allow-Events: %s", res.Get("Allow-Events"))
		}
	}
	if n := r.reportsOf("vq-rtcpxr"); n != "taken 0 late 0 unknown 0" {
		t.Error(n)
	}
}
