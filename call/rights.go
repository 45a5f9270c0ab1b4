package call

import (
	"slices"
	"strings"

	"baton/config"
)

// Rights say what users may do with others' calls. One's own are always one's own. Users stand in them by name or number.
type Rights struct {
	Groups config.Lists // pick-up groups: members may take each other's ringing calls, and see that they ring
	Watch  config.Lists // by the watcher, or @group: users, @groups or "*" whose phones he sees ring and talk
}

// mayPickUp says whether a user may take calls that ring for another: both are members of one group, or the same.
func (b *B2BUA) mayPickUp(user, other string) bool {
	if user == other {
		return true
	}
	for _, members := range b.Rights.Groups {
		if b.among(user, members) && b.among(other, members) {
			return true
		}
	}
	return false
}

// grouped says whether a user is in any pick-up group.
func (b *B2BUA) grouped(user string) bool {
	for _, members := range b.Rights.Groups {
		if b.among(user, members) {
			return true
		}
	}
	return false
}

// mayWatch says whether a user may see another's phones ring and talk. Who may pick a call up has to see it.
func (b *B2BUA) mayWatch(user, other string) bool {
	if b.mayPickUp(user, other) {
		return true
	}
	for who, whom := range b.Rights.Watch {
		if b.named(user, who) && (slices.Contains(whom, "*") || b.among(other, whom)) {
			return true
		}
	}
	return false
}

// among says whether a user stands in a list.
func (b *B2BUA) among(user string, list []string) bool {
	return slices.ContainsFunc(list, func(entry string) bool { return b.named(user, entry) })
}

// named says whether an entry of a list means the user: a name, a number, or an @group.
func (b *B2BUA) named(user, entry string) bool {
	if group, ok := strings.CutPrefix(entry, "@"); ok {
		return b.among(user, b.Rights.Groups[group])
	}
	u, ok := b.Registrar.User(entry)
	return ok && u.Name == user
}
