package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"baton/call"
)

// forget is for how many seconds something that was deleted is remembered, against writes that come late.
const forget = 120

// Put writes a call's record unless it is owned under a higher epoch (call.ErrStale).
func (s *Redis) Put(c call.Stored, done func(error)) { s.write.add(s.putCall(c, true, done)) }

// PutLater is Put for a record that nothing waits for.
func (s *Redis) PutLater(c call.Stored, done func(error)) {
	s.write.later(s.putCall(c, false, done))
}

// Hurry has what is held back written now.
func (s *Redis) Hurry() { s.write.signal() }

// epochText compares as text as epochs do as numbers.
func epochText(epoch uint64) string { return fmt.Sprintf("%020d", epoch) }

func (s *Redis) putCall(c call.Stored, safe bool, done func(error)) *change {
	return &change{key: "call " + c.ID, epoch: c.Epoch, safe: safe, done: done, issue: func(ctx context.Context, p redis.Pipeliner, number uint64) *redis.Cmd {
		s.write.hint(ctx, p, s.key("calls"), c.ID)
		if c.Owner != "" {
			s.write.hint(ctx, p, s.key("own:"+c.Owner), c.ID)
		}
		s.write.link(ctx, p, c.ID, c.Dialogs)
		return eval(ctx, p, "put", []string{s.callKey(c.ID)}, epochText(c.Epoch), strconv.FormatUint(c.Version, 10), c.Owner, c.Blob, s.run, number)
	}}
}

// End deletes a call's record unless it is owned under a higher epoch (call.ErrStale).
func (s *Redis) End(id string, epoch uint64, done func(error)) {
	s.write.later(&change{key: "call " + id, epoch: epoch, over: id, done: done, issue: func(ctx context.Context, p redis.Pipeliner, number uint64) *redis.Cmd {
		cmd := eval(ctx, p, "end", []string{s.callKey(id)}, epochText(epoch), s.run, number, forget)
		s.write.unhint(ctx, p, s.key("own:"+s.node), id)
		s.write.unlink(ctx, p, id)
		return cmd
	}})
}

// Claim makes owner the owner of a call that is stored under just this epoch. Of several who claim it at once one succeeds. It is
// ErrUnsafe when no replica has confirmed it: then it has to be repeated before the call is gone on with.
func (s *Redis) Claim(id string, epoch uint64, owner string) (call.Stored, error) {
	s.write.catchUp()
	ctx, cancel := waiting()
	defer cancel()
	none := call.Stored{}
	v, err := s.claim(ctx, id, epoch, owner)
	if unknown(err) {
		if err = loadScripts(ctx, s.client); err == nil {
			v, err = s.claim(ctx, id, epoch, owner)
		}
	}
	if err != nil {
		return none, fmt.Errorf("claim call %s: %w", id, err)
	}
	switch at, _ := v[0].(string); {
	case len(v) < 2 && at == "":
		return none, fmt.Errorf("claim call %s: there is no record: %w", id, call.ErrStale)
	case len(v) < 2:
		return none, fmt.Errorf("claim call %s of epoch %d, it is at %s: %w", id, epoch, strings.TrimLeft(at, "0"), call.ErrStale)
	}
	if had, _ := v[2].(string); had != owner && had != "" {
		_ = s.client.SRem(ctx, s.key("own:"+had), id).Err() // a hint too many does no harm
	}
	return readStored(id, []any{epochText(epoch + 1), v[0], owner, v[1]})
}

func (s *Redis) claim(ctx context.Context, id string, epoch uint64, owner string) ([]any, error) {
	pipe := s.client.Pipeline()
	pipe.SAdd(ctx, s.key("own:"+owner), id)
	cmd := eval(ctx, pipe, "claim", []string{s.callKey(id)}, epochText(epoch), epochText(epoch+1), owner)
	return s.confirmed(ctx, pipe, cmd, replicaWait.Milliseconds())
}

// confirmed sends a pipeline and waits for a replica where there is one. The answer of cmd is a list, and told with ErrUnsafe too.
func (s *Redis) confirmed(ctx context.Context, pipe redis.Pipeliner, cmd *redis.Cmd, ms int64) ([]any, error) {
	s.write.turn.Lock()
	waits := s.write.waits(ctx)
	s.write.turn.Unlock()
	var wait *redis.Cmd
	if waits {
		wait = pipe.Do(ctx, "WAIT", 1, ms)
	}
	_, err := pipe.Exec(ctx)
	if cmd.Err() != nil {
		return nil, cmd.Err()
	}
	if wait != nil {
		if n, waitErr := wait.Int(); waitErr == nil && n == 0 {
			list, _ := cmd.Val().([]any)
			return list, fmt.Errorf("%w: %w", call.ErrUnsafe, errNoReplica)
		}
	}
	if err != nil {
		return nil, err
	}
	return cmd.Slice()
}

// CountCalls is how many records of calls this node owns; while the server is away, as it last told.
func (s *Redis) CountCalls() (int, error) {
	if s.Healthy() != nil {
		return int(s.counted.Load()), nil
	}
	s.write.catchUp()
	ctx, cancel := waiting()
	defer cancel()
	ids, err := s.client.SMembers(ctx, s.key("own:"+s.node)).Result()
	if err != nil {
		return 0, fmt.Errorf("count the calls: %w", err)
	}
	pipe := s.client.Pipeline()
	owners, sizes := make([]*redis.StringCmd, len(ids)), make([]*redis.IntCmd, len(ids))
	for i, id := range ids {
		owners[i], sizes[i] = pipe.HGet(ctx, s.callKey(id), "o"), pipe.HStrLen(ctx, s.callKey(id), "b")
	}
	if _, err := pipe.Exec(ctx); err != nil && !absent(err) {
		return 0, fmt.Errorf("count the calls: %w", err)
	}
	n := 0
	for i := range ids {
		if owners[i].Val() == s.node && sizes[i].Val() > 0 {
			n++
		}
	}
	s.counted.Store(int64(n))
	return n, nil
}

// Calls are the records of all calls that have not ended, whoever owns them.
func (s *Redis) Calls() ([]call.Stored, error) {
	all, err := s.callsIn("calls")
	if err != nil {
		return nil, fmt.Errorf("read the calls: %w", err)
	}
	return all, nil
}

// CallsOf are the records of the calls that a node owns.
func (s *Redis) CallsOf(owner string) ([]call.Stored, error) {
	all, err := s.callsIn("own:" + owner)
	if err != nil {
		return nil, fmt.Errorf("read the calls of %s: %w", owner, err)
	}
	var own []call.Stored
	for _, c := range all {
		if c.Owner == owner {
			own = append(own, c)
		}
	}
	return own, nil
}

// callsIn reads the calls that a set hints at; of some there is no record.
func (s *Redis) callsIn(set string) (all []call.Stored, err error) {
	s.write.catchUp()
	ctx, cancel := waiting()
	defer cancel()
	ids, err := s.client.SMembers(ctx, s.key(set)).Result()
	if err != nil {
		return nil, err
	}
	err = eachPage(ids, func(ids []string) error {
		ctx, cancel := waiting()
		defer cancel()
		pipe := s.client.Pipeline()
		cmds := make([]*redis.SliceCmd, len(ids))
		for i, id := range ids {
			cmds[i] = pipe.HMGet(ctx, s.callKey(id), "e", "v", "o", "b")
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for i, cmd := range cmds {
			if cmd.Val()[3] == nil {
				continue
			}
			c, err := readStored(ids[i], cmd.Val())
			if err != nil {
				return err
			}
			all = append(all, c)
		}
		return nil
	})
	return all, err
}

// eachPage does something with all ids, some at a time.
func eachPage(ids []string, do func([]string) error) error {
	const page = 500
	for len(ids) > 0 {
		n := min(page, len(ids))
		if err := do(ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// readStored reads epoch, version, owner and blob.
func readStored(id string, v []any) (call.Stored, error) {
	text := func(i int) string { t, _ := v[i].(string); return t }
	epoch, err := strconv.ParseUint(text(0), 10, 64)
	version, err2 := strconv.ParseUint(text(1), 10, 64)
	if err = errors.Join(err, err2); err != nil {
		return call.Stored{}, fmt.Errorf("record of call %q: %w", id, err)
	}
	c := call.Stored{ID: id, Epoch: epoch, Version: version, Owner: text(2)}
	if b := text(3); b != "" {
		c.Blob = []byte(b)
	}
	return c, nil
}

// PutSubscription writes a subscription, unless another node has claimed it (call.ErrStale).
func (s *Redis) PutSubscription(v call.StoredSubscription, done func(error)) {
	s.write.add(&change{key: "subscription " + v.ID, done: done, issue: func(ctx context.Context, p redis.Pipeliner, _ uint64) *redis.Cmd {
		return eval(ctx, p, "watch", []string{s.key("subscriptions")}, v.ID, v.Owner, packOwned(v.Owner, v.Blob))
	}})
}

// DropSubscription deletes a subscription, unless another node has claimed it (call.ErrStale).
func (s *Redis) DropSubscription(id string, done func(error)) {
	s.write.later(&change{key: "subscription " + id, done: done, issue: func(ctx context.Context, p redis.Pipeliner, _ uint64) *redis.Cmd {
		return eval(ctx, p, "unwatch", []string{s.key("subscriptions")}, id, s.node)
	}})
}

// Subscriptions are all that have not been dropped.
func (s *Redis) Subscriptions() ([]call.StoredSubscription, error) {
	s.write.catchUp()
	ctx, cancel := waiting()
	defer cancel()
	all, err := s.client.HGetAll(ctx, s.key("subscriptions")).Result()
	if err != nil {
		return nil, fmt.Errorf("read the subscriptions: %w", err)
	}
	var out []call.StoredSubscription
	for id, v := range all {
		owner, blob := readOwned([]byte(v))
		out = append(out, call.StoredSubscription{ID: id, Owner: owner, Blob: blob})
	}
	return out, nil
}
