package main

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"baton/registrar"
)

// demoName is the file of the data directory that keeps the demo's passwords.
const demoName = "demo.json"

// demoUsers are made at the first start of a demo.
var demoUsers = []registrar.UserSpec{
	{Name: "alice", Display: "Alice", Numbers: []string{"101"}},
	{Name: "bob", Display: "Bob", Numbers: []string{"102"}},
}

// demo makes the demo's users, once, and prints their phones' settings.
func (n *node) demo(out io.Writer) error {
	passwords, err := n.demoPasswords()
	if err != nil {
		return fmt.Errorf("make the demo's users: %w", err)
	}
	var b strings.Builder
	addresses := n.reachable()
	fmt.Fprintf(&b, "\nbaton is running. Type this into two phones, one for each:\n")
	for _, u := range demoUsers {
		n.settingsOf(&b, u.Name, passwords[u.Name], addresses[0])
	}
	others(&b, addresses)
	n.browser(&b, addresses[0])
	dir := n.config.Data
	fmt.Fprintf(&b, `
Then dial %s on alice's phone. While they talk, from another terminal:
  ./baton calls --data %s
  ./baton devices --data %s
Passwords are kept in %s. Emergency calls are not connected.
Ctrl-C stops.

`, demoUsers[1].Numbers[0], dir, dir, filepath.Join(dir, demoName))
	_, err = io.WriteString(out, b.String())
	return err
}

// browser prints where the page is, and what a browser has against it.
func (n *node) browser(b *strings.Builder, at address) {
	page := n.pageAt(at)
	if page == "" {
		return
	}
	fmt.Fprintf(b, "\nOr open this in a browser, and sign in with user and password:\n    %s\n", page)
	if ca := n.cert.trusted(); ca != nil {
		fmt.Fprintf(b, "It warns until it trusts this node's CA, which is at %sca.crt (docs/operate.md says how);\nits SHA-256 fingerprint is %s\n",
			page, digits(n.cert.ca.cert))
	}
}

// demoPasswords reads the passwords, or makes them and the users. The file is written first: a user is never there
// without a password that somebody knows.
func (n *node) demoPasswords() (map[string]string, error) {
	file := filepath.Join(n.config.Data, demoName)
	passwords := map[string]string{}
	data, err := os.ReadFile(file)
	switch {
	case err == nil:
		if err := json.Unmarshal(data, &passwords); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		return passwords, nil
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	}
	return n.makeDemo(file)
}

// makeDemo makes the users that are not there, through a file beside the final one, which is given its name when all
// of them are: a start that was cut short is done again.
func (n *node) makeDemo(file string) (map[string]string, error) {
	begun := file + ".begun"
	passwords := map[string]string{}
	if data, err := os.ReadFile(begun); err == nil {
		if err := json.Unmarshal(data, &passwords); err != nil {
			return nil, fmt.Errorf("read %s: %w", begun, err)
		}
	} else {
		for _, u := range demoUsers {
			passwords[u.Name] = easyPassword()
		}
		data, err := json.MarshalIndent(passwords, "", "  ")
		if err != nil {
			return nil, err
		}
		if err := writeWhole(begun, append(data, '\n'), 0o600); err != nil {
			return nil, err
		}
	}
	for _, u := range demoUsers {
		if _, there := n.registrar.User(u.Name); there {
			continue
		}
		u.Password = passwords[u.Name]
		if _, _, err := n.registrar.AddUser(u); err != nil {
			return nil, err
		}
	}
	return passwords, os.Rename(begun, file)
}

// easyPassword is 14 letters and digits that nobody confuses, more than 64 bits.
func easyPassword() string {
	const letters = "abcdefghijkmnpqrstuvwxyz23456789" // 32 of them, so that every byte is fair
	var b [14]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	for i := range b {
		b[i] = letters[b[i]%32]
	}
	return string(b[:])
}

// settingsOf prints what to type into a user's phone.
func (n *node) settingsOf(b *strings.Builder, name, password string, at address) {
	u, ok := n.registrar.User(name)
	if !ok {
		fmt.Fprintf(b, "\n  %s was removed; it comes back with: ./baton user add %s --data %s\n", name, name, n.config.Data)
		return
	}
	if !n.opens(u, password) {
		password = "as it was set since (not kept here)"
	}
	fmt.Fprintf(b, "\n  %s", u.Name)
	if len(u.Numbers) > 0 {
		fmt.Fprintf(b, " (%s)", strings.Join(u.Numbers, ", "))
	}
	ports, transports := n.ports()
	fmt.Fprintf(b, "\n    server     %s\n    port       %s\n    transport  %s\n    user       %s\n    password   %s\n",
		at.show(), ports, transports, u.Name, password)
}

// opens says whether the password is still the user's, by the digest secret that is kept of it (RFC 7616 §3.4.2, A1).
func (n *node) opens(u registrar.User, password string) bool {
	secret, ok := n.registrar.Secret(u.Name)
	ha1 := md5.Sum([]byte(u.Name + ":" + n.store.Realm() + ":" + password))
	return ok && secret.MD5 == hex.EncodeToString(ha1[:])
}

// ports are the listeners' ports and transports in words, UDP first.
func (n *node) ports() (ports, transports string) {
	by := map[uint16][]string{}
	var order []uint16
	var all []string
	for _, transport := range []string{"udp", "tcp", "tls"} {
		at, ok := n.agent.Addrs()[transport]
		if !ok {
			continue
		}
		if by[at.Port()] == nil {
			order = append(order, at.Port())
		}
		by[at.Port()] = append(by[at.Port()], strings.ToUpper(transport))
		all = append(all, strings.ToUpper(transport))
	}
	var words []string
	for _, port := range order {
		words = append(words, fmt.Sprintf("%d for %s", port, strings.Join(by[port], " and ")))
	}
	if len(all) > 0 {
		all[0] += " (the usual one)"
	}
	return strings.Join(words, ", "), strings.Join(all, ", ")
}

// reachable are the addresses to give to a phone, the likely one first; never empty.
func (n *node) reachable() []address {
	var found []address
	if name := n.config.Advertise.SIP; name != "" {
		found = append(found, address{On: name, Note: "as configured"})
	}
	bound := n.boundTo()
	for _, a := range machineAddresses() {
		if bound == nil || bound[a.IP] {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		found = append(found, address{On: nodeName(), Note: "by name"})
	}
	return found
}

// boundTo are the only addresses that the listeners are on, nil = every address.
func (n *node) boundTo() map[netip.Addr]bool {
	bound := map[netip.Addr]bool{}
	for _, at := range n.agent.Addrs() {
		if at.Addr().IsUnspecified() {
			return nil
		}
		bound[at.Addr().Unmap()] = true
	}
	return bound
}

// show is the address as it is typed; IPv6 in brackets, as a URI wants it.
func (a address) show() string {
	switch {
	case !a.IP.IsValid():
		return a.On
	case a.IP.Is6():
		return "[" + a.IP.String() + "]"
	}
	return a.IP.String()
}

// others prints the addresses beside the likely one.
func others(b *strings.Builder, addresses []address) {
	if len(addresses) < 2 {
		return
	}
	fmt.Fprintf(b, "\nOther addresses of this machine, for a phone that does not reach %s:\n", addresses[0].show())
	width := 0
	for _, a := range addresses[1:] {
		width = max(width, len(a.show()))
	}
	for _, a := range addresses[1:] {
		note := a.On
		if a.Note != "" {
			note += ": " + a.Note
		}
		fmt.Fprintf(b, "    %-"+strconv.Itoa(width)+"s  %s\n", a.show(), note)
	}
}
