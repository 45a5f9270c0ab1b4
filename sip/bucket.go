package sip

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// rate is a token bucket's size: so many a second, and ten seconds' worth at once. A bucket itself is one number, its debt:
// the moment at which all tokens will be there again, in nanoseconds of the agent's clock.
type rate struct{ every, burst int64 }

const burstSeconds = 10

// perSecond is a rate; 0 is none, which lets everything through.
func perSecond(n int) rate {
	if n <= 0 {
		return rate{}
	}
	return rate{every: int64(time.Second) / int64(n), burst: burstSeconds * int64(time.Second)}
}

// oneEach is a rate of one in so long, and so many at once.
func oneEach(d time.Duration, atOnce int) rate {
	return rate{every: int64(d), burst: int64(d) * int64(atOnce)}
}

// take says whether one more fits, and gives the debt after it.
func (r rate) take(debt, now int64) (int64, bool) {
	if r.every == 0 {
		return debt, true
	}
	next := max(debt, now) + r.every
	if next-now > r.burst {
		return debt, false
	}
	return next, true
}

// table holds a bucket for each of many keys, which anybody may make up: it never grows. Whom it has no place for takes
// that of the one among a few who owes least, so that who is held back stays held back whatever else comes.
type table struct{ sets []bucketSet }

const ways = 8

type bucketSet struct {
	mu    sync.Mutex
	keys  [ways]uint64
	debts [ways]int64
}

func newTable(buckets int) *table { return &table{make([]bucketSet, buckets/ways)} }

// take is rate.take for a key's bucket.
func (t *table) take(key uint64, r rate, now int64) bool {
	s := t.set(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	debt := s.place(key)
	next, ok := r.take(*debt, now)
	*debt = next
	return ok
}

// owe takes a token even where there is none; first says that there was none any more for the first time.
func (t *table) owe(key uint64, r rate, now int64) (first bool) {
	s := t.set(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	debt := s.place(key)
	_, left := r.take(*debt, now)
	*debt = min(max(*debt, now)+r.every, now+r.burst+r.every)
	_, more := r.take(*debt, now)
	return left && !more
}

// spent says whether a key's bucket has no token left; nothing is taken.
func (t *table) spent(key uint64, r rate, now int64) bool {
	s := t.set(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.keys {
		if s.keys[i] == key {
			_, ok := r.take(s.debts[i], now)
			return !ok
		}
	}
	return false
}

func (t *table) set(key uint64) *bucketSet { return &t.sets[key%uint64(len(t.sets))] }

// place is the debt of a key. mu is held.
func (s *bucketSet) place(key uint64) *int64 {
	least := 0
	for i := range s.keys {
		if s.keys[i] == key {
			return &s.debts[i]
		}
		if s.debts[i] < s.debts[least] {
			least = i
		}
	}
	s.keys[least], s.debts[least] = key, 0
	return &s.debts[least]
}

// proven remembers keys that only who has proved himself can make, each with a bucket, for one to two lives after the
// last proof. It grows with them, up to a limit beyond which nobody new is remembered.
type proven struct {
	life   int64 // ns
	shards [16]provenShard
}

const maxProven = 1 << 15 // of each shard and generation

type provenShard struct {
	mu           sync.Mutex
	turned       int64
	now, earlier map[uint64]int64 // debts
}

func newProven(life time.Duration) *proven { return &proven{life: int64(life)} }

func (k *proven) shard(key uint64, now int64) *provenShard {
	s := &k.shards[key%uint64(len(k.shards))]
	s.mu.Lock()
	if since := now - s.turned; since >= k.life {
		s.earlier, s.now, s.turned = s.now, nil, now
		if since >= 2*k.life {
			s.earlier = nil
		}
	}
	return s
}

// learn remembers a key from now on.
func (k *proven) learn(key uint64, now int64) {
	s := k.shard(key, now)
	defer s.mu.Unlock()
	if _, ok := s.now[key]; ok || len(s.now) >= maxProven {
		return
	}
	if s.now == nil {
		s.now = make(map[uint64]int64)
	}
	s.now[key] = s.earlier[key]
}

// has says whether a key is remembered.
func (k *proven) has(key uint64, now int64) bool {
	s := k.shard(key, now)
	defer s.mu.Unlock()
	_, young := s.now[key]
	_, old := s.earlier[key]
	return young || old
}

// take is rate.take for the bucket of a key that is remembered.
func (k *proven) take(key uint64, r rate, now int64) (remembered, ok bool) {
	s := k.shard(key, now)
	defer s.mu.Unlock()
	of := s.now
	debt, remembered := of[key]
	if !remembered {
		of = s.earlier
		if debt, remembered = of[key]; !remembered {
			return false, false
		}
	}
	next, ok := r.take(debt, now)
	if next != debt {
		of[key] = next
	}
	return true, ok
}

// len is how many keys are remembered; those of both generations count twice.
func (k *proven) len() int {
	n := 0
	for i := range k.shards {
		s := &k.shards[i]
		s.mu.Lock()
		n += len(s.now) + len(s.earlier)
		s.mu.Unlock()
	}
	return n
}

// What a key is of. Nobody outside knows the seed, so that nobody can choose whose bucket is his.
const (
	ofSource = iota + 1
	ofFlow
	ofLogin // somebody's on a flow
	ofGuess // somebody's from a source
	ofAnswer
	ofUser
	ofCaller
)

type bucketKey struct {
	kind byte
	ip   netip.Addr
	port uint16
	id   uint64
	user string
}

func (k bucketKey) hash() uint64 { return maphash.Comparable(seed, k) }

func sourceKey(f Flow) bucketKey {
	return bucketKey{kind: ofSource, ip: sourceOf(f.Remote.Addr()).Addr()}
}

func flowKey(f Flow) bucketKey {
	return bucketKey{kind: ofFlow, ip: f.Remote.Addr(), port: f.Remote.Port(), id: f.ID}
}
