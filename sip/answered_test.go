package sip

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestAnsweredAgainstModel keeps and forgets answers at random, beside a plain map that does the same.
func TestAnsweredAgainstModel(t *testing.T) {
	type entry struct {
		answer string
		at     time.Time
	}
	const life = 32 * time.Second
	var a answered
	model := map[string]entry{}
	now := time.Now()
	for i := range 20_000 {
		now = now.Add(time.Duration(rand.IntN(10)) * time.Millisecond)
		key := fmt.Sprint(rand.IntN(4000)) // now and then one that is kept already
		e := entry{strings.Repeat(key, rand.IntN(300)), now}
		if i == 10_000 {
			e.answer = strings.Repeat("x", 3*slabSize)
		}
		a.keep(key, []byte(e.answer), now)
		model[key] = e
		if i%100 != 0 {
			continue
		}
		a.expire(now.Add(-life))
		for key, e := range model {
			if e.at.Before(now.Add(-life)) {
				delete(model, key)
			}
		}
		if a.count() != len(model) {
			t.Fatalf("after %d: %d answers are kept, want %d", i, a.count(), len(model))
		}
		for key, e := range model {
			if got := a.find(key); string(got) != e.answer {
				t.Fatalf("after %d: answer of %s is %.20q, want %.20q", i, key, got, e.answer)
			}
		}
	}
	if a.find("never") != nil {
		t.Error("an answer that was never kept")
	}
	a.expire(now.Add(time.Second))
	if a.count() != 0 || a.slabs != nil || a.index != nil {
		t.Errorf("at the end %d answers in %d slabs are left", a.count(), len(a.slabs))
	}
}

// TestRepeatGetsTheAnswer repeats a request that has been answered: within the limits and beyond them it gets the very
// answer, and its handler is not asked again.
func TestRepeatGetsTheAnswer(t *testing.T) {
	served := make(chan string, 4)
	a := start(t, handle("REGISTER", func(x *Exchange) {
		served <- x.CallID()
		_ = x.Respond(Reply{Code: 200})
	}))
	a.timing = timing{timerT1, timerT2, timerC, cancelWait}
	w := dial(t, "udp", "", a.Addrs()["udp"])
	m := w.authenticated(msg{method: "REGISTER"})
	first := string(w.message())
	w.send(m.String())
	if again := string(w.message()); again != first || !strings.HasPrefix(first, "SIP/2.0 200") {
		t.Errorf("answered %q, and the repeat %q", first, again)
	}
	local, _ := addrOf(w)
	a.turnAway([]byte(m.String()), Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}, overSource)
	if again := string(w.message()); again != first {
		t.Errorf("answered %q, and the repeat beyond the limit %q", first, again)
	}
	if len(served) != 1 {
		t.Errorf("the handler was asked %d times", len(served))
	}
}

// TestAnsweredIsTheKeysOwn has two keys with one hash: the older one's answer is forgotten, not given to the other.
func TestAnsweredIsTheKeysOwn(t *testing.T) {
	var a answered
	a.keep("one", []byte("answer"), time.Now())
	a.index[maphash.String(seed, "other")] = a.index[maphash.String(seed, "one")]
	if got := a.find("other"); got != nil {
		t.Errorf("the other gets %q", got)
	}
}

// message waits for one message, whatever it is.
func (w *wire) message() []byte {
	w.t.Helper()
	b, err := w.read(5 * time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}
