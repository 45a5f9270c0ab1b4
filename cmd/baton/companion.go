package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"baton/web"
)

func companionCommand(f *flags) *cobra.Command {
	want := web.Companion{Move: web.Move{How: "cli"}}
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "companion USER DEVICE",
		Short: "Have a second device listen to a live call of the same person",
		Long: `companion rings a device, which answers by itself if it can, and has it listen to its user's newest talking
call: it hears both sides and is muted. The other side notices nothing. "baton move" to it, or *40 dialled on
it, gives it the call at once.

DEVICE is an index, a name, a +sip.instance URN or a contact; "baton devices" lists them. Two devices may listen
to one person's call. --call names another call than the newest one.`,
		Example: `  baton companion alice kitchen
  baton companion alice kitchen --leave
  baton companion alice 2 --call k3f9`,
		Args: exactly(2, "a user and a device"),
		RunE: func(cmd *cobra.Command, args []string) error {
			want.User, want.Device = args[0], args[1]
			if want.Call != "" {
				want.User, want.Seat = "", args[0]
			}
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				report, err := c.Companion(ctx, want)
				if err != nil || asJSON {
					return orJSON(cmd, err, report)
				}
				words := "listens to"
				if want.Leave {
					words = "listens no more to"
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %s %s call %s\n", clean(report.Device), clean(report.User), words, clean(report.Call))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&want.Leave, "leave", false, "let the device go")
	cmd.Flags().StringVar(&want.Call, "call", "", "this call, and not the user's newest talking one")
	withJSON(cmd, &asJSON)
	return cmd
}
