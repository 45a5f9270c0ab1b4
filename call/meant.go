package call

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"baton/sip"
)

// In a cluster the call that a code, a key or a number means may be another node's: the node that a new INVITE comes in at asks those that may have
// it, and the INVITE is served where the call is that fits best.

// Ask is what a new INVITE looks for.
type Ask struct {
	Kind     string `json:"kind"` // pull, push, leave, companion, pickup, replaces, call; device = a call of one device alone
	User     string `json:"user"` // whose INVITE it is
	Device   string `json:"device,omitempty"`
	N        int    `json:"n,omitempty"`
	At       string `json:"at,omitempty"` // whose call is picked up, "" = any; or who is called
	Replaces string `json:"replaces,omitempty"`
}

// Found is a call that an Ask may mean. Lesser standings are rather meant.
type Found struct {
	Node     string    `json:"node,omitempty"` // for who has asked
	Standing uint8     `json:"standing"`
	First    bool      `json:"first,omitempty"` // between equal ones the oldest is meant, not the newest
	Since    time.Time `json:"since"`
	Started  time.Time `json:"started"`
}

// AskOf reads what a new INVITE looks for; false: nothing that other nodes could have, and no call that they could serve.
func (b *B2BUA) AskOf(r *sip.Request) (Ask, bool) {
	caller, ok := b.Registrar.User(r.User())
	if !ok {
		return Ask{}, false
	}
	a := Ask{User: caller.Name}
	if contact, ok := r.Contact(); ok {
		if d, ok := b.Registrar.DeviceOf(caller.Name, r.Flow(), contact); ok {
			a.Device = d.Key
		}
	}
	if a.Replaces = r.Header("Replaces"); a.Replaces != "" {
		a.Kind = "replaces"
		return a, true
	}
	if _, ok := b.officeCode(r.RequestURI()); ok {
		return a, false
	}
	t, err := b.route(r.RequestURI(), caller)
	if err != nil {
		return a, false
	}
	a.N, a.At = t.N, t.At
	switch {
	case t.Code != codeNone:
		a.Kind = [...]string{codePull: "pull", codePush: "push", codePickup: "pickup", codeCompanion: "companion", codeLeave: "leave"}[t.Code]
	case t.Device != nil:
		a.Kind = "device"
	case t.User.Name == caller.Name:
		a.Kind = "pull"
	default:
		a.Kind, a.At = "call", t.User.Name
	}
	return a, true
}

// Find gives the calls of this node that an Ask may mean.
func (b *B2BUA) Find(a Ask) []Found {
	switch a.Kind {
	case "replaces":
		return b.findReplaced(a)
	case "pickup":
		user := ""
		if a.At != "" {
			whose, ok := b.Registrar.User(a.At)
			if !ok || !b.mayPickUp(a.User, whose.Name) {
				return nil
			}
			user = whose.Name
		}
		return foundRinging(b.ringing(a.User, user), 0)
	case "call":
		if k, ok := b.torn(a.User, a.At); ok {
			return []Found{{Started: k.call.started}}
		}
		if b.mayPickUp(a.User, a.At) {
			return foundRinging(b.ringing(a.User, a.At), 1)
		}
	case "push":
		return b.foundOf(a.User, a.Device)
	case "leave":
		if all := b.foundOf(a.User, a.Device); a.N == 0 && len(all) > 0 {
			return all
		}
		all := b.foundOf(a.User, "")
		for i := range all {
			all[i].Standing += uint8(notAnswered) + 1
		}
		return all
	case "pull", "companion":
		return b.foundOf(a.User, "")
	}
	return nil
}

func (b *B2BUA) findReplaced(a Ask) []Found {
	r, err := sip.ParseReplaces(a.Replaces)
	if err != nil {
		return nil
	}
	switch o, err := b.replaced(r, a.User); {
	case err == nil:
		return []Found{{Started: o.call.started}}
	case statusOf(err, 0) == 603:
		return []Found{{Standing: 1}}
	}
	return nil
}

// foundOf are the candidates of a user, at one of his devices or all, oldest first.
func (b *B2BUA) foundOf(user, device string) (all []Found) {
	for _, c := range b.callsOf(user) {
		if k, ok := c.candidate(user, device); ok {
			all = append(all, Found{Standing: uint8(k.standing), First: k.standing == ringsForHim, Since: k.since, Started: c.started})
		}
	}
	return all
}

func foundRinging(rings []ringing, standing uint8) (all []Found) {
	for _, r := range rings {
		all = append(all, Found{Standing: standing, First: true, Since: r.since, Started: r.call.started})
	}
	return all
}

// Best is which of the calls that were found at several nodes is meant, by the rule of a single one (choose.go); n is which of its node's that is,
// where it was asked for by number. False: none.
func (a Ask) Best(all []Found) (best Found, n int, ok bool) {
	if len(all) == 0 {
		return best, 0, false
	}
	all = slices.Clone(all)
	if a.N == 0 || a.Kind == "push" {
		return slices.MinFunc(all, func(x, y Found) int {
			switch {
			case x.Standing != y.Standing:
				return cmp.Compare(x.Standing, y.Standing)
			case x.First:
				return x.Since.Compare(y.Since)
			}
			return cmp.Or(y.Since.Compare(x.Since), y.Started.Compare(x.Started))
		}), 0, true
	}
	if a.N > len(all) {
		return best, 0, false
	}
	slices.SortStableFunc(all, func(x, y Found) int { return x.Started.Compare(y.Started) })
	best = all[a.N-1]
	for _, f := range all[:a.N] {
		if f.Node == best.Node {
			n++
		}
	}
	return best, n, true
}

// Redialled is what is dialled to mean the n-th call of a node, "" = what was dialled.
func (b *B2BUA) Redialled(a Ask, n int) string {
	code := map[string]string{"pull": b.Codes.Pull, "companion": b.Codes.Companion, "leave": b.Codes.Leave}[a.Kind]
	if n == 0 || n == a.N || code == "" {
		return ""
	}
	return code + strconv.Itoa(n)
}
