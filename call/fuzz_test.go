package call

import (
	"context"
	"errors"
	"log/slog"
	"mime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"baton/config"
	"baton/media"
	"baton/sip"
)

// FuzzDialled dials anything: what is taken for a code that moves calls is that code and perhaps a device's index behind it.
func FuzzDialled(f *testing.F) {
	for _, seed := range []string{"*40", "*401", "*41", "*412", "*40+1", "*40 1", "*4000", "*4001", "*41999999999999999999", "*4", ""} {
		f.Add(seed)
	}
	codes := config.Default().Codes
	b := New(Options{Codes: codes, Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, dialled string) {
		target, ok := b.routeCode(dialled)
		if !ok {
			return
		}
		text := map[code]string{codePull: codes.Pull, codePush: codes.Push, codeCompanion: codes.Companion, codeLeave: codes.Leave}[target.Code]
		if target.N > 0 {
			text += strconv.Itoa(target.N)
		}
		if text != dialled || target.N < 0 || target.Device != nil || target.User.Name != "" {
			t.Errorf("%q means %+v", dialled, target)
		}
	})
}

// FuzzOffer has an INVITE bring any body: it is refused with a status that says why and words that stay on their line, or it can be
// answered.
func FuzzOffer(f *testing.F) {
	const offer = "v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
	f.Add("application/sdp", []byte(offer))
	f.Add("Application/SDP ; x=\"\"", []byte(strings.Replace(offer, "RTP/AVP", "RTP/SAVP", 1)))
	f.Add("text/plain", []byte("\"\r\nX: y"))
	f.Add("application/sdp", []byte("v=0\r\n\"\\\x00"))
	b := New(Options{Log: slog.New(slog.DiscardHandler)})
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		d, err := offerOf(sip.Body{Type: kind, Data: data}, media.Local{Crypto: media.Suites()})
		if err == nil {
			if (d == nil) != (len(data) == 0) {
				t.Fatalf("%q is no offer", data)
			}
			if d != nil && usable(*d, media.Local{Crypto: media.Suites()}) != nil {
				t.Errorf("%q was taken, but cannot be answered", data)
			}
			return
		}
		var refused *Refusal
		if !errors.As(err, &refused) || refused.Code != 400 && refused.Code != 413 && refused.Code != 415 && refused.Code != 488 {
			t.Fatalf("%v", err)
		}
		for _, h := range b.reply(err).Headers {
			words, ok := strings.CutPrefix(h.Value, `399 baton "`)
			if words = strings.NewReplacer(`\\`, "", `\"`, "").Replace(words); !ok || strings.IndexByte(words, '"') != len(words)-1 {
				t.Errorf("%s: %q", h.Name, h.Value)
			}
			if strings.ContainsFunc(h.Value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				t.Errorf("%s: %q", h.Name, h.Value)
			}
		}
	})
}

// FuzzRecord reads any bytes as the record of an earlier call, as they may stand in a store that a power cut has spoilt: what can be
// read can be written into the log.
func FuzzRecord(f *testing.F) {
	c := New(Options{Log: slog.New(slog.DiscardHandler)}).newCall(context.Background())
	f.Add([]byte(`{"id":"a","seats":[{"user":"alice","legs":[{"dialog":{"local":{},"flow":{"local":"10.0.0.1:5060"}},"agreed":{"direction":"sendonly"}}]}]}`))
	f.Add([]byte(`{"up":"2026-11-26T00:00:00Z","saved":"0001-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, blob []byte) {
		r, err := c.b.vault.decode(blob)
		if err != nil && !errors.Is(err, ErrSealed) {
			return
		}
		end := r.lastUp(c.started)
		if end.Before(r.Saved) || end.Before(c.started) {
			t.Errorf("it ended at %v, was saved at %v and last run at %v", end, r.Saved, c.started)
		}
		if r.Up.IsZero() && r.lasted(end) != 0 {
			t.Errorf("it lasted %v and was never up", r.lasted(end))
		}
	})
}

// FuzzMessageBody has a MESSAGE bring any type: what is passed on is one of the types that are, and names its charset alone.
func FuzzMessageBody(f *testing.F) {
	f.Add("text/plain;charset=utf-8", []byte("hello"))
	f.Add("Text/Plain ; charset=\"a\\\"b\"; x=y", []byte{0})
	f.Add("message/cpim", []byte("From: x"))
	f.Add("text/plain;charset=\xff", []byte("x"))
	f.Fuzz(func(t *testing.T, kind string, data []byte) {
		body, err := messageBody(sip.Body{Type: kind, Data: data})
		var refused *Refusal
		if err != nil {
			if !errors.As(err, &refused) || refused.Code/100 != 4 {
				t.Fatalf("%v", err)
			}
			return
		}
		again, err := messageBody(body)
		name, params, bad := mime.ParseMediaType(body.Type)
		delete(params, "charset")
		if err != nil || bad != nil || again.Type != body.Type || !slices.Contains(messageTypes, name) || len(params) > 0 || strings.ContainsAny(body.Type, "\r\n") {
			t.Errorf("%q → %q → %q (%v, %v)", kind, body.Type, again.Type, err, bad)
		}
	})
}
