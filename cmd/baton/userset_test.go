package main

import (
	"encoding/json"
	"fmt"
	"testing"

	"baton/web"
)

// TestUserSet sets what a user wants of incoming calls, with a node and without.
func TestUserSet(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("node running %v", running), func(t *testing.T) {
			dir := shortDir(t)
			if running {
				serve(t, dir)
			}
			on := func(args ...string) []string { return append(args, "--data", dir) }
			for name, number := range map[string]string{"alice": "101", "bob": "102"} {
				wants(t, 0, `password`, on("user", "add", name, "--number", number)...)
			}
			wants(t, 0, `(?m)^calls +ring all devices here$`, on("user", "show", "alice")...)
			wants(t, 0, `^calls +not to be disturbed\n +busy when in a call\n +ring for 20s\n$`,
				on("user", "set", "101", "--dnd", "on", "--busy-on-busy", "on", "--ring", "20s")...)
			wants(t, 0, `(?s)^calls +all go to 102\n.* +go to bob when busy\n +go to 102 after 15s without answer\n +go to 102 when no device is here\n`,
				on("user", "set", "alice", "--forward-always", "102", "--forward-busy", "bob", "--forward-no-answer", "102,15s", "--forward-away", "102")...)
			wants(t, 0, `(?s)calls +all go to 102\n +not to be disturbed\n`, on("user", "show", "101")...)
			wants(t, 2, `forward always: "999".*there is no user 999`, on("user", "set", "alice", "--forward-always", "999")...)
			wants(t, 2, `forward busy: "101".*that is alice`, on("user", "set", "alice", "--forward-busy", "101")...)
			wants(t, 2, `settings.ring: "soon" is no time`, on("user", "set", "alice", "--ring", "soon")...)
			wants(t, 0, `\n +ring all other devices when one is lost in a call\n +wait when a device hangs up\n$`,
				on("user", "set", "alice", "--on-loss", "ring", "--on-bye", "leave")...)
			wants(t, 2, `--on-loss "cry": say wait or ring`, on("user", "set", "alice", "--on-loss", "cry")...)
			wants(t, 2, `--on-bye "wave": say end or leave`, on("user", "set", "alice", "--on-bye", "wave")...)
			wants(t, 2, `--dnd "maybe": say on or off`, on("user", "set", "alice", "--dnd", "maybe")...)
			wants(t, 2, `--forward-away is empty`, on("user", "set", "alice", "--forward-away", "")...)
			wants(t, 2, `nothing to set`, on("user", "set", "alice")...)
			wants(t, 4, `there is no user "zoe"`, on("user", "set", "zoe", "--dnd", "on")...)
			var u web.User
			out := wants(t, 0, `"dnd": false`, on("user", "set", "alice", "--json", "--dnd", "off", "--busy-on-busy", "off", "--ring", "default",
				"--forward-always", "off", "--forward-busy", "off", "--forward-no-answer", "102", "--forward-away", "off",
				"--on-loss", "wait", "--on-bye", "end")...)
			want := web.Settings{Forward: web.Forwarding{NoAnswer: "102"}, OnLoss: "wait", OnBye: "end"}
			if err := json.Unmarshal([]byte(out), &u); err != nil || u.Settings != want {
				t.Errorf("%+v, %v; want %+v", u.Settings, err, want)
			}
			wants(t, 0, `^calls +ring all devices here\n$`, on("user", "set", "alice", "--forward-no-answer", "off")...)
		})
	}
}
