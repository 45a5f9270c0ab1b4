package main

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"baton/web"
)

// elsewhere says which node is meant that is not on this machine, and what it takes to speak with it.
type elsewhere struct {
	server, token, tokenFile, ca string
}

func (e *elsewhere) flags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&e.server, "server", "", "node elsewhere, as in https://baton.example.org:8443 (else BATON_SERVER)")
	cmd.PersistentFlags().StringVar(&e.token, "token", "", "administrator's token for --server; better BATON_TOKEN or --token-file, which others on this machine do not see")
	cmd.PersistentFlags().StringVar(&e.tokenFile, "token-file", "", "file with the token for --server (else BATON_TOKEN_FILE)")
	cmd.PersistentFlags().StringVar(&e.ca, "ca", "", "PEM file of the CA of --server (else BATON_CA, else that of the data directory, else whom this machine trusts)")
}

// address is the node elsewhere that is meant, "" = the one on the data directory.
func (e *elsewhere) address() string { return cmp.Or(e.server, os.Getenv("BATON_SERVER")) }

// bearer is the token: of the flags first.
func (e *elsewhere) bearer() (string, error) {
	if e.token != "" {
		return e.token, nil
	}
	if e.tokenFile == "" {
		if token := os.Getenv("BATON_TOKEN"); token != "" {
			return token, nil
		}
	}
	file := cmp.Or(e.tokenFile, os.Getenv("BATON_TOKEN_FILE"))
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("read the token: %s is empty", file)
	}
	return token, nil
}

// trusts are those who may have signed the node's certificate; nil = whom this machine trusts.
func (e *elsewhere) trusts(dir string) (*x509.CertPool, error) {
	name, said := cmp.Or(e.ca, os.Getenv("BATON_CA")), true
	if name == "" {
		name, said = filepath.Join(dir, caName), false
	}
	pem, err := os.ReadFile(name)
	switch {
	case !said && errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil || said { // the one that is named, and no other
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA: there is no PEM certificate in %s", name)
	}
	return pool, nil
}

// dial makes a client of the node that is meant: the one elsewhere, or that on the data directory.
func (f *flags) dial() (*web.Client, error) {
	server := f.address()
	if server == "" {
		return web.Dial(f.dataDir())
	}
	token, err := f.bearer()
	if err != nil {
		return nil, err
	}
	ca, err := f.trusts(f.dataDir())
	if err != nil {
		return nil, err
	}
	client, err := web.DialRemote(web.Remote{Server: server, Token: token, CA: ca})
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return client, nil
}
