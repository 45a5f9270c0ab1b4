package sip

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// A device is reached over its flow alone. A proxy in front of the node is a server with a name: where the first route
// of a dialog is one, a request that its flow cannot carry goes to the next of the addresses that the name has, over UDP
// (RFC 3263 §4.3). What is a proxy is set, for everybody can write a Path or Record-Route with a victim's address.

// lookFor bounds the search for the addresses of a proxy.
const lookFor = time.Second

// Proxy says whether an address is that of a proxy in front of the node.
func (a *Agent) Proxy(ip netip.Addr) bool {
	for _, p := range a.opt.Proxies {
		if p.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}

// attempt sends a request over the flow of its dialog and waits for its final answer, for no longer than limit while
// there is none at all; 0 is as long as the transaction lasts.
type attempt func(out Outgoing, limit time.Duration) (*Response, error)

// failover tries the flow of the dialog, then the other addresses of its first route. Each attempt has a branch of its
// own; while more are to come, one that hears nothing ends after 8·T1.
func (a *Agent) failover(ctx context.Context, out Outgoing, try attempt) (*Response, error) {
	others := a.others(ctx, out.Dialog)
	r, err := try(out, a.limit(len(others)))
	for i, f := range others {
		if !goesOn(ctx, err) {
			break
		}
		a.log.Info("request goes to another address of its route", "to", f.String(), "err", err)
		out.Dialog.Flow, out.Branch = f, ""
		if r, err = try(out, a.limit(len(others)-i-1)); r != nil {
			r.moved = f
		}
	}
	return r, err
}

func (a *Agent) limit(left int) time.Duration {
	if left == 0 {
		return 0
	}
	return 8 * a.timing.t1
}

// goesOn says whether the next address is to be tried: nothing was heard, or the proxy is overloaded (§4.3).
func goesOn(ctx context.Context, err error) bool {
	var status *StatusError
	switch {
	case ctx.Err() != nil, errors.Is(err, errStopped):
		return false
	case errors.As(err, &status):
		return status.Code == 503
	}
	return errors.Is(err, ErrTimeout) || errors.Is(err, ErrFlowGone)
}

// others are the flows to proxies that a dialog's first route leads to, beside its own.
func (a *Agent) others(ctx context.Context, d Dialog) []Flow {
	if len(a.opt.Proxies) == 0 || len(d.RouteSet) == 0 || a.udp == nil {
		return nil
	}
	first, err := ParseNameAddr(d.RouteSet[0])
	if err != nil || a.Own(first.URI.Host) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	hops, err := a.resolver.Resolve(ctx, first.URI)
	if err != nil {
		a.log.Info("route is not found", "to", first.URI.Host, "err", err)
	}
	var flows []Flow
	for _, h := range hops {
		if h.Transport == "udp" && h.Addr != d.Flow.Remote && a.Proxy(h.Addr.Addr()) {
			flows = append(flows, Flow{Transport: "udp", Local: a.udp.local, Remote: h.Addr})
		}
	}
	return flows
}

// Follow takes the flow that an answer to a request of ours has come by when that was another address of the route; it
// says whether it was.
func (d *Dialog) Follow(r *Response) bool {
	if !r.moved.Remote.IsValid() {
		return false
	}
	d.Flow = r.moved
	return true
}
