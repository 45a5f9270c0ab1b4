package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"baton/call"
)

// What a node does that goes on with the calls of another one (docs/cluster.md).

// ClaimAll claims calls as Claim does, each under the epoch that it has in calls, in one go. What others have by now is left out. It is ErrUnsafe when
// no replica has confirmed them: then none is gone on with before it was claimed once more.
func (s *Redis) ClaimAll(calls []call.Stored, owner string) ([]call.Stored, error) {
	s.write.catchUp()
	ctx, cancel := waiting()
	defer cancel()
	mine, err := s.claimAll(ctx, calls, owner)
	if unknown(err) {
		if err = loadScripts(ctx, s.client); err == nil {
			mine, err = s.claimAll(ctx, calls, owner)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("claim %d calls: %w", len(calls), err)
	}
	return mine, nil
}

func (s *Redis) claimAll(ctx context.Context, calls []call.Stored, owner string) (mine []call.Stored, err error) {
	if len(calls) == 0 {
		return nil, nil
	}
	pipe := s.client.Pipeline()
	ids, cmds := make([]any, len(calls)), make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		ids[i] = c.ID
	}
	pipe.SAdd(ctx, s.key("own:"+owner), ids...)
	for i, c := range calls {
		cmds[i] = eval(ctx, pipe, "claim", []string{s.callKey(c.ID)}, epochText(c.Epoch), epochText(c.Epoch+1), owner)
	}
	if _, err := s.confirmed(ctx, pipe, cmds[len(cmds)-1], replicaWait.Milliseconds()); err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		v, err := cmd.Slice()
		if err != nil {
			return nil, err
		}
		if len(v) < 2 {
			continue
		}
		c, err := readStored(calls[i].ID, []any{epochText(calls[i].Epoch + 1), v[0], owner, v[1]})
		if err != nil {
			return nil, err
		}
		mine = append(mine, c)
	}
	return mine, nil
}

// Left lists the calls that a node owns, without what is in their records.
func (s *Redis) Left(ctx context.Context, owner string) ([]call.Stored, error) {
	ids, err := s.client.SMembers(ctx, s.key("own:"+owner)).Result()
	if err != nil {
		return nil, fmt.Errorf("read which calls %s has: %w", owner, err)
	}
	owners, err := s.Owners(ctx, ids)
	var all []call.Stored
	for id, o := range owners {
		if o.Owner == owner {
			all = append(all, call.Stored{ID: id, Epoch: o.Epoch, Owner: owner})
		}
	}
	return all, err
}

// Owned is who has a call, and under which epoch; the zero value: there is no such call.
type Owned struct {
	Epoch uint64
	Owner string
}

// Owners tells who has these calls now. It gives up when ctx ends.
func (s *Redis) Owners(ctx context.Context, ids []string) (map[string]Owned, error) {
	all := make(map[string]Owned, len(ids))
	err := eachPage(ids, func(ids []string) error {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.SliceCmd, len(ids))
		for i, id := range ids {
			cmds[i] = pipe.HMGet(ctx, s.callKey(id), "e", "o")
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return fmt.Errorf("read whose the calls are: %w", err)
		}
		for i, cmd := range cmds {
			v := cmd.Val()
			text, _ := v[0].(string)
			owner, _ := v[1].(string)
			epoch, err := strconv.ParseUint(text, 10, 64)
			if text != "" && err != nil {
				return fmt.Errorf("record of call %q: %w", ids[i], err)
			}
			all[ids[i]] = Owned{epoch, owner}
		}
		return nil
	})
	return all, err
}

// LastBeat is the last sign of life of a node, by its own clock; zero = none. It changes as long as the node runs and reaches the store.
func (s *Redis) LastBeat(ctx context.Context, node string) (time.Time, error) {
	ms, err := s.client.HGet(ctx, s.key("meta"), beatField(node)).Int64()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read the sign of life of node %s: %w", node, err)
	}
	return time.UnixMilli(ms), nil
}

// ClaimSubscriptions makes owner the owner of what is left of these subscriptions of a node's, and gives them.
func (s *Redis) ClaimSubscriptions(ids []string, from, owner string) ([]call.StoredSubscription, error) {
	s.write.catchUp()
	ctx, cancel := waiting()
	defer cancel()
	mine, err := s.claimSubscriptions(ctx, ids, from, owner)
	if unknown(err) {
		if err = loadScripts(ctx, s.client); err == nil {
			mine, err = s.claimSubscriptions(ctx, ids, from, owner)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("claim %d subscriptions: %w", len(ids), err)
	}
	return mine, nil
}

func (s *Redis) claimSubscriptions(ctx context.Context, ids []string, from, owner string) (mine []call.StoredSubscription, err error) {
	err = eachPage(ids, func(ids []string) error {
		pipe := s.client.Pipeline()
		cmds := make([]*redis.Cmd, len(ids))
		for i, id := range ids {
			cmds[i] = eval(ctx, pipe, "claimwatch", []string{s.key("subscriptions")}, id, from, owner, packOwned(owner, nil))
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		for i, cmd := range cmds {
			if rest, err := cmd.StringSlice(); err == nil && len(rest) == 1 {
				mine = append(mine, call.StoredSubscription{ID: ids[i], Owner: owner, Blob: []byte(rest[0])})
			}
		}
		return nil
	})
	return mine, err
}
