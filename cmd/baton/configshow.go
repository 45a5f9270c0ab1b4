package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"baton/config"
	"baton/web"
)

func configCommand(f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Show the settings",
		Example: "  baton config show",
		Args:    exactly(0, "a command: show"),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(configShowCommand(f))
	return cmd
}

func configShowCommand(f *flags) *cobra.Command {
	var file string
	var running, asJSON bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what is in force, and where each value came from",
		Long: `show prints every setting with its value and the place that it came from: a flag, a BATON_ variable,
file and line, or the default. It is what "baton serve" would use here with the same flags and variables;
with --running, what the running node does use.`,
		Example: `  baton config show
  BATON_LISTEN_UDP=:5070 baton config show --config /etc/baton/baton.yaml
  baton config show --running --json`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			show := func(all []config.Setting) error {
				if asJSON {
					return printJSON(cmd.OutOrStdout(), all)
				}
				return showSettings(cmd.OutOrStdout(), all)
			}
			if running {
				return f.ask(cmd.Context(), func(ctx context.Context, c *web.Client) error {
					all, err := c.Config(ctx)
					if err != nil {
						return err
					}
					return show(all)
				})
			}
			l, err := f.inForce(file)
			if err != nil {
				return err
			}
			return show(l.Settings())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (else BATON_CONFIG, else baton.yaml here)")
	cmd.Flags().BoolVar(&running, "running", false, "ask the running node")
	withJSON(cmd, &asJSON)
	return cmd
}

// inForce is what a node started with these flags works with: flag before variable before file before default.
func (f *flags) inForce(file string) (config.Loaded, error) {
	l, err := loaded(file)
	if f.data != "" {
		l.Data = f.data
		if l.From == nil {
			l.From = map[string]config.Source{}
		}
		l.From["data"] = config.Source{Kind: config.FromFlag, Name: "--data"}
	}
	return l, err
}

// showSettings prints three columns; the items of a long list stand below each other.
func showSettings(out io.Writer, all []config.Setting) error {
	const line = "%-22s  %-32s  %s\n"
	var b strings.Builder
	fmt.Fprintf(&b, line, "FIELD", "VALUE", "FROM")
	for _, s := range all {
		values := columns(s.Values, 32)
		fmt.Fprintf(&b, line, s.Field, clean(orDash(values[0])), clean(s.From.String()))
		for _, more := range values[1:] {
			fmt.Fprintf(&b, "%-22s  %s\n", "", clean(more))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// columns joins items with commas, as many to a line as fit into width; there is always one line.
func columns(items []string, width int) []string {
	var lines []string
	var now string
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		}
		if now != "" && len(now)+1+len(item) > width {
			lines, now = append(lines, now), ""
		}
		now = strings.TrimSpace(now + " " + item)
	}
	return append(lines, now)
}
