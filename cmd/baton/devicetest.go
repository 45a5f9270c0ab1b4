package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"baton/call"
	"baton/web"
)

func devicesTest(f *flags) *cobra.Command {
	var want web.Trial
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test USER DEVICE",
		Short: "Call a device and find out what it can",
		Long: `test has the node call a device ("baton test" on its display) and prints what it finds as it finds it: whether it
answers by itself, audio both ways, hold, keys, codecs, timers. Nobody needs to be there if it answers by itself;
otherwise pick it up. It plays beeps; that they are heard shows by what the phone reports (RTCP). What was found
is kept and shown by "baton devices show". It takes about ten seconds after the answer; Ctrl-C hangs up.

The status is 0 if all works, notes or not, 6 if something does not, 1 if the test could not be made: the device
is away, in a call, or did not answer.`,
		Example: "  baton devices test alice 2\n  baton device test 101 desk --keys",
		Args:    exactly(2, "a user and one of its devices"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				p := &page{out: screenOf(cmd.OutOrStdout())}
				each := func(found call.Finding) error {
					if !asJSON {
						p.finding(found)
					}
					return p.err
				}
				report, err := c.TryDevice(ctx, args[0], args[1], want, each)
				if err != nil {
					return err
				}
				if asJSON {
					err = printJSON(cmd.OutOrStdout(), report)
				} else {
					err = p.summary(report)
				}
				return outcome(report, err)
			})
		},
	}
	cmd.Flags().BoolVar(&want.Keys, "keys", false, "wait for a key that you press on the phone")
	withJSON(cmd, &asJSON)
	return cmd
}

// finding is one line, or more where it is too long for one.
func (p *page) finding(f call.Finding) {
	p.say(fmt.Sprintf("%-5s %-14s", clean(string(f.Verdict)), clean(f.What)), f.Text)
}

// count is how many findings have a verdict.
func count(r call.TrialReport, v call.Verdict) (n int) {
	for _, f := range r.Findings {
		if f.Verdict == v {
			n++
		}
	}
	return n
}

func (p *page) summary(r call.TrialReport) error {
	p.say("", "")
	bad, notes := count(r, call.Bad), count(r, call.Note)
	switch {
	case bad > 0:
		p.say("", fmt.Sprintf("%s of %s: %s, %s", r.Device, r.User, plural(bad, "thing")+" bad", plural(notes, "note")))
	case notes > 0:
		p.say("", fmt.Sprintf("%s of %s works, with %s", r.Device, r.User, plural(notes, "note")))
	default:
		p.say("", fmt.Sprintf("%s of %s works", r.Device, r.User))
	}
	return p.err
}

// outcome is the status that a report leaves with; err is why it could not be printed.
func outcome(r call.TrialReport, err error) error {
	if bad := count(r, call.Bad); err == nil && bad > 0 {
		return &exitError{exitBad, fmt.Errorf("%s of %s: %d of %d findings are bad", r.Device, r.User, bad, len(r.Findings))}
	}
	return err
}
