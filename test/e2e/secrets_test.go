package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/test/e2e/node"
	"baton/test/phone"
)

// secret is something that the node knows or has known and must show nobody.
type secret struct {
	what  string
	forms [][]byte // as it is, and as it might be written
}

func secretText(what, text string) secret {
	return secret{what, [][]byte{
		[]byte(text), []byte(base64.StdEncoding.EncodeToString([]byte(text))), []byte(hex.EncodeToString([]byte(text))),
	}}
}

func secretKey(what string, key []byte) secret {
	s := secretText(what, base64.StdEncoding.EncodeToString(key))
	s.forms = append(s.forms, key, []byte(hex.EncodeToString(key)), []byte(base64.RawURLEncoding.EncodeToString(key)))
	return s
}

// foundIn are the secrets that are found in some bytes.
func foundIn(b []byte, all []secret) (found []string) {
	for _, s := range all {
		for _, form := range s.forms {
			if bytes.Contains(b, form) {
				found = append(found, s.what)
				break
			}
		}
	}
	return found
}

var (
	sdpKey      = regexp.MustCompile(`a=crypto:\d+ \S+ inline:([A-Za-z0-9+/=]+)`)
	sdpPassword = regexp.MustCompile(`a=ice-pwd:(\S+)`)
)

// TestNothingSecretIsKept has a browser, signed in as the page does it and relayed by TURN, call a phone with SDES at a node that logs all
// it can. None of the passwords, tokens and keys stands in the log, in any file of the node or in what it tells of the call: while it
// lasts, after it has moved, after its end, and after the node itself.
func TestNothingSecretIsKept(t *testing.T) {
	t.Parallel()
	chrome := theBrowser(t, "chromium")
	w := newWorld(t, node.Options{Config: "log:\n  level: debug\n" + allowing(chrome)})
	var session struct {
		Token string
		SIP   struct{ Login, Password string }
	}
	w.must(w.asUser("", "POST", "/session", map[string]string{"user": "alice", "password": node.Password("alice")}, &session))
	var relay struct {
		Servers []struct {
			URLs                 []string
			Username, Credential string
		} `json:"ice_servers"`
	}
	w.must(w.asUser(session.Token, "GET", "/me/ice", nil, &relay))
	admin, err := w.CLI("token", "create", "--admin")
	w.must(err)
	admin = strings.TrimSpace(admin)
	w.must(w.asUser(admin, "GET", "/calls", nil, nil))
	if len(relay.Servers) == 0 || session.SIP.Password == "" || len(admin) < 16 {
		t.Fatalf("session %+v, relay %+v", session, relay)
	}
	all := []secret{
		secretText("alice's SIP password", node.Password("alice")), secretText("bob's SIP password", node.Password("bob")),
		secretText("alice's token", session.Token), secretText("the password of her session", session.SIP.Password),
		secretText("the administrator's token", admin), secretText("the credential of TURN", relay.Servers[0].Credential),
	}

	sdes := func(c *phone.Config) { c.Transport, c.SRTP = "tls", phone.OSRTP }
	bob, desk := w.phone("bob", "far", sdes), w.phone("alice", "desk", sdes)
	bob.Behave(phone.AutoAnswer)
	desk.Behave(phone.AutoAnswer)
	alice := w.browserPhone(chrome, pageJsSIP, "alice", map[string]any{
		"login": session.SIP.Login, "password": session.SIP.Password, "policy": "relay",
		"ice": []map[string]any{{"urls": relay.Servers[0].URLs, "username": relay.Servers[0].Username, "credential": relay.Servers[0].Credential}},
	})
	var id int
	alice.must(&id, "call", w.uri("bob"))
	alice.must(nil, "until", id, "up", 8000)
	in := w.ringing(bob)
	pause(500 * time.Millisecond)
	if f := alice.figures(id); f.Local == nil || f.Local.Type != "relay" {
		t.Errorf("the browser is not relayed: %s", f)
	}
	var sdp struct{ Local, Remote string }
	alice.must(&sdp, "descriptions", id)
	all = append(all, passwordsOf(t, "the browser", sdp.Local), passwordsOf(t, "the node towards the browser", sdp.Remote))
	all = append(all, keysOf(t, "the node towards bob", in)...)
	w.nothingOf(all, "during the call")

	_, err = w.CLI("move", "--user", "alice", "desk")
	w.must(err)
	moved := w.ringing(desk)
	all = append(all, keysOf(t, "the node towards alice's desk phone", moved)...)
	w.talk(moved, in)
	w.nothingOf(all, "after the move")
	w.must(moved.Hangup())
	w.ended(in)
	w.must(w.asUser(session.Token, "DELETE", "/session", nil, nil))
	w.nothingOf(all, "after the call")
	bob.Close()
	desk.Close()
	w.Stop()
	w.nothingOf(all, "after the node")
}

func passwordsOf(t *testing.T, whose, sdp string) secret {
	t.Helper()
	m := sdpPassword.FindStringSubmatch(sdp)
	if m == nil {
		t.Fatalf("%s has no ice-pwd:\n%s", whose, sdp)
	}
	return secretText("the ice-pwd of "+whose, m[1])
}

// keysOf are the keys of an incoming call: those offered, and the phone's own.
func keysOf(t *testing.T, whose string, c *phone.Call) (all []secret) {
	t.Helper()
	for _, m := range sdpKey.FindAllStringSubmatch(string(c.Invite().Body), -1) {
		key, err := base64.StdEncoding.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, secretKey("a key of "+whose, key))
	}
	for _, k := range c.Keys() {
		all = append(all, secretKey("a key of the phone that was called by "+whose, k.Key))
	}
	if len(all) < 2 {
		t.Fatalf("no keys of %s:\n%s", whose, c.Invite().Body)
	}
	return all
}

// nothingOf looks for secrets wherever the node has written, and for what must be there in their midst.
func (w *world) nothingOf(all []secret, when string) {
	w.t.Helper()
	log := []byte(w.Output())
	if !bytes.Contains(log, []byte("level=DEBUG")) || !bytes.Contains(log, []byte("alice")) {
		w.t.Fatalf("%s: that is no log of all there is", when)
	}
	if found := foundIn(log, all); len(found) > 0 {
		w.t.Errorf("%s: the log has %q", when, found)
	}
	files, size := 0, 0
	named := false
	w.must(filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files, size, named = files+1, size+len(b), named || bytes.Contains(b, []byte("alice"))
		if found := foundIn(b, all); len(found) > 0 {
			w.t.Errorf("%s: %s has %q", when, filepath.Base(path), found)
		}
		return nil
	}))
	if !named {
		w.t.Errorf("%s: of %d files, %d bytes, none names alice: the store was not looked at", when, files, size)
	}
	for _, args := range [][]string{{"calls", "--json"}, {"devices", "--json"}, {"log", "--json"}, {"status"}} {
		if text, err := w.CLI(args...); err == nil {
			if found := foundIn([]byte(text), all); len(found) > 0 {
				w.t.Errorf("%s: baton %s shows %q", when, args[0], found)
			}
		}
	}
	w.t.Logf("%s: %d secrets in none of %d files, %d bytes, nor in %d bytes of log", when, len(all), files, size, len(log))
}
