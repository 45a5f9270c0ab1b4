package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// trust is what phones have to trust.
type trust struct {
	Subject     string    `json:"subject"`
	Until       time.Time `json:"until"`
	Fingerprint string    `json:"sha256"`
	PEM         string    `json:"pem"`
}

func caCommand(f *flags) *cobra.Command {
	var der, asJSON bool
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Print the certificate that phones must trust",
		Long: `ca prints the certificate of the data directory's own CA, for phones that check whom they speak with over
TLS: PEM on standard output; its name, end and SHA-256 fingerprint on standard error, to compare with what
the phone shows. A phone that trusts it goes on trusting when the node's certificate is renewed.`,
		Example: `  baton ca > baton-ca.pem
  baton ca --der > baton-ca.der
  baton ca > /dev/null`,
		Args: exactly(0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.trusted()
			if err != nil {
				return err
			}
			return printTrust(cmd.OutOrStdout(), cmd.ErrOrStderr(), c, der, asJSON)
		},
	}
	cmd.Flags().BoolVar(&der, "der", false, "DER, for phones that do not take PEM")
	withJSON(cmd, &asJSON)
	return cmd
}

// trusted finds the CA, or the self-signed certificate of a data directory that has none.
func (f *flags) trusted() (*x509.Certificate, error) {
	c, _, err := settings("")
	if err == nil && c.TLS.Certificate != "" {
		return nil, fmt.Errorf("the certificate is %s: phones must trust the CA that signed it, which is not baton's", c.TLS.Certificate)
	}
	dir := f.dataDir()
	own, err := readCertificate(filepath.Join(dir, certName))
	if errors.Is(err, os.ErrNotExist) {
		return nil, &exitError{exitNotFound, fmt.Errorf("there is no certificate in %s yet: the first start of a node makes it", dir)}
	}
	if err != nil {
		return nil, err
	}
	ca, err := readCertificate(filepath.Join(dir, caName))
	switch {
	case err == nil && own.CheckSignatureFrom(ca) == nil:
		return ca, nil
	case own.CheckSignatureFrom(own) == nil:
		return own, nil
	}
	return nil, fmt.Errorf("%s was signed by %q: phones must trust that CA, which is not baton's", filepath.Join(dir, certName), own.Issuer)
}

func printTrust(out, side io.Writer, c *x509.Certificate, der, asJSON bool) error {
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	t := trust{c.Subject.String(), c.NotAfter, digits(c), string(text)}
	if asJSON {
		return printJSON(out, t)
	}
	if der {
		text = c.Raw
	}
	fmt.Fprintf(side, "%s, until %s\nSHA-256 %s\n", t.Subject, t.Until.Format(time.DateOnly), t.Fingerprint)
	_, err := out.Write(text)
	return err
}

// digits is how people compare a certificate.
func digits(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum[:]), " ", ":")
}
