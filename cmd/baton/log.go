package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/journal"
	"baton/web"
)

func logCommand(f *flags) *cobra.Command {
	var n int
	var asJSON, follow bool
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show what happened to devices and calls",
		Long: `log shows the newest entries, oldest first: devices that came and went, calls that began, were answered,
moved and ended. It also works when no node runs.`,
		Example: `  baton log -n 20
  baton log --follow
  baton log --json -n 1000`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := &logPrinter{out: cmd.OutOrStdout(), json: asJSON}
			if follow {
				return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error { return p.follow(ctx, c, n) })
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				entries, err := c.Log(ctx, n, time.Time{})
				if err != nil || asJSON {
					return orJSON(cmd, err, entries)
				}
				return p.all(entries)
			})
		},
	}
	cmd.Flags().IntVarP(&n, "lines", "n", 50, "how many entries")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new entries as they come (with --json one object per line)")
	withJSON(cmd, &asJSON)
	return cmd
}

// logPrinter prints entries, with a line for each new day.
type logPrinter struct {
	out  io.Writer
	json bool
	day  string
}

// follow prints the newest n entries and then each new one. It begins to listen before it lists, so that none is
// missed; one that is in both is printed once.
func (p *logPrinter) follow(ctx context.Context, c *web.Client, n int) error {
	listed := map[string]bool{}
	started := func() error {
		entries, err := c.Log(ctx, n, time.Time{})
		if err != nil {
			return err
		}
		for _, e := range entries {
			listed[fingerprint(e)] = true
		}
		return p.all(entries)
	}
	return c.Follow(ctx, started, func(e web.Entry) error {
		if listed[fingerprint(e)] {
			delete(listed, fingerprint(e))
			return nil
		}
		return p.one(e)
	})
}

// fingerprint is the same for the same entry, listed or streamed.
func fingerprint(e web.Entry) string {
	e.Time = e.Time.UTC().Round(0)
	b, err := json.Marshal(e)
	if err != nil {
		return ""
	}
	return string(b)
}

func (p *logPrinter) all(entries []web.Entry) error {
	for _, e := range entries {
		if err := p.one(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *logPrinter) one(e web.Entry) error {
	if p.json {
		return printJSONLine(p.out, e)
	}
	at := e.Time.Local()
	if day := at.Format("Monday, 2 January 2006"); day != p.day {
		p.day = day
		if _, err := fmt.Fprintln(p.out, day); err != nil {
			return err
		}
	}
	id := e.Call
	if id == "" {
		id = "-"
	}
	_, err := fmt.Fprintf(p.out, "%s  %-8s  %s\n", at.Format("15:04:05"), clean(id), clean(sentence(e)))
	return err
}

// sentence says in words what happened.
func sentence(e web.Entry) string {
	with := func(before, after string) string {
		if e.Duration > 0 {
			return before + lasted(e.Duration) + after
		}
		return ""
	}
	why := ""
	if e.Text != "" {
		why = ": " + e.Text
	}
	switch e.Kind {
	case journal.DeviceNew:
		if e.Text != "" {
			return e.Text
		}
		return fmt.Sprintf("%s has a new device, %s", e.User, e.Device)
	case journal.DeviceRegistered:
		return fmt.Sprintf("%s's %s is here%s", e.User, e.Device, with(" (was away for ", ")"))
	case journal.DeviceAway:
		return fmt.Sprintf("%s's %s is away%s%s", e.User, e.Device, with(" after ", ""), why)
	case journal.DeviceUnregistered:
		return fmt.Sprintf("%s's %s has unregistered%s", e.User, e.Device, with(" after ", ""))
	case journal.CallStarted:
		return fmt.Sprintf("%s calls %s from %s%s", e.User, e.Peer, orDash(e.Device), why)
	case journal.CallAnswered:
		return fmt.Sprintf("%s answers%s%s%s", e.Peer, on(" on ", e.Device), with(" after ", ""), why)
	case journal.CallMoved:
		return fmt.Sprintf("%s moves from %s to %s%s", e.User, e.From, e.Device, figures(e.Data))
	case journal.CallMoveFailed:
		return fmt.Sprintf("%s could not move%s%s%s", e.User, on(" from ", e.From), on(" to ", e.Device), why)
	case journal.CallEnded:
		return fmt.Sprintf("the call of %s and %s ended%s%s", e.User, e.Peer, with(" after ", ""), why)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s%s", e.Kind, e.User, e.Device, why))
}

// on is a word with a name behind it, or nothing without a name.
func on(word, name string) string {
	if name == "" {
		return ""
	}
	return word + name
}

// figures are the main figures of a move; --json has them all.
func figures(data map[string]string) string {
	var words []string
	for _, known := range []struct{ key, format string }{
		{"switch_ms", "in %s ms"},
		{"gap_ms", "gap %s ms"},
		{"lost", "%s lost"},
	} {
		if v, ok := data[known.key]; ok {
			words = append(words, fmt.Sprintf(known.format, v))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return " (" + strings.Join(words, ", ") + ")"
}
