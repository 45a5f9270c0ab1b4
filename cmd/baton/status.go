package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/web"
)

func statusCommand(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the node and its store are",
		Long: `status tells since when the node runs, where it listens, and how its store is. Its exit status is 1 when the store takes
no writes: calls go on then, and what changes is kept in the node's memory. A node that reaches no other node either says so, and
since when it refuses moves. With --json the exit status is 0, and "healthy" and "cut_off" tell.`,
		Example: "  baton status\n  baton status --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, client *web.Client) error {
				n, err := client.Node(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), n)
				}
				if err := showStatus(cmd.OutOrStdout(), n); err != nil {
					return err
				}
				if n.Store != nil && !n.Store.Healthy {
					return errors.New("the store takes no writes")
				}
				return nil
			})
		},
	}
	withJSON(cmd, &asJSON)
	return cmd
}

// showStatus is a line for each part.
func showStatus(out io.Writer, n web.Node) error {
	now := time.Now()
	p := &page{out: screenOf(out)}
	p.say("node    ", fmt.Sprintf("%s, running since %s, pid %d, version %s", n.Name, clock(n.Started, now), n.PID, n.Version))
	for _, transport := range slices.Sorted(maps.Keys(n.Listen)) {
		p.say("listen  ", transport+" "+n.Listen[transport])
	}
	if s := n.Store; s != nil {
		text := s.Kind
		if s.Place != "" {
			text += " " + s.Place
		}
		switch {
		case !s.Healthy:
			text += ": " + s.Error
			if s.CutOff != nil {
				text += "; no other node is reached either since " + clock(*s.CutOff, now) + ": moves are refused"
			}
		case s.Since != nil:
			text += ", good since " + clock(*s.Since, now)
		}
		p.say("store   ", text)
	}
	if m := n.MouthToEar; m != nil {
		p.say("sound   ", soundOf(*m))
	}
	return p.err
}

// soundOf is how long sound takes from mouth to ear on the node's calls.
func soundOf(m web.MouthToEar) string {
	var words []string
	for _, of := range []struct {
		what string
		mean web.Mean
	}{{"live calls", m.Live}, {"calls that have ended", m.Ended}, {"calls that have ended, as devices reported", m.Reported}} {
		if of.mean.Ways > 0 {
			words = append(words, fmt.Sprintf("%s on average over %d directions of %s", milliseconds(of.mean.Mean), of.mean.Ways, of.what))
		}
	}
	if len(words) == 0 {
		return "no call was measured yet"
	}
	return "from mouth to ear " + strings.Join(words, "; ")
}
