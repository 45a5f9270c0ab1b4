package e2e

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
	"baton/test/wire"
)

// witness is a real softphone at the far side of a call that is moved, behind a path which notes every packet: what its user
// hears is in its recording, what it was sent is with the path.
type witness struct {
	*baresip
	path *wire.Path
}

// startWitness runs a witness for a user, over UDP.
func (w *world) startWitness(user string, hz float64, config ...string) *witness {
	w.t.Helper()
	path, err := wire.New(wire.Config{Phone: node.IP(20), UDP: w.UDP, TCP: w.TCP, Seed: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(path.Close)
	return &witness{w.runBaresip(user, softphone{transport: "udp", hz: hz, config: config, path: path}), path}
}

// sent are the RTP packets that came to the witness since a time, and the SIP messages.
func (w *witness) sent(since time.Time) (rtp []phone.Packet, sip []*phone.Message) {
	for _, p := range w.path.Packets() {
		switch {
		case p.Up || p.Dropped || p.At.Before(since):
		case p.Kind == wire.SIP:
			if m, err := phone.Parse(p.Data); err == nil {
				sip = append(sip, m)
			}
		case p.Kind == wire.RTP && len(p.Data) >= 12:
			rtp = append(rtp, phone.Packet{
				At: p.At, PT: p.Data[1] & 0x7f, Marker: p.Data[1]&0x80 != 0, Size: len(p.Data) - 12,
				Seq: binary.BigEndian.Uint16(p.Data[2:]), TS: binary.BigEndian.Uint32(p.Data[4:]), SSRC: binary.BigEndian.Uint32(p.Data[8:]),
			})
		}
	}
	return rtp, sip
}

// undisturbed checks that the witness was sent one whole stream since a time, and no SIP but what may be said of a transfer: UPDATE
// and the methods named. A look whether the device is there is none of the call's business.
func (w *witness) undisturbed(since time.Time, may ...string) {
	w.t.Helper()
	rtp, sip := w.sent(since)
	r := phone.Analyse(rtp, 8000)
	if r.Missing != 0 || r.Reordered != 0 || r.Duplicates != 0 || len(r.SSRCs) != 1 || r.Packets < 50 {
		w.t.Errorf("the far side's stream is broken: %s", r)
	}
	if gap, at := phone.LongestGap(rtp, since, time.Now().Add(-50*time.Millisecond)); gap > 500*time.Millisecond {
		w.t.Errorf("the far side was sent nothing for %s, %s after the call was up", gap, at.Sub(since))
	}
	w.t.Logf("the far side was sent %s", r)
next:
	for _, m := range sip {
		if m.Method == "OPTIONS" && !w.inCall(m) {
			continue
		}
		for _, method := range may {
			if _, of := m.CSeq(); of == method {
				continue next
			}
		}
		w.t.Errorf("the far side was sent %s (%s)", m.Line(), m.Get("CSeq"))
	}
}

// inCall says whether a request that came to the witness belongs to a dialog: its To has a tag.
func (w *witness) inCall(m *phone.Message) bool { return phone.Param(m.Get("To"), "tag") != "" }

// dialogs are those that its INVITEs have made, oldest first, as the node sees them: values for Replaces.
func (w *witness) dialogs() (all []string) {
	for _, p := range w.path.Packets() {
		m, err := phone.Parse(p.Data)
		if p.Kind != wire.SIP || p.Up || err != nil || m.Code != 200 {
			continue
		}
		if _, method := m.CSeq(); method == "INVITE" && !slices.Contains(all, replaces(m)) {
			all = append(all, replaces(m))
		}
	}
	return all
}

// replaces names the dialog of an answer to the one who sent it (RFC 3891 §6.1).
func replaces(m *phone.Message) string {
	return fmt.Sprintf("%s;to-tag=%s;from-tag=%s", m.Get("Call-ID"), phone.Param(m.Get("To"), "tag"), phone.Param(m.Get("From"), "tag"))
}

// deviceOver is the index of a user's device that is registered over a transport.
func (w *world) deviceOver(user, transport string) int {
	w.t.Helper()
	for _, d := range w.devices(user) {
		if d.Here && d.Transport == transport {
			return d.Index
		}
	}
	w.t.Fatalf("%s has no device over %s: %v", user, transport, w.devices(user))
	return 0
}

// TestWitnessNotesWhatItIsSent proves the driver: what the far side does by itself is seen.
func TestWitnessNotesWhatItIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.startWitness("bob", 660)
	alice := w.phone("alice", "desk")
	out := w.dial(alice, "102")
	w.must(out.Await(10 * time.Second))
	bob.await("CALL_ESTABLISHED", 5*time.Second) // the node has acknowledged
	since := time.Now()
	pause(1500 * time.Millisecond)
	bob.undisturbed(since)
	rtp, sip := bob.sent(time.Time{})
	if len(rtp) < 50 || len(sip) < 3 { // its registration's answers, INVITE, ACK
		t.Errorf("%d RTP packets, %d SIP messages noted", len(rtp), len(sip))
	}
	w.must(out.Hangup())
	bob.await("CALL_CLOSED", 5*time.Second)
	if _, sip = bob.sent(since); len(sip) != 1 || sip[0].Method != "BYE" {
		t.Errorf("after the hang-up: %d messages noted", len(sip))
	}
}
