package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestSeek: what waits for one dialog stays in order, an owner is found once in a while, and what cannot be found out holds nothing up.
func TestSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var finds atomic.Int32
		node, fails := "n1", error(nil)
		o := newOwners(func(ctx context.Context, _ string) (string, error) {
			finds.Add(1)
			if fails != nil {
				<-ctx.Done()
				return "", fails
			}
			time.Sleep(10 * time.Millisecond)
			return node, nil
		})
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		waited := make(chan string, 1024)
		ask := func(callID, what string) bool {
			return o.seek(callID, func() { waited <- what + " at " + o.of(callID) })
		}
		came := func() (all []string) {
			for len(waited) > 0 {
				all = append(all, <-waited)
			}
			return all
		}
		for i := range 3 {
			if !ask("c1", fmt.Sprint(i)) {
				t.Fatal("it is not waited for")
			}
			pass(time.Millisecond)
		}
		if early := came(); o.of("c1") != "" || len(early) > 0 {
			t.Errorf("before it was found it is %q, %q", o.of("c1"), early)
		}
		pass(20 * time.Millisecond)
		if want, got := []string{"0 at n1", "1 at n1", "2 at n1"}, came(); !slices.Equal(got, want) || finds.Load() != 1 {
			t.Errorf("after %d looks came %q, want %q", finds.Load(), got, want)
		}
		if ask("c1", "soon") || o.of("c1") != "n1" {
			t.Error("it is looked for again at once")
		}
		node = "n2"
		o.forget()
		if !ask("c1", "moved") || o.of("c1") != "" {
			t.Error("it is not looked for after a node's end")
		}
		pass(ownerFresh + 20*time.Millisecond)
		if o.of("c1") != "n2" || !ask("c1", "late") {
			t.Errorf("it is at %q, and not looked for again", o.of("c1"))
		}
		pass(time.Second)
		fails = errors.New("away")
		came()
		if !ask("c2", "lost") {
			t.Error("it is not looked for")
		}
		pass(ownerTimeout + time.Millisecond)
		if want, got := []string{"lost at "}, came(); !slices.Equal(got, want) {
			t.Errorf("where the store is away came %q, want %q", got, want)
		}
		for i := range maxLooks {
			o.seek(fmt.Sprint("many", i), func() {})
		}
		if ask("one more", "") {
			t.Errorf("there is no limit to what is looked for")
		}
		pass(ownerTimeout + time.Millisecond)
		for range maxHeld {
			ask("c3", "")
		}
		if ask("c3", "") {
			t.Error("there is no limit to what waits")
		}
		pass(ownerTimeout + time.Millisecond)
		if o.held != 0 || len(o.looks) != 0 {
			t.Errorf("%d messages wait, %d looks are under way at the end", o.held, len(o.looks))
		}
		for i := range 2 * maxOwners {
			o.learn(fmt.Sprint(i), "n1")
		}
		if len(o.known) > maxOwners {
			t.Errorf("%d are remembered", len(o.known))
		}
	})
}
