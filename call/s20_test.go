package call_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/media"
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
	secrets := secretsOf(out, in, again)
	if len(secrets) < 6 {
		t.Errorf("only %d secrets were looked for", len(secrets))
	}
	for _, s := range secrets {
		if s.isIn([]byte(text)) {
			t.Errorf("%q is told", s.text)
		}
	}
	if strings.Contains(text, "inline:") || strings.Contains(text, "ice-pwd") {
		t.Error("descriptions are logged")
	}
}

// secret is what was told in a description.
type secret struct {
	text string // as it stood there
	raw  []byte // a key's bytes
}

// secretsOf are all keys and passwords of ICE that calls were told or have told, on the phones' side of the wire.
func secretsOf(calls ...*phone.Call) (all []secret) {
	for _, c := range calls {
		for _, m := range c.Phone().Log() {
			for line := range strings.Lines(string(m.Body)) {
				line = strings.TrimSpace(line)
				if _, key, ok := strings.Cut(line, "inline:"); ok {
					key, _, _ = strings.Cut(key, "|")
					raw, _ := base64.StdEncoding.DecodeString(key)
					all = append(all, secret{key, raw})
				} else if pwd, ok := strings.CutPrefix(line, "a=ice-pwd:"); ok {
					all = append(all, secret{text: pwd})
				}
			}
		}
	}
	return all
}

// isIn looks for the secret in the forms in which it could be written.
func (s secret) isIn(b []byte) bool {
	forms := [][]byte{[]byte(s.text), []byte(strings.TrimRight(s.text, "=")), []byte(base64.StdEncoding.EncodeToString([]byte(s.text)))}
	if len(s.raw) > 8 {
		forms = append(forms, s.raw, []byte(hex.EncodeToString(s.raw)), []byte(base64.RawURLEncoding.EncodeToString(s.raw)), s.raw[:len(s.raw)-12])
	}
	return slices.ContainsFunc(forms, func(f []byte) bool { return bytes.Contains(b, f) })
}

// TestKeysAreStoredSealed is S20 for the store: in the bytes of its files no key of the call stands, at no time of a call between SDES and a
// browser that is moved; and whoever has the node's secret finds each key in the record, in its place.
func TestKeysAreStoredSealed(t *testing.T) {
	t.Parallel()
	r := newRig(t, listensTLS)
	r.user("alice", "101")
	r.user("bob", "102")
	out, in := r.connect(r.phone("alice", 1, r.ofKind(1)), r.phone("bob", 1, r.ofKind(2)))
	kept := 0
	files := func(calls ...*phone.Call) {
		t.Helper()
		for _, name := range []string{"state.db", "users.db"} {
			b, err := os.ReadFile(filepath.Join(r.dir, name))
			must(t, err)
			if name == "state.db" {
				b = append(b, unpackedRecords(t, r)...)
			}
			if name == "state.db" && bytes.Contains(b, []byte(`"sealed":"`)) {
				kept++
			}
			for _, s := range secretsOf(calls...) {
				if s.isIn(b) {
					t.Errorf("%q stands in %s", s.text, name)
				}
			}
		}
	}
	files(out, in)
	stored, err := r.store.Calls()
	must(t, err)
	if len(stored) != 1 {
		t.Fatalf("%d records", len(stored))
	}
	record, err := call.DecodeRecord(r.store.Secret(), stored[0].Blob)
	must(t, err)
	told := secretsOf(out, in)
	is := func(key []byte) bool {
		return slices.ContainsFunc(told, func(s secret) bool { return bytes.Equal(s.raw, key) || s.text == string(key) })
	}
	for _, s := range record.Seats {
		a := s.Legs[0].Agreed
		switch {
		case s.User == "alice" && (a.Security != media.SDES || !is(a.In.Key) || !is(a.Out.Key) || bytes.Equal(a.In.Key, a.Out.Key)):
			t.Errorf("alice's leg: %v, keys of %d and %d bytes", a.Security, len(a.In.Key), len(a.Out.Key))
		case s.User == "alice" && s.Legs[0].SRTP == nil:
			t.Error("the record does not say where alice's SRTP stands")
		case s.User == "bob" && (a.Security != media.DTLS || !is(a.ICE.Pwd)):
			t.Errorf("bob's leg: %v, ICE password of %d bytes", a.Security, len(a.ICE.Pwd))
		}
	}
	if _, err := call.DecodeRecord([]byte("another node's secret, of 32 byte"), stored[0].Blob); !errors.Is(err, call.ErrSealed) {
		t.Errorf("with another secret: %v", err)
	}
	again := mustDial(t, r.phone("alice", 2, r.ofKind(1)), "*40")
	must(t, again.Await(5*time.Second))
	must(t, out.AwaitEnd(3*time.Second))
	files(out, in, again)
	must(t, in.Hangup())
	must(t, again.AwaitEnd(3*time.Second))
	r.nothingLeft()
	files(out, in, again)
	if n := len(secretsOf(out, in, again)); n < 6 || kept < 2 {
		t.Errorf("%d secrets were looked for, and a record was seen %d times", n, kept)
	}
}

// unpackedRecords are the JSON of all records that the store has.
func unpackedRecords(t *testing.T, r *rig) (all []byte) {
	t.Helper()
	stored, err := r.store.Calls()
	must(t, err)
	for _, s := range stored {
		all = append(all, recordText(t, s)...)
	}
	return all
}

// recordText is the JSON of a record.
func recordText(t *testing.T, s call.Stored) string {
	t.Helper()
	b, err := call.UnpackRecord(s.Blob)
	must(t, err)
	return string(b)
}

// TestKeysStayAtTLS has a phone with keys change to UDP in mid-call: its sound goes on as it is, and no key goes there, whatever is
// under way or asked for.
func TestKeysStayAtTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Listen.TLS = tlsBesideUDP })
	r.user("alice", "101")
	r.user("bob", "102")
	bob := r.phone("bob", 1)
	desk := r.phone("alice", 1, r.ofKind(1))
	out, in := r.connect(desk, bob)
	tlsOnly := time.Now()
	must(t, desk.Relocate(phone.Relocation{Transport: "udp"}))
	must(t, second(desk.Register(time.Minute)))
	time.Sleep(400 * time.Millisecond) // a re-INVITE is due 200 ms after that
	if !in.Hears(out, 3*time.Second) || !out.Hears(in, 3*time.Second) || out.Media().Secure() == "" {
		t.Errorf("its sound does not go on, protected by %q", out.Media().Secure())
	}
	if _, err := out.AskOffer(); err == nil || !strings.Contains(err.Error(), "488") {
		t.Errorf("asked for an offer: %v", err)
	}
	if err := out.Hold(phone.HoldSendonly); err != nil || !in.HearsTone(3*time.Second) { // by an offer with keys, over UDP
		t.Errorf("hold: %v", err)
	}
	if out.Media().Secure() != "" {
		t.Error("its keys were taken over UDP")
	}
	must(t, out.Resume())
	hearEachOther(t, out, in)
	for _, m := range desk.Received(tlsOnly) {
		if strings.Contains(string(m.Body), "a=crypto") {
			t.Errorf("it was sent %s with\n%s", m.Line(), m.Body)
		}
	}
	must(t, out.Hangup())
	must(t, in.AwaitEnd(3*time.Second))

	ringing := mustDial(t, bob, "101") // an INVITE that has gone out already
	_, err := desk.Ringing(3 * time.Second)
	must(t, err)
	must(t, ringing.Cancel())
	r.nothingLeft()
}

// TestRingingKeysStayAtTLS has a phone change to UDP while it rings with an offer of keys: that is not sent there once more, the phone is called
// anew without.
func TestRingingKeysStayAtTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *config.Config) { c.Listen.TLS, c.Call.Ring = tlsBesideUDP, 20*time.Second })
	r.user("alice", "101")
	r.user("bob", "102")
	bob := r.phone("bob", 1)
	desk := r.phone("alice", 1, r.ofKind(1))
	out := mustDial(t, bob, "101")
	_, err := desk.Ringing(3 * time.Second)
	must(t, err)
	r.eventually("bob hears it ring", 3*time.Second, func() bool { return !out.Times().Ringing.IsZero() })
	must(t, desk.Relocate(phone.Relocation{Transport: "udp"}))
	desk.Behave(phone.AutoAnswer)
	must(t, second(desk.Register(time.Minute)))
	must(t, out.Await(15*time.Second))
	var offers []string
	for _, m := range desk.Received(time.Time{}) {
		if m.Method == "INVITE" {
			offers = append(offers, profilesOf(m.Body))
		}
	}
	if got := strings.Join(offers, ", "); got != "RTP/AVP+, RTP/AVP" {
		t.Errorf("it was offered %s", got)
	}
	must(t, out.Hangup())
	r.nothingLeft()
}
