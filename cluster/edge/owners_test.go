package edge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestSeek: what waits for one dialog stays in order, an owner is found once in a while, and what cannot be found out holds nothing up.
func TestSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		finds, node, fails := 0, "n1", error(nil)
		o := newOwners(func(ctx context.Context, _ string) (string, error) {
			finds++
			if fails != nil {
				<-ctx.Done()
				return "", fails
			}
			time.Sleep(10 * time.Millisecond)
			return node, nil
		})
		var came []string
		ask := func(callID, what string) bool {
			return o.seek(callID, func() { came = append(came, what+" at "+o.of(callID)) })
		}
		for i := range 3 {
			if !ask("c1", fmt.Sprint(i)) {
				t.Fatal("it is not waited for")
			}
			time.Sleep(time.Millisecond)
		}
		if o.of("c1") != "" || len(came) > 0 {
			t.Errorf("before it was found it is %q, %q", o.of("c1"), came)
		}
		time.Sleep(20 * time.Millisecond)
		if want := []string{"0 at n1", "1 at n1", "2 at n1"}; !slices.Equal(came, want) || finds != 1 {
			t.Errorf("after %d looks came %q, want %q", finds, came, want)
		}
		if ask("c1", "soon") || o.of("c1") != "n1" {
			t.Error("it is looked for again at once")
		}
		node = "n2"
		o.forget()
		if !ask("c1", "moved") || o.of("c1") != "" {
			t.Error("it is not looked for after a node's end")
		}
		time.Sleep(ownerFresh + 20*time.Millisecond)
		if o.of("c1") != "n2" || !ask("c1", "late") {
			t.Errorf("it is at %q, and not looked for again", o.of("c1"))
		}
		time.Sleep(time.Second)
		fails, came = errors.New("away"), nil
		if !ask("c2", "lost") {
			t.Error("it is not looked for")
		}
		time.Sleep(ownerTimeout + time.Millisecond)
		if want := []string{"lost at "}; !slices.Equal(came, want) {
			t.Errorf("where the store is away came %q, want %q", came, want)
		}
		for i := range maxLooks {
			ask(fmt.Sprint("many", i), "")
		}
		if ask("one more", "") {
			t.Errorf("there is no limit to what is looked for")
		}
		time.Sleep(ownerTimeout + time.Millisecond)
		for range maxHeld {
			ask("c3", "")
		}
		if ask("c3", "") {
			t.Error("there is no limit to what waits")
		}
		time.Sleep(ownerTimeout + time.Millisecond)
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
