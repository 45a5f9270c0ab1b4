package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// By the Call-ID of a dialog any node finds the call that it belongs to, and by that its owner, who may be another by now. The way from
// dialog to call is a hint: it is written before the call's record, looked at with it, taken away with it, and goes by itself some
// day where that was missed.

const (
	dialogKept  = 48 * time.Hour
	dialogAgain = 12 * time.Hour // when a hint is written anew, with the next record
)

// dialogKey has no Call-ID in it: they hold addresses, and whatever characters a phone likes.
func (s *Redis) dialogKey(callID string) string {
	sum := sha256.Sum256([]byte(callID))
	return s.prefix + "dialog:{" + hex.EncodeToString(sum[:16]) + "}"
}

// link queues that dialogs belong to a call, if that is not known to be there, and notes that the server may know the call. turn is held.
func (q *redisQueue) link(ctx context.Context, p redis.Pipeliner, id string, callIDs []string) {
	linked := q.linked[id]
	if linked == nil {
		linked = make(map[string]time.Time, len(callIDs))
		q.linked[id] = linked
	}
	now := time.Now()
	for _, callID := range callIDs {
		if at := linked[callID]; at.Before(q.since) || now.Sub(at) > dialogAgain {
			linked[callID] = now
			p.Set(ctx, q.s.dialogKey(callID), id, dialogKept)
		}
	}
}

// unlink queues that a call has ended, for its dialogs that are not another call's by now. turn is held.
func (q *redisQueue) unlink(ctx context.Context, p redis.Pipeliner, id string) {
	for callID := range q.linked[id] {
		eval(ctx, p, "unlink", []string{q.s.dialogKey(callID)}, id)
	}
	delete(q.linked, id)
}

// OwnerOf is the call that a dialog with a Call-ID belongs to, and the node that has it; "" = there is no such call.
func (s *Redis) OwnerOf(ctx context.Context, callID string) (id, node string, err error) {
	if err := s.Healthy(); err != nil { // nobody shall wait for a server that does not answer
		return "", "", err
	}
	id, err = s.client.Get(ctx, s.dialogKey(callID)).Result()
	if errors.Is(err, redis.Nil) {
		return "", "", nil
	} else if err != nil {
		return "", "", fmt.Errorf("find a dialog: %w", err)
	}
	pipe := s.client.Pipeline()
	owner, size := pipe.HGet(ctx, s.callKey(id), "o"), pipe.HStrLen(ctx, s.callKey(id), "b")
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return "", "", fmt.Errorf("find the owner of call %s: %w", id, err)
	}
	if size.Val() == 0 {
		return "", "", nil
	}
	return id, owner.Val(), nil
}
