package web

import (
	"context"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/call"
	"baton/config"
	"baton/media"
	"baton/registrar"
	"baton/sip"
)

// Accounts is what the users' API needs of users, their devices and tokens; *registrar.Registrar is one.
type Accounts interface {
	User(nameOrNumber string) (registrar.User, bool)
	Devices(user string) []registrar.Device
	GRUU(d registrar.Device) string
	Changes(user string) (changed <-chan struct{}, stop func())
	SignIn(nameOrNumber, password, device string) (registrar.Session, error)
	Bear(token string) (registrar.Bearer, bool)
	Still(b registrar.Bearer) bool
	RevokeToken(id string) error
}

// UserCalls is what it needs of the live calls; *call.B2BUA is one.
type UserCalls interface {
	Calls(user string) []call.Info
	ChangesOf(user string) (changed <-chan struct{}, stop func())
	Move(ctx context.Context, r call.MoveRequest) (call.MoveReport, error)
	Leave(ctx context.Context, r call.MoveRequest) error
	Rejoin(ctx context.Context, r call.MoveRequest) (call.MoveReport, error)
	End(ctx context.Context, id, who string) error
	Report(user string, dialog sip.Replaces, r media.Report) error
}

// ICE gives a user what it takes to reach the node's TURN server for a while.
type ICE interface {
	Credentials(user string) (username, password string, until time.Time)
}

// UserOptions is what a UserAPI shows.
type UserOptions struct {
	Registrar Accounts
	Calls     UserCalls
	Entries   Entries
	Tail      *Tail
	ICE       ICE             // nil = there is no TURN server
	Others    func() []string // the origins of the pages of other nodes; nil = there are none
	Version   string
	Domain    string // "" = whatever host the page was asked for
	Realm     string
	Codes     config.Codes
	Server    *Server // for those who bear an administrator's token; nil = nobody does
	Log       *slog.Logger
}

// UserAPI is the API of the HTTPS port. With a user's token it shows and moves that user's own calls and nothing else; with an
// administrator's it is the API of the control socket, less what that has to itself. It knows no cookies: who has no token in his
// hand can have no browser send one.
type UserAPI struct {
	UserOptions
	mux     *http.ServeMux
	routes  []string // patterns of the mux
	guard   *guard
	cross   *http.CrossOriginProtection
	streams crowd
	scans   chan struct{} // bounds how many read the log for a history at a time

	patience time.Duration // with a client that does not take an event
}

// person is a user whose token was shown.
type person struct {
	registrar.User
	bearer registrar.Bearer
}

// NewUserAPI makes the handler of /api/v1/.
func NewUserAPI(o UserOptions) *UserAPI {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &UserAPI{
		UserOptions: o, mux: http.NewServeMux(), guard: newGuard(), cross: http.NewCrossOriginProtection(),
		streams: crowd{of: map[string]int{}}, scans: make(chan struct{}, 4), patience: eventWrite,
	}
	if o.Server != nil {
		o.Server.own = a
	}
	a.route("POST /api/v1/session", a.signIn)
	a.handle("DELETE /api/v1/session", a.signOut)
	a.handle("GET /api/v1/me", a.me)
	a.handle("GET /api/v1/me/ice", a.ice)
	a.handle("GET /api/v1/me/devices", func(_ *http.Request, me person) (any, error) { return a.myDevices(me.Name), nil })
	a.handle("GET /api/v1/me/calls", func(r *http.Request, me person) (any, error) { return a.myCalls(r.Context(), me.Name), nil })
	a.handle("POST /api/v1/me/moves", a.move)
	a.handle("POST /api/v1/me/calls/{call}/end", a.end)
	a.handle("POST /api/v1/me/calls/{call}/leave", a.leave)
	a.handle("POST /api/v1/me/calls/{call}/rejoin", a.rejoin)
	a.handle("POST /api/v1/me/reports", a.report)
	a.handle("GET /api/v1/me/history", a.history)
	a.route("GET /api/v1/me/events", a.events)
	for _, own := range []string{"/api/v1/session", "/api/v1/me", "/api/v1/me/"} {
		a.mux.HandleFunc(own, func(w http.ResponseWriter, r *http.Request) { failWith(w, r, a.Log, nothingHere) })
	}
	a.mux.HandleFunc("/", a.administer)
	return a
}

var nothingHere = refuse(http.StatusNotFound, "there is nothing here; the API begins at /api/v1/")

// ServeHTTP answers one request. What a form of another site could send is refused before anything is looked at: a body that is no
// JSON, and whatever a browser says comes from elsewhere. No answer allows another site to read it.
func (a *UserAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := a.cross.Check(r); err != nil {
		failWith(w, r, a.Log, refuse(http.StatusForbidden, "a request of another site is refused"))
		return
	}
	if r.ContentLength != 0 && !isJSON(r.Header.Get("Content-Type")) {
		failWith(w, r, a.Log, refuse(http.StatusUnsupportedMediaType, "JSON is wanted: Content-Type: application/json"))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	a.mux.ServeHTTP(w, r)
}

func isJSON(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && t == "application/json"
}

func (a *UserAPI) route(pattern string, h http.HandlerFunc) {
	a.routes = append(a.routes, pattern)
	a.mux.HandleFunc(pattern, h)
}

// handle routes a pattern to what is done for the user whose token is shown.
func (a *UserAPI) handle(pattern string, f func(*http.Request, person) (any, error)) {
	a.route(pattern, func(w http.ResponseWriter, r *http.Request) {
		me, err := a.person(r)
		var shown any
		if err == nil {
			shown, err = f(r, me)
		}
		answerWith(w, r, a.Log, shown, err)
	})
}

var errToken = refuse(http.StatusUnauthorized, "sign in: the token is missing or not good any more")

// bearer finds whose token a request shows (RFC 6750 §2.1).
func (a *UserAPI) bearer(r *http.Request) (registrar.Bearer, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return registrar.Bearer{}, errToken
	}
	b, ok := a.Registrar.Bear(strings.TrimSpace(token))
	if !ok {
		return b, errToken
	}
	return b, nil
}

// person finds the user whose token a request shows.
func (a *UserAPI) person(r *http.Request) (person, error) {
	if me, ok := r.Context().Value(personKey{}).(person); ok { // another node has seen it
		return me, nil
	}
	b, err := a.bearer(r)
	if err != nil {
		return person{}, err
	}
	if b.Token.Kind != registrar.UserToken {
		return person{}, refuse(http.StatusForbidden, "this is an administrator's token; sign in as a user")
	}
	u, ok := a.Registrar.User(b.Token.User)
	if !ok {
		return person{}, errToken
	}
	return person{u, b}, nil
}

// Admin says whether a request shows an administrator's token.
func (a *UserAPI) Admin(r *http.Request) bool {
	b, err := a.bearer(r)
	return err == nil && b.Token.Kind == registrar.AdminToken
}

// administer passes on what an administrator asks for. It ends with the token.
func (a *UserAPI) administer(w http.ResponseWriter, r *http.Request) {
	b, err := a.bearer(r)
	switch {
	case err != nil:
	case b.Token.Kind != registrar.AdminToken:
		err = refuse(http.StatusForbidden, "an administrator's token is needed for that; your own is at /api/v1/me")
	case a.Server == nil:
		err = nothingHere
	}
	if err != nil {
		failWith(w, r, a.Log, err)
		return
	}
	ctx, done := b.AsLong(r.Context())
	defer done()
	who := "token " + b.Token.ID
	if b.Token.Label != "" {
		who = "token " + b.Token.Label
	}
	a.Server.remote.ServeHTTP(w, r.WithContext(withWho(ctx, who)))
}

// Me is what a page must know of its user.
type Me struct {
	User    string   `json:"user"`
	Display string   `json:"display"`
	Numbers []string `json:"numbers"`
	Domain  string   `json:"domain"`
	Realm   string   `json:"realm"`
	Node    MyNode   `json:"node"`
	Nodes   []string `json:"nodes"` // URLs at which SIP is spoken over WebSocket, that of the node that was asked first
	SIP     MySIP    `json:"sip"`
	Codes   MyCodes  `json:"codes"`
}

// MyNode is what a user may know of the node.
type MyNode struct {
	Version string `json:"version"`
}

// MySIP is where the user is reached, and by which path SIP is spoken over WebSocket (RFC 7118).
type MySIP struct {
	URI string `json:"uri"`
	WS  string `json:"ws"`
}

// MyCodes are the codes that a page dials.
type MyCodes struct {
	Pull string `json:"pull"`
	Push string `json:"push"`
}

func (a *UserAPI) me(r *http.Request, me person) (any, error) {
	numbers := me.Numbers
	if numbers == nil {
		numbers = []string{}
	}
	return Me{
		User: me.Name, Display: me.Display, Numbers: numbers, Domain: a.domain(r), Realm: a.Realm, Node: MyNode{a.Version}, Nodes: a.nodes(r),
		SIP: MySIP{URI: a.addressOf(r, me.Name), WS: "/sip"}, Codes: MyCodes{Pull: a.Codes.Pull, Push: a.Codes.Push},
	}, nil
}

// nodes are those that a page may turn to: this one, by the name under which the page has found it, and the others that are there.
func (a *UserAPI) nodes(r *http.Request) []string {
	all := []string{}
	add := func(host string) {
		if url := "wss://" + host + "/sip"; hostPort.MatchString(host) && !slices.Contains(all, url) {
			all = append(all, url)
		}
	}
	add(r.Host)
	if a.Others != nil {
		for _, origin := range a.Others() {
			add(strings.TrimPrefix(origin, "https://"))
		}
	}
	return all
}

// domain is the host part of addresses-of-record: where none is set the address of the node that the browser has come to, which is the
// node's own in SIP too. Of the name, or of the address before a NAT, by which the browser has found it SIP knows nothing.
func (a *UserAPI) domain(r *http.Request) string {
	if a.Domain != "" {
		return a.Domain
	}
	at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	ip := at.AddrPort().Addr().Unmap().WithZone("")
	if ip.Is6() {
		return "[" + ip.String() + "]"
	}
	return ip.String()
}

func (a *UserAPI) addressOf(r *http.Request, user string) string {
	return "sip:" + user + "@" + a.domain(r)
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// hostOf is the host that a request was sent to, without its port; an IPv6 address in brackets.
func hostOf(r *http.Request) (string, error) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if ip, err := netip.ParseAddr(host); err == nil && ip.Zone() == "" {
		if ip.Is6() {
			return "[" + host + "]", nil
		}
		return host, nil
	}
	if !hostName.MatchString(host) {
		return "", refuse(http.StatusBadRequest, "Host: %q is no host's name", r.Host)
	}
	return host, nil
}

// Servers is what GET /me/ice gives: RTCConfiguration's iceServers, and how long they are good.
type Servers struct {
	Servers []ICEServer `json:"ice_servers"`
	Until   *time.Time  `json:"until,omitempty"`
}

// ICEServer is one of them.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username"`
	Credential string   `json:"credential"`
}

func (a *UserAPI) ice(r *http.Request, me person) (any, error) {
	if a.ICE == nil {
		return Servers{Servers: []ICEServer{}}, nil
	}
	host, err := hostOf(r)
	if err != nil {
		return nil, err
	}
	port := "443"
	if _, p, err := net.SplitHostPort(r.Host); err == nil {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "Host: %q has no port", r.Host)
		}
		port = strconv.FormatUint(n, 10)
	}
	name, password, until := a.ICE.Credentials(me.Name)
	url := "turns:" + host + ":" + port + "?transport=tcp"
	return Servers{Servers: []ICEServer{{URLs: []string{url}, Username: name, Credential: password}}, Until: &until}, nil
}

func (a *UserAPI) myDevices(user string) []Device {
	shown := []Device{}
	for _, d := range a.Registrar.Devices(user) {
		shown = append(shown, showDevice(d, a.Registrar.GRUU(d)))
	}
	return shown
}
