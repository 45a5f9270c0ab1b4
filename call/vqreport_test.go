package call

import (
	"math"
	"strings"
	"testing"
	"time"

	"baton/media"
)

// sessionReport is of the form of RFC 6035 §4.6.1, with what phones add.
const sessionReport = "VQSessionReport: CallTerm\r\n" +
	"CallID: 6dg37f1890463\r\n" +
	"LocalID: Alice <sip:alice@example.org>\r\n" +
	"RemoteID: Bill <sip:bill@elpmaxe.org>\r\n" +
	"OrigID: Alice <sip:alice@example.org>\r\n" +
	"LocalGroup: example-phone-55671\r\n" +
	"LocalAddr: IP=10.10.1.100 PORT=5000 SSRC=1a3b5c7d\r\n" +
	"RemoteAddr: IP=11.1.1.150 PORT=5002 SSRC=0x2468abcd\r\n" +
	"LocalMetrics:\r\n" +
	"Timestamps: START=2004-10-10T18:23:43Z STOP=2004-10-01T18:26:02Z\r\n" +
	"SessionDesc: PT=18 PD=G729 SR=8000 FD=20 FO=20 FPP=2 PPS=50 FMTP=\"annexb=no\" PLC=3 SSUP=on\r\n" +
	"JitterBuffer: JBA=3 JBR=2 JBN=40 JBM=80 JBX=120\r\n" +
	"PacketLoss: NLR=5.0 JDR=2.0\r\n" +
	"BurstGapLoss: BLD=0 BD=0 GLD=2.0 GD=500 GMIN=16\r\n" +
	"Delay: RTD=200 ESD=140 SOWD=200 IAJ=2 MAJ=10\r\n" +
	"Signal: SL=-18 NL=-50 RERL=55\r\n" +
	"QualityEst: RLQ=88 RLQEstAlgo=P.564 RCQ=85 EXTRI=90 MOSLQ=4.2 MOSCQ=3.3 QoEEstAlg=P.564\r\n" +
	"RemoteMetrics:\r\n" +
	"JitterBuffer: JBA=3 JBR=2 JBN=60 JBM=80 JBX=120\r\n" +
	"PacketLoss: NLR=1 JDR=65535\r\n" +
	"Delay: RTD=999 ESD=65535 SOWD=200 IAJ=4\r\n" +
	"QualityEst: MOSLQ=127 MOSCQ=12.7\r\n" +
	"DialogID: 6dg37f1890463;to-tag=8472761;from-tag=9123dh311\r\n"

func TestParseVoiceReport(t *testing.T) {
	r, err := parseVoiceReport(sessionReport)
	if err != nil {
		t.Fatal(err)
	}
	if d := r.dialog; d.CallID != "6dg37f1890463" || d.ToTag != "8472761" || d.FromTag != "9123dh311" {
		t.Errorf("dialog %+v", d)
	}
	h, s := r.report.Hears, r.report.Says
	if !r.report.Final || r.report.By != "vq-rtcpxr" || r.report.RTT != 200 {
		t.Errorf("%+v", r.report)
	}
	if h.Codec != "G729" || h.Buffer != 40 || *h.Loss != 5 || h.Discarded != 2 || *h.Jitter != 2 || h.MOS != 3.3 {
		t.Errorf("hears %+v", h)
	}
	if s == nil || s.Buffer != 60 || *s.Loss != 1 || s.Discarded != 0 || *s.Jitter != 4 || s.MOS != 0 {
		t.Errorf("says %+v", s)
	}
	// As a Yealink writes it: no space behind the colon, CallID among the figures, 0 for what it does not know.
	yealink := "VQIntervalReport\nLocalMetrics:\nTimestamps:START=2015-02-23T02:35:01Z\nSessionDesc:PT=9 PD=\"G722\" PPS=50 SSUP=off\n" +
		"CallID:329662837@192.168.1.21\nJitterBuffer:JBA=2 JBR=15 JBN=0 JBM=40\nPacketLoss:NLR=0.0 JDR=0.0\nDelay:RTD=0 ESD=177 SOWD=88 IAJ=0\n" +
		"QualityEst:RCQ=92 MOSLQ=3.8\nDialogID:329662837@192.168.1.21;to-tag=55cUU;from-tag=2606093232"
	if r, err = parseVoiceReport(yealink); err != nil {
		t.Fatal(err)
	}
	h = r.report.Hears
	if r.report.Final || r.dialog.ToTag != "55cUU" || r.report.RTT != 0 || h.Codec != "G722" || h.Buffer != 0 || *h.Loss != 0 || *h.Jitter != 0 || h.MOS != 3.8 {
		t.Errorf("%+v %+v", r, h)
	}
}

// TestParseVoiceReportRefused: what cannot be read is refused with what is wrong.
func TestParseVoiceReportRefused(t *testing.T) {
	for why, text := range map[string]string{
		"it begins with":      "LocalMetrics:\r\nCallID: a\r\n",
		"neither CallID":      "VQSessionReport\r\nLocalMetrics:\r\nPacketLoss: NLR=1\r\n",
		"no LocalMetrics":     "VQSessionReport\r\nCallID: a\r\nPacketLoss: NLR=1\r\n",
		`NLR="many"`:          "VQSessionReport\r\nCallID: a\r\nLocalMetrics:\r\nPacketLoss: NLR=many\r\n",
		`RTD="NaN"`:           "VQSessionReport\r\nCallID: a\r\nLocalMetrics:\r\nDelay: RTD=NaN\r\n",
		"is no CallID":        "VQSessionReport\r\nCallID: a b\r\nLocalMetrics:\r\n",
		"more than 8192 octe": "VQSessionReport\r\nCallID: a\r\nLocalMetrics:\r\n" + strings.Repeat("X", maxReport),
		"more than 128 lines": "VQSessionReport\r\nCallID: a\r\nLocalMetrics:\r\n" + strings.Repeat("\r\n", maxLines),
	} {
		if _, err := parseVoiceReport(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60q: %v, want %q", text, err, why)
		}
	}
}

// FuzzVQReport has a phone report anything: it is refused with words that stay on their line, or every figure is within its range.
func FuzzVQReport(f *testing.F) {
	f.Add(sessionReport)
	f.Add("VQIntervalReport\nLocalMetrics:\nCallID:1\nDelay:RTD=1e400 IAJ=-1\nDialogID:;x")
	f.Add("VQAlertReport: Type=NLR Severity=Critical Dir=local\r\nCallID: a\r\nRemoteMetrics:\r\nPacketLoss: NLR=0x1p-2 JDR=\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parseVoiceReport(text)
		if err != nil {
			if why := warning(err.Error()).Value; strings.ContainsAny(why, "\r\n") || len(why) > 300 {
				t.Errorf("%q is refused by %q", text, why)
			}
			return
		}
		if r.dialog.CallID == "" || r.report.RTT < 0 || r.report.RTT > longest {
			t.Errorf("%q: %+v", text, r)
		}
		checkHeard(t, r.report.Hears)
		if s := r.report.Says; s != nil {
			checkHeard(t, *s)
		}
		end := media.End{Stats: media.Stats{RTT: 1}, Report: &r.report}
		for _, direct := range []bool{false, true} {
			if q := media.Told(end, end, direct); q != nil && (q.MOS < 1 || q.MOS > 4.5 || q.Loss < 0 || q.Loss > 100 || math.IsNaN(q.Delay)) {
				t.Errorf("%q is %+v", text, *q)
			}
		}
	})
}

func checkHeard(t *testing.T, h media.Heard) {
	t.Helper()
	in := func(v, most float64) bool { return v >= 0 && v <= most }
	if h.Loss != nil && !in(*h.Loss, 100) || h.Jitter != nil && !in(*h.Jitter, longest) || !in(h.Discarded, 100) || !in(h.Buffer, longest) ||
		h.MOS != 0 && (h.MOS < 1 || h.MOS > 5) || len(h.Codec) > maxCodec {
		t.Errorf("%+v", h)
	}
}

// TestSummedUp: the headers of BYE as phones write them.
func TestSummedUp(t *testing.T) {
	at := time.Unix(1, 0)
	for _, c := range []struct {
		name, text    string
		packets, lost uint64
		loss, jitter  float64 // loss -1 = nothing is told
		codec         string
	}{
		{"P-RTP-Stat", "PS=1231,OS=196960,PR=990,OR=158400,PL=10,JI=7,LA=25,DU=25,EN=G711a,DE=G711a", 990, 10, 1, 7, "PCMA"},
		{"X-RTP-Stat", "CS=0;PS=300;ES=310;OS=48000;SP=0/0;PR=300;ER=312;OR=48000;PL=0,0;BL=0;EN=PCMA;DE=PCMA;JI=12,3;DL=1", 300, 0, 0, 12, "PCMA"},
		{"RTP-RxStat", "Dur=12,Pkt=600,Oct=96000,LatePkt=0,LostPkt=200,AvgJit=1", 600, 200, 25, 1, ""},
		{"P-RTP-Stat", "PS=1,PR=0,PL=0", 0, 0, -1, 0, ""},
		{"P-RTP-Stat", "PR=99999999999999,PL=-1;;==,JI=x", 0, 0, -1, 0, ""},
		{"P-RTP-Stat", strings.Repeat("x", maxSum) + ",PR=5", 0, 0, -1, 0, ""},
	} {
		r := summedUp(func(name string) string {
			if name == c.name {
				return c.text
			}
			return ""
		}, at)
		if c.loss < 0 {
			if r != nil {
				t.Errorf("%.60q tells %+v", c.text, r)
			}
			continue
		}
		if r == nil {
			t.Errorf("%q tells nothing", c.text)
			continue
		}
		h := r.Hears
		if !r.Final || r.By != "bye" || r.At != at || h.Packets != c.packets || h.Lost != c.lost || *h.Loss != c.loss || *h.Jitter != c.jitter || h.Codec != c.codec {
			t.Errorf("%q: %+v, loss %v, jitter %v", c.text, h, *h.Loss, *h.Jitter)
		}
	}
}
