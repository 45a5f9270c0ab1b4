package sip

// Secret is what digest needs of one login (RFC 7616; HA1 as lower-case hex).
type Secret struct {
	User       string   // the user's canonical name
	Identities []string // user parts the user may put into From: name and numbers
	MD5        string
	SHA256     string
}

// Credentials finds the secret of a login name (a user's name or number). It answers from memory.
type Credentials interface {
	Secret(login string) (Secret, bool)
}

// NonceStore remembers which nonce counts were used (a 64-entry window per nonce: UDP reorders).
type NonceStore interface {
	// Use reports whether nc is new for nonce, and marks it used.
	Use(nonce string, nc uint32) bool
}
