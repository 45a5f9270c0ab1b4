package sip

import (
	"net/netip"
	"testing"

	"baton/config"
)

func TestOwn(t *testing.T) {
	a := start(t, func(o *Options) { o.Advertise = config.Advertise{SIP: "sip.example.net:5080"} })
	for host, want := range map[string]bool{
		"example.com": true, "EXAMPLE.com": true, "sip.example.net": true, "127.0.0.1": true, "::1": true, "[::1]": true,
		"::ffff:127.0.0.1": true, "localhost": true, "": false, "example.org": false, "192.0.2.1": false, "2001:db8::1": false,
	} {
		if got := a.Own(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestContactURI(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct{ advertise, transport, remote, want string }{
		{"", "udp", "127.0.0.1:9", "sip:u@127.0.0.1"},
		{"198.51.100.1", "udp", "192.0.2.1:9", "sip:u@198.51.100.1"},
		{"198.51.100.1", "tcp", "192.0.2.1:9", "sip:u@198.51.100.1"},
		{"198.51.100.1", "udp", "10.1.2.3:9", "sip:u@127.0.0.1"},
		{"198.51.100.1", "udp", "127.0.0.1:9", "sip:u@127.0.0.1"},
		{"2001:db8::7", "udp", "[2001:db8::1]:9", "sip:u@[2001:db8::7]"},
		{"198.51.100.1", "udp", "[2001:db8::1]:9", "sip:u@127.0.0.1"}, // no address of another family
		{"2001:db8::7", "udp", "192.0.2.1:9", "sip:u@127.0.0.1"},
		{"sip.example.net:5080", "udp", "[2001:db8::1]:9", "sip:u@sip.example.net:5080"},
		{"sip.example.net:5080", "udp", "192.0.2.1:9", "sip:u@sip.example.net:5080"},
	} {
		a := start(t, func(o *Options) { o.Advertise = config.Advertise{SIP: c.advertise, Local: local} })
		bound := a.Addrs()[c.transport]
		u := a.ContactURI(Flow{Transport: c.transport, Local: bound, Remote: netip.MustParseAddrPort(c.remote)}, "u")
		if u.Port == int(bound.Port()) {
			u.Port = 0
		} else if u.Port != 5080 {
			t.Errorf("port %d", u.Port)
		}
		if c.transport == "tcp" {
			c.want += ";transport=tcp"
		}
		if u.String() != c.want {
			t.Errorf("%s to %s: %s, want %s", c.advertise, c.remote, u, c.want)
		}
	}
}

// TestContactURIOfWebSocket wants the port of the web server, which is another than that of SIP.
func TestContactURIOfWebSocket(t *testing.T) {
	t.Parallel()
	for advertise, want := range map[string]string{
		"":                     "sip:u@10.0.0.1:8443;transport=ws",
		"198.51.100.1":         "sip:u@198.51.100.1:8443;transport=ws",
		"sip.example.net:5080": "sip:u@sip.example.net:8443;transport=ws",
	} {
		a := start(t, func(o *Options) { o.Advertise = config.Advertise{SIP: advertise} })
		f := Flow{Transport: "wss", Local: netip.MustParseAddrPort("10.0.0.1:8443"), Remote: netip.MustParseAddrPort("192.0.2.1:9")}
		if u := a.ContactURI(f, "u"); u.String() != want {
			t.Errorf("%q: %s, want %s", advertise, u, want)
		}
	}
}
