package call

import (
	"cmp"
	"encoding/xml"
	"slices"
	"time"

	"baton/sip"
)

const dialogInfoType = "application/dialog-info+xml"

// maxDialogs bounds a document: no user has more devices that ring and talk at once.
const maxDialogs = 16

// view is what others can see of a leg: its dialog as the phone at its end has it (RFC 4235 §4.1).
type view struct {
	id, callID          string
	localTag, remoteTag string // of the phone, and ours
	called              bool   // we have called the phone, else it us
	state               viewState
	held                bool
	began               time.Time
	local, remote       party
}

// viewState is a dialog's state in the words of RFC 4235 §3.7.1, the most telling last; unseen is none.
type viewState int

const (
	unseen viewState = iota
	viewTrying
	viewConfirmed
	viewEarly
)

func (v viewState) String() string {
	return [...]string{"terminated", "trying", "confirmed", "early"}[v]
}

// party is a user as others are shown him.
type party struct{ number, name string }

func (s *Seat) party() party {
	if s == nil {
		return party{}
	}
	return party{s.number, cmp.Or(s.name, s.user.Name)}
}

// shows is the leg as others can see it: the value that they have, unless something has changed.
func (c *Call) shows(l *Leg) *view {
	l.shown = unlessChanged(l.shown, c.view(l))
	return l.shown
}

// view is the leg as others can see it. A device that was sent an INVITE and does not ring yet is not seen.
func (c *Call) view(l *Leg) view {
	v := view{
		id: l.id, callID: l.dialog.CallID, localTag: l.dialog.RemoteTag, remoteTag: l.dialog.LocalTag, called: !l.incoming,
		held: l.held, began: l.began, local: l.seat.party(), remote: c.other(l.seat).party(),
	}
	switch l.state {
	case legRinging:
		v.state = viewEarly
		if len(l.forks) > 0 {
			v.localTag = l.forks[0].dialog.RemoteTag
		}
	case legIncoming:
		v.state = viewTrying
		if l.told > 100 || len(l.local.Lines) > 0 {
			v.state = viewEarly
		}
	case legAnswered, legUp, legLost:
		v.state = viewConfirmed
	}
	return v
}

// views are the dialogs of the watched user as the watcher may see them, the most telling first: phones that show but one take
// that. With whom others talk is their own business: of them are told that they do, and of a call that the watcher may pick up all
// that he needs for that.
func (n *notifier) views(s *watch) []view {
	var all []view
	for c := range n.seen[s.Watched].calls {
		p := c.public.Load()
		if p.quiet {
			continue
		}
		for _, l := range p.legs {
			if l.user == s.Watched && l.view.state != unseen && (s.Only == "" || s.Only == l.device) {
				all = append(all, *l.view)
			}
		}
	}
	slices.SortFunc(all, func(a, b view) int {
		return cmp.Or(cmp.Compare(b.state, a.state), compareBool(a.held, b.held), b.began.Compare(a.began), cmp.Compare(a.id, b.id))
	})
	all = all[:min(len(all), maxDialogs)]
	picks := n.b.mayPickUp(s.User, s.Watched)
	for i, v := range all {
		if s.User != s.Watched && !(picks && v.called && v.state == viewEarly) {
			all[i] = view{id: v.id, called: v.called, state: v.state, held: v.held, local: v.local}
		}
	}
	return all
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// The document of RFC 4235 §4.4.
type dialogInfo struct {
	XMLName xml.Name      `xml:"urn:ietf:params:xml:ns:dialog-info dialog-info"`
	Version uint32        `xml:"version,attr"`
	State   string        `xml:"state,attr"`
	Entity  string        `xml:"entity,attr"`
	Dialogs []dialogEntry `xml:"dialog"`
}

type dialogEntry struct {
	ID        string       `xml:"id,attr"`
	CallID    string       `xml:"call-id,attr,omitempty"`
	LocalTag  string       `xml:"local-tag,attr,omitempty"`
	RemoteTag string       `xml:"remote-tag,attr,omitempty"`
	Direction string       `xml:"direction,attr,omitempty"`
	State     string       `xml:"state"`
	Local     *participant `xml:"local"`
	Remote    *participant `xml:"remote"`
}

type participant struct {
	Identity identityOf `xml:"identity"`
	Target   targetOf   `xml:"target"`
}

type identityOf struct {
	Display string `xml:"display,attr,omitempty"`
	URI     string `xml:",chardata"`
}

type targetOf struct {
	URI    string    `xml:"uri,attr"`
	Params []paramOf `xml:"param"`
}

type paramOf struct {
	Name  string `xml:"pname,attr"`
	Value string `xml:"pval,attr"`
}

// dialogInfo makes the document of this moment: always the full state. Its version goes with the CSeq of its NOTIFY, so that it
// rises also over a restart. A document tells of live dialogs alone; where there is none it tells that those it told of before are
// terminated, or one that never was: some phones turn their lamp off by that alone, and an empty document leaves it lit.
func (n *notifier) dialogInfo(s *watch) (sip.Body, bool) {
	views := n.views(s)
	news := !slices.Equal(views, s.told)
	s.told = views
	doc := dialogInfo{Version: s.Dialog.LocalCSeq, State: "full", Entity: s.Entity}
	for _, v := range views {
		doc.Dialogs = append(doc.Dialogs, n.entry(s, v))
		if !slices.Contains(s.lit, v.id) && len(s.lit) < maxDialogs {
			s.lit = append(s.lit, v.id)
		}
	}
	if len(views) == 0 {
		doc.Dialogs = out(s.lit)
		s.lit = nil
	}
	data, err := xml.Marshal(doc)
	if err != nil {
		n.log.Error("dialog-info", "user", s.User, "err", err)
	}
	return sip.Body{Type: dialogInfoType, Data: append([]byte(xml.Header), data...)}, news
}

// out are entries of dialogs that have ended.
func out(ids []string) (entries []dialogEntry) {
	if len(ids) == 0 {
		ids = []string{"idle"}
	}
	for _, id := range ids {
		entries = append(entries, dialogEntry{ID: id, State: unseen.String()})
	}
	return entries
}

// entry is a dialog as the document has it.
func (n *notifier) entry(s *watch, v view) dialogEntry {
	e := dialogEntry{
		ID: v.id, CallID: v.callID, LocalTag: v.localTag, RemoteTag: v.remoteTag, Direction: "initiator", State: v.state.String(),
		Local: n.participant(s, v.local), Remote: n.participant(s, v.remote),
	}
	if v.called {
		e.Direction = "recipient"
	}
	if v.state == viewConfirmed { // RFC 4235 §5.2
		rendering := "yes"
		if v.held {
			rendering = "no"
		}
		e.Local.Target.Params = []paramOf{{"+sip.rendering", rendering}}
	}
	return e
}

// participant names somebody as phones at the end of the subscription's flow are shown him.
func (n *notifier) participant(s *watch, p party) *participant {
	if p.number == "" {
		return nil
	}
	id := n.b.identity(&Seat{number: p.number, name: p.name}, s.Dialog.Flow)
	return &participant{identityOf{p.name, id.URI.String()}, targetOf{URI: id.URI.String()}}
}
