package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"baton/registrar"
	"baton/store"
	"baton/web"
)

// dataDir is where the node is that a command speaks with.
func (f *flags) dataDir() string {
	configured := ""
	if c, name, err := settings(""); err == nil && name != "" {
		configured = c.Data
	}
	return f.dir(configured)
}

// ask runs do with a client of the running node, which may be elsewhere.
func (f *flags) ask(ctx context.Context, do func(context.Context, *web.Client) error) error {
	client, err := f.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	return explain(do(ctx, client))
}

// administer runs do with a client of the running node or, when none runs, on the store itself, which must be there. A
// node that is starting or stopping holds the store and does not answer: it gets three seconds.
func (f *flags) administer(ctx context.Context, do func(context.Context, *web.Client) error) error {
	if f.address() != "" {
		return f.ask(ctx, do)
	}
	dir := f.dataDir()
	if _, err := web.SocketPath(dir); err != nil {
		return err
	}
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) && !sharedStore() {
		return f.ask(ctx, do) // says that no node is running there
	}
	for deadline := time.Now().Add(3 * time.Second); ; {
		if web.Running(dir) {
			return f.ask(ctx, do)
		}
		err := f.direct(ctx, dir, do)
		if !errors.Is(err, store.ErrRunning) || time.Now().After(deadline) || ctx.Err() != nil {
			return explain(err)
		}
	}
}

// sharedStore says whether the store is one that other nodes use too: it is there without a data directory.
func sharedStore() bool {
	c, _, _ := settings("")
	return c.Store.Redis != ""
}

// prepare makes the data directory, so that administer finds it before the first start of a node.
func (f *flags) prepare() error {
	if f.address() != "" {
		return nil
	}
	if err := os.MkdirAll(f.dataDir(), 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	return nil
}

// direct opens the store of a node that does not run, and runs do on the same API.
func (f *flags) direct(ctx context.Context, dir string, do func(context.Context, *web.Client) error) error {
	log := discard()
	c, _, err := settings("")
	if err != nil && c.Store.Redis != "" {
		return err // the store may be another than is meant
	}
	s, err := store.OpenConfigured(c, dir, nameOf(c), log)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := registrar.New(registrar.Options{Store: s, Journal: s, Log: log, Realm: s.Realm(), Node: nameOf(c), LastRun: s.LastRun()})
	if err != nil {
		return err
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	ready := func() error {
		defer done()
		return do(ctx, web.Direct(web.NewServer(web.Options{Registrar: r, Entries: s, Node: web.Node{Data: dir, Realm: s.Realm()}})))
	}
	return runParts(ctx, ready, part{"store", s.Run}, part{"registrar", r.Run})
}

// discard logs nothing: what went wrong is told by the command.
func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// explain gives an error of the node the exit status that belongs to it.
func explain(err error) error {
	var e *web.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, web.ErrNoNode):
		return &exitError{exitNoNode, err}
	case !errors.As(err, &e):
		return err
	}
	switch e.Status {
	case http.StatusNotFound:
		return &exitError{exitNotFound, err}
	case http.StatusBadRequest:
		return &exitError{exitUsage, err}
	}
	return err
}

// withJSON adds --json to a command.
func withJSON(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVar(to, "json", false, "print JSON for programs")
}
