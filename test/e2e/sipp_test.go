package e2e

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// sippScenario calls, answers the challenge, does something with the sound for five seconds and hangs up.
const sippScenario = `<?xml version="1.0" encoding="UTF-8"?>
<scenario name="call with sound">
<send><![CDATA[
INVITE sip:%[1]s@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:%[2]s@[remote_ip]>;tag=[call_number]x
To: <sip:%[1]s@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:%[2]s@[local_ip]:[local_port]>
Allow: INVITE, ACK, CANCEL, BYE, INFO
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

%[4]s]]></send>
<recv response="401" auth="true"/>
<send><![CDATA[
ACK sip:%[1]s@[remote_ip]:[remote_port] SIP/2.0
[last_Via]
From: <sip:%[2]s@[remote_ip]>;tag=[call_number]x
[last_To]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0
]]></send>
<send retrans="500"><![CDATA[
INVITE sip:%[1]s@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
From: <sip:%[2]s@[remote_ip]>;tag=[call_number]x
To: <sip:%[1]s@[remote_ip]>
Call-ID: [call_id]
CSeq: 2 INVITE
Contact: <sip:%[2]s@[local_ip]:[local_port]>
Allow: INVITE, ACK, CANCEL, BYE, INFO
[authentication username=%[2]s password=%[3]s]
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

%[4]s]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="183" optional="true"/>
<recv response="200" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:%[2]s@[remote_ip]>;tag=[call_number]x
[last_To]
Call-ID: [call_id]
CSeq: 2 ACK
Max-Forwards: 70
Content-Length: 0
]]></send>
%[5]s
<pause milliseconds="5000"/>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:%[2]s@[remote_ip]>;tag=[call_number]x
To: <sip:%[1]s@[remote_ip]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 99 BYE
Max-Forwards: 70
Content-Length: 0
]]></send>
<recv response="200"/>
</scenario>
`

const sippSDP = `v=0
o=sipp 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [%s] RTP/AVP 0
a=rtpmap:0 PCMU/8000
`

// runSipp makes one call and waits for its end.
func (w *world) runSipp(from, to, portName, act string, args ...string) {
	w.t.Helper()
	program := need(w.t, "sipp", "sip-tester")
	dir := w.t.TempDir()
	text := fmt.Sprintf(sippScenario, to, from, node.Password(from), fmt.Sprintf(sippSDP, portName), act)
	w.must(os.WriteFile(dir+"/call.xml", []byte(text), 0o600))
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	w.next++
	at := node.IP(w.next).String()
	args = append([]string{
		w.UDP.String(), "-sf", dir + "/call.xml", "-m", "1", "-i", at, "-mi", at, "-p", "5099", "-nostdin",
		"-auth_uri", fmt.Sprintf("%s@%s", to, w.UDP), // else it authenticates another URI than it requests
		"-timeout", "30s", "-timeout_error", "-trace_err", "-error_file", dir + "/errors",
		"-trace_msg", "-message_file", dir + "/messages",
	}, args...)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		said, _ := os.ReadFile(dir + "/errors")
		sent, _ := os.ReadFile(dir + "/messages")
		w.t.Fatalf("sipp: %v\n%s\n%s\n%s", err, said, sent, tail(string(out), 1500))
	}
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func TestSippStreamsAndEchoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	need(t, "sipp", "sip-tester")
	b := w.startBaresip("bob", "udp", 660)
	samples := make([]int16, 30*rate)
	for i := range samples {
		samples[i] = int16(12000 * math.Sin(2*math.Pi*440*float64(i)/rate))
	}
	tone := t.TempDir() + "/tone.ul"
	w.must(os.WriteFile(tone, phone.EncodePCMU(samples), 0o600))
	w.runSipp("alice", "102", "rtpstream_audio_port", `<nop><action><exec rtp_stream="`+tone+`,-1,0,PCMU/8000"/></action></nop>`)
	b.await("CALL_CLOSED", 5*time.Second)
	streamed := len(b.recordings())
	pause(1100 * time.Millisecond) // recordings are named by the second
	w.runSipp("alice", "102", "media_port", "", "-rtp_echo")
	b.await("CALL_CLOSED", 5*time.Second)
	b.quit()
	files := b.recordings()
	if streamed != 1 || len(files) != 2 {
		t.Fatalf("recordings: %s", strings.Join(files, " "))
	}
	for i, hz := range []float64{440, 660} {
		heard, err := readWAV(files[i])
		w.must(err)
		if got := heardTone(heard, hz); got < 4*time.Second {
			t.Errorf("call %d: %g Hz for %s of %d ms", i, hz, got, len(heard)*1000/rate)
		} else {
			t.Logf("call %d: %g Hz for %s of %d ms", i, hz, got, len(heard)*1000/rate)
		}
	}
}
