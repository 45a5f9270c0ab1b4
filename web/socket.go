package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketName is the control socket's name in the data directory.
const socketName = "control.sock"

// maxPath is the longest path of a unix socket: sun_path holds 108 bytes with the final zero (unix(7)).
const maxPath = 107

// SocketPath is the control socket of the node on the data directory dir.
func SocketPath(dir string) (string, error) {
	path := filepath.Join(dir, socketName)
	if len(path) > maxPath {
		return "", fmt.Errorf("the control socket's path %s is %d bytes long, %d are possible; choose a data directory with a shorter path", path, len(path), maxPath)
	}
	return path, nil
}

// Listen opens the control socket with mode 0600. One that a dead node has left is replaced.
func Listen(dir string) (net.Listener, error) {
	path, err := SocketPath(dir)
	if err != nil {
		return nil, err
	}
	if Running(dir) {
		return nil, fmt.Errorf("a node is already running on %s; stop it first, or choose another data directory", dir)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("replace the socket of a dead node: %w", err)
	}
	// The mode is set before bind, so that the socket is never there with another one.
	private := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		if err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) }); err != nil {
			return err
		}
		return failed
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("open the control socket: %w", err)
	}
	return l, nil
}

// Running says whether a node answers on dir's control socket.
func Running(dir string) bool {
	path, err := SocketPath(dir)
	if err != nil {
		return false
	}
	c, err := net.DialTimeout("unix", path, 2*time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// Serve answers on the control socket until ctx ends; what is under way then has two seconds to finish.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	return serve(ctx, "the control socket", l, h)
}

// serve answers on a listener until ctx ends; what is under way then has two seconds to finish.
func serve(ctx context.Context, what string, l net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", what, err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if srv.Shutdown(grace) != nil {
		srv.Close()
	}
	<-done
	return nil
}

type peerKey struct{}

// withPeer notes who is at the other end of a unix connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*net.UnixConn); ok {
		return context.WithValue(ctx, peerKey{}, peer(u))
	}
	return ctx
}

// peer is the account at the other end (SO_PEERCRED, unix(7)).
func peer(c *net.UnixConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return ""
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return ""
	}
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "uid " + id
}

// withWho notes who asks who is not at the control socket.
func withWho(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, peerKey{}, who)
}

// Who is the account or token that asks, for the log.
func Who(ctx context.Context) string {
	if who, _ := ctx.Value(peerKey{}).(string); who != "" {
		return who
	}
	return "unknown"
}
