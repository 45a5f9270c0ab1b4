package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"baton/call"
	"baton/web"
)

func moveCommand(f *flags) *cobra.Command {
	want := web.Move{How: "cli"}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "move CALL DEVICE | move --user USER DEVICE",
		Short: "Move a live call to another device of the same person",
		Long: `move brings a live call to another device and prints the figures of the move. The device that has the
call goes on talking until the new one has been answered and heard; if that fails, nothing has changed.

CALL is an id as "baton calls" lists it and may be abbreviated; --user means that user's newest talking call,
else the one he has put on hold last, else one that rings for him: the device is asked to answer it.
DEVICE is an index, a name, a +sip.instance URN or a contact; "baton devices" lists them. Where both sides of
CALL have such a device, --seat says whose is meant.`,
		Example: `  baton move k3f9 kitchen
  baton move k3f9 2 --seat alice
  baton move --user alice 2`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := moveArgs(cmd, args, &want); err != nil {
				return err
			}
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				report, err := c.Move(ctx, want)
				if err != nil || asJSON {
					return orJSON(cmd, err, report)
				}
				return printMove(cmd.OutOrStdout(), report)
			})
		},
	}
	cmd.Flags().StringVar(&want.User, "user", "", "move this user's call: talking, else on hold, else ringing")
	cmd.Flags().StringVar(&want.Seat, "seat", "", "user of the call whose device is meant")
	withJSON(cmd, &asJSON)
	return cmd
}

// moveArgs reads CALL DEVICE, or DEVICE alone with --user.
func moveArgs(cmd *cobra.Command, args []string, want *web.Move) error {
	switch {
	case want.User == "" && len(args) == 2:
		want.Call, want.Device = args[0], args[1]
	case want.User != "" && len(args) == 1:
		want.Device = args[0]
	case want.User != "":
		return usage(cmd, errors.New("move --user USER wants one device and no call"))
	default:
		return usage(cmd, errors.New("move wants a call and a device, or --user USER and a device"))
	}
	return nil
}

// printMove tells the figures of a move.
func printMove(out io.Writer, m call.MoveReport) error {
	if m.From == m.To && m.SwitchMS == 0 {
		_, err := fmt.Fprintf(out, "call %s: %s is on %s already\n", clean(m.Call), clean(m.User), clean(m.To))
		return err
	}
	if m.From == "" { // it rang
		_, err := fmt.Fprintf(out, "call %s: %s has it on %s after %s\n", clean(m.Call), clean(m.User), clean(m.To), milliseconds(m.SwitchMS+m.RingMS))
		return err
	}
	fmt.Fprintf(out, "call %s: %s went from %s to %s in %s", clean(m.Call), clean(m.User), clean(m.From), clean(m.To), milliseconds(m.SwitchMS))
	if m.RingMS > 0 {
		fmt.Fprintf(out, ", after %s of ringing", milliseconds(m.RingMS))
	}
	fmt.Fprintln(out)
	rows := [][]string{
		{"  the other side heard", "longest gap " + milliseconds(m.Far.GapMS), plural(m.Far.Lost, "packet") + " lost"},
		{"  " + m.User + " heard", "longest gap " + milliseconds(m.Near.GapMS), plural(m.Near.Lost, "packet") + " lost"},
		{"  answer to media", milliseconds(m.AnswerToMedia)},
		{"  both devices connected", milliseconds(m.OverlapMS)},
	}
	if m.AlignMS > 0 {
		rows = append(rows, []string{"  agreeing on another codec", milliseconds(m.AlignMS)})
	}
	if m.HeldMS > 0 {
		rows = append(rows, []string{"  held by the old phone", milliseconds(m.HeldMS)})
	}
	return table(out, rows[0], rows[1:])
}

func endCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:     "end CALL",
		Short:   "Hang up everybody in a call",
		Example: "  baton end k3f9",
		Args:    exactly(1, "a call"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				return c.EndCall(ctx, args[0])
			})
		},
	}
}
