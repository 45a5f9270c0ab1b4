package doctor

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"baton/config"
)

// TestService has the records of a domain lead here, elsewhere, to both and nowhere: what does not lead here is told, with
// the lines that do.
func TestService(t *testing.T) {
	machine := []Address{{IP: netip.MustParseAddr("192.0.2.1"), On: "eth0"}}
	at := func(transport, addr string) Place { return Place{transport, netip.MustParseAddrPort(addr)} }
	usual := config.Listen{UDP: ":5060", TCP: ":5060", TLS: ":5061"}
	for _, c := range []struct {
		name   string
		listen config.Listen
		sip    string
		places []Place
		err    error
		level  Level
		text   string
		cure   string
	}{
		{"here", usual, "", []Place{at("udp", "192.0.2.1:5060"), at("tcp", "192.0.2.1:5060")}, nil, OK, "lead here: udp 192.0.2.1:5060, tcp", ""},
		{"mapped", usual, "", []Place{at("udp", "[::ffff:192.0.2.1]:5060")}, nil, OK, "lead here", ""},
		{"behind NAT", usual, "198.51.100.1", []Place{at("udp", "198.51.100.1:5060")}, nil, OK, "lead here", ""},
		{"another machine", usual, "", []Place{at("udp", "192.0.2.9:5060")}, nil, Warning, "lead phones to udp 192.0.2.9:5060, where this node does not listen", "_sip._udp.example.org. 3600 IN SRV 10 10 5060 example.org."},
		{"another port", config.Listen{UDP: ":5080", TCP: "off", TLS: "off"}, "sip.example.net", []Place{at("udp", "192.0.2.1:5060")}, nil, Warning, "does not listen", "_sip._udp.example.org. 3600 IN SRV 10 10 5080 sip.example.net."},
		{"a transport that is off", config.Listen{UDP: "off", TCP: ":5060", TLS: "off"}, "", []Place{at("udp", "192.0.2.1:5060")}, nil, Warning, "does not listen", `example.org. 3600 IN NAPTR 20 50 "s" "SIP+D2T" "" _sip._tcp.example.org.`},
		{"one of two", usual, "", []Place{at("udp", "192.0.2.9:5060"), at("udp", "192.0.2.1:5060")}, nil, Warning, "192.0.2.9:5060, where this node does not listen, beside udp 192.0.2.1:5060", "SIPS+D2T"},
		{"none", usual, "", nil, nil, Note, "has no record", "_sips._tcp.example.org. 3600 IN SRV 10 10 5061 example.org."},
		{"no name server", usual, "", nil, errors.New("timeout"), Note, "skipped", "baton doctor"},
	} {
		find := func(_ context.Context, scheme, domain string) ([]Place, error) {
			if domain != "example.org" {
				t.Errorf("asked for %s", domain)
			}
			if scheme == "sips" {
				return []Place{at("tls", "192.0.2.1:5061")}, nil
			}
			return c.places, c.err
		}
		set := config.Config{Domain: "example.org", Listen: c.listen, Advertise: config.Advertise{SIP: c.sip}}
		all := Service(context.Background(), find, set, machine)
		f := all[0]
		if f.Level != c.level || !strings.Contains(f.Text, c.text) || !strings.Contains(strings.Join(f.Cure, "\n"), c.cure) || f.Check != "records" {
			t.Errorf("%s: %v %s\n%s", c.name, f.Level, f.Text, strings.Join(f.Cure, "\n"))
		}
		if secure := c.listen.TLS != "off"; len(all) != 1 && !secure || secure && (len(all) != 2 || all[1].Level != OK) {
			t.Errorf("%s: %v", c.name, all)
		}
	}
	for _, domain := range []string{"", "192.0.2.1"} {
		if all := Service(context.Background(), nil, config.Config{Domain: domain}, machine); len(all) != 0 {
			t.Errorf("domain %q: %v", domain, all)
		}
	}
}
