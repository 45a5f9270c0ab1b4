package call

import (
	"testing"
	"time"

	"baton/media"
)

func TestReadKey(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		kind, body string
		want       media.Key
	}{
		{relayType, "Signal=5\r\nDuration=160\r\n", media.Key{Code: 5, Length: 160 * ms}},
		{relayType, "Signal= 5\r\nDuration= 160", media.Key{Code: 5, Length: 160 * ms}},
		{relayType, "duration=80\nSIGNAL=d\n", media.Key{Code: 15, Length: 80 * ms}},
		{relayType, "Signal=*", media.Key{Code: 10, Length: keyLength}},
		{relayType, "Signal=11\r\n", media.Key{Code: 11, Length: keyLength}},
		{relayType, "Signal=#\r\nDuration=0\r\n", media.Key{Code: 11, Length: keyLeast}},
		{relayType, "Signal=1\r\nDuration=999999999\r\n", media.Key{Code: 1, Length: keyMost}},
		{relayType, "Signal=1\r\nSignal=2\r\n", media.Key{Code: 1, Length: keyLength}},
		{relayType, "Signal=!\r\n", media.Key{Code: 16, Length: keyLength}},
		{plainType, "0", media.Key{Code: 0, Length: keyLength}},
		{plainType, "\r\n a \r\n", media.Key{Code: 12, Length: keyLength}},
	} {
		if k, err := readKey(c.kind, c.body); err != nil || k != c.want {
			t.Errorf("%q: %+v, %v; want %+v", c.body, k, err, c.want)
		}
	}
	for _, body := range []string{"", "Signal=", "Signal=17", "Signal=55x", "Signal=1\r\nDuration=-1", "Signal=1\r\nDuration=99999999999", "5", "Signal=é", "Signal=012"} {
		if k, err := readKey(relayType, body); err == nil {
			t.Errorf("%q was read as %+v", body, k)
		}
	}
}

// FuzzReadKey: whatever an INFO brings is a key of the telephone of a bearable length, or an error.
func FuzzReadKey(f *testing.F) {
	f.Add(true, "Signal=5\r\nDuration=160\r\n")
	f.Add(false, "#")
	f.Fuzz(func(t *testing.T, relay bool, body string) {
		kind := plainType
		if relay {
			kind = relayType
		}
		k, err := readKey(kind, body)
		if err == nil && (k.Code > media.LastKey || k.Length < keyLeast || k.Length > keyMost) {
			t.Errorf("%q: %+v", body, k)
		}
	})
}
