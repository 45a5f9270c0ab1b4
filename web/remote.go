package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Remote is a node somewhere else, and what it takes to speak with it.
type Remote struct {
	Server string         // https://host:port
	Token  string         // of an administrator
	CA     *x509.CertPool // who has signed its certificate; nil = whom this machine trusts
}

// DialRemote makes a client of a node's HTTPS port. Nothing is connected before the first request.
func DialRemote(r Remote) (*Client, error) {
	u, err := url.Parse(r.Server)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("server %q is no address as in https://baton.example.org:8443", r.Server)
	case u.Scheme != "https":
		return nil, fmt.Errorf("server %q: the token would be sent in clear; give an https address", r.Server)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil:
		return nil, fmt.Errorf("server %q: give scheme, host and port alone", r.Server)
	case r.Token == "":
		return nil, errors.New("a node elsewhere wants a token; make one there with \"baton token create --admin\"")
	case strings.ContainsFunc(r.Token, func(c rune) bool { return c <= ' ' || c > '~' }):
		return nil, errors.New("the token has characters in it that no token has")
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: r.CA},
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a token goes nowhere else
	base := "https://" + u.Host
	return &Client{base: base, where: base, token: r.Token, http: &http.Client{Transport: transport, CheckRedirect: stay}}, nil
}

// explainRemote says in the person's words why a node elsewhere could not be spoken with.
func (c *Client) explainRemote(err error) error {
	var stranger x509.UnknownAuthorityError
	var named x509.HostnameError
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s", ErrNoNode, c.where)
	case errors.As(err, &stranger):
		return fmt.Errorf("speak with %s: %w (get its CA with \"baton ca\" there, and name it with --ca)", c.where, err)
	case errors.As(err, &named):
		return fmt.Errorf("speak with %s: %w (give the address by a name that is in its certificate)", c.where, err)
	}
	return fmt.Errorf("speak with %s: %w", c.where, err)
}
