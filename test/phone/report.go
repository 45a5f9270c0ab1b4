package phone

import (
	"encoding/binary"
	"errors"
)

// Report sends an RTCP receiver report about what was heard so far, with so many packets lost of it (RFC 3550 §6.4.2).
func (m *Media) Report(lost uint32) error {
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
	return m.SendRaw(b, true)
}
