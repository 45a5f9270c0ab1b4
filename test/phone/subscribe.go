package phone

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Subscription is one that the phone has made (RFC 6665), with all that it was told.
type Subscription struct {
	phone         *Phone
	callID        string
	local, remote string // From and To of its SUBSCRIBEs, with tags
	uri, target   string
	seq           uint32
	headers       []Header

	// guarded by phone.mu
	told      []Notice
	woken     chan struct{} // closed at the next notice
	remoteSeq uint32
	branch    string // of the newest NOTIFY
	answer    int    // to NOTIFYs; 0 = 200, negative = none
	late      time.Duration
}

// Notice is one NOTIFY.
type Notice struct {
	*Message
	At   time.Time
	Info DialogInfo // of RFC 4235, if that is what it has
	Bad  error      // why its body could not be read
}

// DialogInfo is a document of RFC 4235.
type DialogInfo struct {
	XMLName xml.Name `xml:"urn:ietf:params:xml:ns:dialog-info dialog-info"`
	Version *uint32  `xml:"version,attr"`
	State   string   `xml:"state,attr"`
	Entity  string   `xml:"entity,attr"`
	Dialogs []Dialog `xml:"urn:ietf:params:xml:ns:dialog-info dialog"`
}

// Dialog is one of a document's.
type Dialog struct {
	ID        string `xml:"id,attr"`
	CallID    string `xml:"call-id,attr"`
	LocalTag  string `xml:"local-tag,attr"`
	RemoteTag string `xml:"remote-tag,attr"`
	Direction string `xml:"direction,attr"`
	State     string `xml:"urn:ietf:params:xml:ns:dialog-info state"`
	Local     *Party `xml:"urn:ietf:params:xml:ns:dialog-info local"`
	Remote    *Party `xml:"urn:ietf:params:xml:ns:dialog-info remote"`
}

// Party is one side of a dialog.
type Party struct {
	Identity struct {
		Display string `xml:"display,attr"`
		URI     string `xml:",chardata"`
	} `xml:"urn:ietf:params:xml:ns:dialog-info identity"`
	Target struct {
		URI    string `xml:"uri,attr"`
		Params []struct {
			Name  string `xml:"pname,attr"`
			Value string `xml:"pval,attr"`
		} `xml:"urn:ietf:params:xml:ns:dialog-info param"`
	} `xml:"urn:ietf:params:xml:ns:dialog-info target"`
}

// Rendering is the +sip.rendering of a dialog's local side, "" if it has none.
func (d Dialog) Rendering() string {
	if d.Local != nil {
		for _, p := range d.Local.Target.Params {
			if p.Name == "+sip.rendering" {
				return p.Value
			}
		}
	}
	return ""
}

// Live are the dialogs that have not ended.
func (i DialogInfo) Live() []Dialog {
	return slices.DeleteFunc(slices.Clone(i.Dialogs), func(d Dialog) bool { return d.State == "terminated" })
}

// Subscribe asks for a user's dialogs (RFC 4235), for a URI or a user of the phone's own domain. An error is a *Status when the
// server has refused. Headers replace those of the same name.
func (p *Phone) Subscribe(to string, expires time.Duration, headers ...Header) (*Subscription, *Message, error) {
	if !strings.Contains(to, ":") {
		to = "sip:" + to + "@" + p.cfg.host()
	}
	s := &Subscription{
		phone: p, callID: token(12), local: p.fromHeader() + ";tag=" + token(6), remote: "<" + to + ">", uri: to, target: to,
		headers: headers, woken: make(chan struct{}),
	}
	for _, h := range headers {
		if h.Name == "Call-ID" {
			s.callID = h.Value
		}
	}
	p.mu.Lock()
	p.subs[s.callID] = s
	p.mu.Unlock()
	res, err := s.subscribe(expires)
	if err != nil {
		p.mu.Lock()
		delete(p.subs, s.callID)
		p.mu.Unlock()
		return nil, res, err
	}
	s.remote, s.target = res.Get("To"), AddrURI(res.Get("Contact"))
	return s, res, nil
}

// Refresh prolongs the subscription; no time at all ends it.
func (s *Subscription) Refresh(expires time.Duration, headers ...Header) (*Message, error) {
	s.headers = append(s.headers[:len(s.headers):len(s.headers)], headers...)
	return s.subscribe(expires)
}

func (s *Subscription) subscribe(expires time.Duration) (*Message, error) {
	over, err := s.phone.linkTo(s.phone.server())
	if err != nil {
		return nil, err
	}
	s.seq++
	req := s.phone.request0("SUBSCRIBE", s.target, s.uri, s.callID, "", s.seq, over)
	req.Set("From", s.local)
	req.Set("To", s.remote)
	req.Add("Contact", s.phone.contactHeader())
	req.Add("Event", "dialog")
	req.Add("Accept", "application/dialog-info+xml")
	req.Add("Expires", fmt.Sprint(int(expires/time.Second)))
	for _, h := range s.headers {
		req.Set(h.Name, h.Value)
	}
	res, err := s.phone.exchange(req, over, func() uint32 { s.seq++; return s.seq }, nil, nil)
	if err == nil && res.Code >= 300 {
		err = &Status{res}
	}
	return res, err
}

// Forget has the phone know nothing of the subscription any more, as after a restart.
func (s *Subscription) Forget() {
	s.phone.mu.Lock()
	defer s.phone.mu.Unlock()
	delete(s.phone.subs, s.callID)
}

// Answer sets the status that NOTIFYs are answered with, 0 = 200, negative = they are not answered, and how late.
func (s *Subscription) Answer(code int, late time.Duration) {
	s.phone.mu.Lock()
	defer s.phone.mu.Unlock()
	s.answer, s.late = code, late
}

func (s *Subscription) onNotify(m *Message, from *link) {
	n := Notice{Message: m, At: time.Now()}
	if strings.HasPrefix(m.Get("Content-Type"), "application/dialog-info+xml") {
		d := xml.NewDecoder(strings.NewReader(string(m.Body)))
		d.Strict = true
		n.Bad = d.Decode(&n.Info)
		if n.Bad == nil && n.Info.Version == nil {
			n.Bad = errors.New("it has no version")
		}
	}
	p := s.phone
	p.mu.Lock()
	switch seq, _ := m.CSeq(); {
	case m.branch() == s.branch: // repeated, for it was not answered
		p.mu.Unlock()
		return
	case seq <= s.remoteSeq:
		n.Bad = fmt.Errorf("CSeq %d after %d", seq, s.remoteSeq)
	default:
		s.remoteSeq, s.branch = seq, m.branch()
	}
	code, late := s.answer, s.late
	p.mu.Unlock()
	if code == 0 {
		code = 200
	}
	reply := func() { p.respond(m, from, code, "Answer", Param(s.local, "tag"), nil) }
	switch {
	case code < 0:
	case late > 0:
		time.AfterFunc(late, reply)
	default: // before it is told: who waits for it may end the phone
		reply()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s.told = append(s.told, n)
	close(s.woken)
	s.woken = make(chan struct{})
}

// Told is every NOTIFY so far.
func (s *Subscription) Told() []Notice {
	s.phone.mu.Lock()
	defer s.phone.mu.Unlock()
	return slices.Clone(s.told)
}

// Last is the newest NOTIFY; there must have been one.
func (s *Subscription) Last() Notice {
	told := s.Told()
	return told[len(told)-1]
}

// Await waits until the newest NOTIFY is one that fits.
func (s *Subscription) Await(limit time.Duration, fits func(Notice) bool) (Notice, error) {
	deadline := time.After(limit)
	for {
		s.phone.mu.Lock()
		var last Notice
		if len(s.told) > 0 {
			last = s.told[len(s.told)-1]
		}
		woken := s.woken
		s.phone.mu.Unlock()
		if last.Message != nil && fits(last) {
			return last, nil
		}
		select {
		case <-woken:
		case <-deadline:
			if last.Message == nil {
				return last, errors.New("no NOTIFY has come")
			}
			return last, fmt.Errorf("not within %s; the last NOTIFY says %s %s", limit, last.Get("Subscription-State"), last.Body)
		}
	}
}
