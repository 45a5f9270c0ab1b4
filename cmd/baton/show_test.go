package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
	"baton/media"
	"baton/web"
)

func TestClean(t *testing.T) {
	tests := map[string]string{
		"yealink-t46":            "yealink-t46",
		"Zoë ☎":                  "Zoë ☎",
		"a\x1b[31mred":           `a\x1b[31mred`,
		"a\nb\tc":                `a\nb\tc`,
		"evil\u202egnp":          `evil\u202egnp`,
		"\x00\x7f":               `\x00\x7f`,
		string([]byte{'a', 255}): `a\ufffd`,
	}
	for in, want := range tests {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestPrintJSON(t *testing.T) {
	text := "a\x1b\u009b31m\x7f\u202e\U000e0001<Zoë>"
	var b bytes.Buffer
	if err := printJSON(&b, text); err != nil {
		t.Fatal(err)
	}
	if strings.IndexFunc(strings.TrimSpace(b.String()), unprintable) >= 0 {
		t.Errorf("%q can be obeyed by a terminal", b.String())
	}
	var back string
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || back != text {
		t.Errorf("%q came back as %q, error %v", text, back, err)
	}
}

func TestLasted(t *testing.T) {
	tests := map[time.Duration]string{
		-time.Second:            "0s",
		0:                       "0s",
		1234 * time.Millisecond: "1.2s",
		59 * time.Second:        "59s",
		185 * time.Second:       "3m05s",
		130 * time.Minute:       "2h10m",
		76 * time.Hour:          "3d4h",
	}
	for d, want := range tests {
		if got := lasted(d); got != want {
			t.Errorf("lasted(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestStatus(t *testing.T) {
	tests := []struct {
		err  error
		want int
	}{
		{errors.New("x"), 1},
		{usage(root(), errors.New("x")), 2},
		{explain(fmt.Errorf("%w on /x", web.ErrNoNode)), 3},
		{explain(&web.Error{Status: 404, Text: "there is no user"}), 4},
		{explain(&web.Error{Status: 400, Text: "no name"}), 2},
		{explain(&web.Error{Status: 409, Text: "in use"}), 1},
		{config.Errors{{File: "f", Text: "x"}}, 5},
	}
	for _, tt := range tests {
		if got := status(tt.err); got != tt.want {
			t.Errorf("status(%v) = %d, want %d", tt.err, got, tt.want)
		}
	}
}

// TestOrder wants the address of the default route first, and containers, VPNs and loopback last.
func TestOrder(t *testing.T) {
	var found []address
	for _, text := range []string{
		"lo 127.0.0.1", "lo ::1", "docker0 172.17.0.1", "tun0 10.8.0.2", "eth1 10.0.0.5", "eth0 192.168.1.10",
		"eth0 2001:db8::1", "eth0 fe80::1", "br-12ab 172.18.0.1", "wlan0 192.168.2.7",
	} {
		on, ip, _ := strings.Cut(text, " ")
		found = append(found, address{IP: netip.MustParseAddr(ip), On: on})
	}
	var got []string
	for _, a := range order(found, netip.MustParseAddr("192.168.1.10")) {
		got = append(got, strings.TrimSpace(a.show()+" "+a.Note))
	}
	want := []string{
		"192.168.1.10", "10.0.0.5", "192.168.2.7", "[2001:db8::1]", "172.17.0.1 containers", "10.8.0.2 VPN",
		"172.18.0.1 containers", "127.0.0.1 this machine only", "[::1] this machine only",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestTables holds what people read of devices, calls and moves.
func TestTables(t *testing.T) {
	time.Local = time.UTC
	up := time.Now().Add(-65 * time.Second)
	registered := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tests := []struct {
		name  string
		write func(*bytes.Buffer) error
		want  string
	}{
		{"devices", func(b *bytes.Buffer) error {
			return deviceTable(b, []web.Device{
				{
					User: "alice", Index: 1, Name: "desk\x1b[2J", Kind: "desk phone", Here: true, Since: up,
					Address: "10.77.0.2:5060", Transport: "udp", Registered: &registered,
				},
				{User: "alice", Name: "attic", Kind: "softphone", Since: up, Reason: "expired"},
			}, true)
		}, `
USER   N  DEVICE        KIND        PRESENCE              ADDRESS         VIA  REGISTERED
alice  1  desk\x1b[2J  desk phone  here 1m05s            10.77.0.2:5060  udp  2026-01-02 03:04:05
alice  -  attic         softphone   away 1m05s (expired)  -               -    -
`},
		{"calls", func(b *bytes.Buffer) error {
			return callTable(b, []call.Info{{
				ID: "k3f9aaaa", State: "up", Started: registered, Up: &up, Media: "direct",
				Seats: []call.SeatInfo{
					{User: "alice", Legs: []call.LegInfo{{Device: "desk"}, {Device: "mobile"}}},
					{User: "bob", Empty: true},
				},
				Moves: []call.MoveInfo{{}},
			}}, time.Now())
		}, `
CALL      STATE  SINCE                TALKING  WHO                   WITH        MEDIA   MOVES
k3f9aaaa  up     2026-01-02 03:04:05  1m05s    alice (desk, mobile)  bob (left)  direct  1
`},
		{"call", func(b *bytes.Buffer) error {
			return showCall(b, call.Info{
				ID: "k3f9aaaa", State: "up", Started: registered, Up: &up, Media: "relay", MediaWhy: "the call is on hold",
				Seats: []call.SeatInfo{{User: "alice", Number: "101", Legs: []call.LegInfo{{
					ID: "d23p2lxq", Device: "desk", Index: 1, State: "up", Held: true, Remote: "udp:10.77.0.2:5060", Codecs: []string{"PCMU", "telephone-event"},
					Stats: media.Stats{
						Remote: "10.77.0.2:4000", Latched: true, RTT: 1.25, Secure: "sdes",
						In:      media.Traffic{Codec: "PCMU/8000", Packets: 500, Lost: 2, LossPercent: 0.398, Jitter: 3.04},
						Dropped: map[string]uint64{"foreign": 3, "early": 0},
					},
					In: &media.Quality{MOS: 4.34, Delay: 40.6},
				}}}, {User: "bob", Empty: true}},
				Ways: []call.Way{{From: "alice", To: "bob", Quality: media.Quality{MOS: 4.31, Delay: 62}}},
				Moves: []call.MoveInfo{
					{At: registered, User: "alice", From: "mobile", To: "desk", How: "cli", Who: "root", Report: &call.MoveReport{SwitchMS: 23, Far: call.Gap{GapMS: 21}}},
					{At: registered, User: "alice", From: "desk", To: "mobile", How: "refer", Error: "486 Busy Here"},
				},
			})
		}, `
call k3f9aaaa, up since 2026-01-02 03:04:05, talking for 1m05s
its audio goes through the node: the call is on hold

alice (101)
  device  1 desk, up (on hold); leg d23p2lxq
  SIP     udp:10.77.0.2:5060
  audio   10.77.0.2:4000, round trip 1.2 ms; agreed on PCMU telephone-event; SRTP (SDES)
          CODEC      PACKETS  LOST       JITTER  DELAY  MOS
  says    PCMU/8000  500      2 (0.4 %)  3.0 ms  41 ms  4.34
  hears   -          0        -          -       -      -
  not taken: 3 foreign

bob: has left

FROM MOUTH TO EAR  DELAY  MOS
alice to bob       62 ms  4.31

MOVED AT             USER   DEVICES         HOW          SWITCH                 GAP FAR/NEAR  LOST
2026-01-02 03:04:05  alice  mobile to desk  cli by root  23 ms                  21 / 0.0 ms   0 / 0
2026-01-02 03:04:05  alice  desk to mobile  refer by -   failed: 486 Busy Here
`},
		{"move", func(b *bytes.Buffer) error {
			return printMove(b, call.MoveReport{
				Call: "k3f9aaaa", User: "alice", From: "desk", To: "mobile", SwitchMS: 43.4, RingMS: 2010, AnswerToMedia: 21.2,
				OverlapMS: 120, Far: call.Gap{GapMS: 21.4}, Near: call.Gap{GapMS: 20, Lost: 1},
			})
		}, `
call k3f9aaaa: alice went from desk to mobile in 43 ms, after 2010 ms of ringing
  the other side heard    longest gap 21 ms  0 packets lost
  alice heard             longest gap 20 ms  1 packet lost
  answer to media         21 ms
  both devices connected  120 ms
`},
	}
	for _, tt := range tests {
		var b bytes.Buffer
		if err := tt.write(&b); err != nil {
			t.Fatal(err)
		}
		want := strings.TrimPrefix(tt.want, "\n")
		if squeeze(b.String()) != squeeze(want) {
			t.Errorf("%s: got\n%swant\n%s", tt.name, b.String(), want)
		}
	}
}

// squeeze leaves the widths of columns out of a comparison.
func squeeze(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

// TestSentences holds how the log reads.
func TestSentences(t *testing.T) {
	tests := []struct {
		e    journal.Entry
		want string
	}{
		{journal.Entry{Kind: journal.DeviceNew, User: "alice", Device: "desk", Text: "alice has a new device: desk, index 1"}, "alice has a new device: desk, index 1"},
		{journal.Entry{Kind: journal.DeviceRegistered, User: "alice", Device: "desk"}, "alice's desk is here"},
		{journal.Entry{Kind: journal.DeviceRegistered, User: "alice", Device: "desk", Duration: time.Minute}, "alice's desk is here (was away for 1m00s)"},
		{journal.Entry{Kind: journal.DeviceAway, User: "alice", Device: "desk", Text: "connection closed", Duration: time.Hour}, "alice's desk is away after 1h00m: connection closed"},
		{journal.Entry{Kind: journal.DeviceUnregistered, User: "alice", Device: "desk", Duration: time.Hour}, "alice's desk has unregistered after 1h00m"},
		{journal.Entry{Kind: journal.CallStarted, User: "alice", Peer: "bob", Device: "desk"}, "alice calls bob from desk"},
		{journal.Entry{Kind: journal.CallAnswered, User: "alice", Peer: "bob", Device: "mobile", Duration: 5 * time.Second}, "bob answers on mobile after 5s"},
		{journal.Entry{Kind: journal.CallMoved, User: "alice", Peer: "bob", Device: "mobile"}, "alice takes bob's call on mobile"},
		{journal.Entry{Kind: journal.CallPickedUp, User: "carol", Device: "desk", From: "bob", Peer: "alice"}, "carol picks up bob's call of alice on desk"},
		{journal.Entry{Kind: journal.CallMoved, User: "alice", From: "desk", Device: "mobile", Data: map[string]string{"lost": "0", "switch_ms": "43", "gap_ms": "21", "who": "root"}}, "alice moves from desk to mobile (in 43 ms, gap 21 ms, 0 lost)"},
		{journal.Entry{Kind: journal.CallMoveFailed, User: "alice", Device: "mobile", Text: "486 Busy Here"}, "alice could not move to mobile: 486 Busy Here"},
		{journal.Entry{Kind: journal.CallEnded, User: "alice", Peer: "bob", Duration: 90 * time.Second, Text: "bob hung up"}, "the call of alice and bob ended after 1m30s: bob hung up"},
	}
	for _, tt := range tests {
		if got := sentence(tt.e); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.e.Kind, got, tt.want)
		}
	}
}
