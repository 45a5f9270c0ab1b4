package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"baton/call"
	"baton/web"
)

// completionPatience bounds how long a shell waits for the node's names after Tab.
const completionPatience = time.Second

// completer gives what can stand at a place of the command line, behind what stands there already.
type completer func(ctx context.Context, c *web.Client, args []string) ([]cobra.Completion, error)

// complete lets each argument of cmd be completed by the completer of its place, asking the running node. Where none runs
// nothing is offered; a file name never is.
func (f *flags) complete(cmd *cobra.Command, places ...completer) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= len(places) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f.offer(cmd, places[len(args)], args, begun)
	}
}

// completeFlag lets the value of a flag be completed.
func (f *flags) completeFlag(cmd *cobra.Command, name string, by completer) {
	err := cmd.RegisterFlagCompletionFunc(name, func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return f.offer(cmd, by, args, begun)
	})
	if err != nil {
		panic(err) // the flag is not there: a slip of the program
	}
}

func (f *flags) offer(cmd *cobra.Command, by completer, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(orBackground(cmd.Context())), completionPatience)
	defer cancel()
	var fitting []cobra.Completion
	_ = f.ask(ctx, func(ctx context.Context, c *web.Client) error { // nobody can be told of an error here
		all, err := by(ctx, c, args)
		for _, one := range all {
			if strings.HasPrefix(one, begun) {
				fitting = append(fitting, one)
			}
		}
		return err
	})
	return fitting, cobra.ShellCompDirectiveNoFileComp
}

func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// aUser offers the users by name.
func aUser(ctx context.Context, c *web.Client, _ []string) ([]cobra.Completion, error) {
	users, err := c.Users(ctx)
	var all []cobra.Completion
	for _, u := range users {
		all = append(all, cobra.CompletionWithDesc(u.Name, clean(strings.TrimSpace(u.Display+" "+strings.Join(u.Numbers, ", ")))))
	}
	return all, err
}

// aCall offers the live calls, with who is in them.
func aCall(ctx context.Context, c *web.Client, _ []string) ([]cobra.Completion, error) {
	calls, err := c.Calls(ctx, "")
	var all []cobra.Completion
	for _, info := range calls {
		who, with := parties(info.Seats)
		all = append(all, cobra.CompletionWithDesc(info.ID, clean(who+" with "+with)))
	}
	return all, err
}

// aToken offers the tokens, with whose they are.
func aToken(ctx context.Context, c *web.Client, _ []string) ([]cobra.Completion, error) {
	tokens, err := c.Tokens(ctx)
	var all []cobra.Completion
	for _, t := range tokens {
		all = append(all, cobra.CompletionWithDesc(t.ID, clean(strings.TrimSpace(t.Kind+" "+t.User+" "+t.Name))))
	}
	return all, err
}

// aDevice offers the devices of the user before it.
func aDevice(ctx context.Context, c *web.Client, args []string) ([]cobra.Completion, error) {
	return devicesOf(ctx, c, args[0])
}

// aTarget offers the devices of everybody in the call before it.
func aTarget(ctx context.Context, c *web.Client, args []string) ([]cobra.Completion, error) {
	info, err := c.Call(ctx, args[0])
	if err != nil {
		return nil, err
	}
	var all []cobra.Completion
	asked := map[string]bool{}
	for _, s := range info.Seats {
		if s.User == "" || asked[s.User] {
			continue
		}
		asked[s.User] = true
		more, err := devicesOf(ctx, c, s.User)
		if err != nil {
			return all, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func devicesOf(ctx context.Context, c *web.Client, user string) ([]cobra.Completion, error) {
	devices, err := c.Devices(ctx, user)
	var all []cobra.Completion
	for _, d := range devices {
		what := d.User + ", " + here(d, time.Now())
		if d.Index > 0 {
			what = d.User + "'s device " + strconv.Itoa(d.Index) + ", " + here(d, time.Now())
		}
		all = append(all, cobra.CompletionWithDesc(clean(d.Name), clean(what)))
	}
	return all, err
}

// inCall offers who is in the call before it.
func inCall(ctx context.Context, c *web.Client, args []string) ([]cobra.Completion, error) {
	if len(args) == 0 {
		return aUser(ctx, c, nil)
	}
	var info call.Info
	info, err := c.Call(ctx, args[0])
	var all []cobra.Completion
	for _, s := range info.Seats {
		if s.User != "" {
			all = append(all, s.User)
		}
	}
	return all, err
}

// completions gives the arguments and flags of all commands what they are completed by.
func (f *flags) completions(root *cobra.Command) {
	places := map[string][]completer{
		"baton devices": {aUser}, "baton devices rename": {aUser, aDevice}, "baton devices forget": {aUser, aDevice}, "baton companion": {aUser, aDevice},
		"baton devices show": {aUser, aDevice}, "baton devices test": {aUser, aDevice}, "baton devices ringless": {aUser, aDevice}, "baton devices media": {aUser, aDevice},
		"baton call show": {aCall}, "baton rejoin": {aCall}, "baton end": {aCall}, "baton user show": {aUser}, "baton user passwd": {aUser}, "baton user remove": {aUser},
		"baton token revoke": {aToken},
	}
	named := map[string]completer{"user": aUser, "call": aCall, "seat": inCall}
	each(root, func(cmd *cobra.Command) {
		if by, ok := places[cmd.CommandPath()]; ok {
			f.complete(cmd, by...)
		}
		for name, by := range named {
			if cmd.Flags().Lookup(name) != nil {
				f.completeFlag(cmd, name, by)
			}
		}
	})
	f.completeMove(root)
}

// completeMove offers CALL DEVICE, or the DEVICE of --user.
func (f *flags) completeMove(root *cobra.Command) {
	move, _, err := root.Find([]string{"move"})
	if err != nil {
		return
	}
	move.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		user, _ := cmd.Flags().GetString("user")
		switch {
		case user != "" && len(args) == 0:
			return f.offer(cmd, aDevice, []string{user}, begun)
		case user == "" && len(args) == 0:
			return f.offer(cmd, aCall, args, begun)
		case user == "" && len(args) == 1:
			return f.offer(cmd, aTarget, args, begun)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// each visits cmd and all commands under it.
func each(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)
	for _, sub := range cmd.Commands() {
		each(sub, visit)
	}
}

// completionExamples is how each shell is taught, for this session and for good.
var completionExamples = map[string]string{
	"bash":       "  source <(baton completion bash)\n  baton completion bash > /etc/bash_completion.d/baton",
	"zsh":        "  source <(baton completion zsh)\n  baton completion zsh > \"${fpath[1]}/_baton\"",
	"fish":       "  baton completion fish | source\n  baton completion fish > ~/.config/fish/completions/baton.fish",
	"powershell": "  baton completion powershell | Out-String | Invoke-Expression",
}

// completionCommand is cobra's own, shown, with an example for each shell.
func completionCommand(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	cmd, _, err := root.Find([]string{"completion"})
	if err != nil {
		return
	}
	cmd.Short = "Print what teaches a shell to complete commands, calls, users and devices"
	cmd.Example = completionExamples["bash"]
	for _, shell := range cmd.Commands() {
		shell.Example = completionExamples[shell.Name()]
	}
}
