package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"baton/web"
)

func rejoinCommand(f *flags) *cobra.Command {
	want := web.Rejoin{How: "cli"}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "rejoin CALL [DEVICE]",
		Short: "Bring somebody back into a call that he has left, or whose device was lost",
		Long: `rejoin has a device take the empty seat of a call and prints the figures: the device named, which answers by
itself if it can, or whichever of the user's answers first. If none does the call waits on.

CALL is an id as "baton calls" lists it and may be abbreviated. DEVICE is an index, a name, a +sip.instance URN
or a contact; "baton devices" lists them. Where both sides are missing, --seat says whose device is meant.`,
		Example: `  baton rejoin k3f9
  baton rejoin k3f9 kitchen
  baton rejoin k3f9 2 --seat alice`,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 2:
				want.Call, want.Device = args[0], args[1]
			case 1:
				want.Call = args[0]
			default:
				return usage(cmd, errors.New("rejoin wants a call, and a device if it shall be that one"))
			}
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				report, err := c.Rejoin(ctx, want)
				if err != nil || asJSON {
					return orJSON(cmd, err, report)
				}
				return printMove(cmd.OutOrStdout(), report)
			})
		},
	}
	cmd.Flags().StringVar(&want.Seat, "seat", "", "user of the call who is missing")
	withJSON(cmd, &asJSON)
	return cmd
}
