package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"baton/config"
)

// soon is how long before its end a certificate is warned of.
const soon = 30 * 24 * time.Hour

// soonACME is the same for one that is renewed in the last third of its life, which may be short.
const soonACME = 3 * 24 * time.Hour

// Certificate looks at the certificate of the TLS and HTTPS listeners as phones and browsers would at now.
func Certificate(c config.Config, machine []Address, now time.Time) []Finding {
	if c.Listen.TLS == "off" && c.Listen.Web == "off" {
		return []Finding{good("certificate", "", "not needed: listen.tls and listen.web are off")}
	}
	if !Open(c.Data) {
		return []Finding{found(Note, "certificate", c.Data, "not looked at: the directory belongs to another account", "sudo baton doctor")}
	}
	return append(usual(c, machine, now), public(c, now)...)
}

// public looks at what an ACME authority has given for public names: where autocert keeps it.
func public(c config.Config, now time.Time) []Finding {
	var all []Finding
	for _, name := range c.TLS.ACME.Names {
		b, err := os.ReadFile(filepath.Join(c.Data, "acme", name))
		var leaf *x509.Certificate
		if err == nil {
			leaf, err = firstCertificate(b)
		}
		cure := []string{"let TCP 443 of " + name + " lead to listen.web (" + c.Listen.Web + "), from everywhere: the authority looks there", "the node's log says what the authority found"}
		switch {
		case errors.Is(err, os.ErrNotExist):
			all = append(all, found(Warning, "certificate", name, "not got from "+c.TLS.ACME.Directory+" yet", cure...))
		case err != nil:
			all = append(all, found(Warning, "certificate", name, oneLine(err), "rm "+Quote(filepath.Join(c.Data, "acme", name))+"   # the node gets a new one"))
		default:
			all = append(all, validity(name, leaf, now, cure, soonACME))
		}
	}
	return all
}

// usual looks at the certificate that is shown to who asks for no public name.
func usual(c config.Config, machine []Address, now time.Time) []Finding {
	cert, key := filepath.Join(c.Data, "tls.crt"), filepath.Join(c.Data, "tls.key")
	own := c.TLS.Certificate == ""
	if !own {
		cert, key = c.TLS.Certificate, c.TLS.Key
	}
	renew := []string{"put a valid certificate there, with its key in " + key + "; a running node takes it by itself"}
	if own {
		renew = []string{"rm " + Quote(cert) + " " + Quote(key) + "   # the next start makes new ones, signed by baton's CA"}
	}
	certPEM, err := os.ReadFile(cert)
	if own && errors.Is(err, os.ErrNotExist) {
		return []Finding{good("certificate", cert, "not there yet: the first start makes it")}
	}
	keyPEM, keyErr := os.ReadFile(key)
	if err = errors.Join(err, keyErr); err != nil {
		return []Finding{found(Error, "certificate", cert, "cannot be read: "+oneLine(err), readable(err, renew)...)}
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return []Finding{found(Error, "certificate", cert, "does not work with "+key+": "+err.Error(), renew...)}
	}
	leaf, err := firstCertificate(certPEM)
	if err != nil {
		return []Finding{found(Error, "certificate", cert, err.Error(), renew...)}
	}
	all := []Finding{validity(cert, leaf, now, renew, soon)}
	all = append(all, names(cert, leaf, c.Domain, machine, renew)...)
	return append(all, private(key)...)
}

// readable is the cure for a file that this account may not read.
func readable(err error, otherwise []string) []string {
	if errors.Is(err, os.ErrPermission) {
		return []string{"run doctor and the node as the account that owns the files, or as root"}
	}
	return otherwise
}

func firstCertificate(b []byte) (*x509.Certificate, error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return x509.ParseCertificate(block.Bytes)
		}
	}
	return nil, errors.New("no certificate is in the file")
}

func validity(where string, leaf *x509.Certificate, now time.Time, renew []string, soon time.Duration) Finding {
	const day = "2006-01-02"
	left := leaf.NotAfter.Sub(now)
	switch {
	case left <= 0:
		return found(Error, "certificate", where, "expired on "+leaf.NotAfter.Format(day)+": phones refuse TLS", renew...)
	case now.Before(leaf.NotBefore):
		return found(Error, "certificate", where, "valid only from "+leaf.NotBefore.Format(day)+" on; is this machine's clock right?",
			"timedatectl   # shows the clock and whether it is synchronised")
	case left < soon:
		return found(Warning, "certificate", where, fmt.Sprintf("expires on %s, in %d days", leaf.NotAfter.Format(day), int(left.Hours()/24)), renew...)
	}
	return good("certificate", where, "valid until %s, key fits", leaf.NotAfter.Format(day))
}

// names compares what the certificate is for with what phones may be told.
func names(where string, leaf *x509.Certificate, domain string, machine []Address, renew []string) []Finding {
	if domain != "" && leaf.VerifyHostname(domain) != nil {
		return []Finding{found(Warning, "certificate", where, "is not for the domain "+domain+": phones that check names refuse it", renew...)}
	}
	if domain != "" {
		return nil
	}
	for _, a := range machine {
		if a.usual() && leaf.VerifyHostname(bracketed(a.IP)) != nil {
			return []Finding{found(Note, "certificate", where, "is not for the address "+a.IP.String()+": phones that check names refuse it there", renew...)}
		}
	}
	return nil
}

func bracketed(ip netip.Addr) string { return "[" + ip.String() + "]" }

// private wants nobody else to read the key.
func private(key string) []Finding {
	info, err := os.Stat(key)
	if err != nil || info.Mode().Perm()&0o007 == 0 {
		return nil
	}
	return []Finding{found(Warning, "certificate", key, "every account of this machine can read the private key", "chmod 600 "+Quote(key))}
}
