package main

import (
	"context"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func serveCommand(f *flags) *cobra.Command {
	var file string
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run a node",
		Long: `serve runs a node until SIGTERM or SIGINT, keeps the registrations and leaves with status 0. SIGTERM
keeps the live calls too: they go on when the node is started again (call.on_stop: end hangs them up).
SIGINT, as by Ctrl-C, hangs them up. Nothing configured is a working system on one machine: SIP on 5060 (UDP, TCP) and
5061 (TLS, with a certificate made at first start), HTTPS for browsers on 8443, audio on UDP 20000-29999.

--demo makes two users, alice (101) and bob (102), at first start, and prints at each start what to type
into their phones.`,
		Example: `  baton serve --demo --data ./data
  baton serve --config /etc/baton/baton.yaml`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.inForce(file)
			if err != nil {
				return err
			}
			log, err := logger(c.Log, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			n, err := openNode(c, log)
			if err != nil {
				return busy(c.Config, err)
			}
			ctx, stop := n.untilStopped(cmd.Context())
			defer stop()
			n.reload = hangups(ctx, stop)
			defer log.Info("node has stopped")
			return n.run(ctx, func() error {
				log.Info("node is running", "data", c.Data, "realm", n.store.Realm(), "listen", listens(n.addrs()))
				if !demo {
					return nil
				}
				return n.demo(cmd.OutOrStdout())
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "configuration file (else BATON_CONFIG, else baton.yaml here, if there is one)")
	cmd.Flags().BoolVar(&demo, "demo", false, "make users alice and bob and print their phones' settings")
	return cmd
}

// untilStopped is a context that ends with SIGTERM or SIGINT; a second signal ends the process at once. SIGTERM keeps the calls for the next run,
// unless it is configured otherwise.
func (n *node) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	in := make(chan os.Signal, 1)
	signal.Notify(in, syscall.SIGTERM, os.Interrupt)
	go func() {
		defer signal.Stop(in)
		select {
		case s := <-in:
			if s == syscall.SIGTERM && n.config.Call.OnStop == "keep" {
				n.keep()
			}
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// listens is the listeners on one line.
func listens(at map[string]netip.AddrPort) string {
	var all []string
	for transport, a := range at {
		all = append(all, transport+" "+a.String())
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}
