package phone

import (
	"encoding/binary"
	"errors"
	"time"
)

// Report sends an RTCP receiver report about what was heard so far, with so many packets lost of it (RFC 3550 §6.4.2).
func (m *Media) Report(lost uint32) error { return m.ReportTrip(lost, 0) }

// ReportTrip is Report by which a round trip of so long is measured, 0 = none: as if the peer's last sender report were that old, and had come
// this moment.
func (m *Media) ReportTrip(lost uint32, trip time.Duration) error {
	heard := m.Heard()
	if len(heard) == 0 {
		return errors.New("nothing was heard to report of")
	}
	last := heard[len(heard)-1]
	b := make([]byte, 32)
	b[0], b[1], b[3] = 0x81, 201, 7
	binary.BigEndian.PutUint32(b[4:], m.ssrc)
	binary.BigEndian.PutUint32(b[8:], last.SSRC)
	binary.BigEndian.PutUint32(b[12:], lost)
	if lost > 0 {
		b[12] = byte(min(lost*256/uint32(len(heard)), 255))
	}
	binary.BigEndian.PutUint32(b[16:], uint32(last.Seq))
	if trip > 0 {
		binary.BigEndian.PutUint32(b[24:], middle(time.Now().Add(-trip)))
	}
	return m.SendRaw(b, true)
}

// middle is a time as the middle 32 bits of an NTP timestamp.
func middle(t time.Time) uint32 {
	const since1900 = 2208988800
	return uint32(t.Unix()+since1900)<<16 | uint32(t.Nanosecond()*(1<<16)/1e9)
}
