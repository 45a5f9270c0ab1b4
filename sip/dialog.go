package sip

// DialogID identifies a dialog from our side (RFC 3261 §12).
type DialogID struct{ CallID, LocalTag, RemoteTag string }

// Dialog is all that is needed to go on with a dialog: a plain value that can be stored (RFC 3261 §12).
type Dialog struct {
	CallID     string   `json:"call_id"`
	Local      NameAddr `json:"local"`  // who we are in it, without tag
	Remote     NameAddr `json:"remote"` // who the peer is, without tag
	LocalTag   string   `json:"local_tag"`
	RemoteTag  string   `json:"remote_tag,omitempty"`
	LocalCSeq  uint32   `json:"local_cseq"`  // of our last request
	RemoteCSeq uint32   `json:"remote_cseq"` // of the peer's last request, 0 = none yet
	RouteSet   []string `json:"route_set,omitempty"`
	Target     string   `json:"target"` // remote target URI, refreshed by re-INVITE and UPDATE
	Flow       Flow     `json:"flow"`
}

// Outgoing is one request to send, with a snapshot of its dialog. Its CSeq is fixed.
type Outgoing struct {
	Dialog  Dialog
	Method  string
	CSeq    uint32
	Headers []Header
	Body    Body
}
