// Package config holds baton's settings, their defaults and their checks; it knows nothing of what is done with them.
package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Config is everything that can be set. Nothing set is a working system on one machine.
type Config struct {
	Domain      string      `yaml:"domain"` // host part of addresses-of-record; "" = any address of this machine
	Data        string      `yaml:"data"`   // directory of the embedded store, certificate and control socket
	Listen      Listen      `yaml:"listen"`
	TLS         TLS         `yaml:"tls"`
	Connections Connections `yaml:"connections"`
	Limits      Limits      `yaml:"limits"`
	Web         Web         `yaml:"web"`
	Advertise   Advertise   `yaml:"advertise"`
	Media       Media       `yaml:"media"`

	Proxies []netip.Prefix `yaml:"proxies"` // networks of proxies in front of the node; none by default
	Codes   Codes          `yaml:"codes"`
	Groups  Lists          `yaml:"groups"` // pick-up groups: members by the group's name
	Watch   Lists          `yaml:"watch"`  // who may see whose phones ring and talk: by the watcher, or @group
	Call    Call           `yaml:"call"`
	Store   Store          `yaml:"store"`
	Cluster Cluster        `yaml:"cluster"`
	Log     Log            `yaml:"log"`

	Registrar Registrar `yaml:"registrar"`
}

// Registrar is the section of who is where.
type Registrar struct {
	Unreachable time.Duration `yaml:"unreachable"` // 1h: of a device that does not answer, before it is registered no more; 0 = until its registration ends
}

// Lists holds lists of users, by names that the file chooses. A user stands there by name or number.
type Lists map[string][]string

// Listen holds the listeners as host:port; an empty host is every address (IPv4 and IPv6), "off" is no listener.
type Listen struct {
	UDP string `yaml:"udp"` // :5060
	TCP string `yaml:"tcp"` // :5060
	TLS string `yaml:"tls"` // :5061
	Web string `yaml:"web"` // :8443: HTTPS with the page, its API, SIP over WebSocket, ICE-TCP and TURN

	Metrics string `yaml:"metrics"` // off: HTTP for Prometheus, without a password
}

// TLS names the files of the certificate, PEM both; neither set = made and renewed in the data directory.
type TLS struct {
	Certificate string `yaml:"certificate"` // with the whole chain
	Key         string `yaml:"key"`
	ACME        ACME   `yaml:"acme"`
}

// Web is the HTTPS port's section.
type Web struct {
	Origins []string `yaml:"origins"` // of pages, beside the node's own, whose scripts may be phones; none by default
	URL     string   `yaml:"url"`     // where browsers reach this node, for the pages of the other nodes of its cluster; "" = they are not told
}

// ACME has certificates for public names got and renewed by themselves (RFC 8555); they are shown to who asks for one of
// the names, the other certificate to everybody else.
type ACME struct {
	Names     []string `yaml:"names"`     // none by default: nothing is asked for
	Email     string   `yaml:"email"`     // that the authority may write to, "" = none
	Directory string   `yaml:"directory"` // URL; Let's Encrypt
	Agree     bool     `yaml:"agree"`     // to the authority's terms of service; false
}

// LetsEncrypt is the directory of the authority that is asked unless another is set.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Connections bounds the TCP, TLS and WebSocket connections that a node keeps.
type Connections struct {
	PerSource int `yaml:"per_source"` // 100: of one IPv4 address, or one IPv6 /64
	Total     int `yaml:"total"`      // 10000, and never more than half of the file descriptors
}

// Limits bounds what a node takes from others before it refuses or drops it. Rates are requests a second, ten seconds'
// worth at once (two of Strangers), 0 = no limit; a source is an IPv4 address or an IPv6 /64.
type Limits struct {
	Stranger  int `yaml:"stranger"`  // 100: of a source that nobody has logged in from
	Strangers int `yaml:"strangers"` // 2000: of all such sources together; REGISTERs and the rest each
	Source    int `yaml:"source"`    // 2000: of a source that somebody has logged in from, and of each of its flows
	User      int `yaml:"user"`      // 200: of a user, outside calls
	Calls     int `yaml:"calls"`     // 100: new calls of a user
	CPU       int `yaml:"cpu"`       // 90 percent of the processors, beyond which new calls are refused; 0 = never
	Memory    int `yaml:"memory"`    // MiB, of which 85 percent are the limit; 0 = GOMEMLIMIT, the cgroup's or the machine's
}

// Advertise is what a node behind NAT writes into Contact and SDP for peers outside its local networks.
type Advertise struct {
	SIP   string         `yaml:"sip"`   // host or address, "" = the address of the route to the peer
	Media string         `yaml:"media"` // address
	Local []netip.Prefix `yaml:"local"` // networks that reach the node without NAT; private ranges by default
}

// Media is the relay's section.
type Media struct {
	Address string    `yaml:"address"` // bind and announce this address only; "" = by the route to each device
	Ports   PortRange `yaml:"ports"`   // 20000-29999, RTP on even ports, RTCP on the next
	WebRTC  int       `yaml:"webrtc"`  // 8443: the one UDP port of all browsers' audio; 0 = none

	Mode          string         `yaml:"mode"`             // auto: straight between two devices that can reach each other; relay: through the node; direct: straight, unproven
	Return        bool           `yaml:"return_to_direct"` // true: after a move, a hold, … the sound of a direct call goes straight again
	Fastpath      string         `yaml:"fastpath"`         // off: the node forwards RTP itself; auto: the kernel what is plain, where it can; on: the same, and an error where it cannot
	LocalNetworks []netip.Prefix `yaml:"local_networks"`   // whose devices reach each other, beside the machine's own; none by default
}

// MediaMode is media.mode unless it is set.
const MediaMode = "auto"

// PortRange is an inclusive range of UDP ports, written first-last.
type PortRange struct{ First, Last uint16 }

// Codes are the star codes that a phone dials.
type Codes struct {
	Pull string `yaml:"pull"` // *40: bring my live call to this device
	Push string `yaml:"push"` // *41: send it to my other devices, *41N to device N

	Pickup string `yaml:"pickup"` // *8: take the call that rings longest in my groups, *8EXT the one that rings at EXT

	Companion string `yaml:"companion"` // *43: have this device listen to my live call
	Leave     string `yaml:"leave"`     // *42: leave my live call, which waits for me

	// Each forwarding is set by its code and a number, *21*102# or *21102, and ended by #21#.
	ForwardAlways   string `yaml:"forward_always"`    // *21
	ForwardBusy     string `yaml:"forward_busy"`      // *67
	ForwardNoAnswer string `yaml:"forward_no_answer"` // *61, *61*102**20# after 20 s
	ForwardAway     string `yaml:"forward_away"`      // *62
	ForwardOff      string `yaml:"forward_off"`       // *22: end them all
	DoNotDisturb    string `yaml:"dnd"`               // *26, ended by #26#
	DoNotDisturbOff string `yaml:"dnd_off"`           // *27: end it on a phone that cannot dial #
}

// Call is the B2BUA's section.
type Call struct {
	Ring       time.Duration `yaml:"ring"`        // 30s: how long a user's devices ring
	Vanished   time.Duration `yaml:"vanished"`    // 15s without RTP and RTCP before a phone is asked whether it is there
	HoldPing   time.Duration `yaml:"hold_ping"`   // 60s: OPTIONS to a phone on hold
	Session    time.Duration `yaml:"session"`     // 30m: session timer that is asked for; 0 = none, others' are served
	SessionMin time.Duration `yaml:"session_min"` // 90s: the shortest that is taken
	Announce   bool          `yaml:"announce"`    // true: a caller hears a tone for 3 s before "unknown number" and "nobody there"
	Wait       time.Duration `yaml:"wait"`        // 5m: how long a call waits for one who has left it
	Capacity   int           `yaml:"capacity"`    // 0 = any number: calls that the node has at once
	PerUser    int           `yaml:"per_user"`    // 20: calls that one user has begun and that are not over
	Encryption string        `yaml:"encryption"`  // optional: as each phone has it; required: a phone whose audio cannot be encrypted has no calls
	OnStop     string        `yaml:"on_stop"`     // keep: calls go on when the node is started again after SIGTERM; end: they are hung up
}

// Log says how much and in which form the node tells of itself.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json

	// Of the log of devices and calls, which "baton log" shows.
	Keep       time.Duration `yaml:"keep"`        // 90d; 0 = for ever
	MaxEntries int           `yaml:"max_entries"` // 100000; the oldest go
}

// Default is a working system on one machine.
func Default() Config {
	return Config{
		Data:        DefaultData(),
		Listen:      Listen{UDP: ":5060", TCP: ":5060", TLS: ":5061", Web: ":8443", Metrics: "off"},
		TLS:         TLS{ACME: ACME{Directory: LetsEncrypt}},
		Connections: Connections{PerSource: 100, Total: 10_000},
		Limits:      Limits{Stranger: 100, Strangers: 2000, Source: 2000, User: 200, Calls: 100, CPU: 90},
		Advertise:   Advertise{Local: privateNetworks()},
		Media:       Media{Ports: PortRange{First: 20000, Last: 29999}, WebRTC: 8443, Mode: MediaMode, Return: true, Fastpath: "off"},
		Codes:       defaultCodes(),
		Call:        Call{Ring: 30 * time.Second, Vanished: 15 * time.Second, HoldPing: 60 * time.Second, Session: 30 * time.Minute, SessionMin: 90 * time.Second, Wait: 5 * time.Minute, PerUser: 20, Announce: true, Encryption: "optional", OnStop: "keep"},
		Store:       Store{Prefix: "baton:", Degraded: DegradedServe},
		Cluster:     Cluster{Listen: "off"},
		Log:         Log{Level: "info", Format: "text", Keep: 90 * 24 * time.Hour, MaxEntries: 100_000},
		Registrar:   Registrar{Unreachable: time.Hour},
	}
}

// defaultCodes are those of GSM and of European networks where they have one (ETSI TS 122 030, annex B).
func defaultCodes() Codes {
	return Codes{
		Pull: "*40", Push: "*41", Pickup: "*8", Companion: "*43", Leave: "*42",
		ForwardAlways: "*21", ForwardBusy: "*67", ForwardNoAnswer: "*61", ForwardAway: "*62", ForwardOff: "*22",
		DoNotDisturb: "*26", DoNotDisturbOff: "*27",
	}
}

// DefaultData is the data directory when none is named: /var/lib/baton for root, else baton under XDG_DATA_HOME
// (~/.local/share when that is not set).
func DefaultData() string {
	if os.Geteuid() == 0 {
		return "/var/lib/baton"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "baton")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "baton")
	}
	return "baton-data"
}

// privateNetworks are the ranges that reach a node without NAT: loopback, private (RFC 1918, 4193), shared (RFC
// 6598) and link-local ones.
func privateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("127.0.0.0/8"),
		netip.MustParsePrefix("10.0.0.0/8"),
		netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"),
		netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("169.254.0.0/16"),
		netip.MustParsePrefix("::1/128"),
		netip.MustParsePrefix("fc00::/7"),
		netip.MustParsePrefix("fe80::/10"),
	}
}
