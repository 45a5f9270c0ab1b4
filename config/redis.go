package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Store says where the state is kept that must outlive a node. Nothing set is the data directory.
type Store struct {
	Redis        RedisURL `yaml:"redis"`         // "" = the embedded store
	PasswordFile string   `yaml:"password_file"` // of Redis, in place of one in the URL
	CA           string   `yaml:"ca"`            // PEM file with the authority of the server's certificate; "" = the system's
	Prefix       string   `yaml:"prefix"`        // baton: before every key
	Degraded     string   `yaml:"degraded"`      // what becomes of new calls while Redis is out of reach, as below
}

// Values of Store.Degraded.
const (
	DegradedServe  = "serve"  // they go on; what is there is not moved while the node reaches none of the other nodes either
	DegradedAlone  = "alone"  // they go on, and moves too
	DegradedRefuse = "refuse" // they get 503
)

// RedisURL is where Redis is, with its password perhaps; as text it shows none.
//
//	redis://[user:password@]host[:6379][/db]
//	unix://[user:password@]/path/of/socket[?db=0]
//	redis-sentinel://[user:password@]host[:26379],host,…/master[/db][?sentinel_username=…&sentinel_password=…]
//
// rediss:// and rediss-sentinel:// are the same over TLS.
type RedisURL string

// RedisServer is what a RedisURL says.
type RedisServer struct {
	Addrs                          []string // of the server (a path for a Unix socket), or of the sentinels
	Master                         string   // that the sentinels watch; "" = no sentinels
	User, Password                 string
	SentinelUser, SentinelPassword string
	DB                             int
	TLS, Unix                      bool
}

// hidden stands for a password.
const hidden = "xxxxx"

// split takes a URL apart. The last @ before the query ends the login, so that a password may hold whatever was typed; and the query begins at a ?
// that a name stands behind which is known, for a password may hold one too.
func (u RedisURL) split() (scheme, login, place, query string, ok bool) {
	scheme, place, ok = strings.Cut(string(u), "://")
	for i := range place {
		if known := strings.HasPrefix(place[i:], "?sentinel_") || strings.HasPrefix(place[i:], "?db="); known || place[i] == '?' && !strings.Contains(place[i:], "@") {
			place, query = place[:i], place[i+1:]
			break
		}
	}
	if at := strings.LastIndexByte(place, '@'); at >= 0 {
		login, place = place[:at+1], place[at+1:]
	}
	return scheme, login, place, query, ok
}

// String is the URL without its passwords. Of one that cannot be read nothing is shown that may be one.
func (u RedisURL) String() string {
	scheme, login, place, query, ok := u.split()
	if _, err := u.Parse(); err != nil || !ok {
		switch {
		case !strings.ContainsAny(string(u), "@?"):
			return string(u)
		case !ok:
			return hidden
		}
		return scheme + "://" + hidden
	}
	if user, _, secret := strings.Cut(login, ":"); secret {
		login = user + ":" + hidden + "@"
	}
	if query != "" {
		values, _ := url.ParseQuery(query)
		if values.Has("sentinel_password") {
			values.Set("sentinel_password", hidden)
		}
		place += "?" + values.Encode()
	}
	return scheme + "://" + login + place
}

// GoString keeps %#v from showing the password.
func (u RedisURL) GoString() string { return strconv.Quote(u.String()) }

// Parse reads the URL. Its errors show no password.
func (u RedisURL) Parse() (RedisServer, error) {
	var s RedisServer
	scheme, login, place, query, ok := u.split()
	sentinel := strings.HasSuffix(scheme, "-sentinel")
	kind := strings.TrimSuffix(scheme, "-sentinel")
	s.TLS, s.Unix = kind == "rediss", scheme == "unix"
	if !ok || kind != "redis" && kind != "rediss" && !s.Unix {
		return s, errors.New("has no scheme redis://, rediss://, redis-sentinel://, rediss-sentinel:// or unix://")
	}
	user, password, _ := strings.Cut(strings.TrimSuffix(login, "@"), ":")
	var err error
	if s.User, err = url.PathUnescape(user); err == nil {
		s.Password, err = url.PathUnescape(password)
	}
	if err != nil {
		return s, errors.New("user or password is not written as a URL has it; write % as %25, @ as %40")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return s, errors.New("what stands behind ? cannot be read")
	}
	s.SentinelUser, s.SentinelPassword = values.Get("sentinel_username"), values.Get("sentinel_password")
	for name := range values {
		if known := sentinel && strings.HasPrefix(name, "sentinel_") || s.Unix && name == "db"; !known {
			return s, fmt.Errorf("knows no %q", name)
		}
	}
	if s.Unix {
		s.Addrs = []string{place}
		if !path.IsAbs(place) {
			return s, errors.New("wants the whole path of a socket, as in unix:///run/redis/redis.sock")
		}
		return s, s.database(values.Get("db"))
	}
	return s, s.place(place, sentinel)
}

// place reads hosts, master and number of the database.
func (s *RedisServer) place(text string, sentinel bool) error {
	hosts, rest, _ := strings.Cut(text, "/")
	port := "6379"
	if sentinel {
		port = "26379"
		s.Master, rest, _ = strings.Cut(rest, "/")
		if s.Master == "" {
			return errors.New("names no master; write it behind the sentinels, as in redis-sentinel://10.0.0.1,10.0.0.2,10.0.0.3/mymaster")
		}
	} else if strings.Contains(hosts, ",") {
		return errors.New("names more than one server; several belong to redis-sentinel://")
	}
	for _, host := range strings.Split(hosts, ",") {
		name, number, err := net.SplitHostPort(host)
		if err != nil {
			name, number = strings.Trim(host, "[]"), port
		}
		if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 || name == "" || strings.ContainsAny(name, " []") {
			return fmt.Errorf("%q is no host:port", host)
		}
		s.Addrs = append(s.Addrs, net.JoinHostPort(name, number))
	}
	return s.database(rest)
}

func (s *RedisServer) database(text string) (err error) {
	if text == "" {
		return nil
	}
	if s.DB, err = strconv.Atoi(text); err != nil || s.DB < 0 {
		return fmt.Errorf("%q is no number of a database", text)
	}
	return nil
}

// redisURL reads one for a field; none and "embedded" are the embedded store.
func redisURL(text string) (RedisURL, error) {
	if text == "" || text == "embedded" {
		return "", nil
	}
	_, err := RedisURL(text).Parse()
	return RedisURL(text), err
}

// storePrefix is what the keys begin with.
func storePrefix(text string) (string, error) {
	if text == "" || strings.ContainsAny(text, "{} \t\r\n*?[]\\") {
		return "", errors.New("prefix is empty or has a blank or one of {}*?[]\\")
	}
	return text, nil
}
