package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"

	"baton/call"
)

// A user's calls at other nodes of the cluster are shown and steered at the one that his page is connected to. Which nodes have some is known without
// asking; these are asked for them as an administrator would, and told by their users' API what he wants.

type personKey struct{}

// answer answers what a user has asked another node, which has seen his token.
func (a *UserAPI) answer(ctx context.Context, q Asked) Told {
	u, ok := a.Registrar.User(q.User)
	if !ok {
		return Told{Code: http.StatusUnauthorized}
	}
	return servedBy(context.WithValue(ctx, personKey{}, person{User: u}), a.mux, q, "/api/v1/me/")
}

// holders are the other nodes that have calls of a user.
func (a *UserAPI) holders(ctx context.Context, user string) []string {
	if a.Server == nil || a.Server.Others == nil || alone(ctx) {
		return nil
	}
	return a.Server.Others.WithCallsOf(user)
}

// callsElsewhere are a user's calls at other nodes.
func (a *UserAPI) callsElsewhere(ctx context.Context, user string) (all []call.Info) {
	path := "/api/v1/calls?" + url.Values{"user": {user}}.Encode()
	names := a.holders(ctx, user)
	if len(names) == 0 {
		return nil
	}
	a.Server.eachOf(withWho(ctx, user), names, path, func(node string, body []byte) {
		var list []call.Info
		if json.Unmarshal(body, &list) == nil {
			all = append(all, ownedBy(node, list)...)
		}
	})
	return all
}

// allCalls are a user's calls at all nodes, oldest first, as they are.
func (a *UserAPI) allCalls(ctx context.Context, user string) []call.Info {
	all, others := a.Calls.Calls(user), a.callsElsewhere(ctx, user)
	if len(others) > 0 {
		all = append(slices.Clip(all), others...)
		slices.SortStableFunc(all, func(x, y call.Info) int { return x.Started.Compare(y.Started) })
	}
	return all
}

// doneElsewhere has another node do what is asked of a call, if it has that; done says so. into is a pointer to what its answer holds.
func (a *UserAPI) doneElsewhere(r *http.Request, user, id string, body, into any) (done bool, err error) {
	if _, err := a.mine(id, user); !errors.Is(err, call.ErrNoCall) || len(a.holders(r.Context(), user)) == 0 {
		return false, nil
	}
	c, err := oneOf(a.callsElsewhere(r.Context(), user), id)
	if err != nil {
		return true, err
	}
	return true, a.Server.bringAs(r, c.Node, user, body, into)
}

// moveElsewhere is doneElsewhere for a move. Where no call is named it is one of this node, if the user has any here.
func (a *UserAPI) moveElsewhere(r *http.Request, user string, want MyMove) (done bool, report call.MoveReport, err error) {
	if want.Call != "" {
		done, err = a.doneElsewhere(r, user, want.Call, want, &report)
		return done, report, err
	}
	if others := a.holders(r.Context(), user); len(others) > 0 && len(a.Calls.Calls(user)) == 0 {
		return true, report, a.Server.bringAs(r, others[0], user, want, &report)
	}
	return false, report, nil
}
