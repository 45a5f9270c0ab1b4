package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestRedisURL(t *testing.T) {
	for text, want := range map[string]RedisServer{
		"redis://localhost":                       {Addrs: []string{"localhost:6379"}},
		"redis://[2001:db8::1]:7000/3":            {Addrs: []string{"[2001:db8::1]:7000"}, DB: 3},
		"rediss://:p%40ss@r.example.org":          {Addrs: []string{"r.example.org:6379"}, Password: "p@ss", TLS: true},
		"redis://me:a:b@10.0.0.1/0":               {Addrs: []string{"10.0.0.1:6379"}, User: "me", Password: "a:b"},
		"unix://u:p@/run/redis.sock?db=1":         {Addrs: []string{"/run/redis.sock"}, User: "u", Password: "p", Unix: true, DB: 1},
		"redis-sentinel://a,b:26380,c/mymaster/1": {Addrs: []string{"a:26379", "b:26380", "c:26379"}, Master: "mymaster", DB: 1},
		"rediss-sentinel://u:p@a/m?sentinel_username=s&sentinel_password=q": {
			Addrs: []string{"a:26379"}, Master: "m", User: "u", Password: "p", SentinelUser: "s", SentinelPassword: "q", TLS: true,
		},
		"redis-sentinel://a,b/m?sentinel_password=q@x/y":    {Addrs: []string{"a:26379", "b:26379"}, Master: "m", SentinelPassword: "q@x/y"},
		"redis-sentinel://:p@q@a/m?sentinel_password=q@x:y": {Addrs: []string{"a:26379"}, Master: "m", Password: "p@q", SentinelPassword: "q@x:y"},
		"redis://:p?q@a":   {Addrs: []string{"a:6379"}, Password: "p?q"},
		"redis://:p/q@a/1": {Addrs: []string{"a:6379"}, Password: "p/q", DB: 1},
	} {
		got, err := RedisURL(text).Parse()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"localhost:6379":               "has no scheme",
		"redis://":                     "is no host:port",
		"redis://a:0":                  "is no host:port",
		"redis://a,b":                  "names more than one server",
		"redis://a/x":                  "is no number of a database",
		"redis://a?timeout=1":          `knows no "timeout"`,
		"redis-sentinel://a,b":         "names no master",
		"unix://redis.sock":            "wants the whole path",
		"redis://u:geheim%zz@a":        "is not written as a URL has it",
		"unix-sentinel:///a":           "has no scheme",
		"redis://u:geheim@h ost":       "is no host:port",
		"redis://u:geheim@a/geheimnis": "is no number",
	} {
		_, err := RedisURL(text).Parse()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "geheim@") || strings.Contains(err.Error(), "geheim%") {
			t.Errorf("%s: the error shows the password: %v", text, err)
		}
	}
}

// TestRedisURLShowsNoPassword wants that of every way to print a configuration, and what is printed to be read again.
func TestRedisURLShowsNoPassword(t *testing.T) {
	u := RedisURL("redis-sentinel://user:geheim@a,b/m?sentinel_password=geheim2")
	c := Default()
	c.Store.Redis = u
	shown := fmt.Sprintf("%v %s %#v %+v %q %v", u, u, u, c, u, Loaded{Config: c}.Settings())
	if strings.Contains(shown, "geheim") {
		t.Errorf("the password is shown: %s", shown)
	}
	if !strings.Contains(shown, "user:xxxxx@a,b/m") {
		t.Errorf("the server is not shown: %s", shown)
	}
	again, err := FromSettings(Loaded{Config: c}.Settings())
	if err != nil || again.Store.Redis.String() != u.String() {
		t.Errorf("read again: %v, %v", again.Store.Redis, err)
	}
	if plain := RedisURL("redis://a:1/2"); plain.String() != "redis://a:1/2" {
		t.Errorf("%s", plain)
	}
	for text, want := range map[string]string{
		"redis-sentinel://a,b/m?sentinel_password=geheim@geheim":         "redis-sentinel://a,b/m?sentinel_password=xxxxx",
		"redis-sentinel://:geheim@a/m?sentinel_password=geheim@geheim:1": "redis-sentinel://:xxxxx@a/m?sentinel_password=xxxxx",
		"redis-sentinel://u:geheim@a/m?sentinel_username=s":              "redis-sentinel://u:xxxxx@a/m?sentinel_username=s",
		"redis://:ge?heim@a":            "redis://:xxxxx@a",
		"redis://:ge/heim@a":            "redis://:xxxxx@a",
		"redis://:geheim%zz@a":          "redis://xxxxx", // what cannot be read
		"redis://:geheim@":              "redis://xxxxx",
		"redis://a?password=geheim":     "redis://xxxxx",
		"redis://a/m?sentinel_x=geheim": "redis://xxxxx",
		"redis:geheim@a":                "xxxxx", // and has no scheme
	} {
		if got := RedisURL(text).String(); strings.Contains(got, "heim") || got != want {
			t.Errorf("%s is shown as %s, want %s", text, got, want)
		}
	}
}
