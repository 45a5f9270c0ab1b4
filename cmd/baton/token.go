package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/web"
)

func tokenCommand(f *flags) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens for the API over HTTPS",
		Long: `token is for the API of the HTTPS port. An administrator's token opens all of it, for programs and for this
tool on another machine (--server); it is made here, on the node's own machine, alone. Users get theirs by signing in
with their password on the page.`,
		Example: "  baton token create --admin --name monitoring\n  baton token list\n  baton token revoke k3f9wq2a",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cmd, fmt.Errorf("unknown command %q", args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(tokenCreate(f), tokenList(f), tokenRevoke(f))
	return cmd
}

func tokenCreate(f *flags) *cobra.Command {
	var admin, asJSON bool
	var want web.WantToken
	var expires string
	cmd := &cobra.Command{
		Use:   "create --admin",
		Short: "Make an administrator's token",
		Long: `create makes a token that may do everything this tool can, and prints it, this once. --expires takes how long
it is good (90d, 12w, 24h), until when (2027-01-31), or never.`,
		Example: `  baton token create --admin
  baton token create --admin --name monitoring --expires 1w > token.txt`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !admin {
				return usage(cmd, errors.New("say --admin: users get their tokens by signing in"))
			}
			if f.address() != "" {
				return usage(cmd, errors.New("a token is made on the node's own machine"))
			}
			until, err := ahead(expires, time.Now())
			if err != nil {
				return usage(cmd, fmt.Errorf("--expires: %w", err))
			}
			if !until.IsZero() {
				want.Expires = &until
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				made, err := c.AddToken(ctx, want)
				if err != nil || asJSON {
					return orJSON(cmd, err, made)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Text)
				fmt.Fprintf(cmd.ErrOrStderr(), "token %s, %s; it is shown this once\n", made.ID, untilWhen(made.Token))
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&admin, "admin", false, "it may do everything")
	cmd.Flags().StringVar(&want.Name, "name", "", "what it is for, as the list and the log show it")
	cmd.Flags().StringVar(&expires, "expires", "90d", "how long it is good, until when, or never")
	withJSON(cmd, &asJSON)
	return cmd
}

// ahead reads a time to come: 90d, 12w, 24h, a date, or never (zero).
func ahead(text string, now time.Time) (time.Time, error) {
	wrong := fmt.Errorf("%q is no time to come; write 90d, 12w, 24h, 2027-01-31 or never", text)
	text = strings.TrimSpace(text)
	if text == "never" {
		return time.Time{}, nil
	}
	at, err := time.ParseInLocation(time.DateOnly, text, now.Location())
	for unit, days := range map[string]int{"d": 1, "w": 7} {
		if count, found := strings.CutSuffix(text, unit); found {
			var n uint64
			n, err = strconv.ParseUint(count, 10, 16)
			at = now.AddDate(0, 0, int(n)*days)
		}
	}
	if d, bad := time.ParseDuration(text); bad == nil {
		at, err = now.Add(d), nil
	}
	if err != nil || !at.After(now) {
		return time.Time{}, wrong
	}
	return at, nil
}

// untilWhen is a token's end in words.
func untilWhen(t web.Token) string {
	if t.Expires == nil {
		return "good until it is revoked"
	}
	return "good until " + t.Expires.Local().Format("2006-01-02 15:04")
}

func tokenList(f *flags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the tokens that are good: of administrators, and of users who are signed in",
		Example: "  baton token list",
		Args:    exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				all, err := c.Tokens(ctx)
				if err != nil || asJSON {
					return orJSON(cmd, err, all)
				}
				return tokenTable(cmd.OutOrStdout(), all, time.Now())
			})
		},
	}
	withJSON(cmd, &asJSON)
	return cmd
}

func tokenTable(out io.Writer, all []web.Token, now time.Time) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no tokens; make one with \"baton token create --admin\"")
		return err
	}
	var rows [][]string
	for _, t := range all {
		whose, end := t.User, "never"
		if t.Kind == "admin" {
			whose = "(administrator)"
		}
		if t.Expires != nil {
			end = clock(*t.Expires, now)
		}
		rows = append(rows, []string{t.ID, whose, orDash(t.Name), clock(t.Created, now), clock(t.Used, now), end})
	}
	return table(out, []string{"TOKEN", "OF", "NAME", "MADE", "USED", "EXPIRES"}, rows)
}

func tokenRevoke(f *flags) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "revoke TOKEN | revoke --user USER",
		Short: "End a token, or all of a user, at once",
		Long: `revoke ends a token, as "baton token list" names it, at once: who has it is signed out, what has registered with
it is away. Calls that are up go on.`,
		Example: "  baton token revoke k3f9wq2a\n  baton token revoke --user alice",
		RunE: func(cmd *cobra.Command, args []string) error {
			if (user == "") != (len(args) == 1) {
				return usage(cmd, errors.New("revoke wants one token, or --user USER"))
			}
			return f.administer(cmd.Context(), func(ctx context.Context, c *web.Client) error {
				if user == "" {
					return c.RevokeToken(ctx, args[0])
				}
				n, err := c.RevokeTokens(ctx, user)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), plural(n.Revoked, "token")+" revoked")
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "all of this user's")
	return cmd
}
