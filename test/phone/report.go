package phone

import (
	"encoding/binary"
	"errors"
	"net/netip"
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

// counted is what was heard of one source.
type counted struct {
	first, highest uint32 // extended sequence numbers
	packets        uint32
}

// tally counts a packet; m.mu is held.
func (m *Media) tally(ssrc uint32, seq uint16) {
	if m.counts == nil {
		m.counts = map[uint32]*counted{}
	}
	n := m.counts[ssrc]
	if n == nil {
		n = &counted{first: uint32(seq), highest: uint32(seq)}
		m.counts[ssrc] = n
	}
	if step := int16(seq - uint16(n.highest)); step > 0 {
		n.highest += uint32(step)
	}
	n.packets++
}

func (m *Media) setControl(at netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.control = at
}

// reportEach sends a sender report about all that was heard every so often, to where the peer wants RTCP (RFC 3550 §6.4.1).
func (m *Media) reportEach(every time.Duration) {
	m.readers.Add(1)
	go func() {
		defer m.readers.Done()
		for {
			time.Sleep(min(every, 100*time.Millisecond))
			m.mu.Lock()
			closed, due := m.closed, time.Since(m.told) >= every
			if due && !closed && !m.cut && m.control.IsValid() {
				m.told = time.Now()
				_, _ = m.rtcp.WriteToUDPAddrPort(m.senderReport(), m.control)
			}
			m.mu.Unlock()
			if closed {
				return
			}
		}
	}()
}

// senderReport is what the phone says; m.mu is held.
func (m *Media) senderReport() []byte {
	b := make([]byte, 28, 28+24*len(m.counts))
	b[0], b[1] = 0x80|byte(len(m.counts)), 200
	binary.BigEndian.PutUint32(b[4:], m.ssrc)
	binary.BigEndian.PutUint32(b[20:], m.packets)
	for ssrc, n := range m.counts {
		var block [24]byte
		binary.BigEndian.PutUint32(block[0:], ssrc)
		binary.BigEndian.PutUint32(block[4:], max(n.highest-n.first+1, n.packets)-n.packets)
		binary.BigEndian.PutUint32(block[8:], n.highest)
		b = append(b, block[:]...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	return b
}
