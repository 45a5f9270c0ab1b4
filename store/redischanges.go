package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"baton/registrar"
)

const (
	changesKept = 10_000           // in the stream; who has missed more reads everything anew
	lookAfter   = time.Second      // how long one look for changes lasts
	lookAgain   = time.Second / 10 // pause after one that failed
)

// changed is what a node tells the others that it has changed.
type changed struct{ what, name string }

func changedUser(name string) changed    { return changed{"user", name} }
func changedDevices(user string) changed { return changed{"devices", user} }

var changedTokens = changed{what: "tokens"}

// announce queues a change for the other nodes.
func (s *Redis) announce(ctx context.Context, p redis.Pipeliner, c changed) {
	s.announceOf(ctx, p, s.run, c)
}

func (s *Redis) announceOf(ctx context.Context, p redis.Pipeliner, run string, c changed) *redis.Cmd {
	return p.Do(ctx, "XADD", s.key("changes"), "MAXLEN", "~", changesKept, "*", "run", run, "what", c.what, "name", c.name)
}

// Changes tells of what other nodes write, until ctx ends. Where it may have missed something, as after the loss of a server, it
// says that everything may have changed.
func (s *Redis) Changes(ctx context.Context, tell func(registrar.Change)) error {
	client := s.options()
	defer client.Close()
	defer context.AfterFunc(ctx, func() { client.Close() })() // a look that is under way ends
	last := ""
	for ctx.Err() == nil {
		if last == "" { // what was before is read now
			if err := s.same(ctx, client); err != nil {
				pauseFor(ctx, lookAfter)
				continue
			}
			var err error
			if last, err = s.lastChange(ctx, client); err != nil {
				last = ""
				pauseFor(ctx, lookAgain)
				continue
			}
			tell(registrar.Change{All: true})
		}
		next, err := s.look(ctx, client, last, tell)
		if last = next; err != nil {
			last = ""
			pauseFor(ctx, lookAgain)
		}
	}
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// errLost says that a server came back without what it held: what is here in memory is better than that.
var errLost = errors.New("Redis has come back without what it held, or with something else")

// same finds out whether the server still holds what it held when the store was opened.
func (s *Redis) same(ctx context.Context, client *redis.Client) error {
	v, err := client.HGet(ctx, s.key("meta"), identityField).Bytes()
	if err != nil && !absent(err) {
		return err
	}
	plain, err := s.sealed.open(identityField, v)
	var id identity
	if err == nil {
		err = json.Unmarshal(plain, &id)
	}
	if err != nil || !bytes.Equal(id.Secret, s.secret) {
		s.health.missing(errLost)
		return errLost
	}
	s.health.missing(nil)
	return nil
}

// lastChange is where the stream ends now.
func (s *Redis) lastChange(ctx context.Context, client *redis.Client) (string, error) {
	messages, err := client.XRevRangeN(ctx, s.key("changes"), "+", "-", 1).Result()
	if err != nil {
		return "", err
	}
	if len(messages) == 0 {
		return "0", nil
	}
	return messages[0].ID, nil
}

var errMissed = errors.New("changes were missed")

// look waits for changes behind the last one, and gives the last that it has seen.
func (s *Redis) look(ctx context.Context, client *redis.Client, last string, tell func(registrar.Change)) (string, error) {
	streams, err := client.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key("changes"), last}, Count: 1000, Block: lookAfter}).Result()
	if absent(err) {
		return last, s.continues(ctx, client, last)
	}
	if err != nil || len(streams) == 0 {
		return last, err
	}
	if len(streams[0].Messages) == 1000 {
		if err := s.continues(ctx, client, last); err != nil {
			return last, err
		}
	}
	var c registrar.Change
	told := map[changed]bool{}
	for _, m := range streams[0].Messages {
		last = m.ID
		text := func(name string) string { v, _ := m.Values[name].(string); return v }
		one := changed{text("what"), text("name")}
		if text("run") == s.run || told[one] {
			continue
		}
		told[one] = true
		switch one.what {
		case "user":
			c.Users = append(c.Users, one.name)
		case "devices":
			c.Devices = append(c.Devices, one.name)
		case "tokens":
			c.Tokens = true
		}
	}
	if len(told) > 0 {
		tell(c)
	}
	return last, nil
}

// continues finds that the stream is not the one that was read: a server that has lost its end, or has cut off what was not read yet.
func (s *Redis) continues(ctx context.Context, client *redis.Client, last string) error {
	if last == "0" {
		return nil
	}
	there, err := client.XRange(ctx, s.key("changes"), last, last).Result()
	if err == nil && len(there) == 0 {
		return errMissed
	}
	return err
}

// ReadUser reads one user and its devices as they are stored; without one the user is nil.
func (s *Redis) ReadUser(name string) (*registrar.User, []registrar.Device, error) {
	if err := s.write.caughtUp(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := waiting()
	defer cancel()
	devices, err := s.devicesOf([]string{name})
	if err != nil {
		return nil, nil, err
	}
	at := s.userKeys()[0]
	v, err := s.client.HGet(ctx, at, name).Bytes()
	if absent(err) { // or all is
		return nil, devices, s.same(ctx, s.client)
	}
	if err != nil {
		return nil, nil, err
	}
	plain, err := s.sealed.open(place(at, name, s.prefix), v)
	if err != nil {
		return nil, nil, err
	}
	u, err := readUser(plain)
	if u.Name != name && err == nil {
		err = errors.New("stored user " + name + " has the name " + strings.ToValidUTF8(u.Name, "?"))
	}
	return &u, devices, err
}
