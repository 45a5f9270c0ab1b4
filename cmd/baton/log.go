package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/journal"
	"baton/web"
)

// logWish is what is wanted of the log, as the command line says it.
type logWish struct {
	n                         int
	since, user, call         string
	missed, follow, json, csv bool
}

func logCommand(f *flags) *cobra.Command {
	var w logWish
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show what happened to devices and calls",
		Long: `log shows the newest entries, oldest first: devices that came and went, calls that began, were answered,
moved, missed and ended. It also works when no node runs.

--since takes how long ago (90m, 2h, 3d, 2w), today, yesterday, a time of today (14:30), a date (2026-11-23) or a
date with a time; everything since then is shown, 10,000 entries at most. What several options say must all hold.`,
		Example: `  baton log -n 20
  baton log --since 2h --user alice
  baton log --since yesterday --csv > calls.csv
  baton log --call k3f9
  baton log --missed --user 102 --since 7d
  baton log --follow --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := w.query(cmd)
			if err != nil {
				return usage(cmd, err)
			}
			p := w.printer(cmd.OutOrStdout())
			if w.follow {
				return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error { return p.follow(ctx, c, q) })
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				entries, err := c.Log(ctx, q)
				if err != nil || w.json {
					return orJSON(cmd, err, entries)
				}
				return p.all(entries)
			})
		},
	}
	w.flags(cmd)
	return cmd
}

func (w *logWish) flags(cmd *cobra.Command) {
	cmd.Flags().IntVarP(&w.n, "lines", "n", 50, "how many entries, the newest")
	cmd.Flags().StringVar(&w.since, "since", "", "only entries since then: 2h, 3d, yesterday, 14:30, 2026-11-23")
	cmd.Flags().StringVar(&w.user, "user", "", "only what this user did or was called for; a name or number")
	cmd.Flags().StringVar(&w.call, "call", "", "only this call; its id may be abbreviated")
	cmd.Flags().BoolVar(&w.missed, "missed", false, "only missed calls; with --user those to this user")
	cmd.Flags().BoolVarP(&w.follow, "follow", "f", false, "go on with new entries as they come (with --json one object per line)")
	cmd.Flags().BoolVar(&w.csv, "csv", false, "print CSV for spreadsheets")
	withJSON(cmd, &w.json)
}

// query is what the node is asked for.
func (w *logWish) query(cmd *cobra.Command) (journal.Query, error) {
	q := journal.Query{Limit: w.n, User: w.user, Call: w.call}
	if w.csv && w.json {
		return q, errors.New("--csv and --json exclude each other")
	}
	if w.n < 1 || w.n > web.MaxEntries {
		return q, fmt.Errorf("-n %d is not between 1 and %d", w.n, web.MaxEntries)
	}
	if w.missed {
		q.Kinds, q.User, q.Peer = []journal.Kind{journal.CallMissed}, "", w.user
	}
	if w.since == "" {
		return q, nil
	}
	if !cmd.Flags().Changed("lines") {
		q.Limit = web.MaxEntries
	}
	var err error
	q.Since, err = since(w.since, time.Now())
	if err != nil {
		err = fmt.Errorf("--since: %w", err)
	}
	return q, err
}

func (w *logWish) printer(out io.Writer) *logPrinter {
	p := &logPrinter{out: screenOf(out), json: w.json}
	if w.csv {
		p.csv = newCSV(out)
	}
	return p
}

// logPrinter prints entries, with a line for each new day.
type logPrinter struct {
	out  screen
	json bool
	csv  *csvPrinter
	day  string
}

// follow prints the entries that are wanted and then each new one. It begins to listen before it lists, so that none is
// missed; one that is in both is printed once.
func (p *logPrinter) follow(ctx context.Context, c *web.Client, q journal.Query) error {
	listed := map[string]bool{}
	started := func() error {
		entries, err := c.Log(ctx, q)
		if err != nil {
			return err
		}
		for _, e := range entries {
			listed[fingerprint(e)] = true
		}
		return p.all(entries)
	}
	return c.Follow(ctx, q, started, func(e web.Entry) error {
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
	if p.csv != nil {
		if err := p.csv.heading(); err != nil {
			return err
		}
	}
	for _, e := range entries {
		if err := p.one(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *logPrinter) one(e web.Entry) error {
	switch {
	case p.json:
		return printJSONLine(p.out, e)
	case p.csv != nil:
		return p.csv.one(e)
	}
	at := e.Time.Local()
	var b strings.Builder
	if day := at.Format("Monday, 2 January 2006"); day != p.day {
		p.day = day
		b.WriteString(p.out.colour(bold, day) + "\n")
	}
	head := fmt.Sprintf("%s  %-8s  ", at.Format("15:04:05"), cut(clean(orDash(e.Call)), 8))
	room := p.out.width - len(head)
	if p.out.width > 0 && room < 20 { // too narrow for two columns
		room = p.out.width
		b.WriteString(strings.TrimSpace(head) + "\n")
		head = ""
	}
	for _, line := range fold(clean(sentence(e)), room) {
		b.WriteString(head + p.out.colour(colourOf(e.Kind), line) + "\n")
		head = strings.Repeat(" ", len(head))
	}
	_, err := io.WriteString(p.out, b.String())
	return err
}

// colourOf sets apart what somebody may have to look into.
func colourOf(k journal.Kind) string {
	switch k {
	case journal.CallMoveFailed:
		return red
	case journal.CallMissed:
		return yellow
	case journal.CallMoved:
		return green
	}
	return ""
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
		if e.From == "" {
			return fmt.Sprintf("%s takes %s's call on %s", e.User, orDash(e.Peer), e.Device)
		}
		return fmt.Sprintf("%s moves from %s to %s%s", e.User, e.From, e.Device, figures(e.Data))
	case journal.CallMoveFailed:
		return fmt.Sprintf("%s could not move%s%s%s", e.User, on(" from ", e.From), on(" to ", e.Device), why)
	case journal.CompanionJoined:
		return fmt.Sprintf("%s's %s listens to the call%s", e.User, e.Device, why)
	case journal.CompanionLeft:
		return fmt.Sprintf("%s's %s listens no more", e.User, e.Device)
	case journal.CallLeft:
		return fmt.Sprintf("%s leaves the call%s, %s waits", e.User, on(" on ", e.Device), orDash(e.Peer))
	case journal.CallLost:
		return fmt.Sprintf("%s is lost to the call%s, %s waits%s", e.User, on(" on ", e.Device), orDash(e.Peer), why)
	case journal.CallRejoined:
		return fmt.Sprintf("%s is back in the call%s%s%s", e.User, on(" on ", e.Device), with(" after ", ""), why)
	case journal.CallForwarded:
		return fmt.Sprintf("%s's call for %s is forwarded to %s%s", e.User, orDash(e.From), orDash(e.Peer), why)
	case journal.CallPickedUp:
		return fmt.Sprintf("%s picks up %s's call of %s%s", e.User, orDash(e.From), orDash(e.Peer), on(" on ", e.Device))
	case journal.CallMissed:
		return fmt.Sprintf("%s missed a call of %s%s", e.Peer, orDash(e.User), why)
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
