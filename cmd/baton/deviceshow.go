package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/registrar"
	"baton/web"
)

func devicesShow(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show USER DEVICE",
		Short: "Show a device in full, with what calls have taught of it",
		Long: `show prints where a device is, the URI that reaches it alone (GRUU), and what baton has learnt of its phone
in calls: whether it answers by itself, its codecs, how it puts on hold, how its keys come. Another firmware
makes baton forget that; "baton devices test" finds it out at once.`,
		Example: "  baton devices show alice 2\n  baton devices show 101 desk --json",
		Args:    exactly(2, "a user and one of its devices"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				d, err := c.Device(ctx, args[0], args[1])
				if err != nil || asJSON {
					return orJSON(cmd, err, d)
				}
				return showDevice(cmd.OutOrStdout(), d)
			})
		},
	}
	withJSON(cmd, &asJSON)
	return cmd
}

// showDevice is a device in full.
func showDevice(out io.Writer, d web.Device) error {
	now := time.Now()
	p := &page{out: screenOf(out)}
	p.say("", fmt.Sprintf("%s of %s, %s, %s", label(d), d.User, d.Kind, here(d, now)))
	for _, line := range [][2]string{
		{"address", strings.TrimSpace(d.Transport + " " + d.Address)},
		{"registered", registeredFor(d, now)},
		{"contact", d.Contact},
		{"user agent", d.UserAgent},
		{"instance", d.Instance},
		{"GRUU", d.GRUU},
	} {
		if line[1] != "" {
			p.say(fmt.Sprintf("  %-11s", line[0]), line[1])
		}
	}
	p.say("", "")
	p.say("", "learnt in calls")
	for _, row := range learntRows(d, now) {
		p.say(fmt.Sprintf("  %-18s ", row[0]), row[1])
	}
	return p.err
}

// label names a device for people.
func label(d web.Device) string {
	if d.Index == 0 {
		return "device " + d.Name
	}
	return fmt.Sprintf("device %d %s", d.Index, d.Name)
}

func registeredFor(d web.Device, now time.Time) string {
	if d.Registered == nil || d.Expires == nil {
		return ""
	}
	return clock(*d.Registered, now) + ", for " + lasted(d.Expires.Sub(now)) + " more"
}

// learntWords are what the names of a profile mean to people, in the order in which they are shown.
var learntWords = map[string]string{
	registrar.LearntCodecs: "codecs", registrar.LearntKeys: "keys come by", registrar.LearntHold: "hold", registrar.LearntSRTP: "SRTP offered",
	registrar.LearntReliable: "100rel", registrar.LearntUpdate: "UPDATE", registrar.LearntTimer: "session timer", registrar.LearntOptions: "asked in a call", registrar.LearntLarge: "long messages by",
}

// learntRows are what is known of a device; what is not known yet stands there too.
func learntRows(d web.Device, now time.Time) [][]string {
	rows := [][]string{{"answers by itself", answersItself(d, now)}}
	if d.Media != "" {
		rows = append(rows, []string{"media", d.Media})
	}
	for _, name := range registrar.Learnable {
		if words, ok := learntWords[name]; ok {
			rows = append(rows, []string{words, orDash(d.Learnt[name])})
		}
	}
	return rows
}

// answersItself says what becomes of asking a device to.
func answersItself(d web.Device, now time.Time) string {
	if !d.Ringless {
		return "not asked: its user has said so"
	}
	a := d.Answering
	if a == nil {
		return "not known yet"
	}
	how := map[string]string{registrar.ByHeaders: "yes, by the headers", registrar.ByTalk: "yes, by NOTIFY talk", registrar.ByHand: "no, it rings"}[a.Way]
	text := fmt.Sprintf("%s (%s, last %s)", how, plural(a.Times, "time"), clock(a.Last, now))
	if a.Misses > 0 {
		text += fmt.Sprintf("; since then it rang %s", plural(a.Misses, "time"))
	}
	return text
}
