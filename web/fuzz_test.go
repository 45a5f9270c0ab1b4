package web

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"baton/registrar"
)

// FuzzSettings has a client send anything as a change of a user's settings: it is refused as the client's fault, or what it has set
// can be shown, and sent again means the same.
func FuzzSettings(f *testing.F) {
	for _, body := range []string{
		`{"settings":{"dnd":true,"ring":"20s","forward":{"no_answer":"102","no_answer_after":"15s","away":""}}}`,
		`{"settings":{"ring":"-1s"}}`, `{"settings":{"ring":"9999999h"}}`, `{"settings":null}x`, `{"user":1}`, "", "[",
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		apply := func() (s registrar.Settings, err error) {
			var want ChangeUser
			if err = read(httptest.NewRequest("PATCH", "/", strings.NewReader(body)), &want); err != nil {
				return s, err
			}
			change, err := want.Settings.change()
			if err == nil {
				change(&s)
			}
			return s, err
		}
		s, err := apply()
		var refused *refusal
		if err != nil && (!errors.As(err, &refused) || refused.code/100 != 4) {
			t.Fatalf("%v", err)
		}
		if again, _ := apply(); err == nil && again != s {
			t.Errorf("%+v, and %+v when it is sent again", s, again)
		}
		shown := showSettings(s)
		for _, text := range []string{shown.Ring, shown.Forward.NoAnswerAfter} {
			if d, err := duration("x", &text); err != nil || *d < 0 {
				t.Errorf("%q is shown: %v", text, err)
			}
		}
	})
}

// FuzzQuery asks the log with anything behind the question mark.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"n=20&user=101&kind=call_ended&kind=", "since=2026-01-31T12:00:00Z&until=x", "n=-1", "n=99999999999999999999", "%zz", "call=%00"} {
		f.Add(q)
	}
	s := NewServer(Options{Registrar: &users{}})
	f.Fuzz(func(t *testing.T, raw string) {
		r := httptest.NewRequest("GET", "/api/v1/log", nil)
		r.URL = &url.URL{Path: "/api/v1/log", RawQuery: raw}
		q, err := s.query(r)
		var refused *refusal
		if err != nil && (!errors.As(err, &refused) || refused.code != 400) {
			t.Fatalf("%v", err)
		}
		if err == nil && (q.Limit < 1 || q.Limit > MaxEntries) {
			t.Errorf("%d entries are asked for", q.Limit)
		}
	})
}
