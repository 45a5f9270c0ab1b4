package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/store"
	"baton/test/phone"
	"baton/web"
)

// party is a node with alice's two phones and bob's one.
type party struct {
	*process
	t              *testing.T
	desk, hall, it *phone.Phone
}

func newParty(t *testing.T, args ...string) *party {
	t.Helper()
	p := &party{process: serve(t, shortDir(t), args...), t: t}
	client, err := web.Dial(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, u := range []web.NewUser{{Name: "alice", Numbers: []string{"101"}, Password: "of-alice"}, {Name: "bob", Password: "of-bob"}} {
		if _, err := client.AddUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	at, err := client.Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.desk = p.phone("alice", "Desk/1.0", at.Listen["udp"])
	p.hall = p.phone("alice", "Hall\u202e/1.0", at.Listen["udp"])
	p.it = p.phone("bob", "Softphone/1.0", at.Listen["udp"])
	return p
}

// phone opens and registers a phone that answers at once.
func (p *party) phone(user, model, server string) *phone.Phone {
	p.t.Helper()
	ph, err := phone.New(phone.Config{
		User: user, Password: "of-" + user, Server: netip.MustParseAddrPort(server),
		Addr: netip.MustParseAddr("127.0.0.1"), UserAgent: model, Instance: "urn:uuid:" + strings.ToLower(model[:4]),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(ph.Close)
	ph.Behave(phone.AutoAnswer)
	if m, err := ph.Register(time.Minute); err != nil {
		p.t.Fatalf("register %s: %v %v", model, m, err)
	}
	return ph
}

// TestPhones goes through a call with three phones as an administrator sees it.
func TestPhones(t *testing.T) {
	p := newParty(t)
	on := func(args ...string) []string { return append(args, "--data", p.dir) }
	wants(t, 0, `(?m)^USER +N +DEVICE +KIND +PRESENCE +ADDRESS +VIA +REGISTERED\n`+
		`alice +1 +desk.* here [\d.]+s +127\.0\.0\.1:\d+ +udp +\d\d:\d\d:\d\d\n`+
		`alice +2 +hall.*\n`+
		`bob +1 +\S+ +softphone +here.*\n$`, on("devices")...)
	wants(t, 0, `^$`, on("devices", "rename", "alice", "2", "kitchen")...)
	wants(t, 0, `^$`, on("devices", "ringless", "alice", "kitchen", "off")...)
	wants(t, 0, `(?s)"name": "kitchen".*"ringless": false`, on("devices", "alice", "--json")...)
	wants(t, 0, `^$`, on("devices", "ringless", "alice", "2", "on")...)
	wants(t, 2, `^baton: "maybe" is neither on nor off`, on("devices", "ringless", "alice", "2", "maybe")...)
	wants(t, 4, `^baton: device "attic" of alice: not found: there are 1 desk, 2 kitchen\n$`, on("devices", "rename", "alice", "attic", "cellar")...)
	wants(t, 0, `alice +2 +kitchen`, on("devices", "101")...)

	out, err := p.desk.Dial("bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Await(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	var calls []call.Info
	waitFor(t, "the call to be up", func() bool {
		said, _, _ := run(t, "", on("calls", "--json")...)
		return json.Unmarshal([]byte(said), &calls) == nil && len(calls) == 1 && calls[0].State == "up"
	})
	id := calls[0].ID
	wants(t, 0, `(?m)^CALL +STATE +SINCE +TALKING +WHO +WITH +MEDIA +MOVES\n`+id+` +up +\d\d:\d\d:\d\d +[\d.]+s +alice \(desk.*\)  bob \(.*\) +relay +0\n$`, on("calls", "--user", "101")...)

	wants(t, 0, `^kitchen of alice listens to call `+id+`\n$`, on("companion", "alice", "kitchen")...)
	wants(t, 0, `alice \(desk\S*, kitchen listens\)`, on("calls")...)
	wants(t, 0, `(?s)device +2 kitchen, up \(listens\)`, on("call", "show", id)...)
	wants(t, 1, `^baton: kitchen listens already`, on("companion", "alice", "kitchen", "--call", id)...)
	wants(t, 0, `^kitchen of alice listens no more to call `+id+`\n$`, on("companion", "alice", "kitchen", "--leave")...)
	waitFor(t, "the kitchen to be gone", func() bool {
		said, _, _ := run(t, "", on("calls")...)
		return !strings.Contains(said, "kitchen")
	})
	wants(t, 0, `(?s)alice's kitchen listens to the call: cli, .*alice's kitchen listens no more`, on("log")...)
	wants(t, 0, `(?s)^call `+id+`: alice went from desk\S* to kitchen in \d+(\.\d)? ms.*the other side heard +longest gap .* 0 packets lost\n`, on("move", id[:5], "kitchen")...)
	wants(t, 0, `(?s)^call `+id+`, up since .*alice \(101\)\n +device +2 kitchen, up; leg \S+\n +SIP +udp:127.*says +PCMU.*hears.*MOVED AT.*cli by \S+ +\d`, on("call", "show", id[:4])...)
	wants(t, 0, `^call `+id+`: alice is on kitchen already\n$`, on("move", id, "2", "--seat", "101")...)
	wants(t, 4, `^baton: device "attic" of alice: not found: there are 1 desk, 2 kitchen`, on("move", id, "attic")...)
	wants(t, 4, `^baton: `, on("move", id, "softphone-that-is-bobs", "--seat", "bob", "--json")...)
	wants(t, 0, `^$`, on("end", id[:6])...)
	waitFor(t, "the call to be gone", func() bool { // its phones answer their BYEs first
		said, _, _ := run(t, "", on("calls")...)
		return said == "no live calls\n"
	})
	wants(t, 4, `^baton: .*alice`, on("move", "--user", "alice", "1")...)

	if _, err := p.hall.Unregister(); err != nil {
		t.Fatal(err)
	}
	wants(t, 0, `(?m)^alice +2 +kitchen +.* away [\d.]+s \(unregistered\)`, on("devices")...)
	wants(t, 0, `^$`, on("devices", "forget", "alice", "kitchen")...)
	waitFor(t, "the log to be whole", func() bool {
		said, _, _ := run(t, "", on("log")...)
		return regexp.MustCompile(`(?s)alice's desk\S* is here\n.* ` + id + `  alice calls bob from desk.* ` + id + `  bob answers on .* ` +
			id + `  alice moves from desk\S* to kitchen \(in .* lost\)\n.* ` + id + `  the call of alice and bob ended after .*: .*\n.*kitchen has unregistered after`).MatchString(said)
	})
	if said, _, _ := run(t, "", on("log")...); strings.Contains(said, "\u202e") {
		t.Errorf("the log obeys a phone's name: %q", said)
	}
}

// TestStoreBusy wants a command without a node to wait for a store that is held for a moment.
func TestStoreBusy(t *testing.T) {
	dir := shortDir(t)
	wants(t, 0, `password`, "user", "add", "carol", "--data", dir)
	held, err := store.Open(dir, discard())
	if err != nil {
		t.Fatal(err)
	}
	list := baton(t, "user", "list", "--data", dir)
	var said bytes.Buffer
	list.Stdout, list.Stderr = &said, &said
	if err := list.Start(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(700*time.Millisecond, func() { held.Close() })
	if err := list.Wait(); err != nil || !strings.Contains(said.String(), "carol") {
		t.Errorf("list: %v\n%s", err, said.String())
	}
}
