// Package media is baton's audio: SDP offers and answers, and the relay that carries RTP and RTCP between the legs of a call. It knows
// nothing of SIP, users or calls.
package media

import "errors"

// What can be wrong with an offer or an answer.
var (
	// ErrNoAudio says that a description has no audio line that could be used (answer 488).
	ErrNoAudio = errors.New("no audio in the session description")
	// ErrNoCodec says that the two sides have no audio codec in common (answer 488).
	ErrNoCodec = errors.New("no audio codec in common")
	// ErrSecure says that audio is offered over SRTP only, and that keys for it cannot be agreed: the suites are others, or signalling that is
	// not encrypted itself must not carry any (answer 488 with a Warning).
	ErrSecure = errors.New("audio offered over SRTP only, for which no keys can be agreed here")
	// ErrClear says that audio is to be encrypted here and was not offered so (answer 488 with a Warning).
	ErrClear = errors.New("audio offered without encryption, which is required")
	// ErrTooLarge says that a description is larger than anything a phone sends: 16 KiB, 8 m-lines, 64 candidates (answer 413).
	ErrTooLarge = errors.New("session description too large")
)

// What can be wrong with a stream.
var (
	// ErrNoPorts says that every port pair of the range is in use or resting.
	ErrNoPorts = errors.New("no media port free")
	// ErrClosed says that the engine has been stopped.
	ErrClosed = errors.New("media engine closed")
)
