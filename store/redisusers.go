package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"baton/call"
	"baton/registrar"
)

// adminWait is how many milliseconds a replica may take to have what an administrator writes.
const adminWait = 1000

// Users are all users, with their secrets.
func (s *Redis) Users() ([]registrar.User, error) {
	var out []registrar.User
	err := s.unsealed(s.userKeys()[0], func(name string, plain []byte) error {
		u, err := readUser(plain)
		out = append(out, u)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the users: %w", err)
	}
	return out, nil
}

// unsealed opens all values of a hash.
func (s *Redis) unsealed(at string, do func(field string, plain []byte) error) error {
	ctx, cancel := waiting()
	defer cancel()
	all, err := s.client.HGetAll(ctx, at).Result()
	if err != nil {
		return err
	}
	for field, v := range all {
		plain, err := s.sealed.open(place(at, field, s.prefix), []byte(v))
		if err == nil {
			err = do(field, plain)
		}
		if err != nil {
			return fmt.Errorf("%s %q: %w", at, field, err)
		}
	}
	return nil
}

// place names a field of a hash for the seal; the prefix is left out, so that a copy can be read under another one.
func place(at, field, prefix string) string { return strings.TrimPrefix(at, prefix) + "\x00" + field }

// PutUser adds or replaces a user; the server has it when this returns, and a replica where there is one.
func (s *Redis) PutUser(u registrar.User) error {
	plain, err := json.Marshal(storedUser{u, u.Secrets})
	if err != nil {
		return fmt.Errorf("user %s: %w", u.Name, err)
	}
	keys := s.userKeys()
	args := []any{u.Name, s.sealed.seal(place(keys[0], u.Name, s.prefix), plain), u.Name}
	for _, n := range u.Numbers {
		args = append(args, n)
	}
	taken, err := s.admin(func(ctx context.Context, p redis.Pipeliner) *redis.Cmd {
		return eval(ctx, p, "putuser", keys, args...)
	}, changedUser(u.Name))
	switch {
	case err != nil:
		return fmt.Errorf("user %s: %w", u.Name, err)
	case len(taken) == 2:
		return fmt.Errorf("%s is %w by user %s", taken[0], registrar.ErrTaken, taken[1])
	}
	return nil
}

// RemoveUser takes a user away.
func (s *Redis) RemoveUser(name string) error {
	_, err := s.admin(func(ctx context.Context, p redis.Pipeliner) *redis.Cmd {
		return eval(ctx, p, "removeuser", s.userKeys(), name)
	}, changedUser(name))
	if err != nil {
		return fmt.Errorf("remove user %s: %w", name, err)
	}
	return nil
}

// admin carries out what somebody waits for, and tells the other nodes; what no replica confirms is logged.
func (s *Redis) admin(issue func(context.Context, redis.Pipeliner) *redis.Cmd, of changed) ([]any, error) {
	ctx, cancel := waiting()
	defer cancel()
	try := func() ([]any, error) {
		pipe := s.client.Pipeline()
		cmd := issue(ctx, pipe)
		s.announce(ctx, pipe, of)
		return s.confirmed(ctx, pipe, cmd, adminWait)
	}
	v, err := try()
	if unknown(err) {
		if err = loadScripts(ctx, s.client); err == nil {
			v, err = try()
		}
	}
	if errors.Is(err, call.ErrUnsafe) {
		s.log.Warn("what was changed is not safe from the loss of the store's master", "err", err)
		return v, nil
	}
	if err != nil && strings.Contains(err.Error(), "unexpected type") { // the answer was a number
		return v, nil
	}
	if err != nil { // it may have been done all the same: this node too reads it again
		s.write.later(&change{key: "changed " + of.what + " " + of.name, issue: func(ctx context.Context, p redis.Pipeliner, _ uint64) *redis.Cmd {
			return s.announceOf(ctx, p, "", of)
		}})
	}
	return v, err
}

// Tokens are all tokens.
func (s *Redis) Tokens() ([]registrar.Token, error) {
	var out []registrar.Token
	err := s.unsealed(s.key("tokens"), func(_ string, plain []byte) error {
		var t registrar.Token
		err := json.Unmarshal(plain, &t)
		out = append(out, t)
		return err
	})
	if err == nil && len(out) == 0 {
		ctx, cancel := waiting()
		defer cancel()
		err = s.same(ctx, s.client)
	}
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	return out, nil
}

// PutToken adds or replaces a token.
func (s *Redis) PutToken(t registrar.Token) error {
	plain, err := json.Marshal(t)
	if err != nil {
		return fmt.Errorf("token %s: %w", t.ID, err)
	}
	at := s.key("tokens")
	_, err = s.admin(func(ctx context.Context, p redis.Pipeliner) *redis.Cmd {
		return p.Do(ctx, "HSET", at, t.ID, s.sealed.seal(place(at, t.ID, s.prefix), plain))
	}, changedTokens)
	if err != nil {
		return fmt.Errorf("token %s: %w", t.ID, err)
	}
	return nil
}

// RemoveTokens takes tokens away.
func (s *Redis) RemoveTokens(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	args := []any{"HDEL", s.key("tokens")}
	for _, id := range ids {
		args = append(args, id)
	}
	if _, err := s.admin(func(ctx context.Context, p redis.Pipeliner) *redis.Cmd { return p.Do(ctx, args...) }, changedTokens); err != nil {
		return fmt.Errorf("remove tokens: %w", err)
	}
	return nil
}

// bound is what a change does to a user's devices.
type bound struct {
	s    *Redis
	user string
	put  map[string][]byte // by key; nil = it is dropped
}

// Bind writes and drops devices of a user, all or nothing.
func (s *Redis) Bind(user string, put []registrar.Device, drop []string, done func(error)) {
	b := &bound{s, user, map[string][]byte{}}
	for _, key := range drop {
		b.put[key] = nil
	}
	for _, d := range put {
		b.put[d.Key] = d.Pack(nil)
	}
	s.write.add(b.change(done))
}

// merge is what both do, one after the other.
func (b *bound) merge(later *bound) *bound {
	all := maps.Clone(b.put)
	maps.Copy(all, later.put)
	return &bound{b.s, b.user, all}
}

const deviceField = "d:"

func (b *bound) change(done func(error)) *change {
	s := b.s
	return &change{key: "devices " + b.user, safe: done != nil, bound: b, done: done, issue: func(ctx context.Context, p redis.Pipeliner, number uint64) *redis.Cmd {
		var drop, put []any
		for _, key := range slices.Sorted(maps.Keys(b.put)) {
			if v := b.put[key]; v == nil {
				drop = append(drop, deviceField+key)
			} else {
				put = append(put, deviceField+key, v)
			}
		}
		s.write.hint(ctx, p, s.key("bound"), b.user)
		args := slices.Concat([]any{s.run, number, forget, len(drop)}, drop, put)
		cmd := eval(ctx, p, "bind", []string{s.devicesKey(b.user)}, args...)
		s.announce(ctx, p, changedDevices(b.user))
		return cmd
	}}
}

// Devices are all devices of all users.
func (s *Redis) Devices() (out []registrar.Device, err error) {
	if err := s.write.caughtUp(); err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	ctx, cancel := waiting()
	defer cancel()
	users, err := s.client.SMembers(ctx, s.key("bound")).Result()
	if err == nil {
		err = eachPage(users, func(users []string) error {
			some, err := s.devicesOf(users)
			out = append(out, some...)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read the devices: %w", err)
	}
	return out, nil
}

func (s *Redis) devicesOf(users []string) (out []registrar.Device, err error) {
	ctx, cancel := waiting()
	defer cancel()
	pipe := s.client.Pipeline()
	cmds := make([]*redis.MapStringStringCmd, len(users))
	for i, user := range users {
		cmds[i] = pipe.HGetAll(ctx, s.devicesKey(user))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		for field, v := range cmd.Val() {
			if !strings.HasPrefix(field, deviceField) {
				continue
			}
			d, err := registrar.Unpack(v)
			if err != nil {
				return nil, fmt.Errorf("device %q of %s: %w", field, users[i], err)
			}
			out = append(out, d)
		}
	}
	return out, nil
}
