package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"baton/call"
	"baton/web"
)

// retryEvery is how often a node that has stopped is looked for.
const retryEvery = 500 * time.Millisecond

// sight is what is known of the calls.
type sight struct {
	calls []call.Info
	lost  time.Time // since when the node has not been there; zero = it is
}

// watchCalls shows the calls of a user ("" = all) and goes on showing them until ctx ends or a signal comes.
func (f *flags) watchCalls(ctx context.Context, out screen, user string, asJSON bool) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	client, err := f.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	sights, ended := make(chan sight), make(chan error, 1)
	go func() { ended <- follow(ctx, client, user, sights) }()
	if tty, ok := out.Writer.(*os.File); ok && isTerminal(tty) && !dumb() && !asJSON {
		err = watchScreen(ctx, out, tty, sights, ended)
	} else {
		err = watchLines(ctx, out, asJSON, sights, ended)
	}
	if ctx.Err() != nil {
		return nil // the person has ended it
	}
	return explain(err)
}

// follow sends what is seen of the calls. A node that stops after it was there once is waited for.
func follow(ctx context.Context, c *web.Client, user string, sights chan<- sight) error {
	send := func(s sight) error {
		select {
		case sights <- s:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var last sight
	for seen := false; ; {
		err := c.FollowCalls(ctx, user, func(calls []call.Info) error {
			seen, last = true, sight{calls: calls}
			return send(last)
		})
		if ctx.Err() != nil || !seen || !away(err) {
			return err
		}
		if last.lost.IsZero() {
			last = sight{lost: time.Now()}
			if err := send(last); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryEvery):
		}
	}
}

// away says whether an error means that the node does not run, or not any more, or not yet.
func away(err error) bool {
	var answer *web.Error
	return !errors.As(err, &answer) || answer.Status >= http.StatusInternalServerError
}

// watchLines writes a table for each change, for what is no terminal; JSON as one list on a line.
func watchLines(ctx context.Context, out screen, asJSON bool, sights <-chan sight, ended <-chan error) error {
	for last := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case s := <-sights:
			now := time.Now()
			face := s.face()
			if face == last {
				continue
			}
			last = face
			if err := s.print(out, asJSON, now); err != nil {
				return err
			}
		}
	}
}

func (s sight) print(out screen, asJSON bool, now time.Time) error {
	if asJSON {
		if !s.lost.IsZero() {
			return nil
		}
		return printJSONLine(out, s.calls)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %s\n", now.Format("15:04:05"), s.title())
	if len(s.calls) > 0 {
		if err := callTable(screen{Writer: &b, width: out.width}, s.calls, now); err != nil {
			return err
		}
	}
	b.WriteByte('\n')
	_, err := out.Write(b.Bytes())
	return err
}

// face is what can be seen of the calls besides the time: two that look alike have the same.
func (s sight) face() string {
	var b strings.Builder
	fmt.Fprintln(&b, s.lost.IsZero())
	for _, c := range s.calls {
		fmt.Fprintln(&b, c.ID, stateOf(c), c.Up != nil, len(c.Moves))
		for _, seat := range c.Seats {
			fmt.Fprintln(&b, seatLabel(seat))
		}
	}
	return b.String()
}

func (s sight) title() string {
	switch {
	case !s.lost.IsZero():
		return "the node has stopped; waiting for it"
	case len(s.calls) == 0:
		return "no live calls"
	}
	return plural(len(s.calls), "live call")
}

// Sequences of a terminal (ECMA-48, and xterm's private modes).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // the other screen, cursor hidden
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	cursorHome  = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

// watchScreen keeps the calls on a screen of their own; what was on the terminal before is back when it ends.
func watchScreen(ctx context.Context, out screen, tty *os.File, sights <-chan sight, ended <-chan error) error {
	restore := quiet(tty)
	defer restore()
	if _, err := io.WriteString(tty, enterScreen); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(tty, leaveScreen) }() // the terminal may have gone
	sizes, stop := resized()
	defer stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var s *sight // nothing is shown before the first
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return err
		case seen := <-sights:
			s = &seen
		case <-sizes:
		case <-tick.C:
		}
		if s == nil {
			continue
		}
		out.width, _ = terminalSize(tty)
		_, height := terminalSize(tty)
		if _, err := tty.Write(s.frame(out, height, time.Now())); err != nil {
			return err
		}
	}
}

// frame draws over what is there, line by line, in one write: nothing is cleared that is not drawn again, so nothing
// flickers.
func (s sight) frame(out screen, height int, now time.Time) []byte {
	var rows bytes.Buffer
	if len(s.calls) > 0 {
		_ = callTable(screen{Writer: &rows, width: out.width, paint: out.paint}, s.calls, now) // a buffer takes everything
	}
	title := s.title() + " at " + now.Format("15:04:05")
	colour := bold
	if !s.lost.IsZero() {
		title, colour = fmt.Sprintf("the node has stopped %s ago; waiting for it", lasted(now.Sub(s.lost))), yellow
	}
	lines := []string{out.colour(colour, cut(title, out.width))}
	if rows.Len() > 0 {
		lines = append(lines, "")
		lines = append(lines, strings.Split(strings.TrimSuffix(rows.String(), "\n"), "\n")...)
	}
	if left := len(lines) - height; left > 0 {
		lines = append(lines[:max(height-1, 0)], cut(fmt.Sprintf("… and %d more", left+1), out.width))
	}
	return []byte(cursorHome + strings.Join(lines, clearLine+"\r\n") + clearLine + clearBelow)
}
