package registrar

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestProduct(t *testing.T) {
	for _, c := range []struct{ agent, name, kind string }{
		{"Yealink SIP-T46G 28.83.0.120", "yealink-t46g", "desk phone"},
		{"Yealink SIP-T46S 66.85.0.5", "yealink-t46s", "desk phone"},
		{"Yealink SIP-T54W 96.86.0.70", "yealink-t54w", "desk phone"},
		{"Yealink W60B 77.85.0.20", "yealink-w60b", "desk phone"},
		{"Yealink SIP VP-T49G 51.80.0.100", "yealink-vp-t49g", "desk phone"},
		{"Yealink SIP-CP960 73.85.0.10", "yealink-cp960", "desk phone"},
		{"Grandstream GXP2170 1.0.11.64", "grandstream-gxp2170", "desk phone"},
		{"Grandstream GXP1625 1.0.4.132", "grandstream-gxp1625", "desk phone"},
		{"Grandstream HT801 1.0.29.8", "grandstream-ht801", "desk phone"},
		{"Grandstream Wave 1.0.3.34", "grandstream-wave", "softphone"},
		{"snomD785/10.1.64.14", "snom-d785", "desk phone"},
		{"snom320/8.7.5.35", "snom-320", "desk phone"},
		{"snom-m900-SIP/05.20.0001", "snom-m900", "desk phone"},
		{"PolycomVVX-VVX_410-UA/5.9.5.0614", "polycom-vvx-410", "desk phone"},
		{"PolycomSoundPointIP-SPIP_650-UA/4.0.4.2906", "polycom-spip-650", "desk phone"},
		{"PolycomRealPresenceTrio-Trio_8800-UA/5.9.0.11421", "polycom-trio-8800", "desk phone"},
		{"PolyEdge-E350-UA/8.1.2.0555", "poly-edge-e350", "desk phone"},
		{"Cisco-CP8841-3PCC/11.3.4_00a1b2c3d4e5", "cisco-cp8841", "desk phone"},
		{"Cisco-CP-7841-3PCC/11.0.1", "cisco-cp7841", "desk phone"},
		{"Cisco/SPA504G-7.6.2b", "cisco-spa504g", "desk phone"},
		{"Linksys/SPA942-6.1.5(a)", "linksys-spa942", "desk phone"},
		{"Fanvil X4U 2.12.1 0c383e112233", "fanvil-x4u", "desk phone"},
		{"Fanvil X6 1.6.2", "fanvil-x6", "desk phone"},
		{"Mitel 6867i/5.1.0.1024", "mitel-6867i", "desk phone"},
		{"Aastra 6731i/3.3.1.4322", "aastra-6731i", "desk phone"},
		{"N510 IP PRO/42.250.00.000.000;7C2F80C2D9E1", "n510-ip-pro", "softphone"},
		{"Gigaset N510 IP PRO/42.250", "gigaset-n510-ip", "desk phone"},
		{"Panasonic_KX-HDV230/08.100 (0080f0aabbcc)", "panasonic-kx-hdv230", "desk phone"},
		{"AVM FRITZ!Box 7590 154.07.57 (Mar  8 2023)", "fritz-box-7590", "desk phone"},
		{"Htek UC924 V2.0.4.4.52", "htek-uc924", "desk phone"},
		{"Linphone Desktop/5.1.2 (Debian GNU/Linux 12, Qt 5.15.8) LinphoneCore/5.2.98", "linphone", "softphone"},
		{"Linphonec/5.1.65 (belle-sip/5.1.64)", "linphone", "softphone"},
		{"Linphone/3.12.0 (belle-sip/1.6.3)", "linphone", "softphone"},
		{"LinphoneAndroid/5.2.5 (Pixel 6) LinphoneSDK/5.3.47 (tags/5.3.47^0)", "linphone-android", "softphone"},
		{"LinphoneiOS/5.2.3 (Alice's iPhone) LinphoneSDK/5.3.39", "linphone-ios", "softphone"},
		{"Z 5.6.4 v2.10.20.4", "zoiper", "softphone"},
		{"Zoiper rv2.10.11.7-mod", "zoiper", "softphone"},
		{"Zoiper v2.10.20.6", "zoiper", "softphone"},
		{"MicroSIP/3.21.3", "microsip", "softphone"},
		{"baresip v1.0.0 (x86_64/linux)", "baresip", "softphone"},
		{"baresip v3.16.0 (arm64/Darwin)", "baresip", "softphone"},
		{"Groundwire/6.0.2 (build 2304; iOS 17.4; arm64)", "groundwire", "softphone"},
		{"Acrobits Groundwire/24.7.1", "groundwire", "softphone"},
		{"Bria 6 release 6.5.3 stamp 112458", "bria", "softphone"},
		{"Bria Desktop release 6.6.1 stamp 120013", "bria", "softphone"},
		{"Bria iOS 6.3.1", "bria-ios", "softphone"},
		{"Bria Android 6.4.2", "bria-android", "softphone"},
		{"X-Lite release 5.8.3 stamp 95688", "x-lite", "softphone"},
		{"Twinkle/1.10.2", "twinkle", "softphone"},
		{"Telephone 1.6", "telephone", "softphone"},
		{"PhonerLite/3.15", "phonerlite", "softphone"},
		{"Jitsi2.10.5550Linux", "jitsi", "softphone"},
		{"PJSUA v2.13 Linux-6.1/x86_64/glibc-2.36", "pjsua", "softphone"},
		{"Blink Pro 5.9.1 (Linux)", "blink-pro", "softphone"},
		{"JsSIP 3.13.1", "jssip", "browser"},
		{"SIP.js/0.21.2", "sipjs", "browser"},
		{"Browser Phone 0.3.29 (SIPJS - 0.20.0) Mozilla/5.0", "browser-phone", "browser"},
		{"", "phone", "softphone"},
		{"1234 5678", "phone", "softphone"},
		{"\x00\xff<script>alert(1)</script>", "script-alert", "softphone"},
	} {
		name := product(c.agent)
		if name != c.name {
			t.Errorf("product(%q) = %q, want %q", c.agent, name, c.name)
		}
		if kind := kindOf(name, "udp", "192.0.2.7"); string(kind) != c.kind {
			t.Errorf("kindOf(%q) = %q, want %q", name, kind, c.kind)
		}
	}
}

func TestKindByTransport(t *testing.T) {
	for _, c := range []struct {
		transport, host string
		want            Kind
	}{
		{"wss", "192.0.2.7", Browser},
		{"tcp", "a1b2c3.invalid", Browser},
		{"tls", "192.0.2.7", Softphone},
	} {
		if got := kindOf("baresip", c.transport, c.host); got != c.want {
			t.Errorf("over %s at %s: %q, want %q", c.transport, c.host, got, c.want)
		}
	}
}

// TestLongUserAgent: of a User-Agent as long as a message only its beginning is read and kept.
func TestLongUserAgent(t *testing.T) {
	p := desk("alice", "Yealink SIP-T46S "+strings.Repeat("é", 30_000), "198.51.100.7:5060")
	o, err := readOrder(p.request(t, ""), p.flow)
	if err != nil {
		t.Fatal(err)
	}
	if agent := o.wishes[0].agent; len(agent) > maxAgent || !utf8.ValidString(agent) || o.wishes[0].Product != "yealink-t46s" {
		t.Errorf("%d bytes of %s are kept", len(agent), o.wishes[0].Product)
	}
}

func FuzzProduct(f *testing.F) {
	f.Add("Yealink SIP-T46G 28.83.0.120")
	f.Add("\x00 / (")
	f.Fuzz(func(t *testing.T, agent string) {
		name := product(agent)
		if !deviceName.MatchString(name) || len(name) > maxProduct {
			t.Errorf("product(%q) = %q, which is no device name", agent, name)
		}
	})
}
