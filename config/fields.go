package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one thing that can be set: how its text becomes a value, and in words what is wanted.
type field struct {
	set  func(c *Config, values []string) error
	want string
	list bool
}

// fields holds every field by its dotted name; what is not here cannot be set.
var fields = map[string]field{
	"domain":                  one(func(c *Config) *string { return &c.Domain }, host, "a host name or address, as in example.org"),
	"data":                    one(func(c *Config) *string { return &c.Data }, text, "a directory"),
	"listen.udp":              one(func(c *Config) *string { return &c.Listen.UDP }, listener, `host:port, :port, or off`),
	"listen.tcp":              one(func(c *Config) *string { return &c.Listen.TCP }, listener, `host:port, :port, or off`),
	"listen.tls":              one(func(c *Config) *string { return &c.Listen.TLS }, listener, `host:port, :port, or off`),
	"listen.web":              one(func(c *Config) *string { return &c.Listen.Web }, listener, `host:port, :port, or off`),
	"listen.metrics":          one(func(c *Config) *string { return &c.Listen.Metrics }, listener, `host:port as in 127.0.0.1:9464, or off`),
	"tls.certificate":         one(func(c *Config) *string { return &c.TLS.Certificate }, text, "a PEM file"),
	"tls.key":                 one(func(c *Config) *string { return &c.TLS.Key }, text, "a PEM file"),
	"web.url":                 one(func(c *Config) *string { return &c.Web.URL }, pageURL, "a page's address as in https://node1.example.org:8443"),
	"web.origins":             {set: setOrigins, want: "origins as in [https://phone.example.org]", list: true},
	"tls.acme.names":          {set: setNames, want: "host names as in [sip.example.org]", list: true},
	"tls.acme.email":          one(func(c *Config) *string { return &c.TLS.ACME.Email }, mailbox, "a mail address"),
	"tls.acme.directory":      one(func(c *Config) *string { return &c.TLS.ACME.Directory }, httpsURL, "an https URL"),
	"tls.acme.agree":          one(func(c *Config) *bool { return &c.TLS.ACME.Agree }, yesNo, "true or false"),
	"connections.per_source":  one(func(c *Config) *int { return &c.Connections.PerSource }, number(1, 1_000_000), "1 to 1000000"),
	"connections.total":       one(func(c *Config) *int { return &c.Connections.Total }, number(1, 1_000_000), "1 to 1000000"),
	"limits.stranger":         one(func(c *Config) *int { return &c.Limits.Stranger }, number(0, 1_000_000), "0 to 1000000 a second"),
	"limits.strangers":        one(func(c *Config) *int { return &c.Limits.Strangers }, number(0, 1_000_000), "0 to 1000000 a second"),
	"limits.source":           one(func(c *Config) *int { return &c.Limits.Source }, number(0, 1_000_000), "0 to 1000000 a second"),
	"limits.user":             one(func(c *Config) *int { return &c.Limits.User }, number(0, 1_000_000), "0 to 1000000 a second"),
	"limits.calls":            one(func(c *Config) *int { return &c.Limits.Calls }, number(0, 1_000_000), "0 to 1000000 a second"),
	"limits.cpu":              one(func(c *Config) *int { return &c.Limits.CPU }, number(0, 100), "0 to 100 percent"),
	"limits.memory":           one(func(c *Config) *int { return &c.Limits.Memory }, number(0, 1<<24), "0 to 16777216 MiB"),
	"advertise.sip":           one(func(c *Config) *string { return &c.Advertise.SIP }, host, "a host name or address"),
	"advertise.media":         one(func(c *Config) *string { return &c.Advertise.Media }, address, "an IP address"),
	"advertise.local":         {set: setLocal, want: "networks as in [10.0.0.0/8, 192.168.0.0/16]", list: true},
	"proxies":                 {set: setProxies, want: "networks as in [192.0.2.5/32]", list: true},
	"media.address":           one(func(c *Config) *string { return &c.Media.Address }, address, "an IP address of this machine"),
	"media.ports":             one(func(c *Config) *PortRange { return &c.Media.Ports }, ports, "a range as in 20000-29999"),
	"media.webrtc":            one(func(c *Config) *int { return &c.Media.WebRTC }, number(0, 65535), "a UDP port as in 8443, or 0 for none"),
	"media.mode":              one(func(c *Config) *string { return &c.Media.Mode }, among("auto", "relay", "direct"), "auto, relay or direct"),
	"media.return_to_direct":  one(func(c *Config) *bool { return &c.Media.Return }, yesNo, "true or false"),
	"media.fastpath":          one(func(c *Config) *string { return &c.Media.Fastpath }, among("off", "auto", "on"), "off, auto or on"),
	"media.local_networks":    {set: setLocalNetworks, want: "networks as in [10.1.0.0/16, 10.2.0.0/16]", list: true},
	"codes.pull":              one(func(c *Config) *string { return &c.Codes.Pull }, code, `a star code as in "*40"`),
	"codes.push":              one(func(c *Config) *string { return &c.Codes.Push }, code, `a star code as in "*41"`),
	"codes.pickup":            one(func(c *Config) *string { return &c.Codes.Pickup }, code, `a star code as in "*8"`),
	"codes.leave":             one(func(c *Config) *string { return &c.Codes.Leave }, code, `a star code as in "*42"`),
	"codes.companion":         one(func(c *Config) *string { return &c.Codes.Companion }, code, `a star code as in "*43"`),
	"codes.forward_always":    one(func(c *Config) *string { return &c.Codes.ForwardAlways }, code, `a star code as in "*21"`),
	"codes.forward_busy":      one(func(c *Config) *string { return &c.Codes.ForwardBusy }, code, `a star code as in "*67"`),
	"codes.forward_no_answer": one(func(c *Config) *string { return &c.Codes.ForwardNoAnswer }, code, `a star code as in "*61"`),
	"codes.forward_away":      one(func(c *Config) *string { return &c.Codes.ForwardAway }, code, `a star code as in "*62"`),
	"codes.forward_off":       one(func(c *Config) *string { return &c.Codes.ForwardOff }, code, `a star code as in "*22"`),
	"codes.dnd":               one(func(c *Config) *string { return &c.Codes.DoNotDisturb }, code, `a star code as in "*26"`),
	"codes.dnd_off":           one(func(c *Config) *string { return &c.Codes.DoNotDisturbOff }, code, `a star code as in "*27"`),
	"call.ring":               one(func(c *Config) *time.Duration { return &c.Call.Ring }, between(time.Second, time.Hour), "1s to 1h"),
	"call.vanished":           one(func(c *Config) *time.Duration { return &c.Call.Vanished }, between(time.Second, time.Hour), "1s to 1h"),
	"call.hold_ping":          one(func(c *Config) *time.Duration { return &c.Call.HoldPing }, between(time.Second, time.Hour), "1s to 1h"),
	"call.session":            one(func(c *Config) *time.Duration { return &c.Call.Session }, orOff(between(90*time.Second, 24*time.Hour)), "90s to 24h, or off"),
	"call.session_min":        one(func(c *Config) *time.Duration { return &c.Call.SessionMin }, between(90*time.Second, time.Hour), "90s to 1h"),
	"call.wait":               one(func(c *Config) *time.Duration { return &c.Call.Wait }, between(time.Second, 24*time.Hour), "1s to 24h"),
	"call.capacity":           one(func(c *Config) *int { return &c.Call.Capacity }, number(0, 1_000_000), "0 to 1000000"),
	"call.per_user":           one(func(c *Config) *int { return &c.Call.PerUser }, number(1, 1_000_000), "1 to 1000000"),
	"call.encryption":         one(func(c *Config) *string { return &c.Call.Encryption }, among("optional", "required"), "optional or required"),
	"call.on_stop":            one(func(c *Config) *string { return &c.Call.OnStop }, among("keep", "end"), "keep or end"),
	"call.announce":           one(func(c *Config) *bool { return &c.Call.Announce }, yesNo, "true or false"),
	"registrar.unreachable":   one(func(c *Config) *time.Duration { return &c.Registrar.Unreachable }, orOff(between(time.Minute, 7*24*time.Hour)), "1m to 168h, or off"),
	"store.redis":             one(func(c *Config) *RedisURL { return &c.Store.Redis }, redisURL, "redis://host:port, redis-sentinel://host,host,host/master, or embedded"),
	"store.password_file":     one(func(c *Config) *string { return &c.Store.PasswordFile }, text, "a file"),
	"store.ca":                one(func(c *Config) *string { return &c.Store.CA }, text, "a PEM file"),
	"store.prefix":            one(func(c *Config) *string { return &c.Store.Prefix }, storePrefix, `text without blanks and braces, as in "baton:"`),
	"store.degraded":          one(func(c *Config) *string { return &c.Store.Degraded }, among(DegradedServe, DegradedAlone, DegradedRefuse), "serve, alone or refuse"),
	"cluster.name":            one(func(c *Config) *string { return &c.Cluster.Name }, nodeName, "letters, digits, - and . as in node1"),
	"cluster.listen":          one(func(c *Config) *string { return &c.Cluster.Listen }, listener, `host:port as in 10.0.0.1:5080, :port, or off`),
	"cluster.peers":           {set: setPeers, want: `addresses as in ["10.0.0.2:5080", "node3:5080"]`, list: true},
	"cluster.key_file":        one(func(c *Config) *string { return &c.Cluster.KeyFile }, text, "a file with 32 bytes in base64"),
	"log.level":               one(func(c *Config) *string { return &c.Log.Level }, among("debug", "info", "warn", "error"), "debug, info, warn or error"),
	"log.format":              one(func(c *Config) *string { return &c.Log.Format }, among("text", "json"), "text or json"),
	"log.keep":                one(func(c *Config) *time.Duration { return &c.Log.Keep }, age, "as in 90d, 12w or 36h, or forever"),
	"log.max_entries":         one(func(c *Config) *int { return &c.Log.MaxEntries }, number(1000, 10_000_000), "1000 to 10000000"),
}

// one makes a field with a single value.
func one[T any](where func(*Config) *T, read func(string) (T, error), want string) field {
	return field{want: want, set: func(c *Config, values []string) error {
		v, err := read(values[0])
		if err == nil {
			*where(c) = v
		}
		return err
	}}
}

// lists are the sections whose fields the file names itself.
var lists = map[string]struct {
	of   func(*Config) *Lists
	name func(string) (string, error) // of a field
	item func(string) (string, error)
	want string
}{
	"groups": {func(c *Config) *Lists { return &c.Groups }, groupName, userText, "a list of users by name or number, as in [alice, 102]"},
	"watch":  {func(c *Config) *Lists { return &c.Watch }, watcher, watched, `a list of users, "@group"s or "*", as in [alice, "@sales"]`},
}

// lookup finds a field by its dotted name; one of a section of lists is made as it is asked for.
func lookup(name string) (field, bool) {
	section, key, _ := strings.Cut(name, ".")
	l, ok := lists[section]
	if !ok || key == "" {
		f, ok := fields[name]
		return f, ok
	}
	return field{list: true, want: l.want, set: func(c *Config, values []string) error {
		if _, err := l.name(key); err != nil {
			return err
		}
		items := make([]string, 0, len(values))
		for _, v := range values {
			item, err := l.item(v)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		all := l.of(c)
		if *all == nil {
			*all = Lists{}
		}
		(*all)[key] = items
		return nil
	}}, true
}

var listName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// userText is a user's name or number.
func userText(s string) (string, error) {
	if !listName.MatchString(s) {
		return "", fmt.Errorf("%q is no user's name or number", s)
	}
	return s, nil
}

func groupName(s string) (string, error) {
	if !listName.MatchString(s) {
		return "", fmt.Errorf("%q is no name of a group: lower-case letters, digits, . _ - are taken", s)
	}
	return s, nil
}

// watcher is who may watch: a user, or all of a group.
func watcher(s string) (string, error) {
	if g, ok := strings.CutPrefix(s, "@"); ok {
		_, err := groupName(g)
		return s, err
	}
	return userText(s)
}

// watched is who may be watched: a user, all of a group, or everybody.
func watched(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	return watcher(s)
}

// isSection says whether name has fields under it.
func isSection(name string) bool {
	if _, ok := lists[name]; ok {
		return true
	}
	for f := range fields {
		if strings.HasPrefix(f, name+".") {
			return true
		}
	}
	return false
}

// suggest names the fields that can stand where an unknown one was written.
func suggest(name string) string {
	section := name[:strings.LastIndex(name, ".")+1]
	var here []string
	for f := range fields {
		if rest, ok := strings.CutPrefix(f, section); ok {
			top, _, _ := strings.Cut(rest, ".")
			here = append(here, top)
		}
	}
	slices.Sort(here)
	return "; here stand: " + strings.Join(slices.Compact(here), ", ")
}

func text(s string) (string, error) {
	if s == "" {
		return "", errors.New("it is empty")
	}
	return s, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`)

// host is a name or an address without port (RFC 3261 §25.1, host).
func host(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil || s == "" {
		return s, nil
	}
	if !hostName.MatchString(s) || len(s) > 253 {
		return "", fmt.Errorf("%q is no host", s)
	}
	return s, nil
}

func address(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.IsUnspecified() || a.IsMulticast() {
		return "", fmt.Errorf("%q is no address that a phone can be told", s)
	}
	return a.String(), nil
}

// listener is host:port with an address or nothing as host.
func listener(s string) (string, error) {
	if s == "off" {
		return s, nil
	}
	h, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is no host:port", s)
	}
	if _, err := netip.ParseAddr(h); err != nil && h != "" && !hostName.MatchString(h) {
		return "", fmt.Errorf("%q is no host", h)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("%q is no port", port)
	}
	return s, nil
}

// ports reads first-last.
func ports(s string) (PortRange, error) {
	var r PortRange
	if err := r.UnmarshalText([]byte(s)); err != nil {
		return PortRange{}, err
	}
	return r, nil
}

// UnmarshalText reads first-last; the range must hold at least one pair (an even port and the next).
func (r *PortRange) UnmarshalText(b []byte) error {
	low, high, found := strings.Cut(string(b), "-")
	first, err1 := strconv.ParseUint(strings.TrimSpace(low), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(high), 10, 16)
	switch {
	case !found || err1 != nil || err2 != nil:
		return fmt.Errorf("%q is no range of ports", b)
	case first < 1024:
		return fmt.Errorf("%q begins below 1024", b)
	case last < first || last-first+1 < 2+first%2:
		return fmt.Errorf("%q holds no pair of ports (an even one and the next)", b)
	}
	r.First, r.Last = uint16(first), uint16(last)
	return nil
}

// MarshalText is first-last.
func (r PortRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// String is first-last.
func (r PortRange) String() string { return fmt.Sprintf("%d-%d", r.First, r.Last) }

var starCode = regexp.MustCompile(`^[*#0-9]{2,8}$`)

func code(s string) (string, error) {
	if !starCode.MatchString(s) {
		return "", fmt.Errorf("%q cannot be dialled", s)
	}
	return s, nil
}

func yesNo(s string) (bool, error) {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", s)
	}
	return v, nil
}

func between(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is no duration (30s, 2m)", s)
		}
		if d < low || d > high {
			return 0, fmt.Errorf("%s is out of range", s)
		}
		return d, nil
	}
}

// orOff lets a duration be "off", which is 0.
func orOff(read func(string) (time.Duration, error)) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		if s == "off" || s == "0s" {
			return 0, nil
		}
		return read(s)
	}
}

// age is how long something is kept: days (90d), weeks (12w), a duration of at least an hour, or for ever, which is 0.
func age(s string) (time.Duration, error) {
	if s == "forever" || s == "0s" {
		return 0, nil
	}
	const day = 24 * time.Hour
	for unit, each := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if count, found := strings.CutSuffix(s, unit); found {
			n, err := strconv.ParseUint(count, 10, 16)
			if err != nil {
				return 0, fmt.Errorf("%q is no number of days or weeks", s)
			}
			return between(time.Hour, 100*366*day)((time.Duration(n) * each).String())
		}
	}
	return between(time.Hour, 100*366*day)(s)
}

func number(low, high int) func(string) (int, error) {
	return func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil {
			return 0, fmt.Errorf("%q is no number", s)
		}
		if n < low || n > high {
			return 0, fmt.Errorf("%s is out of range", s)
		}
		return n, nil
	}
}

func among(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("%q is not known", s)
		}
		return s, nil
	}
}

// setLocal replaces the networks that need no advertised address; an empty list means none.
func setLocal(c *Config, values []string) (err error) {
	c.Advertise.Local, err = networks(values)
	return err
}

// setLocalNetworks replaces the networks whose devices reach each other.
func setLocalNetworks(c *Config, values []string) (err error) {
	if c.Media.LocalNetworks, err = networks(values); len(c.Media.LocalNetworks) == 0 {
		c.Media.LocalNetworks = nil
	}
	return err
}

// setProxies replaces the networks of the proxies in front of the node.
func setProxies(c *Config, values []string) (err error) {
	if c.Proxies, err = networks(values); len(c.Proxies) == 0 {
		c.Proxies = nil
	}
	return err
}

// setOrigins replaces the origins whose pages may be phones.
func setOrigins(c *Config, values []string) error {
	c.Web.Origins = nil
	for _, v := range values {
		origin, err := Origin(v)
		if err != nil {
			return err
		}
		c.Web.Origins = append(c.Web.Origins, origin)
	}
	return nil
}

// Origin reads the origin of a page as a browser writes it: scheme://host, and the port where that is not the scheme's own
// (RFC 6454 §6.2). What it gives can be compared.
func Origin(s string) (string, error) {
	u, err := url.Parse(strings.ToLower(s))
	if err != nil || u.Scheme == "" || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return "", fmt.Errorf("%q is no origin", s)
	}
	if port := map[string]string{"https": "443", "http": "80"}[u.Scheme]; port != "" {
		u.Host = strings.TrimSuffix(u.Host, ":"+port)
	}
	return u.String(), nil
}

// pageURL is the origin of a node's page.
func pageURL(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	origin, err := Origin(text)
	if err == nil && !strings.HasPrefix(origin, "https://") {
		err = fmt.Errorf("%q is no page by HTTPS", text)
	}
	return origin, err
}

// setNames replaces the names that certificates are got for: such as others can resolve, which an address or a name
// without a dot is not.
func setNames(c *Config, values []string) error {
	var names []string
	for _, v := range values {
		_, err := netip.ParseAddr(v)
		if err == nil || !hostName.MatchString(v) || !strings.Contains(v, ".") || len(v) > 253 {
			return fmt.Errorf("%q is no host name that others can resolve", v)
		}
		names = append(names, strings.ToLower(v))
	}
	c.TLS.ACME.Names = names
	return nil
}

// mailbox is a mail address without a name beside it.
func mailbox(s string) (string, error) {
	if a, err := mail.ParseAddress(s); s != "" && (err != nil || a.Address != s) {
		return "", fmt.Errorf("%q is no mail address", s)
	}
	return s, nil
}

func httpsURL(s string) (string, error) {
	if u, err := url.Parse(s); err != nil || u.Scheme != "https" || u.Host == "" {
		return "", fmt.Errorf("%q is no https URL", s)
	}
	return s, nil
}

func networks(values []string) ([]netip.Prefix, error) {
	nets := make([]netip.Prefix, 0, len(values))
	for _, v := range values {
		p, err := netip.ParsePrefix(v)
		if err != nil {
			return nil, fmt.Errorf("%q is no network", v)
		}
		nets = append(nets, p.Masked())
	}
	return nets, nil
}
