package media

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const (
	print256 = "4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF:3E:5D:49:6B:19:E5:7C:AB:4A:AD:B9:B1:3F:82:18:3B:54:02:12:DF"
	key30    = "NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj"                    // of RFC 4568
	key28    = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw"                      // no padding
	key44    = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKis" // 44 bytes
)

// secured are offers of SRTP as they were written by real phones and browsers, addresses and keys changed.
var secured = map[string][]byte{
	"firefox": sdpOf("v=0", "o=mozilla...THIS_IS_SDPARTA-99.0 4311187281632487652 0 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=sendrecv",
		"a=fingerprint:sha-256 "+print256, "a=group:BUNDLE 0 1", "a=ice-options:trickle", "a=msid-semantic:WMS *",
		"m=audio 41234 UDP/TLS/RTP/SAVPF 109 9 0 8 101", "c=IN IP4 10.0.0.44", "a=candidate:0 1 UDP 2122252543 10.0.0.44 41234 typ host",
		"a=candidate:4 1 TCP 2105524479 10.0.0.44 9 typ host tcptype active", "a=sendrecv", "a=end-of-candidates",
		"a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level", "a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:mid",
		"a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1", "a=fmtp:101 0-15", "a=ice-pwd:c97e0e3b3d1f2a5b6c7d8e9fa0b1c2d3",
		"a=ice-ufrag:9e5dd34a", "a=mid:0", "a=msid:{d57d3917-64e9-4f49-adfb-b049d165c312} {920e9ffc-728e-0d40-a1b9-ebd0025c860a}",
		"a=rtcp-mux", "a=rtpmap:109 opus/48000/2", "a=rtpmap:9 G722/8000/1", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
		"a=rtpmap:101 telephone-event/8000", "a=setup:actpass", "a=ssrc:3724599041 cname:{c1c5e3d4-1b2a-4f0e-8a1d-77f1f3c2b1a0}",
		"m=video 0 UDP/TLS/RTP/SAVPF 120 124", "c=IN IP4 0.0.0.0", "a=bundle-only", "a=mid:1", "a=rtpmap:120 VP8/90000", "a=recvonly",
		"m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:2"),
	"safari": sdpOf("v=0", "o=- 1872937461928374655 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE audio video", "a=msid-semantic: WMS s1",
		"m=audio 9 UDP/TLS/RTP/SAVPF 111 103 9 102 0 8 105 13 110 113 126", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0", "a=ice-ufrag:8LxZ",
		"a=ice-pwd:5Bx9mJfP3cT7qkL2vN8wRz4y", "a=ice-options:trickle", "a=fingerprint:sha-256 "+print256, "a=setup:actpass", "a=mid:audio",
		"a=sendrecv", "a=msid:s1 t1", "a=rtcp-mux", "a=rtcp-rsize", "a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1",
		"a=rtpmap:103 ISAC/16000", "a=rtpmap:9 G722/8000", "a=rtpmap:102 ILBC/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
		"a=rtpmap:105 CN/16000", "a=rtpmap:13 CN/8000", "a=rtpmap:110 telephone-event/48000", "a=rtpmap:113 telephone-event/16000",
		"a=rtpmap:126 telephone-event/8000", "m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=ice-ufrag:8LxZ",
		"a=ice-pwd:5Bx9mJfP3cT7qkL2vN8wRz4y", "a=fingerprint:sha-256 "+print256, "a=setup:actpass", "a=mid:video", "a=sendonly", "a=rtcp-mux",
		"a=rtpmap:96 H264/90000"),
	"baresip srtp": sdpOf("v=0", "o=- 3821447411 1904428190 IN IP4 10.77.0.3", "s=-", "c=IN IP4 10.77.0.3", "t=0 0",
		"m=audio 12408 RTP/AVP 8 0 97", "a=rtpmap:8 PCMA/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:97 telephone-event/8000",
		"a=rtcp:12409", "a=sendrecv", "a=crypto:1 AEAD_AES_256_GCM inline:"+key44, "a=crypto:2 AEAD_AES_128_GCM inline:"+key28,
		"a=crypto:3 AES_256_CM_HMAC_SHA1_80 inline:"+strings.Repeat("A", 62), "a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:"+key30,
		"a=crypto:5 AES_CM_128_HMAC_SHA1_32 inline:"+key30),
	"linphone srtp": sdpOf("v=0", "o=alice 3391 1290 IN IP4 10.77.0.2", "s=Talk", "c=IN IP4 10.77.0.2", "t=0 0",
		"m=audio 7078 RTP/SAVPF 96 0 8 101", "a=rtpmap:96 opus/48000/2", "a=rtpmap:101 telephone-event/48000",
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key30, "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:"+key30,
		"a=crypto:3 AES_256_CM_HMAC_SHA1_80 inline:"+strings.Repeat("A", 62), "a=rtcp-fb:* trr-int 5000"),
	"yealink compulsory": sdpOf("v=0", "o=- 20012 20012 IN IP4 192.168.1.20", "s=SDP data", "c=IN IP4 192.168.1.20", "t=0 0",
		"m=audio 11800 RTP/SAVP 9 0 8 101", "a=rtpmap:9 G722/8000", "a=rtpmap:101 telephone-event/8000", "a=sendrecv",
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key30, "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:"+key30,
		"a=crypto:3 F8_128_HMAC_SHA1_80 inline:"+key30),
	"snom": sdpOf("v=0", "o=root 1821 1821 IN IP4 192.168.1.21", "s=call", "c=IN IP4 192.168.1.21", "t=0 0",
		"m=audio 57140 RTP/AVP 9 8 101", "a=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:"+key30, "a=rtpmap:101 telephone-event/8000"),
	"polycom": sdpOf("v=0", "o=- 1700000001 1700000001 IN IP4 192.168.1.22", "s=Polycom IP Phone", "c=IN IP4 192.168.1.22", "t=0 0",
		"a=sendrecv", "m=audio 2226 RTP/SAVP 9 0 8 127", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key30+"|2^31|1:1",
		"a=rtpmap:127 telephone-event/8000", "m=audio 2228 RTP/AVP 9 0 8 127", "a=rtpmap:127 telephone-event/8000"),
	"grandstream": sdpOf("v=0", "o=101 8000 8000 IN IP4 192.168.1.23", "s=SIP Call", "c=IN IP4 192.168.1.23", "t=0 0",
		"m=audio 5004 RTP/SAVP 0 8 101", "a=sendrecv", "a=rtpmap:101 telephone-event/8000",
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"+key30+"|2^32", "a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:"+key30+"|2^32"),
	"zoiper srtp": sdpOf("v=0", "o=Z 0 1 IN IP4 192.168.1.30", "s=Z", "c=IN IP4 192.168.1.30", "t=0 0",
		"m=audio 8000 RTP/SAVP 3 8 0", "a=crypto:1 AES_CM_256_HMAC_SHA1_80 inline:"+strings.Repeat("A", 62),
		"a=crypto:2 AES_192_CM_HMAC_SHA1_80 inline:"+strings.Repeat("A", 50)+"=="),
	"phonerlite without keys": sdpOf("v=0", "o=- 1 1 IN IP4 192.168.1.31", "s=-", "c=IN IP4 192.168.1.31", "t=0 0", "m=audio 5062 RTP/SAVP 8"),
	"dtls without ice": sdpOf("v=0", "o=- 1 1 IN IP4 192.168.1.32", "s=-", "c=IN IP4 192.168.1.32", "t=0 0",
		"m=audio 5062 UDP/TLS/RTP/SAVP 8", "a=fingerprint:sha-256 "+print256, "a=setup:actpass", "a=rtcp-mux"),
}

func keysOf(size int, with byte) []byte { return slices.Repeat([]byte{with}, size) }

// phoneLine and browserLine are the two kinds of local ends that have keys.
var (
	tlsLeg = Local{Addr: here, SSRC: 7, CNAME: "us", Offers: Opportunistic, Crypto: []Crypto{
		{Tag: 1, Suite: "AEAD_AES_128_GCM", Key: keysOf(28, 1)},
		{Tag: 2, Suite: "AEAD_AES_256_GCM", Key: keysOf(44, 2)},
		{Tag: 3, Suite: "AES_CM_128_HMAC_SHA1_80", Key: keysOf(30, 3)},
		{Tag: 4, Suite: "AES_CM_128_HMAC_SHA1_32", Key: keysOf(30, 4)},
	}}
	browserLeg = Local{
		Addr: here, SSRC: 7, CNAME: "us", Offers: DTLS, Required: true, Fingerprints: []Fingerprint{{"sha-256", print256}},
		ICE: &ICE{Ufrag: "ours", Pwd: Secret("ourpwd0123456789012345"), Lite: true, Candidates: []Candidate{
			{"1", "udp", 2130706431, here, "host", ""}, {"2", "tcp", 1518280447, netip.MustParseAddrPort("192.0.2.1:8443"), "host", "passive"},
		}},
	}
)

func init() {
	for name, b := range secured {
		offers[name] = b
	}
}

// TestReadCrypto: what can be honoured is read, all else passed over (RFC 4568 §6, §9).
func TestReadCrypto(t *testing.T) {
	raw, _ := base64.StdEncoding.DecodeString(key30)
	for v, want := range map[string]struct {
		ok  bool
		mki string
	}{
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4 FEC_ORDER=SRTP_FEC":                             {false, ""}, // RFC 4568 §10
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4":                                                {true, "00000001"},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1:4":                                                     {true, "00000001"},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^48":                                                    {true, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|1048576|4660:2":                                          {true, "1234"},
		"1 AES_CM_128_HMAC_SHA1_80 INLINE:" + key30 + " WSH=128":                                                 {true, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " KDR=0 -X=1":                                              {true, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4;inline:" + strings.ToLower(key30) + "|2^20|2:4": {true, "00000001"},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "=":                                                        {true, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " KDR=1":                                                   {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTP":                                        {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNENCRYPTED_SRTCP":                                       {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " UNAUTHENTICATED_SRTP":                                    {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + " WHATEVER":                                                {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^49":                                                    {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|0":                                                       {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:0":                                                {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|256:1":                                              {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:200":                                              {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|2^20|1:4|5":                                              {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:" + key28:                                                              {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 inline:!!!":                                                                   {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80 prompt:" + key30:                                                              {false, ""},
		"x AES_CM_128_HMAC_SHA1_80 inline:" + key30:                                                              {false, ""},
		"1 AES_256_CM_HMAC_SHA1_80 inline:" + strings.Repeat("A", 62):                                            {false, ""},
		"1 AES_CM_128_HMAC_SHA1_80":                                                                              {false, ""},
		"":                                                                                                       {false, ""},
	} {
		c, ok := readCrypto(v)
		if ok != want.ok || ok && (hex.EncodeToString(c.MKI) != want.mki || string(c.Key) != string(raw) || c.Tag != 1) {
			t.Errorf("%q: %v, MKI %x", v, ok, []byte(c.MKI))
		}
	}
	for key, size := range map[string]int{key28: 28, key28 + "==": 28, key28 + "=": 28} {
		c, ok := readCrypto("7 AEAD_AES_128_GCM inline:" + key)
		if !ok || len(c.Key) != size || c.value() != "7 AEAD_AES_128_GCM inline:"+key28+"==" {
			t.Errorf("%q was read as %d bytes and is written %q", key, len(c.Key), c.value())
		}
	}
	with := "1 AES_CM_128_HMAC_SHA1_80 inline:" + key30 + "|4660:2"
	if c, _ := readCrypto(with); c.value() != with {
		t.Errorf("%q became %q", with, c.value())
	}
}

// TestTagsTellKeysApart: of two keys of one suite the tag of the answer says which is meant (RFC 4568 §5.1.2).
func TestTagsTellKeysApart(t *testing.T) {
	const suite = "AES_CM_128_HMAC_SHA1_80"
	theirs := []Crypto{{Tag: 1, Suite: suite, Key: keysOf(30, 1)}, {Tag: 2, Suite: suite, Key: keysOf(30, 2)}}
	out, in, ok := pairCrypto([]Crypto{{Tag: 2, Suite: suite, Key: keysOf(30, 9)}}, theirs)
	if !ok || in.Tag != 2 || in.Key[0] != 2 || out.Key[0] != 9 {
		t.Errorf("taken: %d, %v", in.Tag, ok)
	}
}

// TestKeysArePrintedByNobody: a key, and the password of ICE, is shown by no way of formatting.
func TestKeysArePrintedByNobody(t *testing.T) {
	l := browserLeg
	l.Crypto = tlsLeg.Crypto
	d := NewOffer(Origin{}, Known(), tlsLeg, SendRecv)
	a, _ := Agree(d, d)
	for _, v := range []any{l, &l, d, a, *l.ICE, l.Crypto[0]} {
		for _, f := range []string{"%v", "%+v", "%#v", "%s"} {
			if out := fmt.Sprintf(f, v); strings.Contains(out, "ourpwd") || strings.Contains(out, "0x1, 0x1") || strings.Contains(out, "1 1 1") {
				t.Errorf("%s of %T: %s", f, v, out)
			}
		}
	}
}

// TestReadBrowserOffers reads what a browser says of its transport.
func TestReadBrowserOffers(t *testing.T) {
	for name, want := range map[string]struct {
		ufrag, pwd, mid, setup string
		bundle                 string
		candidates             []Candidate
		ssrc                   uint32
		cname, msid            string
	}{
		"chromium": {
			"Wq3v", "o5FfN1Zl4yM2mQ0k8T7rJd+/", "0", "actpass", "0", []Candidate{
				{"1467250027", "udp", 2122260223, netip.MustParseAddrPort("10.0.0.44:46243"), "host", ""},
				{"559267639", "udp", 2122202367, netip.AddrPortFrom(netip.Addr{}, 37843), "host", ""},
				{"1876313031", "tcp", 1518280447, netip.MustParseAddrPort("10.0.0.44:9"), "host", "active"},
			}, 3570614608, "4TOk42mSjXCkVIa6", "",
		},
		"firefox": {
			"9e5dd34a", "c97e0e3b3d1f2a5b6c7d8e9fa0b1c2d3", "0", "actpass", "0 1",
			[]Candidate{
				{"0", "udp", 2122252543, netip.MustParseAddrPort("10.0.0.44:41234"), "host", ""},
				{"4", "tcp", 2105524479, netip.MustParseAddrPort("10.0.0.44:9"), "host", "active"},
			},
			3724599041, "{c1c5e3d4-1b2a-4f0e-8a1d-77f1f3c2b1a0}",
			"{d57d3917-64e9-4f49-adfb-b049d165c312} {920e9ffc-728e-0d40-a1b9-ebd0025c860a}",
		},
		"safari": {"8LxZ", "5Bx9mJfP3cT7qkL2vN8wRz4y", "audio", "actpass", "audio video", nil, 0, "", "s1 t1"},
	} {
		d := parse(t, offers[name])
		l, _, _ := d.Audio()
		if l.ICE == nil || l.ICE.Ufrag != want.ufrag || string(l.ICE.Pwd) != want.pwd || l.ICE.Lite || !reflect.DeepEqual(l.ICE.Candidates, want.candidates) {
			t.Errorf("%s: %+v", name, l.ICE)
		}
		if l.Mid != want.mid || l.Setup != want.setup || strings.Join(d.Bundle, " ") != want.bundle || l.SSRC != want.ssrc || l.CNAME != want.cname || l.Msid != want.msid {
			t.Errorf("%s: %+v, bundle %v", name, l, d.Bundle)
		}
		if len(l.Fingerprints) != 1 || l.Fingerprints[0] != (Fingerprint{"sha-256", print256}) || !d.WebRTC() || d.Held() || d.HoldDialect() != "" || d.Encryption() != "dtls" {
			t.Errorf("%s: %v, held %v, %s", name, l.Fingerprints, d.Held(), d.Encryption())
		}
		held := parse(t, []byte(strings.ReplaceAll(string(offers[name]), "a=sendrecv", "a=sendonly")))
		if !held.Held() || held.HoldDialect() != "sendonly" {
			t.Errorf("%s: held %v by %s", name, held.Held(), held.HoldDialect())
		}
	}
	base := string(offers["chromium"])
	for name, change := range map[string][2]string{
		"a weak hash":         {"sha-256 " + print256, "sha-1 " + print256[:59]},
		"half a fingerprint":  {print256, print256[:40]},
		"no user name":        {"a=ice-ufrag:Wq3v\r\n", ""},
		"a password of signs": {"a=ice-pwd:o5Ff", "a=ice-pwd:o5 <>"},
	} {
		d := parse(t, []byte(strings.Replace(base, change[0], change[1], 1)))
		if _, err := NewAnswer(Origin{}, d, Known(), browserLeg, SendRecv); !errors.Is(err, ErrSecure) || d.WebRTC() {
			t.Errorf("%s: %v", name, err)
		}
	}
	several := strings.Replace(base, "a=fingerprint:", "a=fingerprint:SHA-512 "+strings.ToLower(print256+":"+print256)+"\r\na=fingerprint:md5 AA\r\na=fingerprint:", 1)
	l, _, _ := parse(t, []byte(several)).Audio()
	if len(l.Fingerprints) != 2 || l.Fingerprints[0] != (Fingerprint{"sha-512", print256 + ":" + print256}) {
		t.Errorf("%v", l.Fingerprints)
	}
}

// TestDialects: how each phone offers SRTP, and what it is answered over signalling that is encrypted, and over one that is not.
func TestDialects(t *testing.T) {
	for name, want := range map[string]struct {
		dialect string
		line    int    // that is answered with keys; -1 = none
		crypto  string // of the answer, tag and suite
		clear   int    // that is answered without; -1 = 488
	}{
		"yealink":                 {"osrtp", 0, "1 AES_CM_128_HMAC_SHA1_80", 0},
		"yealink compulsory":      {"savp", 0, "1 AES_CM_128_HMAC_SHA1_80", -1},
		"baresip srtp":            {"osrtp", 0, "2 AEAD_AES_128_GCM", 0},
		"linphone srtp":           {"savp", 0, "1 AES_CM_128_HMAC_SHA1_80", -1},
		"snom":                    {"osrtp", 0, "1 AES_CM_128_HMAC_SHA1_32", 0},
		"polycom":                 {"savp+avp", 0, "1 AES_CM_128_HMAC_SHA1_80", 1},
		"grandstream":             {"savp", 0, "1 AES_CM_128_HMAC_SHA1_80", -1},
		"zoiper srtp":             {"savp", -1, "", -1},
		"phonerlite without keys": {"savp", -1, "", -1},
		"dtls without ice":        {"savp", -1, "", -1},
		"bria two lines":          {"savp+avp", 1, "", 1}, // its key is none
		"baresip":                 {"none", 0, "", 0},
		"chromium":                {"dtls", -1, "", -1},
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, offers[name])
			if d.Encryption() != want.dialect {
				t.Errorf("its dialect is %s", d.Encryption())
			}
			keys := answered(t, d, tlsLeg, want.line)
			if keys != nil {
				got := ""
				for _, c := range keys.Crypto {
					got = fmt.Sprint(c.Tag, " ", c.Suite)
				}
				if got != want.crypto || keys.Proto != d.Lines[want.line].Proto {
					t.Errorf("answered %s %q", keys.Proto, got)
				}
			}
			plain := tlsLeg
			plain.Crypto = nil
			if l := answered(t, d, plain, want.clear); l != nil && (l.Crypto != nil || l.secure()) {
				t.Errorf("answered %+v over plain signalling", l)
			}
			must := tlsLeg
			must.Required = true
			_, err := NewAnswer(Origin{}, d, d.all(), must, SendRecv)
			if want.crypto == "" && !errors.Is(err, ErrClear) && !errors.Is(err, ErrSecure) || want.crypto != "" && err != nil {
				t.Errorf("with encryption required: %v", err)
			}
		})
	}
}

// answered answers d, checks which line was taken and what both sides come to, and returns that line; nil = none was, and none was to be.
func answered(t *testing.T, d Description, local Local, line int) *Line {
	t.Helper()
	a, err := NewAnswer(Origin{ID: 1, Version: 1}, d, d.all(), local, SendRecv)
	if line < 0 {
		if !errors.Is(err, ErrSecure) {
			t.Errorf("answered %+v, %v", a.Lines, err)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range a.Lines {
		if (l.Addr.Port() != 0) != (i == line) {
			t.Fatalf("line %d has port %d", i, l.Addr.Port())
		}
	}
	back := parse(t, a.Marshal())
	ours, err := Agree(a, d)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := Agree(d, back)
	if err != nil {
		t.Fatal(err)
	}
	if ours.Security != theirs.Security || !reflect.DeepEqual(ours.In, theirs.Out) || !reflect.DeepEqual(ours.Out, theirs.In) {
		t.Errorf("we understand %+v, they %+v", ours, theirs)
	}
	if (ours.Security == SDES) != (len(a.Lines[line].Crypto) > 0) || ours.Remote != d.Lines[line].Addr {
		t.Errorf("%+v", ours)
	}
	return &a.Lines[line]
}

// TestSecureOffers: how baton offers, and what it makes of the answers.
func TestSecureOffers(t *testing.T) {
	answer := func(lines ...string) Description {
		return parse(t, sdpOf(append([]string{"v=0", "o=x 1 1 IN IP4 198.51.100.7", "s=-", "c=IN IP4 198.51.100.7", "t=0 0"}, lines...)...))
	}
	keyed := func(tag int, suite, key string) string {
		return fmt.Sprintf("a=crypto:%d %s inline:%s", tag, suite, key)
	}
	for name, c := range map[string]struct {
		offers Security
		lines  string // protocols offered
		answer []string
		err    error
		suite  string
		tag    int
	}{
		"osrtp taken":              {Opportunistic, "RTP/AVP+4", []string{"m=audio 5000 RTP/AVP 0", keyed(3, "AES_CM_128_HMAC_SHA1_80", key30)}, nil, "AES_CM_128_HMAC_SHA1_80", 3},
		"osrtp not taken":          {Opportunistic, "RTP/AVP+4", []string{"m=audio 5000 RTP/AVP 0"}, nil, "", 0},
		"osrtp answered savp":      {Opportunistic, "RTP/AVP+4", []string{"m=audio 5000 RTP/SAVP 0", keyed(1, "AEAD_AES_128_GCM", key28)}, nil, "AEAD_AES_128_GCM", 1},
		"another tag":              {Opportunistic, "RTP/AVP+4", []string{"m=audio 5000 RTP/AVP 0", keyed(1, "AES_CM_128_HMAC_SHA1_32", key30)}, nil, "AES_CM_128_HMAC_SHA1_32", 4},
		"another suite":            {Opportunistic, "RTP/AVP+4", []string{"m=audio 5000 RTP/AVP 0", keyed(1, "AES_256_CM_HMAC_SHA1_80", key30)}, ErrSecure, "", 0},
		"the secure of two":        {Twofold, "RTP/SAVP+4 RTP/AVP", []string{"m=audio 5000 RTP/SAVP 0", keyed(2, "AEAD_AES_256_GCM", key44), "m=audio 0 RTP/AVP 0"}, nil, "AEAD_AES_256_GCM", 2},
		"the clear of two":         {Twofold, "RTP/SAVP+4 RTP/AVP", []string{"m=audio 0 RTP/SAVP 0", "m=audio 5000 RTP/AVP 0"}, nil, "", 0},
		"both of two":              {Twofold, "RTP/SAVP+4 RTP/AVP", []string{"m=audio 5000 RTP/SAVP 0", keyed(2, "AEAD_AES_256_GCM", key44), "m=audio 5002 RTP/AVP 0"}, nil, "AEAD_AES_256_GCM", 2},
		"sdes":                     {SDES, "RTP/SAVP+4", []string{"m=audio 5000 RTP/SAVP 0", keyed(1, "AEAD_AES_128_GCM", key28)}, nil, "AEAD_AES_128_GCM", 1},
		"sdes without keys":        {SDES, "RTP/SAVP+4", []string{"m=audio 5000 RTP/SAVP 0"}, ErrSecure, "", 0},
		"sdes answered in clear":   {SDES, "RTP/SAVP+4", []string{"m=audio 5000 RTP/AVP 0"}, ErrSecure, "", 0},
		"clear answered with srtp": {Clear, "RTP/AVP", []string{"m=audio 5000 RTP/SAVP 0", keyed(1, "AEAD_AES_128_GCM", key28)}, ErrSecure, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			local := tlsLeg
			local.Offers = c.offers
			d := NewOffer(Origin{ID: 1, Version: 1}, []Codec{pcmu}, local, SendRecv)
			var lines []string
			for _, l := range parse(t, d.Marshal()).Lines {
				p := l.Proto
				if len(l.Crypto) > 0 {
					p += fmt.Sprint("+", len(l.Crypto))
				}
				lines = append(lines, p)
			}
			if got := strings.Join(lines, " "); got != c.lines {
				t.Errorf("offered %s", got)
			}
			remote := answer(c.answer...)
			a, err := Agree(d, remote)
			if !errors.Is(err, c.err) {
				t.Fatal(err)
			}
			if a.Out.Suite != c.suite || a.In.Suite != c.suite || a.Out.Tag != c.tag || err == nil && (a.Security == SDES) != (c.suite != "") {
				t.Errorf("%v: out %d %s, in %d %s", a.Security, a.Out.Tag, a.Out.Suite, a.In.Tag, a.In.Suite)
			}
			if err != nil {
				return
			}
			again, err := d.Reoffer([]Codec{pcma, pcmu})
			if err != nil {
				t.Fatal(err)
			}
			b, err := Agree(again, remote)
			if err != nil || !reflect.DeepEqual(b.Out, a.Out) || b.Security != a.Security {
				t.Errorf("offered anew it comes to %v with %s: %v", b.Security, b.Out.Suite, err)
			}
			for _, l := range again.WithDirection(SendOnly).Lines {
				if names(l.Codecs) != "PCMA/8000 PCMU/8000" || l.Direction != SendOnly {
					t.Errorf("a line offered anew is %+v", l)
				}
			}
		})
	}
}

// TestBrowserAnswers: every line of the offer has its place, what is refused is out of the bundle (RFC 9429 §5.3, RFC 9143 §7.3).
func TestBrowserAnswers(t *testing.T) {
	head := []string{"v=0", "o=baton 5 2 IN IP4 192.0.2.1", "s=-", "c=IN IP4 192.0.2.1", "t=0 0"}
	audio := func(mid string) []string {
		return []string{
			"a=rtcp:20000", "a=rtcp-mux", "a=ssrc:7 cname:us", "a=msid:baton audio", "a=fingerprint:sha-256 " + print256, "a=setup:passive", "a=ice-ufrag:ours",
			"a=ice-pwd:ourpwd0123456789012345", "a=candidate:1 1 udp 2130706431 192.0.2.1 20000 typ host",
			"a=candidate:2 1 tcp 1518280447 192.0.2.1 8443 typ host tcptype passive", "a=sendrecv",
		}
	}
	for name, want := range map[string][]string{
		"chromium": slices.Concat(head, []string{
			"a=group:BUNDLE 0", "a=ice-lite", "m=audio 20000 UDP/TLS/RTP/SAVPF 0 8 126", "a=mid:0", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
			"a=rtpmap:126 telephone-event/8000", "a=fmtp:126 0-16",
		}, audio("0")),
		"firefox": slices.Concat(head, []string{
			"a=group:BUNDLE 0", "a=ice-lite", "m=audio 20000 UDP/TLS/RTP/SAVPF 0 8 101", "a=mid:0", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
			"a=rtpmap:101 telephone-event/8000", "a=fmtp:101 0-16",
		}, audio("0"), []string{
			"m=video 0 UDP/TLS/RTP/SAVPF 120 124", "a=mid:1", "m=application 0 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:2",
		}),
		"safari": slices.Concat(head, []string{
			"a=group:BUNDLE audio", "a=ice-lite", "m=audio 20000 UDP/TLS/RTP/SAVPF 0 8 126", "a=mid:audio", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000",
			"a=rtpmap:126 telephone-event/8000", "a=fmtp:126 0-16",
		}, audio("audio"), []string{"m=video 0 UDP/TLS/RTP/SAVPF 96", "a=mid:video"}),
	} {
		t.Run(name, func(t *testing.T) {
			d := parse(t, offers[name])
			a, err := NewAnswer(Origin{User: "baton", ID: 5, Version: 2}, d, []Codec{pcmu, pcma, dtmf}, browserLeg, SendRecv)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(a.Marshal()); got != string(sdpOf(want...)) {
				t.Errorf("answered\n%swant\n%s", got, sdpOf(want...))
			}
			both, err := Agree(a, d)
			l, _, _ := d.Audio()
			if err != nil || both.Security != DTLS || !both.Mux || both.Active || both.ICE.Ufrag != l.ICE.Ufrag || both.Fingerprints[0].Value != print256 || both.Direction != SendRecv {
				t.Errorf("%+v %v", both, err)
			}
			theirs, err := Agree(d, parse(t, a.Marshal()))
			if err != nil || !theirs.Active || !theirs.ICE.Lite || theirs.ICE.Ufrag != "ours" || len(theirs.ICE.Candidates) != 2 {
				t.Errorf("they understand %+v %v", theirs, err)
			}
		})
	}
	d := parse(t, offers["chromium"])
	for name, local := range map[string]Local{"without an agent": tlsLeg, "without a certificate": {Addr: here, ICE: browserLeg.ICE}} {
		if _, err := NewAnswer(Origin{}, d, Known(), local, SendRecv); !errors.Is(err, ErrSecure) {
			t.Errorf("%s: %v", name, err)
		}
	}
	apart := parse(t, []byte(strings.Replace(string(offers["chromium"]), "a=rtcp-mux\r\n", "", 1)))
	if _, err := NewAnswer(Origin{}, apart, Known(), browserLeg, SendRecv); !errors.Is(err, ErrSecure) {
		t.Errorf("RTCP on a port of its own: %v", err)
	}
	if _, err := NewAnswer(Origin{}, parse(t, offers["yealink"]), Known(), browserLeg, SendRecv); !errors.Is(err, ErrClear) {
		t.Errorf("RTP to the port of browsers: %v", err)
	}
}

// TestRoles: who begins the handshake (RFC 5763 §5, RFC 8842 §5.3), in the first offer and those that follow.
func TestRoles(t *testing.T) {
	base := string(offers["chromium"])
	for _, c := range []struct {
		theirs string
		begun  bool
		ours   string
	}{
		{"actpass", false, "passive"},
		{"actpass", true, "active"},
		{"active", false, "passive"},
		{"active", true, "passive"},
		{"passive", false, "active"},
		{"", false, "passive"},
		{"holdconn", false, "passive"},
	} {
		d := parse(t, []byte(strings.Replace(base, "setup:actpass", "setup:"+c.theirs, 1)))
		local := browserLeg
		local.Active = c.begun
		a, err := NewAnswer(Origin{}, d, Known(), local, SendRecv)
		if err != nil {
			t.Fatal(err)
		}
		both, err := Agree(a, d)
		if a.Lines[0].Setup != c.ours || both.Active != (c.ours == "active") || err != nil {
			t.Errorf("%q (begun %v): answered %s, active %v, %v", c.theirs, c.begun, a.Lines[0].Setup, both.Active, err)
		}
	}
	offer := NewOffer(Origin{ID: 1, Version: 1}, Known(), browserLeg, SendRecv)
	if l := offer.Lines[0]; l.Setup != "actpass" || l.Mid != "0" || !slices.Equal(offer.Bundle, []string{"0"}) || !l.RTCPMux || l.Msid == "" || l.SSRC != 7 {
		t.Errorf("%+v", l)
	}
	for setup, active := range map[string]bool{"active": false, "passive": true} {
		local := browserLeg
		local.ICE = &ICE{Ufrag: "them", Pwd: Secret("theirpwd"), Candidates: browserLeg.ICE.Candidates}
		answer, err := NewAnswer(Origin{}, offer, Known(), local, SendRecv)
		if err != nil {
			t.Fatal(err)
		}
		answer.Lines[0].Setup = setup
		a, err := Agree(offer, parse(t, answer.Marshal()))
		if err != nil || a.Active != active || a.ICE.Ufrag != "them" || a.Security != DTLS {
			t.Errorf("%s: %+v %v", setup, a, err)
		}
		again, err := offer.Reoffer([]Codec{pcma, pcmu})
		if err != nil || !reflect.DeepEqual(again.Lines[0].ICE, offer.Lines[0].ICE) || again.Lines[0].Setup != "actpass" || again.Lines[0].Mid != "0" ||
			!reflect.DeepEqual(again.Lines[0].Fingerprints, offer.Lines[0].Fingerprints) || len(again.Bundle) != 1 {
			t.Errorf("offered anew: %+v %v", again, err)
		}
		if clear := parse(t, offers["bare"]); func() error { _, err := Agree(offer, clear); return err }() == nil {
			t.Error("an answer in the clear was taken for one of DTLS")
		}
	}
}
