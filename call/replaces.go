package call

import (
	"slices"
	"time"

	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// dialogKind is how far a dialog of the node's has come, which decides what an INVITE with Replaces may do with it.
type dialogKind uint8

const (
	dialogConfirmed dialogKind = iota
	dialogRinging              // early: we have called the device
	dialogCalling              // early: the device has called us
)

// dialogOwner is a dialog with the leg that it belongs to.
type dialogOwner struct {
	id   sip.DialogID
	kind dialogKind
	call *Call
	leg  *Leg
	user string // whose device it is with
}

// dialogIndex lets an INVITE with Replaces find a dialog, early ones too. Phones may name one by its Call-ID alone.
type dialogIndex struct {
	live  map[string][]dialogOwner // by Call-ID
	ended []endedDialog            // oldest first
}

// endedDialog is one that a phone may still name: it has pressed its key at the moment of the hang-up.
type endedDialog struct {
	id   sip.DialogID
	kind dialogKind
	user string
	at   time.Time
	last *lastWay // for its phone's last report, nil = none is waited for
}

// A dialog is remembered as ended for 64·T1, as an answered request is, and never more than so many of them.
const (
	endedFor = 32 * time.Second
	maxEnded = 4096
)

// put adds a dialog, or says anew what there is to know of it.
func (x *dialogIndex) put(o dialogOwner) {
	all := x.live[o.id.CallID]
	if i := slices.IndexFunc(all, func(k dialogOwner) bool { return k.id == o.id }); i >= 0 {
		all[i] = o
		return
	}
	x.live[o.id.CallID] = append(all, o)
}

// drop takes a dialog out and remembers for a while that it was there.
func (x *dialogIndex) drop(id sip.DialogID, last *lastWay) {
	all := x.live[id.CallID]
	i := slices.IndexFunc(all, func(k dialogOwner) bool { return k.id == id })
	if i < 0 {
		return
	}
	now := time.Now()
	past := 0
	for past < len(x.ended) && (now.Sub(x.ended[past].at) > endedFor || len(x.ended)-past >= maxEnded) {
		past++
	}
	x.ended = append(x.ended[past:], endedDialog{id, all[i].kind, all[i].user, now, last})
	if all = slices.Delete(all, i, i+1); len(all) == 0 {
		delete(x.live, id.CallID)
		return
	}
	x.live[id.CallID] = all
}

// size counts the dialogs.
func (x *dialogIndex) size() int {
	n := 0
	for _, all := range x.live {
		n += len(all)
	}
	return n
}

// index lets an INVITE with Replaces find a dialog of the leg's.
func (b *B2BUA) index(c *Call, l *Leg, id sip.DialogID, kind dialogKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialogs.put(dialogOwner{id, kind, c, l, l.seat.user.Name})
}

func (b *B2BUA) unindex(id sip.DialogID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dialogs.drop(id, nil)
}

// mayReplace says whether a user may take the place of another's device in a dialog: in a call that rings for somebody of
// his pick-up groups, else in his own alone.
func (b *B2BUA) mayReplace(user, owner string, kind dialogKind) bool {
	return user == owner || kind == dialogRinging && b.mayPickUp(user, owner)
}

// replaced finds the one dialog that a Replaces means, of those that the user has a right to: of all others nothing is
// told, not even that they are there.
func (b *B2BUA) replaced(r sip.Replaces, user string) (dialogOwner, error) {
	b.mu.Lock()
	live := slices.Clone(b.dialogs.live[r.CallID])
	b.mu.Unlock()
	live = slices.DeleteFunc(live, func(o dialogOwner) bool { return !r.Names(o.id) || !b.mayReplace(user, o.user, o.kind) })
	if i := slices.IndexFunc(live, func(o dialogOwner) bool { return o.id == r.ID() }); i >= 0 {
		return live[i], nil
	}
	switch {
	case len(live) == 0 && b.hasEnded(r, user):
		return dialogOwner{}, refusal(603, "that dialog has ended") // RFC 3891 §3
	case len(live) == 0:
		return dialogOwner{}, refusal(481, "no such dialog of yours")
	case slices.ContainsFunc(live, func(o dialogOwner) bool { return o.leg != live[0].leg }):
		return dialogOwner{}, refusal(481, "several dialogs are meant: give the tags")
	}
	return live[0], nil
}

// hasEnded says whether a Replaces means a dialog that has ended a moment ago.
func (b *B2BUA) hasEnded(r sip.Replaces, user string) bool {
	var ended []endedDialog
	b.mu.Lock()
	for _, e := range b.dialogs.ended {
		if r.Names(e.id) && time.Since(e.at) <= endedFor {
			ended = append(ended, e)
		}
	}
	b.mu.Unlock()
	return slices.ContainsFunc(ended, func(e endedDialog) bool { return b.mayReplace(user, e.user, e.kind) })
}

// inviteReplaces takes the place of the device in the dialog that is named (RFC 3891): a pull of one's own call, or the
// pick-up of one that rings.
func (b *B2BUA) inviteReplaces(x *sip.Exchange, caller registrar.User, offer *media.Description, v string) error {
	r, err := sip.ParseReplaces(v)
	if err != nil {
		return refusal(400, "Replaces: "+err.Error())
	}
	if err := b.mayBegin(); err != nil {
		return err
	}
	o, err := b.replaced(r, caller.Name)
	switch {
	case err != nil:
		return err
	case o.kind == dialogCalling:
		return refusal(481, "that call is not answered yet") // RFC 3891 §3: an early dialog of the other's making
	case o.kind == dialogRinging:
		return b.replaceRinging(x, caller, offer, o)
	case r.EarlyOnly:
		return refusal(486, "the dialog is confirmed") // RFC 3891 §3
	}
	asked := o.call.do(func() {
		if err := o.call.pulled(x, offer, 0, o.leg); err != nil {
			_ = x.Respond(b.reply(err))
		}
	})
	if !asked {
		return refusal(603, "the call has just ended")
	}
	return nil
}
