package sip

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// credential is one Digest Authorization (RFC 7616 §3.4).
type credential struct {
	username, realm, nonce, uri, response string
	cnonce, nc, qop                       string
	sha256                                bool
	count                                 uint32 // nc, or 1 without qop: then a nonce is good once
}

// parseCredential reads an Authorization value.
func parseCredential(v string) (credential, error) {
	scheme, rest, _ := strings.Cut(v, " ")
	if !strings.EqualFold(scheme, "Digest") {
		return credential{}, errors.New("scheme is not Digest")
	}
	c := credential{count: 1}
	algorithm := ""
	for rest, more := rest, true; more; {
		var one string
		one, rest, more = cutList(rest)
		name, value, _ := strings.Cut(one, "=")
		if p := c.field(trim(name), &algorithm); p != nil && *p == "" { // the first counts
			*p = unquote(trim(value))
		}
	}
	return c, c.check(algorithm)
}

// field is where the value of a parameter belongs, nil if nowhere.
func (c *credential) field(name string, algorithm *string) *string {
	switch strings.ToLower(name) {
	case "username":
		return &c.username
	case "realm":
		return &c.realm
	case "nonce":
		return &c.nonce
	case "uri":
		return &c.uri
	case "response":
		return &c.response
	case "cnonce":
		return &c.cnonce
	case "nc":
		return &c.nc
	case "qop":
		return &c.qop
	case "algorithm":
		return algorithm
	}
	return nil
}

func (c *credential) check(algorithm string) error {
	switch {
	case c.username == "" || c.nonce == "" || c.uri == "" || c.response == "":
		return errors.New("digest is incomplete")
	case algorithm == "" || strings.EqualFold(algorithm, "MD5"):
	case strings.EqualFold(algorithm, "SHA-256"):
		c.sha256 = true
	default:
		return fmt.Errorf("algorithm %q", algorithm)
	}
	if c.qop == "" {
		return nil
	}
	n, err := strconv.ParseUint(c.nc, 16, 32)
	if !strings.EqualFold(c.qop, "auth") || c.cnonce == "" || len(c.nc) != 8 || err != nil || n == 0 {
		return fmt.Errorf("bad qop %q, nc %q", c.qop, c.nc)
	}
	c.count = uint32(n)
	return nil
}
