package sip

import (
	"strconv"
	"sync/atomic"
	"time"
)

// Who guesses passwords is held up, and nobody else. Failures are counted for each user and source together, and for each
// source; when there are too many, a login from that source gets the challenge that a wrong password gets, whatever it
// says, but for
//
//   - one on a flow that the same user has logged in on before: his phone, wherever the guesser sits;
//   - a few from flows that have not failed yet, with a nonce of ours for that very address: a phone that has restarted
//     behind the same NAT as the guesser. A guesser who takes a new port for each guess shares these few with it, and so
//     has twenty guesses a minute instead of as many as he likes.
//
// The nodes of a cluster tell each other of failures, so that a guesser has not as many more tries as there are nodes.
//
// Nothing is counted for a user alone, and a forged source fails nowhere but at the place that it forges.
type guesses struct {
	limits   *limits
	failures *table

	count, unread atomic.Uint64

	tell func(f Flow, user string) // the other nodes of a failure; nil = there are none. Set once
}

const failuresHeld = 8192

var (
	guessesOfUser   = oneEach(30*time.Second, 10) // from one source
	guessesOfSource = oneEach(2*time.Second, 100) // for all users
	guessesOfFlow   = oneEach(10*time.Minute, 1)
	guessesOfOthers = oneEach(3*time.Second, 10) // of flows that have not failed, while their source is held up
)

func newGuesses(l *limits) *guesses { return &guesses{limits: l, failures: newTable(failuresHeld)} }

func loginKey(f Flow, user string) bucketKey {
	k := flowKey(f)
	k.kind, k.user = ofLogin, user
	return k
}

func guessKey(f Flow, user string) bucketKey {
	k := sourceKey(f)
	k.kind, k.user = ofGuess, user
	return k
}

// counts says whether a login is to be believed when it is right. ours says that its nonce was given to that address.
func (g *guesses) counts(f Flow, user string, ours bool) bool {
	now := g.limits.now()
	held := g.failures.spent(guessKey(f, user).hash(), guessesOfUser, now) ||
		g.failures.spent(sourceKey(f).hash(), guessesOfSource, now)
	if !held || g.limits.proven.has(loginKey(f, user).hash(), now) {
		return true
	}
	others := sourceKey(f)
	others.kind = ofAnswer
	if ours && !g.failures.spent(flowKey(f).hash(), guessesOfFlow, now) && g.failures.take(others.hash(), guessesOfOthers, now) {
		return true
	}
	g.unread.Add(1)
	return false
}

// failed counts a wrong password; begins says that its source is held up from now on. A flow has failed only with a nonce
// that was given to its address: who forges addresses cannot use up all of another's ports.
func (g *guesses) failed(f Flow, user string, ours bool) (begins bool) {
	g.count.Add(1)
	if ours && g.tell != nil { // a forged source is told of to nobody
		g.tell(f, user)
	}
	return g.owe(f, user, ours)
}

// owe counts a failure, here or at another node.
func (g *guesses) owe(f Flow, user string, ours bool) (begins bool) {
	now := g.limits.now()
	if ours {
		g.failures.owe(flowKey(f).hash(), guessesOfFlow, now)
	}
	byUser := g.failures.owe(guessKey(f, user).hash(), guessesOfUser, now)
	bySource := g.failures.owe(sourceKey(f).hash(), guessesOfSource, now)
	return byUser || bySource
}

// trust notes that a user has logged in on a flow: its connection is kept, and it has limits of its own.
func (a *Agent) trust(f Flow, user string) {
	if st := a.stream(f); st != nil {
		st.trust()
	}
	a.limits.learn(f, user)
}

// Failed counts a login that has failed at another node, with a nonce that it gave to that address.
func (a *Agent) Failed(f Flow, user string) {
	f.Node = ""
	a.limits.guesses.owe(f, user, true)
}

// tellRefused logs a login that failed; guessing is told when it begins, seldom.
func (a *Agent) tellRefused(r *Request, v verdict) {
	if v.tried == "" {
		return
	}
	if v.guessing {
		if more, ok := a.seldom.allow("guessing"); ok {
			a.log.Warn("somebody guesses passwords", "user", strconv.Quote(v.tried), "from", r.flow.String(), "unsaid", more)
		}
	}
	if a.refusals.allow() {
		a.log.Info("login refused", "user", strconv.Quote(v.tried), "from", r.flow.String(), "err", v.why)
	}
}
