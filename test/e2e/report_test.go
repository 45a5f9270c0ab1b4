package e2e

import (
	"fmt"
	"testing"
	"time"
)

// reportShown is what a device has reported, as the command line shows it.
type reportShown struct {
	By    string
	Final bool
	RTT   float64 `json:"rtt_ms"`
	Hears struct {
		Codec  string
		Loss   *float64 `json:"loss_percent"`
		Buffer float64  `json:"buffer_ms"`
		MOS    float64
	}
}

// reportOf is what a user's device has reported of the only call.
func (w *world) reportOf(user string) (*reportShown, error) {
	var calls []struct {
		Seats []struct {
			User string
			Legs []struct{ Report *reportShown }
		}
	}
	if err := w.JSON(&calls, "calls", "--json"); err != nil {
		return nil, err
	}
	for _, c := range calls {
		for _, s := range c.Seats {
			if s.User == user && len(s.Legs) > 0 && s.Legs[0].Report != nil {
				return s.Legs[0].Report, nil
			}
		}
	}
	return nil, fmt.Errorf("%s's device has reported nothing in %+v", user, calls)
}

// TestLinphoneReports has Debian's linphonec publish what it hears while it talks (RFC 6035). Without RTCP XR it knows its round trip and
// its own estimate of the sound alone.
func TestLinphoneReports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	need(t, "linphonec", "linphone-cli")
	b := w.startBaresip("alice", "udp", 440)
	collector := fmt.Sprintf("[proxy_default_values]\nquality_reporting_enabled=1\nquality_reporting_collector=sip:%s\nquality_reporting_interval=5\n", w.UDP)
	w.startLinphone("bob", 660, collector)
	b.dial("102")
	b.await("CALL_ESTABLISHED", 10*time.Second)
	w.Eventually(time.Minute, "linphonec's report to stand with its leg", func() error {
		r, err := w.reportOf("bob")
		if err != nil {
			return err
		}
		if r.By != "vq-rtcpxr" || r.Final || r.Hears.Codec != "PCMU" || r.Hears.MOS < 1 || r.Hears.MOS > 5 {
			return fmt.Errorf("it is %+v", *r)
		}
		return nil
	})
	if _, err := w.reportOf("alice"); err == nil {
		t.Error("baresip, which reports nothing, has a report")
	}
	b.do("hangup", "")
	b.await("CALL_CLOSED", 5*time.Second)
}
