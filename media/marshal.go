package media

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pion/sdp/v3"
)

// Marshal writes the description.
func (d Description) Marshal() []byte {
	user := d.Origin.User
	if user == "" {
		user = "-"
	}
	home := connection(d.home())
	raw := sdp.SessionDescription{
		Origin: sdp.Origin{
			Username: user, SessionID: d.Origin.ID, SessionVersion: d.Origin.Version,
			NetworkType: "IN", AddressType: home.AddressType, UnicastAddress: home.Address.Address,
		},
		SessionName:           "-",
		ConnectionInformation: home,
		TimeDescriptions:      []sdp.TimeDescription{{}},
	}
	if len(d.Bundle) > 0 {
		raw.WithValueAttribute("group", "BUNDLE "+strings.Join(d.Bundle, " "))
	}
	if slices.ContainsFunc(d.Lines, func(l Line) bool { return l.ICE != nil && l.ICE.Lite }) {
		raw.WithPropertyAttribute("ice-lite")
	}
	for _, l := range d.Lines {
		m := l.marshal()
		if l.Addr.Port() != 0 && l.Addr.Addr() != d.home() {
			m.ConnectionInformation = connection(l.Addr.Addr())
		}
		raw.MediaDescriptions = append(raw.MediaDescriptions, m)
	}
	b, err := raw.Marshal()
	if err != nil {
		return nil // it has no way to fail
	}
	return b
}

// home is the session's address, or the first line's where only lines have one.
func (d Description) home() netip.Addr {
	if d.Addr.IsValid() {
		return d.Addr
	}
	for _, l := range d.Lines {
		if l.Addr.Addr().IsValid() {
			return l.Addr.Addr()
		}
	}
	return netip.IPv4Unspecified()
}

func connection(a netip.Addr) *sdp.ConnectionInformation {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	family := "IP4"
	if a.Is6() {
		family = "IP6"
	}
	return &sdp.ConnectionInformation{NetworkType: "IN", AddressType: family, Address: &sdp.Address{Address: a.String()}}
}

func (l Line) marshal() *sdp.MediaDescription {
	m := &sdp.MediaDescription{MediaName: sdp.MediaName{
		Media: l.Kind, Port: sdp.RangedPort{Value: int(l.Addr.Port())}, Protos: []string{l.Proto}, Formats: l.formats(),
	}}
	if l.Mid != "" {
		m.WithValueAttribute("mid", l.Mid)
	}
	if l.Addr.Port() == 0 {
		return m
	}
	for _, c := range l.Codecs {
		pt := strconv.Itoa(int(c.PT))
		m.WithValueAttribute("rtpmap", pt+" "+c.rtpmap())
		if c.Fmtp != "" {
			m.WithValueAttribute("fmtp", pt+" "+c.Fmtp)
		}
	}
	if l.Ptime > 0 {
		m.WithValueAttribute("ptime", strconv.Itoa(l.Ptime))
	}
	if l.RTCP.IsValid() && l.RTCP != next(l.Addr) {
		m.WithValueAttribute("rtcp", rtcpValue(l.RTCP, l.Addr.Addr()))
	}
	if l.RTCPMux {
		m.WithPropertyAttribute("rtcp-mux")
	}
	for _, c := range l.Crypto {
		m.WithValueAttribute("crypto", c.value())
	}
	l.writeTransport(m)
	return m.WithPropertyAttribute(l.Direction.String())
}

func rtcpValue(at netip.AddrPort, home netip.Addr) string {
	port := strconv.Itoa(int(at.Port()))
	if at.Addr() == home {
		return port
	}
	c := connection(at.Addr())
	return strings.Join([]string{port, c.NetworkType, c.AddressType, c.Address.Address}, " ")
}

// formats returns the fmt fields: the codecs' payload types, else the raw ones.
func (l Line) formats() []string {
	if len(l.Codecs) == 0 || l.Addr.Port() == 0 && len(l.Formats) > 0 {
		if len(l.Formats) == 0 {
			return []string{"0"}
		}
		return l.Formats
	}
	out := make([]string, len(l.Codecs))
	for i, c := range l.Codecs {
		out[i] = strconv.Itoa(int(c.PT))
	}
	return out
}

func (c Codec) rtpmap() string {
	v := c.Name + "/" + strconv.Itoa(c.Rate)
	if c.Channels > 1 {
		v += "/" + strconv.Itoa(c.Channels)
	}
	return v
}
