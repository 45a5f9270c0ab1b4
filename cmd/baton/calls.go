package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/call"
	"baton/web"
)

func callsCommand(f *flags) *cobra.Command {
	var user string
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "calls",
		Short: "List the live calls",
		Long: `calls lists the live calls, oldest first: who talks with whom, on which devices, for how long.

--watch keeps the list on the screen, renewed whenever something changes, until Ctrl-C. It waits for a node that is
restarted. Into a file or pipe it writes a list for each change.`,
		Example: `  baton calls
  baton calls --watch
  baton calls --user alice --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if watch {
				return f.watchCalls(cmd.Context(), screenOf(cmd.OutOrStdout()), user, asJSON)
			}
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				calls, err := c.Calls(ctx, user)
				if err != nil || asJSON {
					return orJSON(cmd, err, calls)
				}
				if len(calls) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "no live calls")
					return nil
				}
				return callTable(cmd.OutOrStdout(), calls, time.Now())
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "only the calls of this user")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on showing them as they change (with --json one list per line)")
	withJSON(cmd, &asJSON)
	return cmd
}

func callTable(out io.Writer, calls []call.Info, now time.Time) error {
	heading, rows := []string{"CALL", "STATE", "SINCE", "TALKING", "WHO", "WITH", "MEDIA", "MOVES"}, [][]string(nil)
	clustered := slices.ContainsFunc(calls, func(c call.Info) bool { return c.Node != "" })
	if clustered {
		heading = append(heading, "NODE")
	}
	for _, c := range calls {
		who, with := parties(c.Seats)
		row := []string{c.ID, stateOf(c), clock(c.Started, now), talked(c, now), who, with, orDash(c.Media), strconv.Itoa(len(c.Moves))}
		if clustered {
			row = append(row, orDash(c.Node))
		}
		rows = append(rows, row)
	}
	return table(out, heading, rows)
}

// parties names the first seat, and all others.
func parties(seats []call.SeatInfo) (who, with string) {
	var labels []string
	for _, s := range seats {
		labels = append(labels, seatLabel(s))
	}
	if len(labels) == 0 {
		return "-", "-"
	}
	return labels[0], orDash(strings.Join(labels[1:], ", "))
}

// stateOf is the call's state, with a mark when its record is not safe.
func stateOf(c call.Info) string {
	if c.Unsafe {
		return c.State + " (unsafe)"
	}
	return c.State
}

// talked is how long a call has been up.
func talked(c call.Info, now time.Time) string {
	if c.Up == nil {
		return "-"
	}
	return lasted(now.Sub(*c.Up))
}

// seatLabel names a seat by its user and the devices of its legs.
func seatLabel(s call.SeatInfo) string {
	name := orDash(s.User)
	switch {
	case s.Lost:
		return name + " (lost)"
	case s.Empty:
		return name + " (left)"
	}
	var devices []string
	for _, l := range s.Legs {
		name := l.Device
		if l.Listens {
			name += " listens"
		}
		devices = append(devices, name)
	}
	if len(devices) == 0 {
		return name
	}
	return name + " (" + strings.Join(devices, ", ") + ")"
}

func callCommand(f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "call",
		Short:   "Show one call in full",
		Example: "  baton call show k3f9",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, fmt.Errorf("unknown command %q; try \"baton call show %s\"", args[0], args[0]))
			}
			return cmd.Help()
		},
	}
	var asJSON bool
	show := &cobra.Command{
		Use:     "show CALL",
		Short:   "Show a call's seats, legs, media and moves",
		Example: "  baton call show k3f9",
		Args:    exactly(1, "a call"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				info, err := c.Call(ctx, args[0])
				if err != nil || asJSON {
					return orJSON(cmd, err, info)
				}
				return showCall(cmd.OutOrStdout(), info)
			})
		},
	}
	withJSON(show, &asJSON)
	cmd.AddCommand(show)
	return cmd
}
