package media

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// sdpOf writes lines as they come over the wire.
func sdpOf(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n") }

// offers are what phones send, each in its own way.
var offers = map[string][]byte{
	"linphone": sdpOf("v=0", "o=alice 3391 1290 IN IP4 10.77.0.2", "s=Talk", "c=IN IP4 10.77.0.2", "t=0 0",
		"a=ice-pwd:4d6ed1b02c3a1d2b", "a=ice-ufrag:08f0", "a=rtcp-xr:rcvr-rtt=all:10000 stat-summary=loss,dup,jitt,TTL voip-metrics",
		"a=group:BUNDLE as", "a=record:off", "m=audio 7078 RTP/AVPF 96 97 98 0 8 18 101 99 100", "a=rtpmap:96 opus/48000/2",
		"a=fmtp:96 useinbandfec=1", "a=rtpmap:97 speex/16000", "a=fmtp:97 vbr=on", "a=rtpmap:98 speex/8000", "a=fmtp:98 vbr=on",
		"a=fmtp:18 annexb=yes", "a=rtpmap:101 telephone-event/48000", "a=rtpmap:99 telephone-event/16000",
		"a=rtpmap:100 telephone-event/8000", "a=rtcp:45109 IN IP4 10.77.0.2", "a=rtcp-mux", "a=mid:as",
		"a=rtcp-fb:* trr-int 1000", "a=rtcp-fb:* ccm tmmbr", "m=video 0 RTP/AVPF 96", "a=inactive"),
	"baresip": sdpOf("v=0", "o=- 3821447411 1904428190 IN IP4 10.77.0.3", "s=-", "c=IN IP4 10.77.0.3", "t=0 0",
		"a=tool:baresip 1.0.0", "m=audio 12408 RTP/AVP 96 9 0 8 97", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 stereo=1;sprop-stereo=1",
		"a=rtpmap:9 G722/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:97 telephone-event/8000",
		"a=fmtp:97 0-15", "a=rtcp:12409", "a=sendrecv", "a=label:1", "a=rtcp-rsize",
		"a=ssrc:1234 cname:sip:a@b", "a=ptime:20", "a=minptime:10"),
	"yealink": sdpOf("v=0", "o=- 20012 20012 IN IP4 192.168.1.20", "s=SDP data", "c=IN IP4 192.168.1.20", "t=0 0",
		"m=audio 11800 RTP/AVP 9 0 8 18 101", "a=rtpmap:9 G722/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
		"a=rtpmap:18 G729/8000", "a=fmtp:18 annexb=no", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=ptime:20",
		"a=sendrecv", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj"),
	"zoiper": sdpOf("v=0", "o=Z 0 1 IN IP4 192.168.1.30", "s=Z", "c=IN IP4 192.168.1.30", "t=0 0",
		"m=audio 8000 RTP/AVP 3 110 8 0 97 101", "a=rtpmap:110 speex/8000", "a=rtpmap:97 iLBC/8000", "a=fmtp:97 mode=30",
		"a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-15", "a=sendrecv"),
	"chromium": sdpOf("v=0", "o=- 8072934112312345678 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0",
		"a=extmap-allow-mixed", "a=msid-semantic: WMS 0f3a", "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126", "c=IN IP4 0.0.0.0",
		"a=candidate:1467250027 1 udp 2122260223 10.0.0.44 46243 typ host generation 0 network-id 1",
		"a=candidate:559267639 1 udp 2122202367 6b0a8c1f-2e7d-4f2f-9c0e-3d1f5c7a9b21.local 37843 typ host generation 0 network-id 2",
		"a=candidate:1876313031 1 tcp 1518280447 10.0.0.44 9 typ host tcptype active generation 0 network-id 1",
		"a=candidate:1467250027 2 udp 2122260222 10.0.0.44 46244 typ host generation 0 network-id 1", "a=end-of-candidates",
		"a=rtcp:9 IN IP4 0.0.0.0", "a=ice-ufrag:Wq3v", "a=ice-pwd:o5FfN1Zl4yM2mQ0k8T7rJd+/", "a=ice-options:trickle",
		"a=fingerprint:sha-256 "+print256, "a=setup:actpass", "a=mid:0",
		"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "a=sendrecv", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2",
		"a=rtcp-fb:111 transport-cc", "a=fmtp:111 minptime=10;useinbandfec=1", "a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111",
		"a=rtpmap:9 G722/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:13 CN/8000",
		"a=rtpmap:110 telephone-event/48000", "a=rtpmap:126 telephone-event/8000", "a=ssrc:3570614608 cname:4TOk42mSjXCkVIa6",
		"a=ssrc:3570614608 msid:0f3a 35429d94-5637-4686-9ecd-7d0622261ce8"),
	"ata with fax": sdpOf("v=0", "o=ata 1 1 IN IP6 2001:db8::7", "s=fax", "c=IN IP6 2001:db8::7", "t=0 0",
		"m=image 4000 udptl t38", "a=T38FaxVersion:0", "m=audio 5004 RTP/AVP 0 8", "m=video 5006 RTP/AVP 34", "a=rtpmap:34 H263/90000"),
	"bria two lines": sdpOf("v=0", "o=- 1 1 IN IP4 10.0.0.9", "s=Bria", "c=IN IP4 10.0.0.9", "t=0 0",
		"m=audio 4000 RTP/SAVP 0 8", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x", "m=audio 4002 RTP/AVP 0 8"),
	"bare":     []byte("v=0\no=x 1 1 IN IP4 10.0.0.1\ns= \nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP 0"),
	"bare two": []byte("v=0\no=x 1 1 IN IP4 10.0.0.1\ns= \nc=IN IP4 10.0.0.1\nt=0 0\nm=audio 4000 RTP/AVP 0 9 8"),
	"disorder": sdpOf("v=0", "a=sendonly", "t=0 0", "c=IN IP4 10.0.0.1", "s=x", "o=x 1 1 IN IP4 10.0.0.1", "x-junk", "q=?",
		"m=audio 4000 RTP/AVP 0 8", "a=ptime:30", "c=IN IP4 10.0.0.2", "i=title", "b=AS:64"),
}

func names(codecs []Codec) string {
	var out []string
	for _, c := range codecs {
		out = append(out, c.rtpmap())
	}
	return strings.Join(out, " ")
}

func parse(t testing.TB, b []byte) Description {
	t.Helper()
	d, err := ParseSDP(b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseOffers(t *testing.T) {
	for name, want := range map[string]struct {
		audio        int
		addr, rtcp   string
		codecs       string
		dir          Direction
		ptime, lines int
		mux          bool
	}{
		"linphone": {
			0, "10.77.0.2:7078", "10.77.0.2:45109",
			"opus/48000/2 speex/16000 speex/8000 PCMU/8000 PCMA/8000 G729/8000 telephone-event/48000 telephone-event/16000 telephone-event/8000",
			SendRecv, 0, 2, true,
		},
		"baresip": {0, "10.77.0.3:12408", "10.77.0.3:12409", "opus/48000/2 G722/8000 PCMU/8000 PCMA/8000 telephone-event/8000", SendRecv, 20, 1, false},
		"yealink": {0, "192.168.1.20:11800", "192.168.1.20:11801", "G722/8000 PCMU/8000 PCMA/8000 G729/8000 telephone-event/8000", SendRecv, 20, 1, false},
		"zoiper":  {0, "192.168.1.30:8000", "192.168.1.30:8001", "GSM/8000 speex/8000 PCMA/8000 PCMU/8000 iLBC/8000 telephone-event/8000", SendRecv, 0, 1, false},
		"chromium": {
			0, "0.0.0.0:9", "0.0.0.0:9",
			"opus/48000/2 red/48000/2 G722/8000 PCMU/8000 PCMA/8000 CN/8000 telephone-event/48000 telephone-event/8000", SendRecv, 0, 1, true,
		},
		"ata with fax":   {1, "[2001:db8::7]:5004", "[2001:db8::7]:5005", "PCMU/8000 PCMA/8000", SendRecv, 0, 3, false},
		"bria two lines": {1, "10.0.0.9:4002", "10.0.0.9:4003", "PCMU/8000 PCMA/8000", SendRecv, 0, 2, false},
		"bare":           {0, "10.0.0.1:4000", "10.0.0.1:4001", "PCMU/8000", SendRecv, 0, 1, false},
		"disorder":       {0, "10.0.0.2:4000", "10.0.0.2:4001", "PCMU/8000 PCMA/8000", SendOnly, 30, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, offers[name])
			l, i, ok := d.Audio()
			if i != want.audio || ok != (want.audio >= 0) || len(d.Lines) != want.lines {
				t.Fatalf("audio line %d of %d", i, len(d.Lines))
			}
			if !ok {
				return
			}
			if l.Addr.String() != want.addr || l.RTCP.String() != want.rtcp || names(l.Codecs) != want.codecs {
				t.Errorf("%v %v %s", l.Addr, l.RTCP, names(l.Codecs))
			}
			if l.Direction != want.dir || l.Ptime != want.ptime || l.RTCPMux != want.mux {
				t.Errorf("%v ptime %d mux %v", l.Direction, l.Ptime, l.RTCPMux)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	line := "m=audio 4000 RTP/AVP 0\r\n"
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"garbage":      []byte("\x00\x01\x02"),
		"no version":   []byte("o=x 1 1 IN IP4 10.0.0.1\r\n" + line),
		"no origin":    []byte("v=0\r\n" + line),
		"bad port":     sdpOf("v=0", "o=x 1 1 IN IP4 10.0.0.1", "s=-", "t=0 0", "m=audio 99999 RTP/AVP 0"),
		"half a line":  sdpOf("v=0", "o=x 1 1 IN IP4 10.0.0.1", "s=-", "t=0 0", "m=audio 4000"),
		"too many":     append(slices.Clone(offers["bare"]), []byte("\r\n"+strings.Repeat(line, 8))...),
		"too large":    append(slices.Clone(offers["bare"]), []byte("\r\n"+strings.Repeat("a=x\r\n", 4000))...),
		"no m address": sdpOf("v=0", "o=x 1 1 IN IP4 10.0.0.1", "s=-", "c=IN", "t=0 0"),
	} {
		if d, err := ParseSDP(b); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestBorders: a description that is exactly at a limit is read, one more is refused.
func TestBorders(t *testing.T) {
	bare := string(offers["bare"]) + "\r\n"
	lines := func(n int, line string) []byte { return []byte(bare + strings.Repeat(line+"\r\n", n)) }
	for _, c := range []struct {
		name  string
		limit int
		make  func(n int) []byte
	}{
		{"bytes", maxSDP, func(n int) []byte { return []byte(bare + "a=" + strings.Repeat("x", n-len(bare)-2)) }},
		{"m-lines", maxLines, func(n int) []byte { return lines(n-1, "m=video 0 RTP/AVP 34") }},
		{"candidates", maxCandidates, func(n int) []byte { return lines(n, "a=candidate:1 1 udp 2130706431 10.0.0.1 4000 typ host") }},
	} {
		if _, err := ParseSDP(c.make(c.limit)); err != nil {
			t.Errorf("%d %s: %v", c.limit, c.name, err)
		}
		if _, err := ParseSDP(c.make(c.limit + 1)); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d %s: %v", c.limit+1, c.name, err)
		}
	}
	many := strings.Replace(bare, "RTP/AVP 0", "RTP/AVP 0"+strings.Repeat(" 8", 200), 1)
	if l, _, _ := parse(t, []byte(many)).Audio(); len(l.Formats) != maxFormats {
		t.Errorf("%d formats are kept of 201, want %d", len(l.Formats), maxFormats)
	}
}

// TestHostileDescriptions: no description costs more than its length, whatever it is full of.
func TestHostileDescriptions(t *testing.T) {
	bare, limit := string(offers["bare"]), 10*time.Millisecond
	if raced {
		limit *= 5
	}
	full := func(line string) string {
		var b strings.Builder
		for i := 0; b.Len() < maxSDP-len(bare)-60; i++ {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"rtpmaps":    bare + "\r\n" + full("a=rtpmap:%d x/8000\r\n"),
		"fmtps":      bare + "\r\n" + full("a=fmtp:0 x=%d\r\n"),
		"formats":    bare + full(" %d"),
		"one fmtp":   bare + "\r\na=fmtp:0 " + full("x=%d;"),
		"attributes": bare + "\r\n" + full("a=x%d\r\n"),
		"directions": bare + "\r\n" + full("a=SendOnly%.0d\r\n"),
		"addresses":  bare + "\r\n" + full("c=IN IP4 10.0.0.%d\r\n"),
		"line ends":  bare + "\r\n" + full("\r\n%.0d"),
		"no lines":   full("%d"),
	} {
		best, allocated := time.Hour, uint64(0)
		for range 5 { // the machine has other work too
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begin := time.Now()
			if d, err := ParseSDP([]byte(text)); err == nil {
				_, _ = NewAnswer(Origin{}, d, Known(), Local{Addr: here}, SendRecv)
				d.Marshal()
			}
			best = min(best, time.Since(begin))
			runtime.ReadMemStats(&after)
			allocated = after.TotalAlloc - before.TotalAlloc
		}
		if best > limit || allocated > 4<<20 {
			t.Errorf("%s (%d bytes): %v, %d KiB", name, len(text), best, allocated>>10)
		}
		t.Logf("%-10s %8v %5d KiB", name, best.Round(time.Microsecond), allocated>>10)
	}
}

func TestHold(t *testing.T) {
	base := string(offers["baresip"])
	for name, c := range map[string]struct {
		sdp    string
		held   bool
		answer Direction // to it, by one who would do everything
	}{
		"talking":        {base, false, SendRecv},
		"nothing said":   {strings.Replace(base, "a=sendrecv\r\n", "", 1), false, SendRecv},
		"sendonly":       {strings.Replace(base, "sendrecv", "sendonly", 1), true, RecvOnly},
		"inactive":       {strings.Replace(base, "sendrecv", "inactive", 1), true, Inactive},
		"recvonly":       {strings.Replace(base, "sendrecv", "recvonly", 1), true, SendOnly},
		"session level":  {strings.Replace(strings.Replace(base, "a=sendrecv\r\n", "", 1), "a=tool", "a=sendonly\r\na=tool", 1), true, RecvOnly},
		"line overrules": {strings.Replace(base, "a=tool", "a=sendonly\r\na=tool", 1), false, SendRecv},
		"rfc 2543":       {strings.Replace(base, "c=IN IP4 10.77.0.3", "c=IN IP4 0.0.0.0", 1), true, RecvOnly},
		"port 9":         {strings.Replace(strings.Replace(base, "c=IN IP4 10.77.0.3", "c=IN IP4 0.0.0.0", 1), "audio 12408", "audio 9", 1), true, RecvOnly},
		"both":           {strings.Replace(strings.Replace(base, "c=IN IP4 10.77.0.3", "c=IN IP4 0.0.0.0", 1), "sendrecv", "inactive", 1), true, Inactive},
		"ipv6":           {strings.Replace(base, "c=IN IP4 10.77.0.3", "c=IN IP6 ::", 1), true, RecvOnly},
	} {
		d := parse(t, []byte(c.sdp))
		if d.Held() != c.held {
			t.Errorf("%s: held %v", name, d.Held())
		}
		a, err := NewAnswer(Origin{ID: 1, Version: 1}, d, Known(), Local{Addr: netip.MustParseAddrPort("192.0.2.1:20000")}, SendRecv)
		if err != nil {
			t.Fatal(err)
		}
		if a.Lines[0].Direction != c.answer {
			t.Errorf("%s: answered %v", name, a.Lines[0].Direction)
		}
	}
}

var here = netip.MustParseAddrPort("192.0.2.1:20000")

func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		offer  string
		codecs []Codec
		err    error
		want   []string // m-lines and what belongs to them
	}{
		"linphone": {"linphone", Known(), nil, []string{
			"m=audio 20000 RTP/AVPF 96 0 8 101 100", "a=rtpmap:96 opus/48000/2", "a=fmtp:96 useinbandfec=1", "a=rtpmap:0 PCMU/8000",
			"a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/48000", "a=fmtp:101 0-16", "a=rtpmap:100 telephone-event/8000",
			"a=fmtp:100 0-16", "a=rtcp-mux", "a=sendrecv", "m=video 0 RTP/AVPF 96",
		}},
		"only what the callee took": {"linphone", []Codec{{Name: "speex", Rate: 16000, PT: 105, Fmtp: "vbr=off"}, dtmf}, nil, []string{
			"m=audio 20000 RTP/AVPF 97", "a=rtpmap:97 speex/16000", "a=fmtp:97 vbr=off", "a=rtcp-mux", "a=sendrecv", "m=video 0 RTP/AVPF 96",
		}},
		"crypto over avp in the clear": {"yealink", []Codec{pcma, {Name: "G729", Rate: 8000, PT: 18, Fmtp: "annexb=no"}}, nil, []string{
			"m=audio 20000 RTP/AVP 8 18", "a=rtpmap:8 PCMA/8000", "a=rtpmap:18 G729/8000", "a=fmtp:18 annexb=no", "a=ptime:20", "a=sendrecv",
		}},
		"fax refused, order kept": {"ata with fax", Known(), nil, []string{
			"m=image 0 udptl t38", "m=audio 20000 RTP/AVP 0 8", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=sendrecv", "m=video 0 RTP/AVP 34",
		}},
		"no conversion first": {"bare two", WithG711([]Codec{g722, pcma}), nil, []string{
			"m=audio 20000 RTP/AVP 8 9 0", "a=rtpmap:8 PCMA/8000", "a=rtpmap:9 G722/8000", "a=rtpmap:0 PCMU/8000", "a=sendrecv",
		}},
		"the line without srtp": {"bria two lines", []Codec{pcmu}, nil, []string{
			"m=audio 0 RTP/SAVP 0 8", "m=audio 20000 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", "a=sendrecv",
		}},
		"srtp only":      {"chromium", Known(), ErrSecure, nil},
		"nothing common": {"zoiper", []Codec{opus, dtmf}, ErrNoCodec, nil},
		"events alone":   {"zoiper", []Codec{dtmf}, ErrNoCodec, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := NewAnswer(Origin{User: "baton", ID: 5, Version: 2}, parse(t, offers[c.offer]), c.codecs, Local{Addr: here}, SendRecv)
			if !errors.Is(err, c.err) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			want := sdpOf(append([]string{"v=0", "o=baton 5 2 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"}, c.want...)...)
			if got := a.Marshal(); string(got) != string(want) {
				t.Errorf("answered\n%swant\n%s", got, want)
			}
		})
	}
	video := sdpOf("v=0", "o=x 1 1 IN IP4 10.0.0.1", "s=-", "c=IN IP4 10.0.0.1", "t=0 0", "m=video 4000 RTP/AVP 34", "m=audio 0 RTP/AVP 0")
	for _, b := range [][]byte{video, sdpOf("v=0", "o=x 1 1 IN IP4 10.0.0.1", "s=-", "t=0 0")} {
		if _, err := NewAnswer(Origin{}, parse(t, b), Known(), Local{Addr: here}, SendRecv); !errors.Is(err, ErrNoAudio) {
			t.Error(err)
		}
	}
}

func TestOffer(t *testing.T) {
	own := []Codec{
		{Name: "opus", Rate: 48000, Channels: 2, PT: 111},
		{Name: "AMR", Rate: 8000, PT: 111, Fmtp: "octet-align=1"},
		pcmu,
		{Name: "speex", Rate: 8000, PT: 8},
		pcma,
		{Name: "red", Rate: 48000, PT: 63},
		{Name: "telephone-event", Rate: 16000, PT: 99},
		dtmf,
	}
	at := netip.MustParseAddrPort("[2001:db8::1]:20002")
	got := string(NewOffer(Origin{ID: 9, Version: 1}, own, Local{Addr: at}, SendOnly).Marshal())
	want := string(sdpOf("v=0", "o=- 9 1 IN IP6 2001:db8::1", "s=-", "c=IN IP6 2001:db8::1", "t=0 0",
		"m=audio 20002 RTP/AVP 111 96 0 97 8 101", "a=rtpmap:111 opus/48000/2", "a=rtpmap:96 AMR/8000", "a=fmtp:96 octet-align=1",
		"a=rtpmap:0 PCMU/8000", "a=rtpmap:97 speex/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16",
		"a=sendonly"))
	if got != want {
		t.Errorf("offered\n%swant\n%s", got, want)
	}
	if d := parse(t, []byte(got)).WithDirection(Inactive); d.Lines[0].Direction != Inactive || d.Held() != true {
		t.Errorf("%+v", d)
	}
}

func TestAgree(t *testing.T) {
	offer := NewOffer(Origin{ID: 1, Version: 1}, Known(), Local{Addr: here}, SendRecv)
	answer := parse(t, sdpOf("v=0", "o=x 1 1 IN IP4 198.51.100.7", "s=-", "c=IN IP4 198.51.100.7", "t=0 0",
		"m=audio 5000 RTP/AVP 8 98 100", "a=rtpmap:98 OPUS/48000/2", "a=rtpmap:100 telephone-event/8000", "a=ptime:30", "a=recvonly"))
	a, err := Agree(offer, answer)
	if err != nil {
		t.Fatal(err)
	}
	if a.Remote.String() != "198.51.100.7:5000" || a.RemoteRTCP.String() != "198.51.100.7:5001" || a.Direction != SendOnly || a.Ptime != 30 {
		t.Errorf("%+v", a)
	}
	pts := func(codecs []Codec) (out []uint8) {
		for _, c := range codecs {
			out = append(out, c.PT)
		}
		return out
	}
	if !slices.Equal(pts(a.Send), []uint8{8, 98, 100}) || !slices.Equal(pts(a.Recv), []uint8{8, 96, 101}) {
		t.Errorf("send %v receive %v", pts(a.Send), pts(a.Recv))
	}
	// The other way round, with rtcp-mux and two audio lines.
	for name, want := range map[string]string{"linphone": "10.77.0.2:7078", "bria two lines": "10.0.0.9:4003"} {
		remote := parse(t, offers[name])
		local, err := NewAnswer(Origin{}, remote, []Codec{pcmu}, Local{Addr: here}, RecvOnly)
		if err != nil {
			t.Fatal(err)
		}
		a, err := Agree(local, remote)
		if err != nil || a.RemoteRTCP.String() != want || a.Direction != RecvOnly || names(a.Send) != "PCMU/8000" {
			t.Errorf("%s: %+v %v", name, a, err)
		}
	}
	for name, c := range map[string]struct {
		m   string
		err error
	}{"refused": {"m=audio 0 RTP/AVP 0", ErrNoAudio}, "srtp": {"m=audio 9 RTP/SAVP 0", ErrSecure}, "other codec": {"m=audio 9 RTP/AVP 18", ErrNoCodec}} {
		remote := parse(t, sdpOf("v=0", "o=x 1 1 IN IP4 198.51.100.7", "s=-", "c=IN IP4 198.51.100.7", "t=0 0", c.m))
		if _, err := Agree(offer, remote); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Agree(offer, Description{}); !errors.Is(err, ErrNoAudio) {
		t.Error(err)
	}
}

func TestSelect(t *testing.T) {
	l, _, _ := parse(t, offers["linphone"]).Audio()
	for name, c := range map[string]struct {
		allowed []Codec
		want    string
	}{
		"allowed's order":    {[]Codec{pcma, opus, dtmf}, "PCMA/8000 PCMU/8000 opus/48000/2 telephone-event/8000"},
		"by table":           {[]Codec{pcmu}, "PCMU/8000 PCMA/8000"},
		"event without rate": {[]Codec{opus, dtmf}, "opus/48000/2"},
		"event alone":        {[]Codec{dtmf}, ""},
		"nothing":            {[]Codec{g722}, ""},
	} {
		if got := names(Select(l.Codecs, c.allowed)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	only := []Codec{pcma, dtmf}
	if names(Select(only, []Codec{pcmu, dtmf})) != "PCMA/8000 telephone-event/8000" || !Carries(only, pcmu) || Carries(only, opus) || !Carries(only, dtmf) {
		t.Error("the G.711 table is not counted in")
	}
	if got := names(WithG711([]Codec{g722, pcma, dtmf})); got != "G722/8000 PCMA/8000 PCMU/8000 telephone-event/8000" {
		t.Error(got)
	}
	if got := names(WithG711(Known())); got != names(Known()) {
		t.Error(got)
	}
}

func TestDirections(t *testing.T) {
	for d, want := range map[Direction]Direction{SendRecv: SendRecv, SendOnly: RecvOnly, RecvOnly: SendOnly, Inactive: Inactive} {
		if d.Reverse() != want {
			t.Errorf("%v reversed is %v", d, d.Reverse())
		}
		b, err := json.Marshal(Agreement{Direction: d, Remote: here})
		if err != nil {
			t.Fatal(err)
		}
		var back Agreement
		if err := json.Unmarshal(b, &back); err != nil || back.Direction != d || back.Remote != here || !strings.Contains(string(b), `"`+d.String()+`"`) {
			t.Errorf("%s: %+v %v", b, back, err)
		}
	}
}

// FuzzParseSDP: what parses can be written, read again and is the same; an answer to it has its lines.
func FuzzParseSDP(f *testing.F) {
	for _, b := range offers {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseSDP(b)
		if err != nil {
			return
		}
		if len(d.Lines) > maxLines {
			t.Fatalf("%d lines", len(d.Lines))
		}
		out := d.Marshal()
		if again, err := ParseSDP(out); err != nil || len(again.Lines) != len(d.Lines) {
			t.Fatalf("%v: %q became %q", err, b, out)
		}
		d.Held()
		d.Encryption()
		for _, local := range []Local{{Addr: here}, tlsLeg, browserLeg} {
			answer, err := NewAnswer(Origin{ID: 1, Version: 1}, d, d.WithDirection(SendRecv).all(), local, SendRecv)
			if err != nil {
				continue
			}
			back, err := ParseSDP(answer.Marshal())
			if err != nil || len(back.Lines) != len(d.Lines) {
				t.Fatalf("%v: %q answered %q", err, b, answer.Marshal())
			}
			if !reflect.DeepEqual(codecsOf(back), codecsOf(answer)) {
				t.Fatalf("%+v became %+v", codecsOf(answer), codecsOf(back))
			}
			a, err := Agree(back, d)
			if err != nil {
				t.Fatalf("no agreement with one's own answer to %q: %v", b, err)
			}
			if keyed := len(a.Out.Key) > 0; a.Security == SDES != keyed || keyed && len(local.Crypto) == 0 || a.Security == DTLS != (local.ICE != nil) {
				t.Fatalf("%q answered %q is %+v", b, answer.Marshal(), a)
			}
		}
	})
}

// all returns every codec of the description.
func (d Description) all() (out []Codec) {
	for _, l := range d.Lines {
		out = append(out, l.Codecs...)
	}
	return out
}

func codecsOf(d Description) []Codec {
	l, _, _ := d.Audio()
	return l.Codecs
}
