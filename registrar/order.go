package registrar

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"baton/sip"
)

const (
	minExpires     = 60 * time.Second
	maxExpires     = time.Hour
	maxPushExpires = 7 * 24 * time.Hour // a sleeping app is woken by its push service (RFC 8599 §4.1)
	maxContacts    = 10                 // of one REGISTER
)

// refusal is a REGISTER's failure with the status that says so.
type refusal struct {
	code    int
	reason  string
	headers []sip.Header
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.code, r.reason) }

func refuse(code int, reason string, headers ...sip.Header) error {
	return &refusal{code, reason, headers}
}

// order is what a REGISTER asks for (RFC 3261 §10.2).
type order struct {
	user   string // the authenticated one
	callID string
	cseq   uint32
	flow   sip.Flow
	path   []string
	star   bool // Contact: *
	gruus  bool // it wants to know the public GRUUs (RFC 5627)
	flows  bool // it registers by flows (RFC 5626)
	aor    sip.URI
	wishes []wish // those to bind first, best q first; none and no star = a question
}

// wish is one contact of a REGISTER; expires 0 unbinds it.
type wish struct {
	visitor
	uri     sip.URI
	params  sip.Params // of the Contact header, without expires
	expires time.Duration
	regID   int
	q       float64
}

// readOrder reads a REGISTER of an authenticated user.
func readOrder(req *sip.Request, flow sip.Flow) (order, error) {
	o := order{callID: req.CallID(), cseq: req.CSeq(), flow: flow}
	if len(req.Headers("Path")) > 0 && supports(req, "path") {
		o.path = req.Headers("Path")
	}
	contacts := req.Contacts()
	if len(contacts) != len(req.Headers("Contact")) {
		return order{}, refuse(400, "Bad Contact")
	}
	if slices.ContainsFunc(contacts, func(c sip.NameAddr) bool { return c.URI.Host == "*" }) {
		// RFC 3261 §10.3 step 6: alone, and with Expires 0.
		if len(contacts) > 1 || strings.TrimSpace(req.Header("Expires")) != "0" {
			return order{}, refuse(400, "Contact * Needs Expires 0")
		}
		o.star = true
		return o, nil
	}
	if len(contacts) > maxContacts {
		return order{}, refuse(403, "Too Many Contacts")
	}
	for _, c := range contacts {
		w, err := readWish(req, flow, c)
		if err != nil {
			return order{}, err
		}
		o.wishes = append(o.wishes, w)
	}
	slices.SortStableFunc(o.wishes, byWeight)
	o.flows = supports(req, optionOutbound) && slices.ContainsFunc(o.wishes, wish.byFlow) && o.firstHop(req)
	return o, nil
}

const optionOutbound = "outbound"

// byFlow says that the contact is bound to the very flow that it came over (RFC 5626 §6).
func (w wish) byFlow() bool { return w.regID > 0 && w.expires > 0 }

// firstHop says whether the flow is the device's own, or ends at a proxy that keeps it: `ob` in the last Path (RFC 5626 §6).
func (o order) firstHop(req *sip.Request) bool {
	if len(req.Headers("Via")) == 1 {
		return true
	}
	if len(o.path) == 0 {
		return false
	}
	edge, err := sip.ParseNameAddr(o.path[len(o.path)-1])
	_, keeps := edge.URI.Params.Get("ob")
	return err == nil && keeps
}

// byWeight puts contacts to bind before those to unbind, and the preferred first.
func byWeight(a, b wish) int {
	if (a.expires == 0) != (b.expires == 0) {
		if a.expires == 0 {
			return 1
		}
		return -1
	}
	switch {
	case a.q > b.q:
		return -1
	case a.q < b.q:
		return 1
	}
	return 0
}

func readWish(req *sip.Request, flow sip.Flow, c sip.NameAddr) (wish, error) {
	if c.URI.Scheme != "sip" && c.URI.Scheme != "sips" {
		return wish{}, refuse(400, "Contact Is No SIP URI")
	}
	w := wish{uri: c.URI, q: 1}
	w.uri.Headers = nil // RFC 3261 §19.1.5: a contact sets no header of later requests
	for _, p := range c.Params {
		switch strings.ToLower(p.Name) {
		case "expires", "pub-gruu", "temp-gruu": // ours to give (RFC 5627 §5.1)
		default:
			w.params = append(w.params, p)
		}
	}
	if v, ok := c.Params.Get("q"); ok {
		w.q = readWeight(v)
	}
	if v, ok := c.Params.Get("reg-id"); ok {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil || n == 0 {
			return wish{}, refuse(400, "Bad reg-id") // RFC 5626 §4.2
		}
		w.regID = int(n)
	}
	agent := clipped(req.UserAgent())
	w.visitor = visitor{
		Trace: Trace{
			Product: products.of(agent), User: contactUser(c.URI.User), Host: strings.ToLower(c.URI.Host),
			Port: c.URI.Port, CallID: req.CallID(), Transport: flow.Transport, Addr: flow.Remote.Addr().Unmap().String(),
		},
		instance: instanceOf(c.Params), agent: agent, flow: flow,
		proxied: len(req.Headers("Via")) > 1,
	}
	if w.instance == "" {
		w.regID = 0 // RFC 5626 §6: means nothing without an instance
	}
	w.kind = kindOf(w.Product, flow.Transport, w.Host)
	var err error
	w.expires, err = readExpires(req, c)
	return w, err
}

// readExpires is RFC 3261 §10.3 step 7: the contact's own interval, else the header's, else an hour.
func readExpires(req *sip.Request, c sip.NameAddr) (time.Duration, error) {
	most := maxExpires
	if pushed(c.URI) {
		most = maxPushExpires
	}
	v, ok := c.Params.Get("expires")
	if !ok {
		v = strings.TrimSpace(req.Header("Expires"))
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		return maxExpires, nil // §10.2.1.1: what is malformed counts as an hour
	}
	want := time.Duration(min(n, math.MaxInt32)) * time.Second
	if want > 0 && want < minExpires {
		return 0, refuse(423, "Interval Too Brief", sip.Header{Name: "Min-Expires", Value: strconv.Itoa(int(minExpires.Seconds()))})
	}
	return min(want, most), nil
}

// pushed says whether the contact names a push service (RFC 8599 §4.1, and what apps did before it).
func pushed(u sip.URI) bool {
	for _, name := range []string{"pn-provider", "pn-prid", "pn-type", "pn-tok"} {
		if v, ok := u.Params.Get(name); ok && v != "" {
			return true
		}
	}
	return false
}

func readWeight(v string) float64 {
	q, err := strconv.ParseFloat(v, 64)
	if err != nil || q < 0 || q > 1 {
		return 1
	}
	return q
}

func supports(req *sip.Request, tag string) bool {
	for _, h := range req.Headers("Supported") {
		for _, one := range strings.Split(h, ",") {
			if strings.EqualFold(strings.TrimSpace(one), tag) {
				return true
			}
		}
	}
	return false
}

var errContact = refuse(403, "Contact Not Acceptable")

// checkContact refuses contacts that lead back to the node or to many (RFC 3261 §26.1.5 and what was seen of open
// relays). Requests to a device only ever go over its flow, so a private address behind NAT does no harm; loopback
// and link-local are taken when the REGISTER itself came from such an address or from this machine.
func checkContact(u sip.URI, flow sip.Flow, agent Agent) error {
	if isGRUU(u, agent) { // it would lead to itself, RFC 5627 §5.1
		return errContact
	}
	source := flow.Remote.Addr().Unmap()
	ip, err := netip.ParseAddr(u.Host)
	ip = ip.Unmap()
	if err == nil {
		local := agent.Own(source.String())
		switch {
		case ip.IsUnspecified(), ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
			return errContact
		case ip.IsLoopback() && !source.IsLoopback() && !local:
			return errContact
		case ip.IsLinkLocalUnicast() && !source.IsLinkLocalUnicast() && !local:
			return errContact
		}
	}
	if agent.Own(u.Host) && ownPort(u, ip, agent.Addrs()) && (u.Port != 0 || ip != source) {
		return errContact
	}
	return nil
}

// ownPort says whether the URI's transport and port, given or by default (RFC 3261 §19.1.2), are a listener's. ip is its host, if that is an
// address. Loopback is many addresses: at another than the listener's, the port is somebody else's.
func ownPort(u sip.URI, ip netip.Addr, listeners map[string]netip.AddrPort) bool {
	transport, ok := u.Params.Get("transport")
	if transport = strings.ToLower(transport); !ok {
		transport = "udp"
	}
	if u.Scheme == "sips" {
		transport = "tls"
	}
	port := u.Port
	if port == 0 {
		port = 5060
		if transport == "tls" {
			port = 5061
		}
	}
	at, ok := listeners[transport]
	if ip.IsLoopback() && at.Addr().IsLoopback() && ip != at.Addr().Unmap() {
		return false
	}
	return ok && int(at.Port()) == port
}
