package main

import (
	"os"

	"github.com/spf13/cobra"

	"baton/config"
)

// flags are what every command understands.
type flags struct {
	data string
	elsewhere
}

// dir is the data directory: --data, else BATON_DATA, else what the configuration says, else the default.
func (f *flags) dir(configured string) string {
	if f.data != "" {
		return f.data
	}
	if dir := os.Getenv("BATON_DATA"); dir != "" {
		return dir
	}
	if configured != "" {
		return configured
	}
	return config.DefaultData()
}

// root is the command with everything under it.
func root() *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "baton",
		Short: "Your call follows you: a SIP registrar and B2BUA that moves live calls between devices",
		Long: `baton registers the phones of its users, connects their calls, and moves a live call from one
device to another while the other side hears nothing of it.

It does not connect emergency calls.`,
		Example: `  baton serve --demo --data ./data
  baton calls --watch
  baton move --user alice mobile`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, err) })
	cmd.PersistentFlags().StringVar(&f.data, "data", "", "data directory (else BATON_DATA, else "+config.DefaultData()+")")
	f.elsewhere.flags(cmd)
	cmd.AddCommand(
		serveCommand(f), checkCommand(), configCommand(f), doctorCommand(f), userCommand(f), devicesCommand(f), callsCommand(f), callCommand(f),
		moveCommand(f), rejoinCommand(f), companionCommand(f), endCommand(f), logCommand(f), statusCommand(f), tokenCommand(f), caCommand(f), nodesCommand(f), clusterCommand(), versionCommand(),
	)
	completionCommand(cmd)
	f.completions(cmd)
	return cmd
}
