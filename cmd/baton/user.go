package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"baton/web"
)

func userCommand(f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "user",
		Short:   "Add, list, show, set and remove users, and change their passwords",
		Example: "  baton user list\n  baton user add carol --number 103",
		Long: `user works on the running node or, when none runs, on the data directory itself. A user logs in and
is called by name and by each number.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, fmt.Errorf("unknown command %q", args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(userAdd(f), userList(f), userShow(f), userSet(f), userPasswd(f), userRemove(f))
	return cmd
}

func userAdd(f *flags) *cobra.Command {
	var want web.NewUser
	var stdin, asJSON bool
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a user",
		Long:  "add makes a user. Without --password-stdin a password is made and printed, this once.",
		Example: `  baton user add carol --number 103 --display "Carol Jones"
  echo "$PASSWORD" | baton user add dave --number 104 --password-stdin`,
		Args: exactly(1, "a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			want.Name = args[0]
			if stdin {
				var err error
				if want.Password, err = readPassword(cmd.InOrStdin()); err != nil {
					return err
				}
			}
			if err := f.prepare(); err != nil {
				return err
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				added, err := c.AddUser(ctx, want)
				if err != nil {
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), added)
				}
				printAdded(cmd.OutOrStdout(), added)
				return nil
			})
		},
	}
	cmd.Flags().StringArrayVar(&want.Numbers, "number", nil, "number of the user, as in 103 (may be given several times)")
	cmd.Flags().StringVar(&want.Display, "display", "", "name that the others' phones show")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	withJSON(cmd, &asJSON)
	return cmd
}

func printAdded(out io.Writer, added web.Added) {
	fmt.Fprintf(out, "user      %s\n", clean(added.User.Name))
	if len(added.User.Numbers) > 0 {
		fmt.Fprintf(out, "number    %s\n", clean(strings.Join(added.User.Numbers, ", ")))
	}
	if added.Password != "" {
		fmt.Fprintf(out, "password  %s   (shown this once)\n", added.Password)
	}
}

// readPassword is the first line of in.
func readPassword(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("read the password: standard input is empty")
	}
	return line, nil
}

func userList(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List all users",
		Example: "  baton user list --json",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				users, err := c.Users(ctx)
				if err != nil || asJSON {
					return orJSON(cmd, err, users)
				}
				if len(users) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "no users yet; add one with \"baton user add NAME --number 101\"")
					return nil
				}
				var rows [][]string
				for _, u := range users {
					rows = append(rows, []string{u.Name, orDash(strings.Join(u.Numbers, ", ")), orDash(u.Display), presence(u)})
				}
				return table(cmd.OutOrStdout(), []string{"USER", "NUMBER", "DISPLAY", "DEVICES"}, rows)
			})
		},
	}
	withJSON(cmd, &asJSON)
	return cmd
}

// orJSON gives back the error, else prints v for programs.
func orJSON(cmd *cobra.Command, err error, v any) error {
	if err != nil {
		return err
	}
	return printJSON(cmd.OutOrStdout(), v)
}

// presence is how many of the user's devices are here.
func presence(u web.User) string {
	if u.Devices == 0 {
		return "none"
	}
	return fmt.Sprintf("%d here, %d away", u.Here, u.Devices-u.Here)
}

func userShow(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "show NAME",
		Short:   "Show a user with all devices",
		Example: "  baton user show 101",
		Args:    exactly(1, "a name or number"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				u, err := c.User(ctx, args[0])
				if err != nil || asJSON {
					return orJSON(cmd, err, u)
				}
				devices, err := c.Devices(ctx, u.Name)
				if err != nil {
					return err
				}
				return showUser(cmd.OutOrStdout(), u, devices)
			})
		},
	}
	withJSON(cmd, &asJSON)
	return cmd
}

func showUser(out io.Writer, u web.User, devices []web.Device) error {
	fmt.Fprintf(out, "user      %s\nnumber    %s\ndisplay   %s\nrealm     %s\nsince     %s\ndevices   %s\n",
		clean(u.Name), orDash(clean(strings.Join(u.Numbers, ", "))), orDash(clean(u.Display)), clean(u.Realm),
		u.Created.Local().Format("2006-01-02 15:04"), presence(u))
	printSettings(out, u.Settings)
	if len(devices) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return deviceTable(out, devices, false)
}

func userPasswd(f *flags) *cobra.Command {
	var stdin bool
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Change a user's password",
		Long:  "passwd changes a password. Without --password-stdin one is made and printed, this once.",
		Example: `  baton user passwd alice
  echo "$PASSWORD" | baton user passwd alice --password-stdin`,
		Args: exactly(1, "a name or number"),
		RunE: func(cmd *cobra.Command, args []string) error {
			password := ""
			if stdin {
				var err error
				if password, err = readPassword(cmd.InOrStdin()); err != nil {
					return err
				}
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				set, err := c.SetPassword(ctx, args[0], password)
				if err != nil {
					return err
				}
				if set.Password != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "password  %s   (shown this once)\n", set.Password)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

func userRemove(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Remove a user and all devices",
		Example: "  baton user remove carol",
		Args:    exactly(1, "a name or number"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				return c.RemoveUser(ctx, args[0])
			})
		},
	}
}
