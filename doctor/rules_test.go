package doctor

import (
	"os"
	"strings"
	"testing"
)

// ufwRules are the rules of a ufw that lets in SIP and not the audio, as iptables -S shows them, cut to what matters.
const ufwRules = `-P INPUT DROP
-P FORWARD DROP
-P OUTPUT ACCEPT
-N ufw-before-input
-N ufw-not-local
-N ufw-skip-to-policy-input
-N ufw-user-input
-N ufw-user-limit
-N ufw-logging-deny
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-logging-deny -m limit --limit 3/min -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-user-input -p udp -m udp --dport 5060 -j ACCEPT
-A ufw-user-input -s 10.0.0.0/8 -p tcp -m multiport --dports 5060,5061 -m comment --comment "the -j DROP office" -j ACCEPT
`

func TestIPTables(t *testing.T) {
	open := "-P INPUT ACCEPT\n"
	closed := "-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n"
	tests := []struct {
		name, rules string
		p           packet
		want, by    string
	}{
		{"nothing", open, packet{"udp", 5060}, accepted, ""},
		{"policy", closed, packet{"udp", 5060}, dropped, "policy of chain INPUT"},
		{"dropped", open + "-A INPUT -p udp -m udp --dport 5060 -j DROP\n", packet{"udp", 5060}, dropped, "--dport 5060 -j DROP"},
		{"other protocol", open + "-A INPUT -p udp -m udp --dport 5060 -j DROP\n", packet{"tcp", 5060}, accepted, ""},
		{"other port", open + "-A INPUT -p udp -m udp --dport 5060 -j DROP\n", packet{"udp", 5062}, accepted, ""},
		{"rejected", open + "-A INPUT -p tcp -m tcp --dport 5060:5070 -j REJECT --reject-with tcp-reset\n", packet{"tcp", 5065}, dropped, "REJECT"},
		{"all but one port", open + "-A INPUT -p udp -m udp ! --dport 5060 -j DROP\n", packet{"udp", 5060}, accepted, ""},
		{"any of all but one", open + "-A INPUT -p udp -m udp ! --dport 5060 -j DROP\n", packet{"udp", 20000}, dropped, "! --dport"},
		{"from outside", open + "-A INPUT ! -i lo -p udp -j DROP\n", packet{"udp", 5060}, dropped, "! -i lo"},
		{"one bad source", open + "-A INPUT -s 203.0.113.9/32 -j DROP\n", packet{"udp", 5060}, accepted, ""},
		{"let in", closed + "-A INPUT -p udp -m multiport --dports 5060,20000:29999 -j ACCEPT\n", packet{"udp", 29999}, accepted, ""},
		{"let in from the office", closed + "-A INPUT -s 10.0.0.0/8 -p udp --dport 5060 -j ACCEPT\n", packet{"udp", 5060}, some, "-s 10.0.0.0/8"},
		{"on one interface", closed + "-A INPUT -i eth1 -j ACCEPT\n", packet{"udp", 5060}, some, "-i eth1"},
		{"new ones", closed + "-A INPUT -p udp -m conntrack --ctstate NEW --dport 5060 -j ACCEPT\n", packet{"udp", 5060}, accepted, ""},
		{"protocol by number", closed + "-A INPUT -p 17 -j ACCEPT\n", packet{"udp", 5060}, accepted, ""},
		{"returned", open + "-N x\n-A INPUT -j x\n-A INPUT -j DROP\n-A x -p udp -j RETURN\n-A x -j ACCEPT\n", packet{"udp", 5060}, dropped, "-A INPUT -j DROP"},
		{"gone to", open + "-N x\n-A INPUT -p udp -g x\n-A INPUT -j DROP\n-A x -p tcp -j DROP\n", packet{"udp", 5060}, accepted, ""},
		{"a chain that calls itself", open + "-N x\n-A INPUT -j x\n-A x -j x\n-A x -j x\n", packet{"udp", 5060}, accepted, ""},
		{"ufw", ufwRules, packet{"udp", 5060}, accepted, ""},
		{"ufw, audio", ufwRules, packet{"udp", 20000}, dropped, "policy of chain INPUT"},
		{"ufw, from the office", ufwRules, packet{"tcp", 5061}, some, "office"},
	}
	for _, tt := range tests {
		o := parseIPTables(tt.rules).judge("INPUT", tt.p)
		if o.verdict != tt.want || !strings.Contains(o.by, tt.by) {
			t.Errorf("%s: %s by %q, want %s by …%s…", tt.name, o.verdict, o.by, tt.want, tt.by)
		}
	}
}

// TestNFT reads what nft itself has printed: SIP over TCP let in, over UDP from 10.0.0.0/8, audio let in, all else dropped.
func TestNFT(t *testing.T) {
	text, err := os.ReadFile("testdata/nft.json")
	if err != nil {
		t.Fatal(err)
	}
	tables, err := parseNFT(text)
	if err != nil || len(tables) != 1 || tables[0].name != "inet filter" || len(tables[0].in) != 1 {
		t.Fatalf("%+v, error %v", tables, err)
	}
	tests := []struct {
		p    packet
		want string
	}{
		{packet{"tcp", 5060}, accepted},
		{packet{"tcp", 5061}, accepted},
		{packet{"tcp", 5062}, dropped},
		{packet{"tcp", 53}, accepted},
		{packet{"udp", 53}, dropped},
		{packet{"udp", 5060}, some},
		{packet{"udp", 20000}, accepted},
		{packet{"udp", 29999}, accepted},
		{packet{"udp", 30000}, dropped},
		{packet{"udp", 4000}, dropped},
	}
	for _, tt := range tests {
		if o := tables[0].judge("input", tt.p); o.verdict != tt.want {
			t.Errorf("%v: %s by %s, want %s", tt.p, o.verdict, o.by, tt.want)
		}
	}
	f := Firewall{NFT: tables}
	if got := f.command(port{"tcp", 5062, 5062}); got != "sudo nft insert rule inet filter input tcp dport 5062 accept" {
		t.Errorf("the cure is %s", got)
	}
}

// TestCommands wants each firewall's own command.
func TestCommands(t *testing.T) {
	closed := parseIPTables("-P INPUT DROP\n")
	tests := []struct {
		f    Firewall
		want string
	}{
		{Firewall{}, "sudo iptables -I INPUT -p udp --dport 20000:29999 -j ACCEPT"},
		{Firewall{IPv4: closed}, "sudo iptables -I INPUT -p udp --dport 20000:29999 -j ACCEPT"},
		{Firewall{IPv4: parseIPTables("-P INPUT ACCEPT\n"), IPv6: closed}, "sudo ip6tables -I INPUT -p udp --dport 20000:29999 -j ACCEPT"},
		{Firewall{UFW: true, IPv4: closed}, "sudo ufw allow 20000:29999/udp"},
		{Firewall{Firewalld: true}, "sudo firewall-cmd --permanent --add-port=20000-29999/udp\nsudo firewall-cmd --reload"},
	}
	for _, tt := range tests {
		if got := strings.Join(tt.f.commands([]port{{"udp", 20000, 29999}}), "\n"); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// FuzzRules wants no rules to break the reading or to keep it for ever.
func FuzzRules(f *testing.F) {
	f.Add(ufwRules)
	f.Add("-A INPUT ! -j x\n-A x -g INPUT\n-P INPUT DROP")
	if b, err := os.ReadFile("testdata/nft.json"); err == nil {
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := parseIPTables(text)
		for name := range c {
			c.judge(name, packet{"udp", 5060})
		}
		tables, err := parseNFT([]byte(text))
		if err != nil {
			return
		}
		for _, table := range tables {
			for _, base := range table.in {
				table.judge(base, packet{"tcp", 5060})
			}
		}
	})
}
