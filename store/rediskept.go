package store

import "slices"

// keptEntries of the log are kept while the server is away.
const keptEntries = 10_000

// firstEpoch is that of a call that no node has taken up from a record.
const firstEpoch = 1

// kept is what waits for a server that is away: the newest of each key, in the order in which the keys came.
// Of a call that began and ended meanwhile nothing is kept but its entries in the log: the server has never heard of it.
type kept struct {
	list    []*change // without an issue: there is nothing left of it
	by      map[string]*change
	entries int
	void    int // without an issue
}

// keep keeps a change for a server that is away. turn is held.
func (q *redisQueue) keep(c *change) {
	if c.over == "" || c.epoch > firstEpoch || c.issued || q.linked[c.over] != nil {
		q.kept.add(c)
		return
	}
	if old := q.kept.by[c.key]; old == nil || !old.issued {
		q.kept.remove(c.key)
		return
	}
	q.kept.add(c)
}

func (k *kept) len() int { return len(k.list) - k.void }

func (k *kept) add(c *change) {
	quiet := *c
	quiet.done, quiet.safe = nil, false
	if c.entry {
		if k.entries >= keptEntries {
			return // what came first tells how it began
		}
		k.entries++
	}
	old := k.by[c.key]
	switch {
	case c.key == "" || old == nil:
		k.list = append(k.list, &quiet)
		if c.key != "" {
			if k.by == nil {
				k.by = map[string]*change{}
			}
			k.by[c.key] = &quiet
		}
	case quiet.epoch < old.epoch: // it would be refused
	case quiet.bound != nil:
		*old = *old.bound.merge(quiet.bound).change(nil)
	default:
		*old = quiet
	}
}

// remove takes away what is kept of a key.
func (k *kept) remove(key string) {
	if c := k.by[key]; c != nil {
		delete(k.by, key)
		c.issue = nil
		if k.void++; k.void > len(k.list)/2 {
			k.tidy()
		}
	}
}

// tidy leaves out what there is nothing left of.
func (k *kept) tidy() {
	k.list, k.void = slices.DeleteFunc(k.list, func(c *change) bool { return c.issue == nil }), 0
}

// first are the n that came first.
func (k *kept) first(n int) []*change {
	if k.void > 0 {
		k.tidy()
	}
	return k.list[:min(n, len(k.list))]
}

// drop takes away the first n, which are written.
func (k *kept) drop(n int) {
	for _, c := range k.list[:n] {
		if c.key != "" && k.by[c.key] == c {
			delete(k.by, c.key)
		}
		if c.entry {
			k.entries--
		}
	}
	clear(k.list[:n])
	if k.list = k.list[n:]; len(k.list) == 0 {
		*k = kept{}
	}
}
