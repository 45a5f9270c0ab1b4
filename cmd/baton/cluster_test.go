package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"baton/call"
	"baton/cluster"
	"baton/test/phone"
	"baton/test/redis"
	"baton/web"
)

// clustered is the configuration of a node of a cluster on loopback.
func clustered(name, key, listen, store string, peers ...string) string {
	list, _ := json.Marshal(append([]string{}, peers...))
	return local + fmt.Sprintf("cluster: {name: %s, key_file: %s, listen: %q, peers: %s}\nstore: {redis: 'redis://%s'}\n", name, key, listen, list, store)
}

// freePort is one that was free a moment ago, TCP and UDP, at a loopback address that no other process takes ports at.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.77.%d.%d:0", os.Getpid()>>8&0xff, os.Getpid()&0xff))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestNodeThatHasLeft: what a node has said on its way out, that it takes no new calls, is not said of it any more.
func TestNodeThatHasLeft(t *testing.T) {
	for _, c := range []struct {
		state cluster.State
		why   cluster.Why
		want  string
	}{
		{cluster.Alive, cluster.Heard, "alive (draining)"},
		{cluster.Suspect, cluster.Silent, "suspect (draining)"},
		{cluster.Left, cluster.Stopped, "left (stopped)"},
		{cluster.Dead, cluster.Refused, "dead (refused)"},
	} {
		p := cluster.Peer{State: c.state, Why: c.why, Load: cluster.Load{Draining: true}}
		if got := nodeState(nodeInfo(p)); got != c.want {
			t.Errorf("%s, and it takes no new calls: %q, want %q", c.state, got, c.want)
		}
	}
}

// TestClusterKey makes a key once.
func TestClusterKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cluster.key")
	wants(t, 0, `^$`, "cluster", "key", file)
	text, err := os.ReadFile(file)
	if info, err2 := os.Stat(file); err != nil || err2 != nil || info.Mode().Perm() != 0o600 || len(text) != 45 {
		t.Errorf("the key is %d bytes, %v %v %v", len(text), info.Mode(), err, err2)
	}
	wants(t, 1, `is there already; a new key shuts out the nodes that have the old one`, "cluster", "key", file)
	wants(t, 0, `^[A-Za-z0-9+/]{43}=\n$`, "cluster", "key")
	dir := shortDir(t)
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	wants(t, 1, `^baton: cluster.key_file: .*not a cluster key: 32 bytes in base64`, "serve", "--data", dir, "--config", write(t, clustered("n1", file, "127.0.0.1:0", "127.0.0.1:1")))
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	wants(t, 1, `^baton: cluster.key_file: .*open to everybody`, "serve", "--data", dir, "--config", write(t, clustered("n1", file, "127.0.0.1:0", "127.0.0.1:1")))
}

// TestOneNode is a cluster of one.
func TestOneNode(t *testing.T) {
	dir := shortDir(t)
	p := serve(t, dir)
	wants(t, 0, `^NODE +STATE +FOR +CALLS +ADDRESS +RTT\n\S+ \(this\)  alive +[\d.]+s +0 +- +-\n$`, "nodes", "--data", dir)
	if said := p.errs.String(); strings.Contains(said, "cluster") {
		t.Errorf("a node alone speaks of a cluster:\n%s", said)
	}
}

// TestTwoNodes: each node shows and steers the calls of both, and sees how the other ends.
func TestTwoNodes(t *testing.T) {
	key, at := filepath.Join(t.TempDir(), "cluster.key"), freePort(t)
	wants(t, 0, `^$`, "cluster", "key", key)
	store := redis.Start(t, redis.Options{}).Addr
	p := newParty(t, "--config", write(t, clustered("n1", key, at, store)))
	dir := shortDir(t)
	second := serve(t, dir, "--config", write(t, clustered("n2", key, "127.0.0.1:0", store, at)))
	on := func(args ...string) []string { return append(args, "--data", dir) }
	alive := regexp.MustCompile(`(?m)^n2 \(this\)  alive .*\nn1 +alive +[\d.]+s +\d +` + regexp.QuoteMeta(at))
	waitFor(t, "the nodes to see each other", func() bool {
		said, _, _ := run(t, "", on("nodes")...)
		return alive.MatchString(said)
	})
	out, err := p.desk.Dial("bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Await(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	var calls []call.Info
	waitFor(t, "n2 to show n1's call", func() bool {
		said, _, _ := run(t, "", on("calls", "--json")...)
		return json.Unmarshal([]byte(said), &calls) == nil && len(calls) == 1 && calls[0].State == "up"
	})
	id := calls[0].ID
	if calls[0].Node != "n1" {
		t.Errorf("the call is node %q's", calls[0].Node)
	}
	wants(t, 0, `(?m)^CALL .* MOVES  NODE\n`+id+` .* 0 +n1\n$`, on("calls")...)
	wants(t, 0, `(?s)^call `+id+`, up since .*alice \(101\)`, on("call", "show", id[:4])...)
	wants(t, 0, `(?s)^call `+id+`: alice went from desk\S* to hall\S* in \d+`, on("move", id[:5], "2")...)
	wants(t, 4, `^baton: .*"attic" of alice`, on("move", id, "attic")...)
	wants(t, 4, `^baton: .*"zz"`, on("end", "zz")...)
	waitFor(t, "n2 to be told of n1's load", func() bool {
		var nodes []web.NodeInfo
		said, _, _ := run(t, "", on("nodes", "--json")...)
		return json.Unmarshal([]byte(said), &nodes) == nil && len(nodes) == 2 && nodes[1].Calls == 1
	})
	wants(t, 1, `^baton: cluster\.name: a node named "n2" runs already, at 127\.0\.0\.1:\d+; give each`,
		"serve", "--data", shortDir(t), "--config", write(t, clustered("n2", key, "127.0.0.1:0", store)))
	wants(t, 0, `^$`, on("end", id[:6])...)
	wants(t, 0, `^no live calls\n$`, on("calls")...)
	wants(t, 0, `^no live calls\n$`, "calls", "--data", p.dir)

	second.stop(t, syscall.SIGTERM)
	waitFor(t, "n2 to have left", func() bool {
		said, _, _ := run(t, "", "nodes", "--data", p.dir)
		return strings.Contains(said, "left (stopped)")
	})
	second = serve(t, dir, "--config", write(t, clustered("n2", key, "127.0.0.1:0", store, at)))
	waitFor(t, "n2 to be back", func() bool {
		said, _, _ := run(t, "", on("nodes")...)
		return alive.MatchString(said)
	})
	second.stop(t, syscall.SIGKILL)
	waitFor(t, "n2 to be dead", func() bool {
		said, _, _ := run(t, "", "nodes", "--data", p.dir)
		return strings.Contains(said, "dead (refused)")
	})
}

// office is a node of a cluster.
type office struct {
	*process
	t    *testing.T
	name string
	at   map[string]string
}

// newOffice starts a node and adds users.
func newOffice(t *testing.T, name, configuration string, users ...string) *office {
	t.Helper()
	o := &office{process: serve(t, shortDir(t), "--config", write(t, configuration)), t: t, name: name}
	client, err := web.Dial(o.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, user := range users {
		if _, err := client.AddUser(t.Context(), web.NewUser{Name: user, Password: "of-" + user}); err != nil {
			t.Fatal(err)
		}
	}
	node, err := client.Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	o.at = node.Listen
	return o
}

// meets waits until the node is connected to another.
func (o *office) meets(node string) {
	o.t.Helper()
	waitFor(o.t, o.name+" to be connected to "+node, func() bool {
		return strings.Contains(o.errs.String(), `"connected to node" node=`+node)
	})
}

// browser trusts every certificate.
var browser = http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}

// browse sends a request to the node's HTTPS port.
func (o *office) browse(method, path, body string, header ...string) (int, http.Header, string) {
	o.t.Helper()
	res := o.open(method, path, body, header...)
	defer res.Body.Close()
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res.StatusCode, res.Header, ""
	}
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(text)
}

// open is browse for an answer that is read as it comes.
func (o *office) open(method, path, body string, header ...string) *http.Response {
	o.t.Helper()
	req, err := http.NewRequestWithContext(o.t.Context(), method, "https://"+o.at["web"]+path, strings.NewReader(body))
	if err != nil {
		o.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := browser.Do(req)
	if err != nil {
		o.t.Fatal(err)
	}
	return res
}

// signIn gives a token of a user's.
func (o *office) signIn(user string) string {
	o.t.Helper()
	_, _, said := o.browse("POST", "/api/v1/session", fmt.Sprintf(`{"user":%q,"password":"of-%s"}`, user, user), "Content-Type", "application/json")
	var session struct{ Token string }
	if err := json.Unmarshal([]byte(said), &session); err != nil || session.Token == "" {
		o.t.Fatalf("signing in: %s %v", said, err)
	}
	return session.Token
}

// phone is one that registers here.
func (o *office) phone(user, transport, model string, b phone.Behaviour, change ...func(*phone.Config)) *phone.Phone {
	o.t.Helper()
	c := phone.Config{
		User: user, Password: "of-" + user, Server: netip.MustParseAddrPort(o.at[transport]), Transport: transport,
		Addr: netip.MustParseAddr("127.0.0.1"), UserAgent: model + "/1.0", Instance: "urn:uuid:" + model,
	}
	for _, fn := range change {
		fn(&c)
	}
	ph, err := phone.New(c)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(ph.Close)
	ph.Behave(b)
	if m, err := ph.Register(time.Minute); err != nil {
		o.t.Fatalf("register %s: %v %v", model, m, err)
	}
	return ph
}

// sees waits until the node lists a device so.
func (o *office) sees(device string) {
	o.t.Helper()
	want := regexp.MustCompile(device)
	waitFor(o.t, o.name+" to see "+device, func() bool {
		said, _, _ := run(o.t, "", "devices", "--data", o.dir)
		return want.MatchString(said)
	})
}

// TestCallAcrossNodes: a phone at n2, which has found n1 in the store, is called by one at n1. All that belongs to the call goes through both nodes, its sound
// through n1 alone.
func TestCallAcrossNodes(t *testing.T) {
	key, at := filepath.Join(t.TempDir(), "cluster.key"), freePort(t)
	wants(t, 0, `^$`, "cluster", "key", key)
	store := redis.Start(t, redis.Options{}).Addr
	n1 := newOffice(t, "n1", "call: {capacity: 40}\n"+clustered("n1", key, at, store), "alice", "bob", "carol")
	n2 := newOffice(t, "n2", clustered("n2", key, "127.0.0.1:0", store))
	n1.meets("n2")
	n2.meets("n1")
	alice := n1.phone("alice", "udp", "desk", phone.AutoAnswer)
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			model := "softphone-" + transport
			bob := n2.phone("bob", transport, model, phone.Behaviour{})
			n1.t, n2.t = t, t
			n1.sees(`(?m)^bob .*` + model + `.* here `)
			out, err := alice.Dial("bob")
			if err != nil {
				t.Fatal(err)
			}
			in, err := bob.Ringing(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Answer(); err != nil {
				t.Fatal(err)
			}
			if err := out.Await(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			if !out.Hears(in, 5*time.Second) || !in.Hears(out, 5*time.Second) {
				t.Fatal("they do not hear each other")
			}
			wants(t, 0, `(?m) alice \(desk\) +bob \(`+model+`\) +relay +0 +n1\n$`, "calls", "--data", n2.dir)
			waitFor(t, "n2 to be told how full n1 is", func() bool {
				said, _, _ := run(t, "", "nodes", "--data", n2.dir)
				return regexp.MustCompile(`(?m)^n1 +alive .* 1 of 40 `).MatchString(said)
			})
			if err := in.Hold(phone.HoldSendonly); err != nil {
				t.Errorf("hold: %v", err)
			}
			if err := in.Resume(); err != nil {
				t.Errorf("resume: %v", err)
			}
			if !out.Hears(in, 5*time.Second) || !in.Hears(out, 5*time.Second) {
				t.Error("they do not hear each other after the hold")
			}
			second := n1.phone("bob", "udp", "hall-"+transport, phone.AutoAnswer)
			wants(t, 0, `went from `+model+` to hall-`+transport, "move", "--user", "bob", "hall-"+transport, "--data", n2.dir)
			if err := in.AwaitEnd(5 * time.Second); err != nil { // n1's BYE, through n2
				t.Error(err)
			}
			if _, err := second.Unregister(); err != nil {
				t.Error(err)
			}
			wants(t, 0, `went from hall-`+transport+` to `+model, func() []string {
				bob.Behave(phone.AutoAnswer)
				return []string{"move", "--user", "bob", model, "--data", n2.dir}
			}()...)
			last := bob.Calls()[0]
			if !out.Hears(last, 5*time.Second) {
				t.Error("alice does not hear bob's phone at n2 after the move")
			}
			if err := last.Hangup(); err != nil { // a BYE that comes in at n2
				t.Errorf("hang up: %v", err)
			}
			if err := out.AwaitEnd(5 * time.Second); err != nil {
				t.Error(err)
			}
			bob.Behave(phone.Behaviour{})
			cancelled, err := alice.Dial("bob")
			if err != nil {
				t.Fatal(err)
			}
			rings, err := bob.Ringing(5 * time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if err := cancelled.Cancel(); err != nil {
				t.Error(err)
			}
			if err := rings.AwaitEnd(5 * time.Second); err != nil {
				t.Errorf("the CANCEL does not come through: %v", err)
			}
			bob.Behave(phone.AutoAnswer)
			reverse, err := bob.Dial("alice") // owned by n2, the other phone at n1
			if err != nil {
				t.Fatal(err)
			}
			if err := reverse.Await(5 * time.Second); err != nil {
				t.Fatal(err)
			}
			wants(t, 0, `(?m) bob \(`+model+`\) +alice \(desk\) +relay +0 +n2\n$`, "calls", "--data", n1.dir)
			if err := reverse.Hangup(); err != nil {
				t.Error(err)
			}
			if _, err := bob.Unregister(); err != nil {
				t.Error(err)
			}
			n1.sees(`(?m)^bob .*` + model + `.* away `)
		})
	}
	n1.t, n2.t = t, t
	carol := n2.phone("carol", "tcp", "desk-of-carol", phone.AutoAnswer)
	n1.sees(`(?m)^carol .* here `)
	carol.Disconnect()
	n1.sees(`(?m)^carol .* away `)
	n2.phone("carol", "tcp", "desk-of-carol", phone.AutoAnswer)
	n1.sees(`(?m)^carol .* here `)
	n2.stop(t, syscall.SIGKILL)
	n1.sees(`(?m)^carol .* away .*its connection ended with node n2`)
}

// TestOwnerOfADialog: whose a request in a dialog is the store says, whatever the phone was told when the dialog began.
func TestOwnerOfADialog(t *testing.T) {
	key := filepath.Join(t.TempDir(), "cluster.key")
	wants(t, 0, `^$`, "cluster", "key", key)
	store := redis.Start(t, redis.Options{})
	n1 := newOffice(t, "n1", clustered("n1", key, "127.0.0.1:0", store.Addr), "alice", "bob")
	n2 := newOffice(t, "n2", clustered("n2", key, "127.0.0.1:0", store.Addr))
	n1.meets("n2")
	n2.meets("n1")
	alice, second := n1.phone("alice", "udp", "desk", phone.AutoAnswer), n2.phone("alice", "udp", "mobile", phone.AutoAnswer, func(c *phone.Config) { c.Outbound = true })
	n2.phone("bob", "udp", "far", phone.AutoAnswer)
	n1.sees(`(?m)^bob .* here `)
	out, err := alice.Dial("bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Await(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	var calls []call.Info
	said, _, _ := run(t, "", "calls", "--json", "--data", n2.dir)
	if err := json.Unmarshal([]byte(said), &calls); err != nil || len(calls) != 1 {
		t.Fatalf("calls are %s, %v", said, err)
	}
	there := out.As(second)
	asks := func(want int) {
		t.Helper()
		waitFor(t, fmt.Sprint("an answer ", want), func() bool {
			m, err := there.Request("INFO", nil)
			if m == nil {
				t.Fatal(err)
			}
			return m.Code == want
		})
	}
	asks(200)
	record := "baton:call:{" + calls[0].ID + "}"
	version, err := store.Do("HGET", record, "v")
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "n1 to have written the call, which it does every five seconds and would notice that it is another's", func() bool {
		now, err := store.Do("HGET", record, "v")
		return err == nil && now != version
	})
	if _, err := store.Do("HSET", record, "o", "n2"); err != nil { // as a node that has claimed it, but has not taken it up
		t.Fatal(err)
	}
	asks(500) // not 481, which would end the call at the phone: n2 is soon to know it
	if _, err := store.Do("HSET", record, "o", "n1"); err != nil {
		t.Fatal(err)
	}
	asks(200)
	if err := there.Hangup(); err != nil {
		t.Error(err)
	}
	waitFor(t, "its dialogs to be forgotten", func() bool {
		text, err := store.Do("KEYS", "baton:dialog:*")
		return err == nil && strings.HasPrefix(text, "*0")
	})
}

// TestPagesOfAllNodes: a page of one node may turn to the other as long as that is there, and is let in.
func TestPagesOfAllNodes(t *testing.T) {
	key := filepath.Join(t.TempDir(), "cluster.key")
	wants(t, 0, `^$`, "cluster", "key", key)
	store := redis.Start(t, redis.Options{}).Addr
	page := func(name string) string { return "web: {url: 'https://" + name + ".example.org:8443'}\n" }
	n1 := newOffice(t, "n1", page("n1")+clustered("n1", key, "127.0.0.1:0", store), "alice")
	n2 := newOffice(t, "n2", page("n2")+clustered("n2", key, "127.0.0.1:0", store))
	ask := func(o *office, method, path, body string, header ...string) (int, http.Header, string) {
		t.Helper()
		return o.browse(method, path, body, header...)
	}
	other := "wss://n2.example.org:8443"
	waitFor(t, "n1's page to know n2", func() bool {
		_, h, _ := ask(n1, "GET", "/", "")
		return strings.Contains(h.Get("Content-Security-Policy"), "connect-src 'self' wss://"+n1.at["web"]+" "+other+";")
	})
	token := n1.signIn("alice")
	var me struct{ Nodes []string }
	_, _, said := ask(n1, "GET", "/api/v1/me", "", "Authorization", "Bearer "+token)
	if err := json.Unmarshal([]byte(said), &me); err != nil || !slices.Equal(me.Nodes, []string{"wss://" + n1.at["web"] + "/sip", other + "/sip"}) {
		t.Errorf("the page is told of %q, %v", me.Nodes, err)
	}
	upgrade := func(origin string) int {
		code, _, _ := ask(n2, "GET", "/sip", "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13",
			"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol", "sip", "Origin", origin)
		return code
	}
	waitFor(t, "n2 to let n1's page in", func() bool { return upgrade("https://n1.example.org:8443") == http.StatusSwitchingProtocols })
	if code := upgrade("https://n3.example.org:8443"); code != http.StatusForbidden {
		t.Errorf("a page of nobody gets %d", code)
	}
	n2.stop(t, syscall.SIGTERM)
	waitFor(t, "n1's page to forget n2", func() bool {
		_, h, _ := ask(n1, "GET", "/", "")
		return !strings.Contains(h.Get("Content-Security-Policy"), other)
	})
}
