package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/call"
	"baton/web"
)

func callsCommand(f *flags) *cobra.Command {
	var user string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "calls",
		Short: "List the live calls",
		Example: `  baton calls
  baton calls --user alice --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				calls, err := c.Calls(ctx, user)
				if err != nil || asJSON {
					return orJSON(cmd, err, calls)
				}
				if len(calls) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "no live calls")
					return nil
				}
				return callTable(cmd.OutOrStdout(), calls)
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "only the calls of this user")
	withJSON(cmd, &asJSON)
	return cmd
}

func callTable(out io.Writer, calls []call.Info) error {
	now := time.Now()
	var rows [][]string
	for _, c := range calls {
		var who []string
		for _, s := range c.Seats {
			who = append(who, seatLabel(s))
		}
		rows = append(rows, []string{c.ID, stateOf(c), clock(c.Started, now), talked(c, now), strings.Join(who, " with "), strconv.Itoa(len(c.Moves))})
	}
	return table(out, []string{"CALL", "STATE", "SINCE", "TALKING", "WHO", "MOVES"}, rows)
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
	if s.Empty {
		return name + " (left)"
	}
	var devices []string
	for _, l := range s.Legs {
		devices = append(devices, l.Device)
	}
	if len(devices) == 0 {
		return name
	}
	return name + " (" + strings.Join(devices, ", ") + ")"
}

func callCommand(f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call",
		Short: "Show one call in full",
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

func showCall(out io.Writer, c call.Info) error {
	now := time.Now()
	fmt.Fprintf(out, "call %s, %s since %s", clean(c.ID), clean(stateOf(c)), clock(c.Started, now))
	if c.Up != nil {
		fmt.Fprintf(out, ", talking for %s", talked(c, now))
	}
	fmt.Fprintln(out)
	for _, s := range c.Seats {
		if err := showSeat(out, s); err != nil {
			return err
		}
	}
	if len(c.Moves) == 0 {
		return nil
	}
	fmt.Fprintln(out, "\nmoves")
	return moveTable(out, c.Moves, now)
}

func showSeat(out io.Writer, s call.SeatInfo) error {
	fmt.Fprintf(out, "\n%s", clean(orDash(s.User)))
	if s.Number != "" {
		fmt.Fprintf(out, " (%s)", clean(s.Number))
	}
	if s.Empty {
		fmt.Fprint(out, ": has left")
	}
	fmt.Fprintln(out)
	if len(s.Legs) == 0 {
		return nil
	}
	var legs, audio [][]string
	for _, l := range s.Legs {
		state := l.State
		if l.Held {
			state += " (on hold)"
		}
		device := strings.TrimPrefix(index(l.Index)+" "+l.Device, "- ")
		legs = append(legs, []string{"  " + l.ID, device, state, l.Remote, strings.Join(l.Codecs, " ")})
		audio = append(audio, append([]string{"  " + l.ID}, legMedia(l)...))
	}
	if err := table(out, []string{"  LEG", "DEVICE", "STATE", "SIP", "CODECS"}, legs); err != nil {
		return err
	}
	return table(out, []string{"  AUDIO", "WITH", "CODEC", "HEARD", "SENT", "RTT", "NOT TAKEN"}, audio)
}

// moveTable lists the moves of a call, done and failed.
func moveTable(out io.Writer, moves []call.MoveInfo, now time.Time) error {
	var rows [][]string
	for _, m := range moves {
		row := []string{"  " + clock(m.At, now), m.User, m.From + " to " + m.To, m.How + " by " + orDash(m.Who), "failed: " + m.Error}
		if r := m.Report; r != nil {
			row = append(row[:4], milliseconds(r.SwitchMS), milliseconds(r.Far.GapMS)+" / "+milliseconds(r.Near.GapMS), fmt.Sprintf("%d / %d", r.Far.Lost, r.Near.Lost))
		}
		rows = append(rows, row)
	}
	return table(out, []string{"  AT", "USER", "DEVICES", "HOW", "SWITCH", "GAP FAR / NEAR", "LOST FAR / NEAR"}, rows)
}
