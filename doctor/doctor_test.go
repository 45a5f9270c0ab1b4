package doctor

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"baton/config"
)

// only wants exactly these levels, and the words in what was found or its cure.
func only(t *testing.T, name string, all []Finding, want Level, words string) {
	t.Helper()
	if Worst(all) != want {
		t.Errorf("%s: the worst is %s, want %s: %+v", name, Worst(all), want, all)
	}
	for _, f := range all {
		if f.Level > OK && len(f.Cure) == 0 && f.Level > Note {
			t.Errorf("%s: no cure for %+v", name, f)
		}
		if f.Level == want && strings.Contains(f.Where+": "+f.Text+"\n"+strings.Join(f.Cure, "\n"), words) {
			return
		}
	}
	t.Errorf("%s: no %s with %q in %+v", name, want, words, all)
}

func TestParseSockets(t *testing.T) {
	const udp = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  123: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 45678 2 0000000000000000 0
  124: 00000000:4E20 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 45679 2 0000000000000000 0
`
	const tcp6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:13C4 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     5        0 777 1 0 100 0 0 10 0
   1: 0000000000000000FFFF00000100007F:13C5 0000000000000000FFFF00000100007F:ABCD 01 00000000:00000000 00:00000000 00000000     5        0 778 1 0 20 4 30 10 -1
`
	all := append(parseSockets([]byte(udp), "udp"), parseSockets([]byte(tcp6), "tcp")...)
	want := []Socket{
		{Network: "udp", Addr: netip.MustParseAddrPort("127.0.0.1:5060"), UID: 1000, inode: 45678},
		{Network: "udp", Addr: netip.MustParseAddrPort("0.0.0.0:20000"), inode: 45679},
		{Network: "tcp", Addr: netip.MustParseAddrPort("[::]:5060"), UID: 5, inode: 777},
	}
	if len(all) != len(want) {
		t.Fatalf("%+v, want %+v", all, want)
	}
	for i := range want {
		if all[i] != want[i] {
			t.Errorf("%+v, want %+v", all[i], want[i])
		}
	}
}

func FuzzSockets(f *testing.F) {
	f.Add([]byte("  1: 0100007F:13C4 00000000:0000 07 0:0 00:0 0 1000 0 45678 2 0 0\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range parseSockets(b, "udp") {
			if !s.Addr.Addr().IsValid() {
				t.Errorf("%+v has no address", s)
			}
		}
	})
}

// TestOwnSockets finds a socket of this very process.
func TestOwnSockets(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	all, err := Sockets()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Addr.String() == conn.LocalAddr().String() && s.PID == os.Getpid() && s.Program == "doctor.test" {
			return
		}
	}
	t.Errorf("%s of pid %d is not among %d sockets", conn.LocalAddr(), os.Getpid(), len(all))
}

func TestElsewhere(t *testing.T) {
	udp := func(at string) Socket { return Socket{Network: "udp", Addr: netip.MustParseAddrPort(at)} }
	c := config.Default().Listen
	own := config.Listen{UDP: "127.0.0.1:5060", TCP: "off", TLS: ":5061"}
	tests := []struct {
		c       config.Listen
		sockets []Socket
		want    string
	}{
		{c, nil, ""},
		{c, []Socket{udp("0.0.0.0:5060")}, "BATON_LISTEN_UDP=:5062 BATON_LISTEN_TCP=:5062 run"},
		{c, []Socket{udp("10.0.0.1:5060"), udp("0.0.0.0:5062")}, "BATON_LISTEN_UDP=:5064 BATON_LISTEN_TCP=:5064 run"},
		{c, []Socket{{Network: "tcp", Addr: netip.MustParseAddrPort("[::]:5061")}}, "BATON_LISTEN_TLS=:5063 run"},
		{c, []Socket{{Network: "tcp", Addr: netip.MustParseAddrPort("[::]:5062")}}, ""},
		{config.Listen{UDP: ":5060", TCP: "off", TLS: ":5062"}, []Socket{udp("0.0.0.0:5060")}, "BATON_LISTEN_UDP=:5064 run"},
		{own, []Socket{udp("127.0.0.1:5060")}, "BATON_LISTEN_UDP=127.0.0.1:5062 run"},
		{own, []Socket{udp("127.0.0.2:5060")}, ""},
	}
	for _, tt := range tests {
		if got := strings.Join(Elsewhere(tt.c, tt.sockets, "run"), "\n"); got != tt.want {
			t.Errorf("%+v %+v: %q, want %q", tt.c, tt.sockets, got, tt.want)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "users.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		now     time.Time
		written time.Time
		step    float64
		want    Level
		words   string
	}{
		{"right", now, now.Add(-time.Hour), 0.2, OK, "2026-11-01 12:00:00 UTC"},
		{"after a boot without a battery", time.Unix(1000, 0), time.Unix(0, 0), 0, Error, "shows Thu, 01 Jan 1970"},
		{"behind its files", now, now.Add(time.Hour), 0, Warning, "1h0m0s after now"},
		{"set on", now, now, 3600, Warning, "set by +3600 s"},
		{"set back", now, now, -90, Warning, "set by -90 s"},
	}
	for _, tt := range tests {
		if err := os.Chtimes(filepath.Join(dir, "users.db"), tt.written, tt.written); err != nil {
			t.Fatal(err)
		}
		all := Clock(tt.now, dir, tt.step)
		only(t, tt.name, all[:len(all)-1], tt.want, tt.words) // the last is about this machine's synchronisation
	}
}

func TestAddresses(t *testing.T) {
	lan := Address{netip.MustParseAddr("10.0.0.5"), "eth0", ""}
	docker := Address{netip.MustParseAddr("172.17.0.1"), "docker0", "containers"}
	lo := Address{netip.MustParseAddr("127.0.0.1"), "lo", "this machine only"}
	all := []Address{lan, docker, lo}
	set := func(sip, media, bound string) config.Config {
		c := config.Default()
		c.Advertise.SIP, c.Advertise.Media, c.Media.Address = sip, media, bound
		return c
	}
	tests := []struct {
		name    string
		c       config.Config
		machine []Address
		want    Level
		words   string
	}{
		{"usual", set("", "", ""), all, OK, "reach this machine at 10.0.0.5 (eth0); not for phones elsewhere: 172.17.0.1 (docker0: containers)"},
		{"loopback alone", set("", "", ""), []Address{lo}, Warning, "no address but loopback"},
		{"containers alone", set("", "", ""), []Address{docker, lo}, Warning, "172.17.0.1 (docker0: containers)"},
		{"bound", set("", "", "10.0.0.5"), all, OK, "media.address 10.0.0.5: is on eth0"},
		{"bound to another", set("", "", "10.0.0.6"), all, Error, "BATON_MEDIA_ADDRESS=10.0.0.5"},
		{"bound to containers", set("", "", "172.17.0.1"), all, Warning, "for containers (docker0)"},
		{"bound to loopback", set("", "", "127.0.0.1"), all, Warning, "on this machine alone"},
		{"public", set("203.0.113.7", "203.0.113.7", ""), all, Note, "if a router with it forwards"},
		{"private", set("192.168.1.9", "192.168.1.9", ""), all, Warning, "a private address that this machine does not have"},
		{"its own", set("10.0.0.5", "10.0.0.5", ""), all, OK, "advertise.media 10.0.0.5: is an address of this machine"},
		{"half", set("203.0.113.7", "", ""), all, Note, "only one of"},
	}
	for _, tt := range tests {
		only(t, tt.name, Addresses(tt.c, tt.machine), tt.want, tt.words)
	}
}

func TestDevices(t *testing.T) {
	c := config.Default()
	at := netip.MustParseAddrPort
	tests := []struct {
		name  string
		d     Device
		want  Level
		words string
	}{
		{"as it says", Device{"a", "d", "sip:a@10.0.0.9:5060;ob", at("10.0.0.9:5060"), "udp"}, OK, "1 of 1"},
		{"port left out", Device{"a", "d", "<sip:a@10.0.0.9>", at("10.0.0.9:5060"), "udp"}, OK, "1 of 1"},
		{"IPv6", Device{"a", "d", "sip:a@[fd00::9]:5062;transport=udp", at("[fd00::9]:5062"), "udp"}, OK, "1 of 1"},
		{"mapped", Device{"a", "d", "sip:a@10.0.0.9:5060", at("[::ffff:10.0.0.9]:5060"), "udp"}, OK, "1 of 1"},
		{"a name", Device{"a", "d", "sip:x@abc.invalid;transport=ws", at("10.0.0.9:4444"), "tcp"}, OK, "1 of 1"},
		{"a connection", Device{"a", "d", "sip:a@10.0.0.9:5060;transport=tcp", at("10.0.0.9:51234"), "tcp"}, OK, "1 of 1"},
		{"another address", Device{"a", "d", "sip:a@192.168.1.20:5060", at("10.0.0.9:61234"), "udp"}, Note, "heard from 10.0.0.9:61234 over UDP, but says it is at 192.168.1.20:5060: it is behind NAT"},
		{"another port", Device{"a", "d", "sip:a@10.0.0.9:5060", at("10.0.0.9:61234"), "udp"}, Note, "a NAT changes its port"},
		{"loopback", Device{"a", "d", "sip:a@127.0.0.1:5060", at("10.0.0.9:5060"), "udp"}, Note, "does not know its own address"},
		{"outside", Device{"a", "d", "sip:a@203.0.113.5:5060", at("203.0.113.5:5060"), "udp"}, Note, "outside the local networks (203.0.113.5)"},
	}
	for _, tt := range tests {
		only(t, tt.name, Devices(c, []Device{tt.d}), tt.want, tt.words)
	}
	only(t, "none", Devices(c, nil), OK, "none is registered")
}

func FuzzContact(f *testing.F) {
	for _, uri := range []string{"sip:a@[::1]:5060;ob", "sips:1.2.3.4", "<sip:a@b@1.2.3.4:1?x=y>", "tel:1", ""} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if at, ok := contactAddress(uri); ok && !at.Addr().IsValid() {
			t.Errorf("%q: %v", uri, at)
		}
	})
}

func TestAudioPorts(t *testing.T) {
	with := func(first, last uint16) config.Config {
		c := config.Default()
		c.Media.Ports = config.PortRange{First: first, Last: last}
		return c
	}
	kernel := Kernel{Ephemeral: config.PortRange{First: 32768, Last: 60999}}
	reserved := Kernel{Ephemeral: kernel.Ephemeral, Reserved: "8080,40000-41999"}
	squatter := []Socket{{Network: "udp", Addr: netip.MustParseAddrPort("0.0.0.0:20002"), PID: 7, Program: "rtpengine"}}
	tests := []struct {
		name    string
		c       config.Config
		sockets []Socket
		k       Kernel
		pid     int
		want    Level
		words   string
	}{
		{"usual", with(20000, 29999), nil, kernel, 0, OK, "room for 2500 calls"},
		{"small", with(20001, 20010), nil, kernel, 0, Warning, "room for 2 calls"},
		{"taken", with(20000, 29999), squatter, kernel, 0, Warning, "20002 by rtpengine (pid 7)"},
		{"its own", with(20000, 29999), squatter, kernel, 7, OK, "room"},
		{"the kernel's", with(40000, 40999), nil, kernel, 0, Note, "ip_local_reserved_ports=40000-40999"},
		{"reserved", with(40000, 40999), nil, reserved, 0, OK, "room"},
		{"reserved in part", with(40000, 42999), nil, reserved, 0, Note, "ip_local_reserved_ports=8080,40000-41999,40000-42999"},
		{"over SIP", with(5000, 5999), nil, kernel, 0, Warning, "the SIP port 5060 is inside"},
	}
	for _, tt := range tests {
		only(t, tt.name, AudioPorts(tt.c, tt.sockets, tt.k, tt.pid), tt.want, tt.words)
	}
}

func TestFiles(t *testing.T) {
	r := config.Default().Media.Ports
	tests := []struct {
		limit uint64
		want  Level
		words string
	}{
		{1 << 40, OK, "all 2500 calls"},
		{10050, OK, "all 2500 calls"},
		{10049, Note, "for 2499 calls"},
		{256, Warning, "for 51 calls"},
		{64, Error, "prlimit --pid 9 --nofile=10050:10050"},
		{10, Error, "for 0 calls"},
	}
	for _, tt := range tests {
		only(t, "limit", []Finding{files(tt.limit, 9, r)}, tt.want, tt.words)
	}
	limit, err := parseLimit("Limit  Soft Limit  Hard Limit  Units\nMax processes  1 2 processes\nMax open files            1024                 524288               files     \n")
	if err != nil || limit != 1024 {
		t.Errorf("%d, error %v", limit, err)
	}
	if _, err := parseLimit(""); err == nil {
		t.Error("no limit was read from nothing")
	}
}

// book answers as a name server would.
type book map[string]string

func (b book) LookupNetIP(ctx context.Context, _, host string) ([]netip.Addr, error) {
	switch b[host] {
	case "silent":
		<-ctx.Done()
		return nil, ctx.Err()
	case "":
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.MustParseAddr(b[host])}, nil
}

func TestNames(t *testing.T) {
	names := book{"here.example": "10.0.0.5", "there.example": "198.51.100.1", "nat.example": "203.0.113.7"}
	machine := []Address{{netip.MustParseAddr("10.0.0.5"), "eth0", ""}}
	tests := []struct {
		domain string
		want   Level
		words  string
	}{
		{"", OK, ""},
		{"10.0.0.9", OK, ""},
		{"here.example", OK, "resolves to 10.0.0.5"},
		{"nat.example", OK, "resolves to 203.0.113.7"},
		{"there.example", Warning, "resolves to 198.51.100.1, which is not this machine"},
		{"nowhere.example", Note, "does not resolve"},
	}
	for _, tt := range tests {
		c := config.Default()
		c.Domain, c.Advertise.Media = tt.domain, "203.0.113.7"
		all := Names(t.Context(), names, c, machine)
		if tt.words == "" && len(all) != 0 {
			t.Errorf("%q: %+v", tt.domain, all)
		}
		if tt.words != "" {
			only(t, tt.domain, all, tt.want, tt.words)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	c := config.Default()
	c.Domain = "far.example"
	only(t, "no network", Names(over, book{"far.example": "silent"}, c, machine), Note, "skipped")
}

func TestLevels(t *testing.T) {
	all := []Finding{{Level: OK, Text: "a"}, {Level: Error, Text: "b"}, {Level: Note, Text: "c"}, {Level: Error, Text: "d"}}
	Sort(all)
	var order strings.Builder
	for _, f := range all {
		order.WriteString(f.Text)
	}
	if order.String() != "bdca" || Worst(all) != Error || Worst(nil) != OK || Count(all, Error) != 2 {
		t.Errorf("order %s, worst %s", order.String(), Worst(all))
	}
	for l := OK; l <= Error; l++ {
		text, err := l.MarshalText()
		var back Level
		if err2 := back.UnmarshalText(text); err != nil || err2 != nil || back != l {
			t.Errorf("%s comes back as %s", l, back)
		}
	}
}

// FuzzLists reads what the kernel tells of limits and ports, and a certificate's file.
func FuzzLists(f *testing.F) {
	f.Add("Max open files            1024                 4096                 files\n", uint16(20000), uint16(29999))
	f.Add("8080,20000-29999", uint16(20000), uint16(29999))
	f.Add("-,1-,-2,99999-1", uint16(1), uint16(2))
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, text string, first, last uint16) {
		if n, err := parseLimit(text); err == nil && !strings.Contains(text, "Max open files") {
			t.Errorf("%q has a limit of %d", text, n)
		}
		if reserves(text, first, last) && first <= last && !strings.ContainsAny(text, "0123456789") {
			t.Errorf("%q reserves %d-%d", text, first, last)
		}
		if c, err := firstCertificate([]byte(text)); err == nil && c == nil {
			t.Error("a certificate that is none")
		}
	})
}
