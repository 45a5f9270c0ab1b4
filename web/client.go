package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"baton/call"
	"baton/config"
	"baton/journal"
)

// ErrNoNode says that no node is running on the data directory.
var ErrNoNode = errors.New("no node is running")

// Error is an answer of the API that is not 2xx.
type Error struct {
	Status int
	Text   string
}

func (e *Error) Error() string { return e.Text }

// Client speaks with a node.
type Client struct {
	base  string // http://node, or the server's address
	where string // for people: the data directory or the server's address
	token string // "" at a control socket
	http  *http.Client
}

// Dial makes a client of the node on the data directory dir. Nothing is connected before the first request.
func Dial(dir string) (*Client, error) {
	path, err := SocketPath(dir)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", path)
	}}
	return &Client{base: "http://node", where: dir, http: &http.Client{Transport: transport}}, nil
}

// Direct makes a client of a handler in the same process: what the tool uses when no node runs.
func Direct(h http.Handler) *Client {
	return &Client{base: "http://node", http: &http.Client{Transport: direct{h}}}
}

// direct is a transport without a network.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	a := &answer{header: http.Header{}, code: http.StatusOK}
	d.handler.ServeHTTP(a, r)
	return &http.Response{
		Status: fmt.Sprintf("%d %s", a.code, http.StatusText(a.code)), StatusCode: a.code, Header: a.header,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}, nil
}

// answer keeps what a handler writes.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Node is what the node tells of itself.
func (c *Client) Node(ctx context.Context) (Node, error) {
	return ask[Node](ctx, c, "GET", "node", nil)
}

// Nodes are the nodes of the cluster, the one that is asked first.
func (c *Client) Nodes(ctx context.Context) ([]NodeInfo, error) {
	return ask[[]NodeInfo](ctx, c, "GET", "nodes", nil)
}

// Config lists the settings that the node works with.
func (c *Client) Config(ctx context.Context) ([]config.Setting, error) {
	return ask[[]config.Setting](ctx, c, "GET", "config", nil)
}

// Users lists all users.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	return ask[[]User](ctx, c, "GET", "users", nil)
}

// User is the user with that name or number.
func (c *Client) User(ctx context.Context, name string) (User, error) {
	return ask[User](ctx, c, "GET", "users/"+url.PathEscape(name), nil)
}

// AddUser makes a user.
func (c *Client) AddUser(ctx context.Context, u NewUser) (Added, error) {
	return ask[Added](ctx, c, "POST", "users", u)
}

// SetPassword changes a password; an empty one has one generated and told.
func (c *Client) SetPassword(ctx context.Context, name, password string) (Password, error) {
	return ask[Password](ctx, c, "PUT", "users/"+url.PathEscape(name)+"/password", Password{password})
}

// RemoveUser removes a user with all devices.
func (c *Client) RemoveUser(ctx context.Context, name string) error {
	return c.do(ctx, "DELETE", "users/"+url.PathEscape(name), nil, nil)
}

// Devices lists the devices of a user, or all.
func (c *Client) Devices(ctx context.Context, user string) ([]Device, error) {
	return ask[[]Device](ctx, c, "GET", "devices?"+query("user", user), nil)
}

// Device is one device of a user.
func (c *Client) Device(ctx context.Context, user, device string) (Device, error) {
	return ask[Device](ctx, c, "GET", devicePath(user, device), nil)
}

// RenameDevice gives a device another name.
func (c *Client) RenameDevice(ctx context.Context, user, device, name string) error {
	return c.do(ctx, "PATCH", devicePath(user, device), DeviceChange{Name: &name}, nil)
}

// SetMedia says how a device's sound goes: auto, relay, direct, or "" = as its user and the node have it.
func (c *Client) SetMedia(ctx context.Context, user, device, mode string) error {
	return c.do(ctx, "PATCH", devicePath(user, device), DeviceChange{Media: &mode}, nil)
}

// SetRingless says whether a device may be asked to answer by itself.
func (c *Client) SetRingless(ctx context.Context, user, device string, may bool) error {
	return c.do(ctx, "PATCH", devicePath(user, device), DeviceChange{Ringless: &may}, nil)
}

// ForgetDevice removes a device.
func (c *Client) ForgetDevice(ctx context.Context, user, device string) error {
	return c.do(ctx, "DELETE", devicePath(user, device), nil, nil)
}

// Calls lists the live calls of a user, or all.
func (c *Client) Calls(ctx context.Context, user string) ([]call.Info, error) {
	return ask[[]call.Info](ctx, c, "GET", "calls?"+query("user", user), nil)
}

// Call is one call in full; id may be abbreviated.
func (c *Client) Call(ctx context.Context, id string) (call.Info, error) {
	return ask[call.Info](ctx, c, "GET", "calls/"+url.PathEscape(id), nil)
}

// EndCall hangs up everybody in a call.
func (c *Client) EndCall(ctx context.Context, id string) error {
	return c.do(ctx, "DELETE", "calls/"+url.PathEscape(id), nil, nil)
}

// Companion has a device listen to a call, or do so no more, and returns when that is done.
func (c *Client) Companion(ctx context.Context, w Companion) (call.CompanionReport, error) {
	return ask[call.CompanionReport](ctx, c, "POST", "companions", w)
}

// Rejoin brings a device to an empty seat and returns when it has it, or when ctx ends.
func (c *Client) Rejoin(ctx context.Context, w Rejoin) (call.MoveReport, error) {
	return ask[call.MoveReport](ctx, c, "POST", "rejoins", w)
}

// Move moves a call and returns when that is over, or when ctx ends.
func (c *Client) Move(ctx context.Context, m Move) (call.MoveReport, error) {
	return ask[call.MoveReport](ctx, c, "POST", "moves", m)
}

// Log lists the entries that are wanted, oldest first; without a limit it is the node's own number of them.
func (c *Client) Log(ctx context.Context, q journal.Query) ([]Entry, error) {
	return ask[[]Entry](ctx, c, "GET", "log?"+logQuery(q), nil)
}

// logQuery writes a query as the API reads it.
func logQuery(q journal.Query) string {
	v := url.Values{}
	for name, value := range map[string]string{"user": q.User, "peer": q.Peer, "call": q.Call} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	for _, kind := range q.Kinds {
		v.Add("kind", string(kind))
	}
	if q.Limit > 0 {
		v.Set("n", strconv.Itoa(q.Limit))
	}
	return v.Encode()
}

// Follow calls started when the node has begun to stream, then each for every new entry that is wanted, until ctx ends,
// each fails or the node stops.
func (c *Client) Follow(ctx context.Context, q journal.Query, started func() error, each func(Entry) error) error {
	resp, err := c.send(ctx, "GET", "log/follow?"+logQuery(q), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := started(); err != nil {
		return err
	}
	for in := json.NewDecoder(resp.Body); ; {
		var e Entry
		if err := in.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.New("the node has stopped")
		}
		if err := each(e); err != nil {
			return err
		}
	}
}

func devicePath(user, device string) string {
	return "users/" + url.PathEscape(user) + "/devices/" + url.PathEscape(device)
}

func query(name, value string) string {
	if value == "" {
		return ""
	}
	return url.Values{name: {value}}.Encode()
}

// ask sends a request and reads its answer as a T.
func ask[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var answer T
	err := c.do(ctx, method, path, body, &answer)
	return answer, err
}

func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}

// send returns an answer that is 2xx.
func (c *Client) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/api/v1/"+path, content)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	var failure Failure
	if json.NewDecoder(io.LimitReader(resp.Body, maxBody)).Decode(&failure) != nil || failure.Error == "" {
		failure.Error = "the node answered " + resp.Status
	}
	return nil, &Error{Status: resp.StatusCode, Text: failure.Error}
}

// explain says in the person's words why the node could not be spoken with.
func (c *Client) explain(err error) error {
	switch {
	case c.token != "":
		return c.explainRemote(err)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w on %s (start one with \"baton serve --data %s\")", ErrNoNode, c.where, c.where)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the node on %s belongs to another account; run this as that account or as root", c.where)
	}
	var dial *url.Error
	if errors.As(err, &dial) {
		err = dial.Err
	}
	return fmt.Errorf("speak with the node on %s: %w", c.where, err)
}
