package main

import (
	"bytes"
	"encoding/csv"
	"slices"
	"strings"
	"testing"
	"time"

	"baton/journal"
)

func TestTextWidth(t *testing.T) {
	for text, want := range map[string]int{"": 0, "desk": 4, "Zoë": 3, "Zoe\u0308": 3, "電話": 4, "☎": 1, "📞": 2, "ｶ": 1, "한국": 4} {
		if got := textWidth(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	tests := []struct {
		in    string
		width int
		want  string
	}{
		{"desk", 4, "desk"}, {"desks", 4, "des…"}, {"a b c d", 5, "a b…"}, {"電話機", 5, "電話…"}, {"電話機", 6, "電話機"}, {"Zoe\u0308s", 3, "Zo…"},
	}
	for _, tt := range tests {
		if got := cut(tt.in, tt.width); got != tt.want || textWidth(got) > tt.width {
			t.Errorf("cut(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
}

func TestFold(t *testing.T) {
	tests := []struct {
		in    string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two", 0, []string{"one two"}},
		{"one two", 7, []string{"one two"}},
		{"one two three", 7, []string{"one two", "three"}},
		{"one two three", 8, []string{"one two", "three"}},
		{"one two three", 6, []string{"one", "two", "three"}},
		{"abcdefghij kl", 4, []string{"abcd", "efgh", "ij", "kl"}},
		{"電話機電話機", 5, []string{"電話", "機電", "話機"}},
	}
	for _, tt := range tests {
		if got := fold(tt.in, tt.width); !slices.Equal(got, tt.want) {
			t.Errorf("fold(%q, %d) = %q, want %q", tt.in, tt.width, got, tt.want)
		}
	}
}

func FuzzFold(f *testing.F) {
	f.Add("one two three", 7)
	f.Add("電話 \u0301", 2)
	f.Fuzz(func(t *testing.T, text string, width int) {
		if width < 2 || width > 200 {
			return
		}
		text = clean(text)
		lines := fold(text, width)
		for _, line := range lines {
			if textWidth(line) > width {
				t.Errorf("%q takes more than %d columns", line, width)
			}
		}
		if got := strings.ReplaceAll(strings.Join(lines, ""), " ", ""); got != strings.ReplaceAll(text, " ", "") {
			t.Errorf("%q became %q", text, lines)
		}
		if c := cut(text, width); textWidth(c) > width {
			t.Errorf("%q takes more than %d columns", c, width)
		}
	})
}

// TestTable: columns give way from the widest, a short row has the rest of its line, and without a width nothing is cut.
func TestTable(t *testing.T) {
	heading := []string{"ID", "NAME", "WITH"}
	rows := [][]string{{"1", strings.Repeat("n", 30), "x"}, {"2", "short", strings.Repeat("w", 20)}, {"3", "failed: " + strings.Repeat("y", 40)}}
	tests := map[int]string{
		0: `ID  NAME                            WITH
1   nnnnnnnnnnnnnnnnnnnnnnnnnnnnnn  x
2   short                           wwwwwwwwwwwwwwwwwwww
3   failed: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy
`,
		30: `ID  NAME          WITH
1   nnnnnnnnnnn…  x
2   short         wwwwwwwwwww…
3   failed: yyyyyyyyyyyyyyyyy…
`,
	}
	for width, want := range tests {
		var b bytes.Buffer
		if err := table(screen{Writer: &b, width: width}, heading, rows); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("width %d: got\n%swant\n%s", width, b.String(), want)
		}
	}
	var b bytes.Buffer
	if err := table(screen{Writer: &b, paint: true}, heading, rows[:1]); err != nil || !strings.HasPrefix(b.String(), "\x1b[1mID  NAME") {
		t.Errorf("painted %q, %v", b.String(), err)
	}
}

// TestLogFolds: on a screen no line of the log is longer than it is wide, and nothing is lost.
func TestLogFolds(t *testing.T) {
	long := strings.Repeat("name-", 12)
	e := journal.Entry{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kind: journal.CallMoved, Call: "k3f9aaaa", User: long + "a", From: long + "b",
		Device: long + "電話", Data: map[string]string{"switch_ms": "43", "gap_ms": "21", "lost": "0"},
	}
	for _, width := range []int{0, 30, 80, 200} {
		var b bytes.Buffer
		p := &logPrinter{out: screen{Writer: &b, width: width}}
		if err := p.one(e); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		said := ""
		for _, line := range lines {
			if width > 0 && textWidth(line) > width {
				t.Errorf("width %d: %q takes %d columns", width, line, textWidth(line))
			}
			said += strings.TrimSpace(line)
		}
		if width == 0 && len(lines) != 2 {
			t.Errorf("into a file: %q", lines)
		}
		if squash := strings.ReplaceAll(sentence(e), " ", ""); !strings.HasSuffix(strings.ReplaceAll(said, " ", ""), squash) {
			t.Errorf("width %d: %q lacks some of %q", width, said, squash)
		}
	}
}

// TestCSV reads back what is written for a spreadsheet; no cell is a formula.
func TestCSV(t *testing.T) {
	time.Local = time.UTC
	var b bytes.Buffer
	p := (&logWish{csv: true}).printer(&b)
	entries := []journal.Entry{
		{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Kind: journal.CallEnded, Call: "k3f9aaaa", User: "alice", Peer: "bob", Duration: 90500 * time.Millisecond, Text: `bob, "hung" up`},
		{Kind: journal.DeviceNew, User: "-1", Device: `=HYPERLINK("x")`, Text: "a\x1b[2J\nb", Data: map[string]string{"b": "2", "a": "1"}},
	}
	if err := p.all(entries); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("%q, %v", rows, err)
	}
	want := [][]string{
		csvHeading,
		{"2026-01-02T03:04:05Z", "call-ended", "k3f9aaaa", "alice", "", "", "bob", "90.500", `bob, "hung" up`, ""},
		{"0001-01-01T00:00:00Z", "device-new", "", "'-1", `'=HYPERLINK("x")`, "", "", "", `a\x1b[2J\nb`, "a=1 b=2"},
	}
	for i := range want {
		if !slices.Equal(rows[i], want[i]) {
			t.Errorf("row %d is %q, want %q", i, rows[i], want[i])
		}
	}
}

func TestScreenOf(t *testing.T) {
	for env, want := range map[string]int{"": 0, "100": 100, "5": 0, "wide": 0} {
		t.Setenv("COLUMNS", env)
		if s := screenOf(&bytes.Buffer{}); s.width != want || s.paint {
			t.Errorf("COLUMNS=%q: %+v, want width %d and no colours", env, s, want)
		}
	}
	if s := screenOf(screen{width: 7, paint: true}); s.width != 7 || !s.paint {
		t.Errorf("a screen is another one: %+v", s)
	}
}
