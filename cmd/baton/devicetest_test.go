package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/registrar"
	"baton/test/phone"
	"baton/web"
)

// TestDevicesTest tries alice's phones as a person does, on a screen of 80 columns, and looks at what was learnt.
func TestDevicesTest(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	p := newParty(t)
	on := func(args ...string) []string { return append(args, "--data", p.dir) }
	p.desk.Behave(phone.Behaviour{Ringless: true})
	said := wants(t, 0, `(?s)^ok    answer        by itself after [\d.]+ ms, as the headers of the INVITE ask\n.*`+
		`\nok    we hear it    PCMU/8000 came, .*\nok    hold          answered recvonly\nok    resume        answered sendrecv, .*`+
		`\nnote  it hears us   it sends no RTCP: .*\n\ndesk of alice works, with \d notes\n$`, on("devices", "test", "101", "1")...)
	for line := range strings.Lines(said) {
		if textWidth(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("too wide: %q", line)
		}
	}
	wants(t, 0, `(?s)^device 1 desk of alice, softphone, here [\d.]+s\n  address    udp 127\.0\.0\.1:\d+\n.*`+
		`\n  GRUU       sip:alice@127\.0\.0\.1:\d+;gr=urn:uuid:desk\n\n`+
		`learnt in calls\n  answers by itself  yes, by the headers \(1 time, last \d\d:\d\d:\d\d\)\n  codecs             PCMU\n  keys come by       -\n`, on("device", "show", "alice", "desk")...)

	p.desk.Behave(phone.Behaviour{Answer: true, Refuse: 488})
	out, errs, code := run(t, "", on("devices", "test", "alice", "desk", "--json")...)
	var report call.TrialReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitBad || report.Verdict != call.Bad || len(report.Findings) < 8 {
		t.Errorf("status %d, %v, %s", code, err, out)
	}
	if !regexp.MustCompile(`^baton: desk of alice: 2 of \d+ findings are bad\n$`).MatchString(errs) {
		t.Errorf("says %q", errs)
	}
	wants(t, 0, `^$`, on("devices", "ringless", "alice", "1", "off")...)
	wants(t, 0, `(?m)^  answers by itself  not asked: its user has said so$`, on("devices", "show", "alice", "1")...)
	wants(t, 0, `(?s)"learnt": \{\n    "codecs": "PCMU"`, on("devices", "show", "alice", "1", "--json")...)

	wants(t, 4, `^baton: device "attic" of alice: not found: there are 1 desk, 2 hall`, on("devices", "test", "alice", "attic")...)
	wants(t, 4, `^baton: there is no user "carol"`, on("devices", "show", "carol", "1")...)
	wants(t, 2, `^baton: baton devices test wants a user and one of its devices`, on("devices", "test", "alice")...)
	p.it.Behave(phone.Behaviour{Reject: 486})
	wants(t, 1, `^baton: \S+ did not take the call: 486 Busy Here\n$`, on("devices", "test", "bob", "1")...)
	if _, err := p.hall.Unregister(); err != nil {
		t.Fatal(err)
	}
	wants(t, 1, `^baton: hall is away since \d\d:\d\d \(unregistered\)\n$`, on("devices", "test", "alice", "2")...)
}

// TestShowDeviceWhole shows a device of which all is known, in 80 columns.
func TestShowDeviceWhole(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	at := time.Now().Add(-time.Minute)
	until := at.Add(time.Hour)
	d := web.Device{
		User: "alice", Index: 2, Name: "yealink-t46s", Kind: "desk phone", Here: true, Since: at, Address: "192.0.2.7:5060", Transport: "udp",
		Contact: "sip:alice@192.0.2.7:5060;transport=udp", Registered: &at, Expires: &until, UserAgent: "Yealink SIP-T46S 66.85.0.5\x1b[2J",
		Instance: "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", GRUU: "sip:alice@example.org;gr=urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		Ringless: true, Learnt: map[string]string{"codecs": "opus G722 PCMA PCMU", "hold": "sendonly", "keys": "rtp", "large": "udp"},
	}
	d.Answering = &registrar.Answering{Way: "talk", Times: 12, Last: at, Misses: 2}
	var b strings.Builder
	if err := showDevice(&b, d); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if textWidth(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("too wide: %q", line)
		}
	}
	for _, want := range []string{
		"device 2 yealink-t46s of alice, desk phone, here 1m", "yes, by NOTIFY talk (12 times, last", "since then\n                     it rang 2 times", "opus G722 PCMA PCMU", "UPDATE             -",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Errorf("the screen obeys a phone: %q", b.String())
	}
}

// TestDevicesTestInterrupted presses Ctrl-C while the phone rings: it rings no more.
func TestDevicesTestInterrupted(t *testing.T) {
	p := newParty(t)
	p.desk.Behave(phone.Behaviour{})
	cmd := baton(t, "devices", "test", "alice", "desk", "--data", p.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	leg, err := p.desk.Ringing(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := leg.AwaitEnd(5 * time.Second); err != nil {
		t.Error(err)
	}
	if why, _ := leg.Why(); why != "cancelled" {
		t.Errorf("it ended by %q", why)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the status says that all is well")
	}
}
