package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/test/phone"
)

// sippINFO is a key told by INFO within sipp's dialog.
const sippINFO = `<pause milliseconds="%d"/>
<send retrans="500"><![CDATA[
INFO [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];branch=[branch]
[routes]
From: <sip:%s@[remote_ip]>;tag=[call_number]x
[last_To]
Call-ID: [call_id]
CSeq: [cseq] INFO
Max-Forwards: 70
Content-Type: application/dtmf-relay
Content-Length: [len]

Signal=%c
Duration=160
]]></send>
<recv response="200"/>
`

// sippTakesINFO waits for a key and checks what it says.
const sippTakesINFO = `<recv request="INFO" timeout="10000"><action>
<ereg regexp="Signal=%c" search_in="body" check_it="true" assign_to="key%d"/>
</action></recv>
<Reference variables="key%d"/>
<send><![CDATA[
SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0
]]></send>
`

// keyHeard is what baresip prints when it has heard a key to its end.
var keyHeard = regexp.MustCompile(`received (?:in-band DTMF )?event: '(.)' \(end=1\)`)

// keysOf are the keys that baresip says it has heard.
func (b *baresip) keysOf() (keys string) {
	for _, m := range keyHeard.FindAllStringSubmatch(b.output(), -1) {
		keys += m[1]
	}
	return keys
}

// heardKeys waits until baresip has heard keys, and checks that there are no others.
func (b *baresip) heardKeys(want string) {
	b.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); len(b.keysOf()) < len(want) && time.Now().Before(deadline); {
		pause(20 * time.Millisecond)
	}
	pause(300 * time.Millisecond)
	if got := b.keysOf(); got != want {
		b.t.Errorf("baresip %d has heard the keys %q, want %q", b.port, got, want)
	}
}

// TestKeysOfSipp has sipp, which knows no telephone-event, tell keys by INFO to a baresip, which hears them by RTP; and a
// baresip press keys that sipp is told by INFO.
func TestKeysOfSipp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	need(t, "sipp", "sip-tester")
	b := w.startBaresip("bob", "udp", 660)
	var act strings.Builder
	for i, k := range "5*#" {
		fmt.Fprintf(&act, strings.Replace(sippINFO, "[cseq]", fmt.Sprint(10+i), 1), 300, "alice", k)
	}
	w.runSipp("alice", "102", "media_port", act.String(), "-rtp_echo")
	b.await("CALL_CLOSED", 5*time.Second)
	b.heardKeys("5*#")
	pressed := make(chan struct{})
	go func() {
		defer close(pressed)
		b.await("CALL_ESTABLISHED", 10*time.Second)
		pause(500 * time.Millisecond)
		b.do("sndcode", "7")
		pause(500 * time.Millisecond)
		b.do("sndcode", "#")
	}()
	w.runSipp("alice", "102", "media_port", fmt.Sprintf(sippTakesINFO, '7', 1, 1)+fmt.Sprintf(sippTakesINFO, '#', 2, 2), "-rtp_echo")
	<-pressed
	b.await("CALL_CLOSED", 5*time.Second)
}

// TestKeysOfBaresips passes telephone-events between two that know them, as they are.
func TestKeysOfBaresips(t *testing.T) {
	w := newWorld(t)
	a, b := w.startBaresip("alice", "udp", 440), w.startBaresip("bob", "udp", 660)
	a.dial("102")
	b.await("CALL_ESTABLISHED", 10*time.Second)
	a.await("CALL_ESTABLISHED", 10*time.Second)
	pause(500 * time.Millisecond)
	for _, k := range "19*" {
		a.do("sndcode", string(k))
		pause(400 * time.Millisecond)
	}
	b.heardKeys("19*")
	a.do("hangup", "")
	b.await("CALL_CLOSED", 5*time.Second)
}

// TestKeysOfLinphone has a linphonec that is set to INFO tell keys to a baresip.
func TestKeysOfLinphone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	need(t, "linphonec", "linphone-cli")
	b, l := w.startBaresip("alice", "udp", 440), w.startLinphone("bob", 660, "use_info=1\nuse_rfc2833=0\n")
	l.do("call sip:101@" + w.UDP.String())
	b.await("CALL_ESTABLISHED", 10*time.Second)
	pause(time.Second)
	l.do("042#")
	b.heardKeys("042#")
	b.do("hangup", "")
	b.await("CALL_CLOSED", 5*time.Second)
}

// TestKeysByInfoAcrossAMove: a phone tells keys by INFO before and after its call is moved; the far side hears them all on its one
// stream.
func TestKeysByInfoAcrossAMove(t *testing.T) {
	p := newParty(t)
	tell := func(keys string) {
		for _, k := range keys {
			body := fmt.Sprintf("Signal=%c\r\nDuration=80\r\n", k)
			_, err := p.leg().Request("INFO", []byte(body), phone.Header{Name: "Content-Type", Value: "application/dtmf-relay"})
			p.must(err)
		}
	}
	tell("123456789")
	p.move("cli", 1, phone.AutoAnswer)
	tell("*0#")
	p.Eventually(10*time.Second, "all keys to be heard", func() error {
		if got := phone.Keys(p.far.Media().Heard()); got != "123456789*0#" {
			return fmt.Errorf("bob has heard %q", got)
		}
		return nil
	})
	pause(300 * time.Millisecond)
	r := phone.Analyse(p.far.Media().Heard(), 8000)
	if got := phone.Keys(p.far.Media().Heard()); got != "123456789*0#" || r.Missing != 0 || len(r.SSRCs) != 1 || r.Reordered != 0 {
		t.Errorf("bob has heard %q, %s", got, r)
	}
	p.over()
}
