package sip

import (
	"errors"
	"fmt"
)

// What an exchange can end with, beside a StatusError.
var (
	// ErrAnswered says that the request has its final answer already.
	ErrAnswered = errors.New("request is already answered")
	// ErrCSeq says that an in-dialog request is not newer than the last one (answered 500, RFC 3261 §12.2.2).
	ErrCSeq = errors.New("CSeq is not above the last one")
	// ErrFlowGone says that the flow a message would have to take is no more.
	ErrFlowGone = errors.New("flow is gone")
	// ErrTimeout says that no final answer came in time (Timers B, C and F of RFC 3261 §17.1).
	ErrTimeout = errors.New("no answer in time")
)

var errStopped = fmt.Errorf("%w: the node stops", ErrFlowGone)

// CancelReason is the cause to cancel an Invite's context with: it becomes the CANCEL's Reason header (RFC 3326).
type CancelReason struct {
	Cause int
	Text  string
}

func (c *CancelReason) Error() string { return c.Text }

func (c *CancelReason) header() Header {
	return Header{"Reason", fmt.Sprintf("SIP;cause=%d;text=%s", c.Cause, quote(c.Text))}
}
