// Package sip speaks SIP (RFC 3261 and friends): messages, transports, transactions, dialogs, digest. It knows
// nothing of users' devices, calls or media; to it a body is bytes.
package sip

import (
	"crypto/tls"
	"log/slog"

	"baton/config"
)

// Options is what an Agent needs.
type Options struct {
	Listen      config.Listen
	Advertise   config.Advertise
	TLS         *tls.Config // for Listen.TLS
	Domain      string
	Realm       string // of every challenge; fixed for the life of the store
	Secret      []byte // keys the HMAC of nonces and stateless tags
	Credentials Credentials
	Nonces      NonceStore // nil = in memory
	Log         *slog.Logger

	// Handlers take the requests outside dialogs, by method, after validation and authentication; they run on the
	// ordered queue of the request's Call-ID and must not block. A method without handler gets 405 with a true Allow,
	// SUBSCRIBE 489, OPTIONS 200 from the agent itself.
	Handlers map[string]func(*Exchange)
	// FlowClosed is told when a connection has closed. It must not block.
	FlowClosed func(Flow)
}
