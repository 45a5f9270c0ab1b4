package sip

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestSilentForAWhile has the agent want to say something while it may not speak: over TCP too, where nothing is repeated, it is said as soon as it may,
// and nobody takes the phone for gone meanwhile.
func TestSilentForAWhile(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		a := start(t)
		d := newDevice(t, a, network)
		dialog, _ := call2(d.flow)
		dialog.RemoteTag = "d"
		a.SpeakFor(-time.Second)
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*quick.t1)
			defer cancel()
			_, err := a.Do(ctx, dialog.NewRequest("OPTIONS", Body{}))
			done <- err
		}()
		d.never("OPTIONS", 5*quick.t1)
		a.SpeakFor(time.Hour)
		d.answer(d.next("OPTIONS"), 200, "")
		if err := <-done; err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
}

// TestSilentForGood has what is wanted to be said meanwhile not be said at all where the dialog is found to be another node's.
func TestSilentForGood(t *testing.T) {
	a := start(t)
	d := newDevice(t, a, "udp")
	dialog, _ := call2(d.flow)
	dialog.RemoteTag = "d"
	a.SpeakFor(-time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), 20*quick.t1)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := a.Do(ctx, dialog.NewRequest("OPTIONS", Body{}))
		done <- err
	}()
	d.never("OPTIONS", 2*quick.t1)
	a.Yield(dialog.CallID)
	a.SpeakFor(time.Hour)
	d.never("OPTIONS", 10*quick.t1)
	if err := <-done; err == nil {
		t.Error("a phone that was asked nothing has answered")
	}
	if _, err := a.Do(context.Background(), dialog.NewRequest("OPTIONS", Body{})); !errors.Is(err, errSilent) {
		t.Errorf("later it came to %v", err)
	}
}
