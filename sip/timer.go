package sip

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SessionExpires is a Session-Expires header (RFC 4028 §4): how long a session lasts without a refresh, and whose part the
// refresh is, seen from the transaction that the header stands in.
type SessionExpires struct {
	Interval  time.Duration // whole seconds
	Refresher string        // "uac", "uas", "" = not said
}

// Header writes it.
func (s SessionExpires) Header() Header {
	v := strconv.FormatInt(int64(s.Interval/time.Second), 10)
	if s.Refresher != "" {
		v += ";refresher=" + s.Refresher
	}
	return Header{"Session-Expires", v}
}

// MinSE is the header that says how short a session may be (RFC 4028 §5).
func MinSE(d time.Duration) Header {
	return Header{"Min-SE", strconv.FormatInt(int64(d/time.Second), 10)}
}

// SessionExpires reads the message's Session-Expires; false if it has none.
func (m *message) SessionExpires() (s SessionExpires, there bool, err error) {
	v := m.Header("Session-Expires")
	if v == "" {
		return s, false, nil
	}
	var params Params
	if s.Interval, params, err = seconds(v); err != nil {
		return s, true, fmt.Errorf("Session-Expires: %w", err)
	}
	switch s.Refresher, _ = params.Get("refresher"); s.Refresher {
	case "", "uac", "uas":
		return s, true, nil
	}
	return s, true, fmt.Errorf("Session-Expires: unknown refresher %q", s.Refresher)
}

// MinSE reads the message's Min-SE, 0 if it has none that can be read.
func (m *message) MinSE() time.Duration {
	d, _, err := seconds(m.Header("Min-SE"))
	if err != nil {
		return 0
	}
	return d
}

// seconds reads delta-seconds with parameters.
func seconds(v string) (time.Duration, Params, error) {
	number, rest := v, ""
	if i := strings.IndexByte(v, ';'); i >= 0 {
		number, rest = v[:i], v[i:]
	}
	n, err := strconv.ParseUint(trim(number), 10, 31)
	if err != nil {
		return 0, nil, fmt.Errorf("bad number of seconds %q", v)
	}
	params, err := parseParams(rest)
	return time.Duration(n) * time.Second, params, err
}

// Supports says whether the message names an option tag in Supported or Require.
func (m *message) Supports(option string) bool {
	return contains(m.Headers("Supported"), option) || contains(m.Headers("Require"), option)
}

// Allows says whether the message's Allow names a method.
func (m *message) Allows(method string) bool { return contains(m.Headers("Allow"), method) }

// Requires says whether the message names an option tag in Require.
func (m *message) Requires(option string) bool { return contains(m.Headers("Require"), option) }
