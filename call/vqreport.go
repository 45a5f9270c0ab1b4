package call

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"baton/media"
	"baton/sip"
)

// The documents in which phones report on the audio of a call (RFC 6035 §4.6), and the headers of BYE in which they sum it up.

const (
	reportType  = "application/vq-rtcpxr"
	reportEvent = "vq-rtcpxr"
	maxReport   = 8 << 10 // octets of a document
	maxLines    = 128
)

// voiceReport is one document, as far as it is read.
type voiceReport struct {
	dialog sip.Replaces // which it is about; the tags may be missing
	report media.Report
}

// section is which end's figures a line is of.
type section uint8

const (
	noSection section = iota
	localSection
	remoteSection
)

// parseVoiceReport reads a VQSessionReport, VQIntervalReport or VQAlertReport. Lines may stand in any order but for the sections of the
// two ends, and what is not known is passed over: the phones' documents differ. What is read must be what it should be.
func parseVoiceReport(text string) (r voiceReport, err error) {
	if len(text) > maxReport {
		return r, fmt.Errorf("it has more than %d octets", maxReport)
	}
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if len(lines) > maxLines {
		return r, fmt.Errorf("it has more than %d lines", maxLines)
	}
	name, value := cutLine(lines[0])
	switch name {
	case "vqsessionreport", "vqintervalreport", "vqalertreport":
	default:
		return r, fmt.Errorf("it begins with %.40q, and not with VQSessionReport, VQIntervalReport or VQAlertReport", lines[0])
	}
	r.report = media.Report{By: reportEvent, Final: strings.EqualFold(value, "CallTerm")}
	in, callID := noSection, ""
	for _, line := range lines[1:] {
		name, value = cutLine(line)
		switch name {
		case "":
		case "localmetrics":
			in = localSection
		case "remotemetrics":
			in = remoteSection
			r.report.Says = &media.Heard{}
		case "callid":
			callID = value
		case "dialogid":
			if d, err := sip.ParseReplaces(value); err == nil {
				r.dialog = d
			}
		default:
			err = r.figures(in, name, value)
		}
		if err != nil {
			return r, err
		}
	}
	return r, r.check(callID, in)
}

// check completes which dialog is meant, and says what is missing.
func (r *voiceReport) check(callID string, in section) error {
	switch {
	case callID == "" && r.dialog.CallID == "":
		return errors.New("it has neither CallID nor DialogID")
	case strings.ContainsAny(callID, " \t"):
		return fmt.Errorf("%.80q is no CallID", callID)
	case callID != "" && r.dialog.CallID != callID: // there is none, or it is of another form
		r.dialog = sip.Replaces{CallID: callID}
	}
	if in == noSection {
		return errors.New("it has no LocalMetrics")
	}
	return nil
}

// cutLine takes the name of a line, in lower case, from its value.
func cutLine(line string) (name, value string) {
	name, value, _ = strings.Cut(line, ":")
	return strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
}

// figures reads a line of one end's figures.
func (r *voiceReport) figures(in section, name, value string) error {
	h := &r.report.Hears
	switch in {
	case noSection:
		return nil
	case remoteSection:
		h = r.report.Says
	}
	set := func(key, text string) error { return nil }
	switch name {
	case "sessiondesc":
		set = func(key, text string) error { return setCodec(h, key, text) }
	case "jitterbuffer":
		set = func(key, text string) error { return setDelay(key, text, "JBN", &h.Buffer) }
	case "packetloss":
		set = func(key, text string) error { return setLoss(h, key, text) }
	case "delay":
		set = func(key, text string) error { return r.setTimes(h, in, key, text) }
	case "qualityest":
		set = func(key, text string) error { return setMOS(h, key, text) }
	}
	for _, word := range strings.Fields(value) {
		key, text, ok := strings.Cut(word, "=")
		if !ok {
			continue
		}
		if err := set(strings.ToUpper(key), strings.Trim(text, `"`)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// maxCodec is how long the name of a codec may be.
const maxCodec = 32

func setCodec(h *media.Heard, key, text string) error {
	if key == "PD" && len(text) <= maxCodec && plain(text) {
		name := strings.ToUpper(text)
		h.Codec = cmp.Or(otherNames[name], name)
	}
	return nil
}

// otherNames are what phones call codecs that have another name in an rtpmap.
var otherNames = map[string]string{
	"G711A": "PCMA", "G711U": "PCMU", "G.711A": "PCMA", "G.711U": "PCMU", "G711-A": "PCMA", "G711-U": "PCMU", "G729A": "G729", "G.729": "G729", "G.722": "G722",
}

// plain says whether a text is ASCII that can be shown.
func plain(text string) bool {
	return strings.IndexFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}

func setLoss(h *media.Heard, key, text string) error {
	switch key {
	case "NLR":
		loss, told, err := figure(key, text, 100)
		if told {
			h.Loss = &loss
		}
		return err
	case "JDR":
		late, told, err := figure(key, text, 100)
		if told {
			h.Discarded = late
		}
		return err
	}
	return nil
}

// setTimes reads the delays. The round trip is that of this end alone.
func (r *voiceReport) setTimes(h *media.Heard, in section, key, text string) error {
	switch key {
	case "RTD":
		if in == localSection || r.report.RTT == 0 {
			return setDelay(key, text, "RTD", &r.report.RTT)
		}
	case "IAJ":
		jitter, told, err := figure(key, text, longest)
		if told {
			h.Jitter = &jitter
		}
		return err
	}
	return nil
}

// longest is the longest time that is believed, in milliseconds: RFC 3611 and the phones have 65535 for one that is not known.
const longest = 10_000

func setDelay(key, text, want string, to *float64) error {
	if key != want {
		return nil
	}
	v, told, err := figure(key, text, longest)
	if told {
		*to = v
	}
	return err
}

// setMOS prefers the conversational estimate, which counts delay.
func setMOS(h *media.Heard, key, text string) error {
	if key != "MOSCQ" && (key != "MOSLQ" || h.MOS > 0) {
		return nil
	}
	v, told, err := figure(key, text, 5)
	if told && v >= 1 {
		h.MOS = v
	}
	return err
}

// figure reads a number; it is not told where it is out of its range, as that for "not known" is.
func figure(key, text string, most float64) (v float64, told bool, err error) {
	v, err = strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || math.IsNaN(v) {
		return 0, false, fmt.Errorf("%s=%.20q is no number", key, text)
	}
	if v < 0 || v > most {
		return 0, false, nil
	}
	return v, true, nil
}

// sums are the headers in which phones sum a call up in a BYE or its 200: Polycom, Linksys, Grandstream and Yealink have the first, AVM
// and Snom the second, Cisco the third.
var sums = []string{"P-RTP-Stat", "X-RTP-Stat", "RTP-RxStat"}

// maxSum is how long one may be.
const maxSum = 512

// summedUp reads what a BYE or its 200 sums up; nil = nothing that can be read. A phone's slip in them is no reason to refuse its BYE.
func summedUp(header func(name string) string, now time.Time) *media.Report {
	for _, name := range sums {
		text := header(name)
		if text == "" || len(text) > maxSum {
			continue
		}
		r := media.Report{By: "bye", Final: true, At: now}
		for _, item := range strings.FieldsFunc(text, func(c rune) bool { return c == ',' || c == ';' }) {
			key, value, _ := strings.Cut(strings.TrimSpace(item), "=")
			sumItem(&r.Hears, strings.ToUpper(key), value)
		}
		if r.Hears.Packets == 0 {
			continue
		}
		loss := float64(r.Hears.Lost) * 100 / (float64(r.Hears.Packets) + float64(r.Hears.Lost))
		r.Hears.Loss = &loss
		return &r
	}
	return nil
}

// sumItem takes one figure of a sum.
func sumItem(h *media.Heard, key, value string) {
	switch key {
	case "PR", "PKT":
		h.Packets = whole(value)
	case "PL", "LOSTPKT":
		h.Lost = whole(value)
	case "JI", "AVGJIT":
		if v, told, err := figure(key, value, longest); told && err == nil {
			h.Jitter = &v
		}
	case "DE":
		_ = setCodec(h, "PD", value)
	}
}

// whole reads a count, 0 where it is none.
func whole(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return n
}
