package web

import (
	"context"
	"errors"
	"net/http"

	"baton/call"
	"baton/registrar"
	"baton/sip"
)

// statusOf is the HTTP status that belongs to an error. What nobody has named is the node's own failure.
func statusOf(err error) int {
	var own *refusal
	var peer *sip.StatusError
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, registrar.ErrNotFound), errors.Is(err, call.ErrNoCall):
		return http.StatusNotFound
	case errors.Is(err, call.ErrCutOff):
		return http.StatusServiceUnavailable
	case errors.Is(err, registrar.ErrTaken):
		return http.StatusConflict
	case errors.Is(err, registrar.ErrInvalid):
		return http.StatusBadRequest
	case errors.As(err, &peer) && peer.Code == http.StatusNotFound:
		return http.StatusNotFound
	case errors.As(err, &peer):
		return http.StatusConflict
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// conflict marks an error that nobody has named as one of the call's state rather than of the node.
func conflict(err error) error {
	if statusOf(err) != http.StatusInternalServerError {
		return err
	}
	return &refusal{code: http.StatusConflict, text: err.Error()}
}
