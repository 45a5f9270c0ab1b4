package web

import (
	"context"
	"encoding/json"
	"net/http"

	"baton/call"
)

// Trial is what POST …/test takes; no body is the zero value.
type Trial struct {
	Keys bool `json:"keys,omitempty"` // a person is there to press a key
}

// TrialLine is one line of its answer: a finding, or how it ended.
type TrialLine struct {
	Finding *call.Finding     `json:"finding,omitempty"`
	Report  *call.TrialReport `json:"report,omitempty"`
	Error   string            `json:"error,omitempty"`
}

// tryDevice has the node call a device, and streams what it finds, one JSON object per line. A client that goes away hangs up.
func (s *Server) tryDevice(w http.ResponseWriter, r *http.Request) {
	ask, err := s.trialRequest(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	flush, out, begun := http.NewResponseController(w), json.NewEncoder(w), false
	line := func(l TrialLine) {
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.Header().Set("Cache-Control", "no-store")
			begun = true
		}
		_ = out.Encode(l) // the peer may have gone: its context tells
		_ = flush.Flush()
	}
	report, err := s.Calls.Trial(r.Context(), ask, func(f call.Finding) { line(TrialLine{Finding: &f}) })
	switch {
	case err == nil:
		line(TrialLine{Report: &report})
	case begun:
		line(TrialLine{Error: err.Error()})
	default:
		s.fail(w, r, conflict(err))
	}
}

func (s *Server) trialRequest(r *http.Request) (call.TrialRequest, error) {
	if err := s.running(); err != nil {
		return call.TrialRequest{}, err
	}
	var want Trial
	if r.ContentLength != 0 {
		if err := read(r, &want); err != nil {
			return call.TrialRequest{}, err
		}
	}
	d, err := s.found(r)
	if err != nil {
		return call.TrialRequest{}, err
	}
	return call.TrialRequest{User: d.User, Device: d.Name, Keys: want.Keys, Who: Who(r.Context())}, nil
}

// TryDevice has the node call a device and calls each with what it finds, as it finds it. The end of ctx hangs up.
func (c *Client) TryDevice(ctx context.Context, user, device string, t Trial, each func(call.Finding) error) (call.TrialReport, error) {
	resp, err := c.send(ctx, "POST", devicePath(user, device)+"/test", t)
	if err != nil {
		return call.TrialReport{}, err
	}
	defer resp.Body.Close()
	for in := json.NewDecoder(resp.Body); ; {
		var l TrialLine
		if err := in.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return call.TrialReport{}, ctx.Err()
			}
			return call.TrialReport{}, ErrStopped
		}
		switch {
		case l.Report != nil:
			return *l.Report, nil
		case l.Error != "":
			return call.TrialReport{}, &Error{Status: http.StatusConflict, Text: l.Error}
		case l.Finding != nil:
			if err := each(*l.Finding); err != nil {
				return call.TrialReport{}, err
			}
		}
	}
}
