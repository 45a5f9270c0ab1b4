package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"baton/config"
)

// defaultFile is read when no --config is given and it is there.
const defaultFile = "baton.yaml"

// settings reads the configuration as loaded does.
func settings(name string) (config.Config, string, error) {
	l, err := loaded(name)
	return l.Config, l.File, err
}

// loaded reads the named file; without a name that of BATON_CONFIG, else baton.yaml of this directory if there is one,
// else the defaults. BATON_ variables override what it says.
func loaded(name string) (config.Loaded, error) {
	if name == "" {
		name = os.Getenv("BATON_CONFIG")
	}
	if name == "" {
		if _, err := os.Stat(defaultFile); err == nil {
			name = defaultFile
		}
	}
	return config.LoadEnv(name, os.Environ())
}

func checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration without starting",
		Long:  "check reads the configuration (baton.yaml unless FILE or --config names another) and says everything that is wrong with it.",
		Example: `  baton check
  baton check /etc/baton/baton.yaml`,
		Args: atMost(1, "at most one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				file = args[0]
			}
			_, name, err := settings(file)
			if err != nil {
				return err
			}
			if name == "" {
				fmt.Fprintln(cmd.OutOrStdout(), "no baton.yaml here: the defaults are used, and they are good")
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is good\n", name)
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file")
	return cmd
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  baton version",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "baton %s (%s, %s/%s)\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// built is the commit, set by the linker.
var built string

// version is the commit it was built from, else the module's version.
func version() string {
	if built != "" {
		return built
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
