package sip

import (
	"fmt"
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
