package store

// Devices that no replica has confirmed are written once more, as the record of a call is by the call itself: a phone has had its 200, and would not register
// again for long after a failover to a replica that has never had them. They are asked for with the node's sign of life, once a second, and
// written when a replica confirms again; what has changed since goes with them.

// whole is a change with what no replica has confirmed before of the same devices; from now on that is all of it. turn is held.
func (q *redisQueue) whole(c *change) *change {
	if c.bound == nil {
		return c
	}
	switch before := q.unsure[c.bound.user]; {
	case before == c.bound:
	case before != nil:
		c = before.merge(c.bound).change(nil)
		fallthrough
	case q.sentinel || q.replicas:
		q.unsure[c.bound.user] = c.bound
	}
	return c
}

// again are devices to be written once more, now that a replica confirms. turn is held.
func (q *redisQueue) again(most int) (all []*change) {
	if !q.sure {
		return nil
	}
	for _, b := range q.unsure {
		if len(all) >= most {
			break
		}
		c := b.change(nil)
		c.safe = true
		all = append(all, c)
	}
	return all
}

// confirm notes whether a replica has some writes. turn is held.
func (q *redisQueue) confirm(work []*change, yes bool) {
	q.sure = yes
	if !yes {
		return
	}
	for _, c := range work {
		if c.bound != nil {
			delete(q.unsure, c.bound.user)
		}
	}
	if len(q.unsure) > 0 {
		q.signal()
	}
}
