package sip

import (
	"errors"
	"testing"
)

// TestReplacesNames: RFC 3891's own form, the tags the other way round, without tags, with "0", and what names another dialog.
func TestReplacesNames(t *testing.T) {
	d := DialogID{CallID: "cid@h", LocalTag: "ours", RemoteTag: "theirs"}
	for v, want := range map[string]bool{
		"cid@h;to-tag=ours;from-tag=theirs": true, "cid@h;to-tag=theirs;from-tag=ours": true, "cid@h;from-tag=ours": true,
		"cid@h": true, "cid@h;early-only": true, "cid@h;to-tag=0;from-tag=0": true, "cid@h;to-tag=ours;from-tag=0": true,
		"cid@h;to-tag=ours;from-tag=ours": false, "cid@h;to-tag=ours;from-tag=x": false, "cid@h;to-tag=x": false,
		"other@h;to-tag=ours;from-tag=theirs": false, "CID@h": false, "cid@h;to-tag=OURS;from-tag=theirs": false,
	} {
		r, err := ParseReplaces(v)
		if err != nil {
			t.Fatal(err)
		}
		if r.Names(d) != want {
			t.Errorf("%s: %v", v, !want)
		}
	}
	r, err := ParseReplaces("cid@h;to-tag=ours;from-tag=theirs")
	if err != nil || r.ID() != d {
		t.Errorf("%v, %v", r.ID(), err)
	}
}

// TestReplacesWhereItMayStand: one, in an INVITE, without Join; each breach is 400.
func TestReplacesWhereItMayStand(t *testing.T) {
	const one, join = "Replaces: a@b;to-tag=1;from-tag=2", "Join: a@b;to-tag=1;from-tag=2"
	for _, c := range []struct {
		method  string
		headers []string
		code    int // 0 = taken
	}{
		{"INVITE", []string{one}, 0},
		{"INVITE", []string{one, "Require: replaces"}, 0},
		{"INVITE", []string{join}, 0},
		{"INVITE", []string{one, one}, 400},
		{"INVITE", []string{join, join}, 400},
		{"INVITE", []string{one, join}, 400},
		{"INVITE", []string{join, "Require: join"}, 420},
		{"OPTIONS", []string{one}, 400},
		{"REFER", []string{one, "Refer-To: <sip:b@h>"}, 400},
		{"BYE", []string{one}, 400},
		{"ACK", []string{one}, 0},
	} {
		_, err := ParseRequest([]byte(msg{method: c.method, headers: c.headers}.String()))
		var r *refusal
		code := 0
		if errors.As(err, &r) {
			code = r.code
		}
		if code != c.code {
			t.Errorf("%s with %q: %d (%v), want %d", c.method, c.headers, code, err, c.code)
		}
	}
}
