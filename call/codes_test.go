package call

import (
	"log/slog"
	"testing"

	"baton/config"
	"baton/registrar"
	"baton/sip"
)

// FuzzCodes dials anything: what is taken for a code begins as one does and either says what is wrong or changes something
// that can be said.
func FuzzCodes(f *testing.F) {
	for _, seed := range []string{"*21*102#", "*21102", "#21#", "*61*102**20#", "*62*102*1", "*26", "#26#", "*22", "##", "*", "#", "", "*61***", "101*2"} {
		f.Add(seed)
	}
	codes := config.Default().Codes
	f.Fuzz(func(t *testing.T, dialled string) {
		o, ok := readCode(codes, dialled)
		if !ok {
			return
		}
		if dialled[0] != '*' && dialled[0] != '#' {
			t.Errorf("%q is taken for a code", dialled)
		}
		if (o.wrong == nil) != (o.change != nil && o.words != "") {
			t.Fatalf("%q: %+v", dialled, o)
		}
		if o.wrong != nil {
			return
		}
		var s, again registrar.Settings
		o.change(&s)
		again = s
		if o.change(&again); s != again {
			t.Errorf("%q: dialled twice it is %+v, once %+v", dialled, again, s)
		}
		if (s == registrar.Settings{}) != (dialled[0] == '#' || dialled == "*22" || dialled == "*22#" || dialled == "*27" || dialled == "*27#") {
			t.Errorf("%q has set %+v", dialled, s)
		}
	})
}

// TestGuardAnswers: a star code that panics is answered, and the node goes on.
func TestGuardAnswers(t *testing.T) {
	b := New(Options{Log: slog.New(slog.DiscardHandler)})
	code := 0
	b.guard(func(r sip.Reply) error { code = r.Code; return nil }, func() { panic("test") })
	if code != 500 {
		t.Errorf("answered %d", code)
	}
}
