package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"baton/registrar"
	"baton/web"
)

// chosen holds the flags of user set as they were typed.
type chosen struct {
	dnd, busyOnBusy, ring        string
	always, busy, noAnswer, away string
	onLoss, onBye, media         string
}

func userSet(f *flags) *cobra.Command {
	var want chosen
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Set do-not-disturb, forwarding, busy on busy and ring time of a user",
		Long: `set changes what becomes of a user's incoming calls and shows what is in force then. What is not named
stays as it is. Calls are forwarded to a user's name or number, or to one device as in 102*2; off ends it.
The user can do the same from a phone by star codes.`,
		Example: `  baton user set alice --dnd on
  baton user set alice --forward-busy 102 --forward-no-answer 102,15s
  baton user set alice --forward-always off --ring default`,
		Args: exactly(1, "a name or number"),
		RunE: func(cmd *cobra.Command, args []string) error {
			change, err := want.change(cmd)
			if err != nil {
				return usage(cmd, err)
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				u, err := c.ChangeUser(ctx, args[0], web.ChangeUser{Settings: change})
				if err != nil || asJSON {
					return orJSON(cmd, err, u)
				}
				printSettings(cmd.OutOrStdout(), u.Settings)
				return nil
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&want.dnd, "dnd", "", "on: no device rings, the caller hears busy; or off")
	fs.StringVar(&want.always, "forward-always", "", "where all calls go at once, as in 102; or off")
	fs.StringVar(&want.busy, "forward-busy", "", "where they go when the user is busy or declines; or off")
	fs.StringVar(&want.noAnswer, "forward-no-answer", "", "where they go when nobody answers, as in 102 or 102,15s; or off")
	fs.StringVar(&want.away, "forward-away", "", "where they go when no device is here; or off")
	fs.StringVar(&want.ring, "ring", "", "how long the devices ring, as in 20s; or default")
	fs.StringVar(&want.busyOnBusy, "busy-on-busy", "", "on: a user in a call is busy; off: call waiting")
	fs.StringVar(&want.onLoss, "on-loss", "", "when the device of a live call is lost: wait for it, or ring the others")
	fs.StringVar(&want.onBye, "on-bye", "", "when a device hangs up: end the call, or leave it")
	fs.StringVar(&want.media, "media", "", "how the sound of the user's devices goes: auto, relay, direct, or default (media.mode)")
	withJSON(cmd, &asJSON)
	return cmd
}

// change reads the flags that were given.
func (w chosen) change(cmd *cobra.Command) (web.ChangeSettings, error) {
	var c web.ChangeSettings
	noAnswer, after, timed := strings.Cut(w.noAnswer, ",")
	for _, place := range []struct {
		flag, value string
		to          **string
	}{
		{"forward-always", w.always, &c.Forward.Always},
		{"forward-busy", w.busy, &c.Forward.Busy},
		{"forward-no-answer", noAnswer, &c.Forward.NoAnswer},
		{"forward-away", w.away, &c.Forward.Away},
		{"ring", strings.Replace(w.ring, "default", "off", 1), &c.Ring},
	} {
		if !cmd.Flags().Changed(place.flag) {
			continue
		}
		if place.value == "" {
			return c, fmt.Errorf("--%s is empty; to end it say off (of --ring: default)", place.flag)
		}
		value := place.value
		if value == "off" {
			value = ""
		}
		*place.to = &value
	}
	if timed {
		c.Forward.NoAnswerAfter = &after
	}
	for _, onOff := range []struct {
		flag, value string
		to          **bool
	}{{"dnd", w.dnd, &c.DoNotDisturb}, {"busy-on-busy", w.busyOnBusy, &c.BusyOnBusy}} {
		if !cmd.Flags().Changed(onOff.flag) {
			continue
		}
		on := onOff.value == "on"
		if !on && onOff.value != "off" {
			return c, fmt.Errorf("--%s %q: say on or off", onOff.flag, onOff.value)
		}
		*onOff.to = &on
	}
	for _, word := range []struct {
		flag, value, a, b string
		to                **string
	}{{"on-loss", w.onLoss, "wait", "ring", &c.OnLoss}, {"on-bye", w.onBye, "end", "leave", &c.OnBye}} {
		if !cmd.Flags().Changed(word.flag) {
			continue
		}
		if word.value != word.a && word.value != word.b {
			return c, fmt.Errorf("--%s %q: say %s or %s", word.flag, word.value, word.a, word.b)
		}
		*word.to = &word.value
	}
	if cmd.Flags().Changed("media") {
		if !slices.Contains(append(registrar.MediaModes, "default"), w.media) {
			return c, fmt.Errorf("--media %q: say auto, relay, direct or default", w.media)
		}
		c.Media = &w.media
	}
	if c == (web.ChangeSettings{}) {
		return c, fmt.Errorf("nothing to set; name at least one of the flags")
	}
	return c, nil
}

// printSettings shows what a user has chosen, in words.
func printSettings(out io.Writer, s web.Settings) {
	fmt.Fprintf(out, "calls     %s\n", strings.Join(inWords(s), "\n          "))
}

func inWords(s web.Settings) []string {
	var words []string
	say := func(holds bool, format string, args ...any) {
		if holds {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	f := s.Forward
	say(f.Always != "", "all go to %s", clean(f.Always))
	say(s.DoNotDisturb, "not to be disturbed")
	say(s.BusyOnBusy, "busy when in a call")
	say(f.Busy != "", "go to %s when busy", clean(f.Busy))
	say(f.NoAnswer != "" && f.NoAnswerAfter == "", "go to %s at no answer", clean(f.NoAnswer))
	say(f.NoAnswer != "" && f.NoAnswerAfter != "", "go to %s after %s without answer", clean(f.NoAnswer), f.NoAnswerAfter)
	say(f.Away != "", "go to %s when no device is here", clean(f.Away))
	say(s.Ring != "", "ring for %s", s.Ring)
	say(s.OnLoss == "ring", "ring all other devices when one is lost in a call")
	say(s.Media != "", "media: %s", s.Media)
	say(s.OnBye == "leave", "wait when a device hangs up")
	if words == nil {
		return []string{"ring all devices here"}
	}
	return words
}
