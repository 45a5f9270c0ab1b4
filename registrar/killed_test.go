package registrar

import (
	"reflect"
	"testing"
	"time"

	"baton/journal"
)

// TestKilled: what was here when the node was killed went when that node was last known to live, or when the device was
// heard after that, not when the next one starts; and it comes back with the time that it was really away.
func TestKilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		o := newOffice(t, "alice")
		began := time.Now().Round(0)
		mobile := app("alice", "LinphoneiOS/5", "urn:uuid:1", tcp("198.51.100.8:40000", 1))
		short := desk("alice", "snom320/1", "198.51.100.9:5060")
		late := app("alice", "Zoiper/5", "urn:uuid:2", tcp("198.51.100.9:40000", 2))
		desk := desk("alice", "Yealink SIP-T46S 1", "198.51.100.7:5060")
		o.expect(200, mobile, "")
		o.expect(200, short, "60")
		o.expect(200, desk, "")
		time.Sleep(40 * time.Second)
		o.lastRun = time.Now().Round(0)
		time.Sleep(3 * time.Second)
		o.expect(200, late, "")
		o.stop()
		time.Sleep(10 * time.Minute)
		o.agent.set(func() { o.agent.dead[mobile.flow], o.agent.dead[late.flow] = true, true })
		o.journal.take()
		o.open()
		o.want("alice", "3 yealink-t46s here, 1 linphone-ios away, 2 snom-320 away, 4 zoiper away")
		ended := map[string]time.Duration{}
		for _, e := range o.journal.take() {
			ended[e.Device] = e.Time.Sub(began)
			if want := e.Time.Sub(began); e.Kind != journal.DeviceAway || e.Device != "zoiper" && e.Duration != want || e.Device == "zoiper" && e.Duration != 0 {
				t.Errorf("%+v", e)
			}
		}
		want := map[string]time.Duration{"linphone-ios": 40 * time.Second, "snom-320": 40 * time.Second, "zoiper": 43 * time.Second}
		if !reflect.DeepEqual(ended, want) {
			t.Errorf("ended %v, want %v", ended, want)
		}
		for _, d := range o.Devices("alice") {
			if at, gone := want[d.Name]; gone && !d.Since.Equal(began.Add(at)) {
				t.Errorf("%s is away since %v, want %v", d.Name, d.Since.Sub(began), at)
			}
		}
		mobile.flow = tcp("198.51.100.8:40001", 3)
		o.expect(200, mobile, "")
		if e := o.journal.take()[0]; e.Kind != journal.DeviceRegistered || e.Duration != 10*time.Minute+3*time.Second {
			t.Errorf("%+v", e)
		}
	})
}
