package call_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/registrar"
	"baton/test/phone"
)

// debugLog keeps all that a node logs.
type debugLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *debugLog) level() slog.Level { return slog.LevelDebug }

func (l *debugLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *debugLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestNoKeysInTheClear is S20: over UDP and TCP no key is offered, none is taken, and what has nothing else is refused with the reason.
func TestNoKeysInTheClear(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, listensTLS)
			r.user("alice", "101")
			r.user("bob", "102")
			tls := r.phone("bob", 1, r.ofKind(1))
			alice := r.phone("alice", 1, r.over(transport), func(o *phone.Config) { o.SRTP = phone.OSRTP })
			d, err := r.reg.Find("alice", "1")
			must(t, err)
			r.reg.Learn(d, map[string]string{registrar.LearntSRTP: "savp"}) // whatever is known of it
			r.eventually("its profile is known", 3*time.Second, func() bool { return r.learntSRTP("alice") == "savp" })
			out, in := r.connect(alice, tls)
			if !strings.Contains(string(out.Invite().Body), "a=crypto:") {
				t.Fatal("alice has offered no keys")
			}
			if out.Media().Secure() != "" || in.Media().Secure() == "" {
				t.Errorf("alice's sound is protected by %q, bob's by %q", out.Media().Secure(), in.Media().Secure())
			}
			must(t, out.Hold(phone.HoldSendonly))
			must(t, out.Resume())
			must(t, out.Hangup())
			must(t, in.AwaitEnd(3*time.Second))
			out, in = r.connect(tls, alice)
			must(t, in.Hangup())
			must(t, out.AwaitEnd(3*time.Second))
			savp := strings.Replace(string(in.SDP()), "RTP/AVP", "RTP/SAVP", 1) + "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj\r\n"
			if m := r.refused(mustDial(t, alice, "102", phone.DialOptions{SDP: []byte(savp)}), 488); !strings.Contains(m.Get("Warning"), "SRTP") {
				t.Errorf("SRTP alone is refused with %q", m.Get("Warning"))
			}
			for _, m := range alice.Received(time.Time{}) {
				if strings.Contains(string(m.Body), "a=crypto") || strings.Contains(string(m.Body), "SAVP") {
					t.Errorf("it was sent %s with\n%s", m.Line(), m.Body)
				}
			}
			r.nothingLeft()
		})
	}
}

// TestKeysStaySecret is S20 for what a node tells of itself: no key of either side, and no password of ICE, is in its log, at any level, nor in
// what it shows of calls.
func TestKeysStaySecret(t *testing.T) {
	t.Parallel()
	log := &debugLog{}
	r := newRig(t, listensTLS, log)
	r.user("alice", "101")
	r.user("bob", "102")
	desk := r.phone("alice", 1, r.ofKind(1))
	out, in := r.connect(desk, r.phone("bob", 1, r.ofKind(2)))
	shown, err := json.Marshal(r.b.Calls(""))
	must(t, err)
	again := mustDial(t, r.phone("alice", 2, r.ofKind(2)), "*40")
	must(t, again.Await(5*time.Second))
	must(t, out.AwaitEnd(3*time.Second))
	must(t, in.Hangup())
	must(t, again.AwaitEnd(3*time.Second))
	r.nothingLeft()
	text := log.String() + string(shown)
	if !strings.Contains(text, "leg state") {
		t.Fatal("the log is not one of all levels")
	}
	secrets := 0
	for _, c := range []*phone.Call{out, in, again} {
		for _, m := range c.Phone().Log() {
			for line := range strings.Lines(string(m.Body)) {
				_, secret, ok := strings.Cut(strings.TrimSpace(line), "inline:")
				if !ok {
					secret, ok = strings.CutPrefix(strings.TrimSpace(line), "a=ice-pwd:")
				}
				if !ok {
					continue
				}
				secrets++
				raw, _ := base64.StdEncoding.DecodeString(secret)
				if strings.Contains(text, secret) || len(raw) > 8 && strings.Contains(text, string(raw)) {
					t.Errorf("%q is told", line)
				}
			}
		}
	}
	if secrets < 6 {
		t.Errorf("only %d secrets were looked for", secrets)
	}
	if strings.Contains(text, "inline:") || strings.Contains(text, "ice-pwd") {
		t.Error("descriptions are logged")
	}
}
