package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"baton/cluster"
)

// nodeKept is how long a node that does not announce itself any more is told of. It announces itself every second.
const nodeKept = 30 * time.Second

var _ cluster.Directory = (*Redis)(nil)

func (s *Redis) nodeKey(id string) string { return s.prefix + "node:{" + id + "}" }

// Announce tells the other nodes where this one is. They find out themselves whether that is true.
func (s *Redis) Announce(ctx context.Context, self cluster.Node) error {
	text, err := json.Marshal(self)
	if err != nil {
		return err
	}
	pipe := s.client.Pipeline()
	pipe.SAdd(ctx, s.key("nodes"), self.ID)
	pipe.Set(ctx, s.nodeKey(self.ID), text, nodeKept)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("announce node %s: %w", self.ID, err)
	}
	return nil
}

// Nodes are those that have announced themselves lately, by name. The set of them is a hint: who is not there any more is taken out.
func (s *Redis) Nodes(ctx context.Context) ([]cluster.Node, error) {
	ids, err := s.client.SMembers(ctx, s.key("nodes")).Result()
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	pipe := s.client.Pipeline()
	found := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		found[i] = pipe.Get(ctx, s.nodeKey(id))
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the nodes: %w", err)
	}
	var all []cluster.Node
	for i, id := range ids {
		var n cluster.Node
		text, err := found[i].Bytes()
		switch {
		case errors.Is(err, redis.Nil):
			if err := s.client.SRem(ctx, s.key("nodes"), id).Err(); err != nil { // it announces itself again if it lives
				return nil, err
			}
		case err != nil:
			return nil, err
		case json.Unmarshal(text, &n) != nil || n.ID != id:
			s.log.Warn("what the store has of a node cannot be read", "node", id)
		default:
			all = append(all, n)
		}
	}
	slices.SortFunc(all, func(a, b cluster.Node) int { return strings.Compare(a.ID, b.ID) })
	return all, nil
}
