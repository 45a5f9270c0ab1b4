package sip

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Response is a parsed and validated response.
type Response struct {
	message
	code   int
	reason string
	moved  Flow // set where the request went to another address than its dialog's
}

// Code is the status code, 100 to 699.
func (r *Response) Code() int { return r.code }

// Reason is the reason phrase as it came.
func (r *Response) Reason() string { return r.reason }

// StatusError is a final answer that is no 2xx.
type StatusError struct {
	Code     int
	Reason   string
	Response *Response
}

func (e *StatusError) Error() string { return fmt.Sprintf("%d %s", e.Code, e.Reason) }

func statusError(r *Response) *StatusError {
	reason := r.reason
	if reason == "" {
		reason = StatusText(r.code)
	}
	return &StatusError{Code: r.code, Reason: printable(reason), Response: r}
}

// parseResponse reads a response. Nothing wrong with it is ever answered: it is dropped.
func parseResponse(start string, data []byte, flow Flow) (*Response, error) {
	r := &Response{}
	r.flow = flow
	version, rest, _ := strings.Cut(start, " ")
	code, reason, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(code)
	if version != "SIP/2.0" || err != nil || len(code) != 3 || n < 100 || n > 699 {
		return nil, fmt.Errorf("bad status line %q", start)
	}
	r.code, r.reason = n, reason
	end, err := r.readHeaders(data, data[len(start)+2:])
	if err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if err := r.checkHeaders(); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if err := r.readFields(); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if len(r.Headers("Via")) != 1 { // RFC 3261 §8.1.3.3: then it is not for us
		return nil, errors.New("response has several Vias")
	}
	if r.method, err = r.readCSeq(); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	return r, r.readBody(data[end:])
}
