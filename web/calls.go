package web

import (
	"net/http"
	"slices"

	"baton/call"
)

// running refuses what only a running node can do.
func (s *Server) running() error {
	if s.Calls == nil {
		return refuse(http.StatusServiceUnavailable, "no node is running; there are no calls")
	}
	return nil
}

func (s *Server) calls(r *http.Request) (any, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	name := r.URL.Query().Get("user")
	if name != "" {
		u, err := s.known(name)
		if err != nil {
			return nil, err
		}
		name = u.Name
	}
	shown := s.Calls.Calls(name)
	if shown == nil {
		shown = []call.Info{}
	}
	if s.Others != nil {
		shown = append(ownedBy(s.Name, shown), s.theirs(r, name)...)
		slices.SortStableFunc(shown, func(a, b call.Info) int { return a.Started.Compare(b.Started) })
	}
	return shown, nil
}

func (s *Server) call(r *http.Request) (any, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	id := r.PathValue("call")
	info, err := s.Calls.Call(id)
	if err != nil {
		node, err := s.owner(r, id, err)
		if err == nil {
			err = s.bring(r, node, nil, &info)
		}
		if err != nil {
			return nil, err
		}
		return info, nil
	}
	if s.Others != nil {
		info.Node = s.Name
	}
	return info, nil
}

func (s *Server) endCall(r *http.Request) (any, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	id := r.PathValue("call")
	if node, err := s.elsewhere(r, id, ""); err != nil || node != "" {
		if err == nil {
			err = s.bring(r, node, nil, nil)
		}
		return nil, err
	}
	return nil, s.Calls.End(r.Context(), id, Who(r.Context()))
}

// move answers when the move is over. A client that goes away before is no longer waited for.
func (s *Server) move(r *http.Request) (any, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	var want Move
	if err := read(r, &want); err != nil {
		return nil, err
	}
	ask, err := s.moveRequest(want)
	if err != nil {
		return nil, err
	}
	if node, err := s.elsewhere(r, want.Call, want.User); err != nil || node != "" {
		var report call.MoveReport
		if err == nil {
			err = s.bring(r, node, want, &report)
		}
		if err != nil {
			return nil, err
		}
		return report, nil
	}
	ask.Who = Who(r.Context())
	report, err := s.Calls.Move(r.Context(), ask)
	if err != nil {
		return nil, conflict(err)
	}
	return report, nil
}

// companion answers when the device listens, or has been let go.
func (s *Server) companion(r *http.Request) (any, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	var want Companion
	if err := read(r, &want); err != nil {
		return nil, err
	}
	ask, err := s.moveRequest(want.Move)
	if err != nil {
		return nil, err
	}
	if node, err := s.elsewhere(r, want.Call, want.User); err != nil || node != "" {
		var report call.CompanionReport
		if err == nil {
			err = s.bring(r, node, want, &report)
		}
		if err != nil {
			return nil, err
		}
		return report, nil
	}
	ask.Who = Who(r.Context())
	report, err := s.Calls.Companion(r.Context(), ask, want.Leave)
	if err != nil {
		return nil, conflict(err)
	}
	return report, nil
}

// rejoin answers when a device has taken the empty seat.
func (s *Server) rejoin(r *http.Request) (any, error) {
	if err := s.running(); err != nil {
		return nil, err
	}
	var want Rejoin
	if err := read(r, &want); err != nil {
		return nil, err
	}
	ask := call.MoveRequest{Call: want.Call, Device: want.Device, How: "api", Who: Who(r.Context())}
	if want.How == "cli" {
		ask.How = "cli"
	}
	if want.Call == "" {
		return nil, refuse(http.StatusBadRequest, "name the call")
	}
	if want.Seat != "" {
		u, err := s.known(want.Seat)
		if err != nil {
			return nil, err
		}
		ask.Seat = u.Name
	}
	report, err := s.Calls.Rejoin(r.Context(), ask)
	if err != nil {
		return nil, conflict(err)
	}
	return report, nil
}

// moveRequest checks what can be checked without the call.
func (s *Server) moveRequest(want Move) (call.MoveRequest, error) {
	ask := call.MoveRequest{Call: want.Call, Device: want.Device, How: "api"}
	if want.How == "cli" {
		ask.How = "cli"
	}
	if (want.Call == "") == (want.User == "") {
		return ask, refuse(http.StatusBadRequest, "name either a call or a user")
	}
	if want.Device == "" {
		return ask, refuse(http.StatusBadRequest, "name the device that shall take the call")
	}
	for _, name := range []struct{ from, to *string }{{&want.User, &ask.User}, {&want.Seat, &ask.Seat}} {
		if *name.from == "" {
			continue
		}
		u, err := s.known(*name.from)
		if err != nil {
			return ask, err
		}
		*name.to = u.Name
	}
	return ask, nil
}
