package registrar

import (
	"fmt"
	"strconv"
	"strings"

	"baton/sip"
)

// Public GRUUs (RFC 5627): an address-of-record with the instance of one device in the parameter gr, which reaches that
// device wherever it is, and nobody else. It is made of what is known of the device and kept nowhere. Temporary ones, which
// would hide whose device it is, are not offered: everybody on a node may see who calls.

const optionGRUU = "gruu"

// grantGRUU reads whether a REGISTER asks for GRUUs, and of which address-of-record (RFC 5627 §5.1). The host is the one that
// the phone has registered with, so that it can use what it gets, unless the node has a domain.
func (r *Registrar) grantGRUU(req *sip.Request) (aor sip.URI, wanted bool) {
	to := req.To().URI
	aor = sip.URI{Scheme: "sip", User: to.User, Host: to.Host, Port: to.Port}
	if r.o.Domain != "" {
		aor.Host, aor.Port = r.o.Domain, 0
	}
	return aor, supports(req, optionGRUU)
}

// gruu is the public GRUU of a device of the address-of-record.
func gruu(aor sip.URI, instance string) string {
	aor.Params = sip.Params{{Name: "gr", Value: instance}}
	return aor.String()
}

// GRUU is the public GRUU of a device as it is shown to people, "" for one without instance or that is away: then nobody
// knows by which host it would call.
func (r *Registrar) GRUU(d Device) string {
	if d.Instance == "" || r.o.Domain == "" && (!d.Here() || r.o.Agent == nil) {
		return ""
	}
	aor := sip.URI{Scheme: "sip", User: d.User, Host: r.o.Domain}
	if aor.Host == "" {
		at := r.o.Agent.ContactURI(d.Binding.Flow, d.User)
		aor.Host, aor.Port = at.Host, at.Port
	}
	return gruu(aor, d.Instance)
}

// Instance is the device of a user that a GRUU names by its gr parameter (RFC 5627 §4.4). URNs compare without case.
func (r *Registrar) Instance(user, urn string) (Device, error) {
	all := r.devices(user, func(d Device) bool { return d.Instance != "" && strings.EqualFold(d.Instance, urn) })
	if len(all) == 0 {
		return Device{}, fmt.Errorf("device with the instance %s of %s: %w: %s", strconv.Quote(urn), user, ErrNotFound, inventory(r.Devices(user)))
	}
	return all[0], nil
}

// isGRUU says whether a URI is one of ours, as far as can be told by itself.
func isGRUU(u sip.URI, agent Agent) bool {
	_, there := u.Params.Get("gr")
	return there && agent.Own(u.Host)
}
