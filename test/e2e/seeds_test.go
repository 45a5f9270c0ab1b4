package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"baton/test/phone"
	"baton/test/torture"
)

// The good messages that bad ones are made of.

// sdpSeeds are session descriptions of every kind that there is, of a phone at an address.
func sdpSeeds(at string) [][]byte {
	head := "v=0\r\no=- 4711 1 IN IP4 " + at + "\r\ns=-\r\nc=IN IP4 " + at + "\r\nt=0 0\r\n"
	g711 := "m=audio 30000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n"
	var all [][]byte
	for _, s := range []string{
		head + g711 + "a=ptime:20\r\na=sendrecv\r\n",
		head + g711 + "a=sendonly\r\na=rtcp:30009 IN IP4 " + at + "\r\na=rtcp-mux\r\n",
		head + "a=inactive\r\nm=audio 30000 RTP/AVP 111 9 0\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:9 G722/8000\r\n" +
			"m=video 30002 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\nm=image 30004 udptl t38\r\n",
		strings.Replace(head, at, "0.0.0.0", 2) + g711,
		strings.ReplaceAll(head+g711, "IN IP4 "+at, "IN IP6 2001:db8::7"),
		head + strings.Replace(g711, "RTP/AVP", "RTP/SAVP", 1) + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj\r\n",
		head + strings.Replace(g711, "RTP/AVP", "UDP/TLS/RTP/SAVPF", 1) + "a=ice-ufrag:Wq3v\r\na=ice-pwd:o5FfXfV\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n" +
			"a=candidate:1 1 udp 2130706431 " + at + " 30000 typ host\r\na=candidate:2 1 tcp 1 " + at + " 9 typ host tcptype active\r\n",
		strings.Repeat(head, 2) + strings.Repeat(g711, 4),
	} {
		all = append(all, []byte(s))
	}
	return all
}

// sipRequest writes a request of a user with all that every request has; headers are whole lines.
func sipRequest(method, uri, from, to, callID string, body []byte, headers ...string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 10.77.0.18:5060;branch=z9hG4bK%s;rport\r\nMax-Forwards: 70\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: 1 %s\r\n",
		method, uri, callID, from, to, callID, method)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	return b.Bytes()
}

// methodSeeds are requests of erin's, one of each method, that a node takes.
func methodSeeds(server string) [][]byte {
	from, to, uri := `"Erin" <sip:erin@`+server+`>;tag=e`, "<sip:frank@"+server+">", "sip:frank@"+server
	sdp := sdpSeeds("10.77.0.18")[0]
	contact := `Contact: <sip:erin@10.77.0.18:5060>;+sip.instance="<urn:uuid:00000000-0000-4000-8000-0000000000e1>";reg-id=1`
	multipart := append([]byte("--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\nContent-Type: application/sdp\r\n\r\n"), append(sdp, "\r\n--b--\r\n"...)...)
	return [][]byte{
		sipRequest("REGISTER", "sip:"+server, from, "<sip:erin@"+server+">", "m-register", nil, contact+";expires=600;q=0.5", "Supported: path, outbound", "User-Agent: Yealink SIP-T46S 66.85"),
		sipRequest("REGISTER", "sip:"+server, from, "<sip:erin@"+server+">", "m-remove", nil, "Contact: *", "Expires: 0"),
		sipRequest("INVITE", uri, from, to, "m-invite", sdp, contact, "Content-Type: application/sdp", "Supported: 100rel, timer, replaces", "Session-Expires: 1800;refresher=uac", "Allow: INVITE, ACK, CANCEL, BYE"),
		sipRequest("INVITE", uri, from, to, "m-multi", multipart, contact, "Content-Type: multipart/mixed;boundary=b", "Record-Route: <sip:10.77.0.17;lr>"),
		sipRequest("INVITE", uri, from, to, "m-replaces", nil, contact, "Replaces: x@y;to-tag=1;from-tag=2;early-only", "P-Asserted-Identity: <tel:+491>", "Answer-Mode: Auto"),
		sipRequest("INVITE", "sip:*21*102%23@"+server, from, to, "m-code", sdp, contact, "Content-Type: application/sdp"),
		sipRequest("REFER", uri, from, to, "m-refer", nil, contact, "Refer-To: <sip:carol@x?Replaces=a%40b%3Bto-tag%3D1%3Bfrom-tag%3D2>", "Referred-By: <sip:erin@x>"),
		sipRequest("SUBSCRIBE", uri, from, to, "m-subscribe", nil, contact, "Event: message-summary", "Expires: 3600", "Accept: application/simple-message-summary"),
		sipRequest("SUBSCRIBE", "sip:erin@"+server, from, "<sip:erin@"+server+">", "m-watch", nil, contact, "o: dialog;id=1", "Expires: 600", "Accept: application/dialog-info+xml, */*", "Record-Route: <sip:10.77.0.17;lr>"),
		sipRequest("NOTIFY", uri, from, to, "m-notify", []byte("SIP/2.0 200 OK\r\n"), contact, "Event: refer;id=1", "Subscription-State: active;expires=60", "Content-Type: message/sipfrag"),
		sipRequest("MESSAGE", uri, from, to, "m-message", []byte("hello"), "Content-Type: text/plain;charset=utf-8"),
		sipRequest("INFO", uri, from, to+";tag=x", "m-info", []byte("Signal=5\r\nDuration=160\r\n"), "Content-Type: application/dtmf-relay"),
		sipRequest("UPDATE", uri, from, to+";tag=x", "m-update", sdp, contact, "Content-Type: application/sdp"),
		sipRequest("PRACK", uri, from, to+";tag=x", "m-prack", nil, "RAck: 1 1 INVITE"),
		sipRequest("OPTIONS", uri, from, to, "m-options", nil, "Accept: application/sdp, text/*;q=0.5", "Require: nothing", "Date: Thu, 26 Nov 2026 10:00:00 GMT"),
		sipRequest("PUBLISH", uri, from, to, "m-publish", []byte("<xml/>"), "Event: presence", "Content-Type: application/pidf+xml", "Content-Encoding: gzip"),
		sipRequest("CANCEL", uri, from, to, "m-invite", nil, "Reason: SIP;cause=200;text=\"Call completed elsewhere\""),
	}
}

// answerSeeds are responses, as they might come to requests of the node's.
func answerSeeds(server string) [][]byte {
	var all [][]byte
	for _, line := range []string{"100 Trying", "180 Ringing", "183 Session Progress", "200 OK", "302 Moved", "401 Unauthorized", "486 Busy Here", "603 Decline"} {
		request := sipRequest("INVITE", "sip:x", "<sip:baton@"+server+">;tag=1", "<sip:bob@h>;tag=2", "m-answer", sdpSeeds("10.77.0.18")[0],
			"Contact: <sip:bob@10.77.0.18>", "Record-Route: <sip:r;lr>, <sip:s>", `WWW-Authenticate: Digest realm="r", nonce="n"`, "Content-Type: application/sdp")
		_, rest, _ := bytes.Cut(request, []byte("\r\n"))
		all = append(all, append([]byte("SIP/2.0 "+line+"\r\n"), rest...))
	}
	return all
}

// dialogSeeds are requests in the dialogs of calls that go on, with their true tags.
func dialogSeeds(server string, calls ...*phone.Call) [][]byte {
	var all [][]byte
	for _, c := range calls {
		theirs, ours := phone.Param(c.Replaces(), "to-tag"), phone.Param(c.Replaces(), "from-tag")
		from, to := "<"+c.Phone().URI()+">;tag="+ours, "<sip:x@"+server+">;tag="+theirs
		for _, method := range []string{"BYE", "INVITE", "UPDATE", "REFER", "INFO", "ACK", "CANCEL", "OPTIONS"} {
			b := sipRequest(method, "sip:x@"+server, from, to, c.ID(), sdpSeeds("10.77.0.18")[0], "Contact: <sip:erin@10.77.0.18:5060>", "Content-Type: application/sdp", "Refer-To: <sip:*41@"+server+">")
			all = append(all, bytes.Replace(b, []byte("CSeq: 1 "), []byte("CSeq: 9000 "), 1))
		}
	}
	return all
}

// tortureSeeds are the messages of the RFCs, where a checkout has them.
func tortureSeeds() [][]byte {
	cases, _ := torture.Cases()
	var all [][]byte
	for _, c := range cases {
		all = append(all, c.Data)
	}
	return all
}

// rtp writes a packet: flags is its first octet, pt its second.
func rtp(flags, pt byte, seq uint16, payload ...byte) []byte {
	b := []byte{flags, pt, 0, 0, 0, 0, 0, 160, 0x11, 0x22, 0x33, 0x44}
	binary.BigEndian.PutUint16(b[2:], seq)
	return append(b, payload...)
}

func rtpSeeds() [][]byte {
	voice := bytes.Repeat([]byte{0xd5}, 160)
	return [][]byte{
		rtp(0x80, 0, 1, voice...), rtp(0x80, 0x80, 2, voice...), rtp(0x80, 8, 3, voice...), rtp(0x80, 101, 4, 5, 10, 0, 160), rtp(0x80, 101, 5, 5, 0x8a, 3, 0x20),
		rtp(0x82, 0, 6, append([]byte{0, 0, 0, 1, 0, 0, 0, 2}, voice...)...),          // two sources that contribute
		rtp(0x90, 0, 7, append([]byte{0xbe, 0xde, 0, 1, 0x10, 7, 0, 0}, voice...)...), // an extension (RFC 8285)
		rtp(0xa0, 0, 8, append(voice[:20:20], 0, 0, 0, 4)...),                         // padding
		rtp(0x80, 13, 9, 60), rtp(0x80, 0, 10), rtp(0x80, 127, 0xffff, voice[:33]...),
	}
}

func rtcpSeeds() [][]byte {
	var all [][]byte
	for _, text := range []string{
		"81c8000c 11223344 e5a1b2c3d4e5f600 00000140 00000010 00000a00 aabbccdd 10000005 00010020 00000007 b2c3d4e5 00010000",  // SR with a block
		"81c90007 11223344 aabbccdd 00000000 00010020 00000007 00000000 00000000 81ca0004 11223344 01066162 63646566 00000000", // RR, SDES
		"80c90001 11223344 81cb0001 11223344",          // RR, BYE
		"80cc0003 11223344 6e616d65 00000000",          // APP
		"81cd0003 11223344 aabbccdd 00010003",          // NACK (RFC 4585)
		"84ce0004 11223344 00000000 aabbccdd 01000000", // FIR (RFC 5104)
		"80cf0004 11223344 04000002 e5a1b2c3 d4e5f600", // XR (RFC 3611)
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			panic(err)
		}
		all = append(all, b)
	}
	return all
}

// stunSeeds are what ICE, TURN and DTLS would send to a port of audio.
func stunSeeds() [][]byte {
	const cookie = "2112a442 0102030405060708090a0b0c"
	var all [][]byte
	for _, text := range []string{
		"00010000" + cookie, // a Binding request (RFC 8489)
		"00010024" + cookie + "0006000961626364 3a65666768000000 00240004 6e7f1eff 80290008 0102030405060708",                                            // of ICE (RFC 8445)
		"0101000c" + cookie + "00200008 0001a147 e112a643",                                                                                               // its success
		"01110010" + cookie + "00090009 00000401 4261640a 00000000",                                                                                      // an error
		"00030010" + cookie + "00190004 11000000 000d0004 00000258",                                                                                      // Allocate (RFC 8656)
		"0016001c" + cookie + "00120008 0001a147 e112a643 00130004 deadbeef 80280004 11223344",                                                           // Send, with a fingerprint
		"40000008 0102030405060708",                                                                                                                      // ChannelData
		"16feff0000000000000000002e 0100002200000000000000 22fefd 00000000 00000000 00000000 0000000000000000000000000000000000000000 00000002 c02b0100", // DTLS
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
		if err != nil {
			panic(err)
		}
		all = append(all, b)
	}
	return all
}
