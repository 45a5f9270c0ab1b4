package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"baton/config"
)

// Firewall is what was read of this machine's packet filter.
type Firewall struct {
	UFW       bool // switched on
	Firewalld bool // running
	IPv4      chains
	IPv6      chains
	NFT       []*table
	Err       error // why rules could not be read
}

// toolTime is how long a firewall's tool may take.
const toolTime = 3 * time.Second

// ReadFirewall asks the tools that are there. Rules can be read as root alone.
func ReadFirewall(ctx context.Context) Firewall {
	var f Firewall
	if b, err := os.ReadFile("/etc/ufw/ufw.conf"); err == nil {
		f.UFW = strings.Contains("\n"+string(b), "\nENABLED=yes")
	}
	if out, err := tool(ctx, "firewall-cmd", "--state"); err == nil {
		f.Firewalld = strings.HasPrefix(string(out), "running")
	}
	if os.Geteuid() != 0 {
		f.Err = errors.New("only root can read the rules")
		return f
	}
	f.IPv4 = f.iptables(ctx, "iptables")
	f.IPv6 = f.iptables(ctx, "ip6tables")
	if out, err := tool(ctx, "nft", "-j", "list", "ruleset"); err == nil {
		f.NFT, err = parseNFT(out)
		f.Err = errors.Join(f.Err, err)
	} else {
		f.note(err)
	}
	return f
}

func (f *Firewall) iptables(ctx context.Context, name string) chains {
	out, err := tool(ctx, name, "-S")
	if err != nil {
		f.note(err)
		return nil
	}
	return parseIPTables(string(out))
}

// note keeps an error unless the tool is not there.
func (f *Firewall) note(err error) {
	if !errors.Is(err, exec.ErrNotFound) {
		f.Err = errors.Join(f.Err, err)
	}
}

// tool runs a program that only reads; those for root are not in everybody's path.
func tool(ctx context.Context, name string, args ...string) ([]byte, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/" + name); err != nil {
			return nil, exec.ErrNotFound
		}
	}
	ctx, cancel := context.WithTimeout(ctx, toolTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out, nil
}

// judge sends a packet through every filter; the strictest outcome holds.
func (f Firewall) judge(p packet) outcome {
	worst := outcome{verdict: accepted}
	hold := func(o outcome) {
		if o.verdict == dropped && worst.verdict != dropped || o.verdict == some && worst.verdict == accepted {
			worst = o
		}
	}
	if f.IPv4["INPUT"] != nil {
		hold(f.IPv4.judge("INPUT", p))
	}
	for _, t := range f.NFT {
		if strings.HasSuffix(t.name, " filter") && t.name != "inet filter" && f.IPv4 != nil {
			continue // of iptables, read by its own tool
		}
		for _, base := range t.in {
			hold(t.judge(base, p))
		}
	}
	return worst
}

// judge6 is what becomes of a packet over IPv6 in ip6tables.
func (f Firewall) judge6(p packet) outcome {
	if f.IPv6["INPUT"] == nil {
		return outcome{verdict: accepted}
	}
	return f.IPv6.judge("INPUT", p)
}

// port is a port, or a range of them, that a firewall must let in.
type port struct {
	proto       string
	first, last uint16
}

func (p port) String() string {
	if p.first == p.last {
		return fmt.Sprintf("%s %d", p.proto, p.first)
	}
	return fmt.Sprintf("%s %d-%d", p.proto, p.first, p.last)
}

// wanted are the ports in force.
func wanted(c config.Config) []port {
	var all []port
	for _, l := range Listeners(c.Listen) {
		if l.Port != 0 {
			all = append(all, port{l.Network(), l.Port, l.Port})
		}
	}
	for _, r := range audioRanges(c) {
		all = append(all, port{"udp", r.First, r.Last})
	}
	return all
}

// Packets finds ports that this machine itself keeps closed: by really sending to them, and by reading the rules.
func Packets(ctx context.Context, c config.Config, machine []Address, sockets []Socket, running map[string]string, f Firewall) []Finding {
	tried := f.reach(ctx, c, machine, sockets, running)
	all := tried
	six := slices.ContainsFunc(machine, func(a Address) bool { return a.IP.Is6() && a.usual() })
	for _, p := range wanted(c) {
		if !slices.ContainsFunc(tried, func(f Finding) bool { return f.Level == Error && strings.HasPrefix(f.Where, p.String()+" at ") }) {
			all = append(all, f.filtered(p, six)...)
		}
	}
	if Worst(all) > OK {
		return all
	}
	return append(all, f.summary(wanted(c)))
}

// summary says what is known of the rules when no port is filtered.
func (f Firewall) summary(ports []port) Finding {
	switch {
	case f.Err != nil:
		return found(Note, "firewall", "", "not read: "+oneLine(f.Err)+"; if there is one, it must let the ports in",
			append([]string{"sudo baton doctor"}, f.commands(ports)...)...)
	case !f.there():
		return found(OK, "firewall", "", "no rules here; one on the way must let in "+list(ports))
	}
	return found(OK, "firewall", "", "its rules let in "+list(ports))
}

// filtered judges both ends of a range.
func (f Firewall) filtered(p port, six bool) []Finding {
	for _, n := range []uint16{p.first, p.last} {
		sent := packet{p.proto, n}
		o := f.judge(sent)
		level, over := Error, ""
		if o.verdict == accepted && six {
			o, level, over = f.judge6(sent), Warning, " over IPv6"
		}
		switch o.verdict {
		case dropped:
			return []Finding{found(level, "firewall", p.String(), "filtered"+over+" by "+o.by, f.commands([]port{p})...)}
		case some:
			return []Finding{found(Note, "firewall", p.String(), "let in from some places only"+over+": "+o.by, f.commands([]port{p})...)}
		}
	}
	return nil
}

// there says whether any rule or policy is in force.
func (f Firewall) there() bool {
	for _, c := range []chains{f.IPv4, f.IPv6} {
		if in := c["INPUT"]; in != nil && (len(in.rules) > 0 || in.policy == dropped) {
			return true
		}
	}
	for _, t := range f.NFT {
		if len(t.in) > 0 {
			return true
		}
	}
	return f.UFW || f.Firewalld
}

func list(ports []port) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}

// commands open the ports with the tool that is in charge.
func (f Firewall) commands(ports []port) []string {
	var all []string
	for _, p := range ports {
		all = append(all, f.command(p))
	}
	if f.Firewalld && !f.UFW {
		all = append(all, "sudo firewall-cmd --reload")
	}
	return all
}

func (f Firewall) command(p port) string {
	span := func(between string) string {
		if p.first == p.last {
			return fmt.Sprint(p.first)
		}
		return fmt.Sprintf("%d%s%d", p.first, between, p.last)
	}
	switch {
	case f.UFW:
		return fmt.Sprintf("sudo ufw allow %s/%s", span(":"), p.proto)
	case f.Firewalld:
		return fmt.Sprintf("sudo firewall-cmd --permanent --add-port=%s/%s", span("-"), p.proto)
	}
	if name, base, ok := f.nftBase(p); ok {
		return fmt.Sprintf("sudo nft insert rule %s %s %s dport %s accept", name, base, p.proto, span("-"))
	}
	if f.IPv6["INPUT"] != nil && f.judge6(packet{p.proto, p.first}).verdict == dropped && f.judge(packet{p.proto, p.first}).verdict == accepted {
		return fmt.Sprintf("sudo ip6tables -I INPUT -p %s --dport %s -j ACCEPT", p.proto, span(":"))
	}
	return fmt.Sprintf("sudo iptables -I INPUT -p %s --dport %s -j ACCEPT", p.proto, span(":"))
}

// nftBase is the base chain of nft that keeps a port from here.
func (f Firewall) nftBase(p port) (table, base string, ok bool) {
	if f.IPv4["INPUT"] != nil && f.IPv4.judge("INPUT", packet{p.proto, p.first}).verdict != accepted {
		return "", "", false
	}
	for _, t := range f.NFT {
		for _, base := range t.in {
			if t.judge(base, packet{p.proto, p.first}).verdict != accepted {
				return t.name, base, true
			}
		}
	}
	return "", "", false
}
