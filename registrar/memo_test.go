package registrar

import (
	"fmt"
	"testing"
)

func TestMemoReadsOnceAndIsBounded(t *testing.T) {
	read := 0
	m := memo[string]{read: func(s string) string { read++; return "[" + s + "]" }}
	for range 3 {
		if got := m.of("a"); got != "[a]" || read != 1 {
			t.Fatalf("%q after %d reads", got, read)
		}
	}
	for i := range 3 * maxRemembered {
		if got, want := m.of(fmt.Sprint(i)), fmt.Sprintf("[%d]", i); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		if len(m.known) > maxRemembered {
			t.Fatalf("%d texts are remembered", len(m.known))
		}
	}
}
