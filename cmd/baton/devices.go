package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"baton/registrar"
	"baton/web"
)

func devicesCommand(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "devices [USER]",
		Aliases: []string{"device"},
		Short:   "List devices; show, test, rename or forget one",
		Long: `devices lists the devices of a user, or of all: those that are here first. A device is named to other
commands by its index, its name, its +sip.instance URN or its contact.`,
		Example: `  baton devices
  baton devices alice --json
  baton devices show alice 2
  baton devices test alice 2
  baton devices rename alice 2 kitchen
  baton devices forget alice old-phone`,
		Args: atMost(1, "at most one user"),
		RunE: func(cmd *cobra.Command, args []string) error {
			user := ""
			if len(args) == 1 {
				user = args[0]
			}
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				devices, err := c.Devices(ctx, user)
				if err != nil || asJSON {
					return orJSON(cmd, err, devices)
				}
				if len(devices) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "no device has registered yet")
					return nil
				}
				return deviceTable(cmd.OutOrStdout(), devices, true)
			})
		},
	}
	withJSON(cmd, &asJSON)
	cmd.AddCommand(devicesShow(f), devicesTest(f), devicesRename(f), devicesRingless(f), devicesMedia(f), devicesForget(f))
	return cmd
}

// deviceTable lists devices; users says whether their users are shown.
func deviceTable(out io.Writer, devices []web.Device, users bool) error {
	heading := []string{"USER", "N", "DEVICE", "KIND", "PRESENCE", "ADDRESS", "VIA", "REGISTERED"}
	now := time.Now()
	var rows [][]string
	for _, d := range devices {
		row := []string{d.User, index(d.Index), d.Name, d.Kind, here(d, now), orDash(d.Address), orDash(d.Transport), "-"}
		if d.Registered != nil {
			row[7] = clock(*d.Registered, now)
		}
		if !users {
			row = row[1:]
		}
		rows = append(rows, row)
	}
	if !users {
		heading = heading[1:]
	}
	return table(out, heading, rows)
}

// index is a device's index, or a dash where it is known by name alone.
func index(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// here says whether a device is here or away, for how long, and why it is away.
func here(d web.Device, now time.Time) string {
	if d.Here {
		return "here " + lasted(now.Sub(d.Since))
	}
	if d.Reason == "" {
		return "away " + lasted(now.Sub(d.Since))
	}
	return "away " + lasted(now.Sub(d.Since)) + " (" + d.Reason + ")"
}

func devicesRename(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:     "rename USER DEVICE NAME",
		Short:   "Give a device another name",
		Example: "  baton devices rename alice 2 kitchen",
		Args:    exactly(3, "a user, one of its devices and the new name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				return c.RenameDevice(ctx, args[0], args[1], args[2])
			})
		},
	}
}

func devicesRingless(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "ringless USER DEVICE on|off",
		Short: "Say whether a device may be asked to answer by itself",
		Long: `A call that is moved to one device by its name or index asks that device to answer by itself, where its phone can.
"off" has it ring instead.`,
		Example: "  baton devices ringless alice 2 off",
		Args:    exactly(3, "a user, one of its devices and on or off"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if args[2] != "on" && args[2] != "off" {
				return usage(cmd, fmt.Errorf("%q is neither on nor off", args[2]))
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				return c.SetRingless(ctx, args[0], args[1], args[2] == "on")
			})
		},
	}
}

func devicesMedia(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "media USER DEVICE auto|relay|direct|default",
		Short: "Say how the audio of a device's calls goes",
		Long: `"relay" has the audio of a device's calls go through the node always, "auto" straight to the other device where the two
can reach each other, "direct" straight without proof that they can. "default" is as its user and the node have it (media.mode).`,
		Example: "  baton devices media alice 2 relay",
		Args:    exactly(3, "a user, one of its devices and auto, relay, direct or default"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mode := args[2]
			if mode == "default" {
				mode = ""
			} else if !slices.Contains(registrar.MediaModes, mode) {
				return usage(cmd, fmt.Errorf("%q is none of auto, relay, direct and default", mode))
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				return c.SetMedia(ctx, args[0], args[1], mode)
			})
		},
	}
}

func devicesForget(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:     "forget USER DEVICE",
		Short:   "Forget a device with its name and index",
		Long:    "forget removes a device. If it registers again it is a new one, with a new name and index.",
		Example: "  baton devices forget alice old-phone",
		Args:    exactly(2, "a user and one of its devices"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				return c.ForgetDevice(ctx, args[0], args[1])
			})
		},
	}
}
