package config

import (
	"maps"
	"slices"
	"strings"
)

// together checks what only fields side by side can get wrong. Each error stands at the line that set the later one.
func (p *parse) together() {
	c := p.config
	if c.Listen.UDP == "off" && c.Listen.TCP == "off" && c.Listen.TLS == "off" {
		p.fail(p.last("listen.udp", "listen.tcp", "listen.tls"), "listen", "every listener is off; no phone could register")
	}
	p.ports()
	p.acme()
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		p.fail(p.last("tls.certificate", "tls.key"), "tls", "certificate and key belong together; set both or neither")
	}
	p.codes()
	p.groups()
	p.store()
	p.cluster()
}

// store checks that what is shared has its key, and that what is said of Redis has one.
func (p *parse) store() {
	s := p.config.Store
	if s.Redis != "" {
		if p.config.Cluster.KeyFile == "" {
			p.fail(p.last("store.redis"), "store.redis", "needs cluster.key_file, with which secrets are sealed; make one with \"baton cluster key FILE\" and bring it to all nodes")
		}
		return
	}
	for _, name := range []string{"store.password_file", "store.ca"} {
		if p.lines[name] != 0 {
			p.fail(p.lines[name], name, "is of Redis, but store.redis is not set")
		}
	}
}

// ports checks that no two listeners have the same TCP port.
func (p *parse) ports() {
	l := p.config.Listen
	all := []struct{ name, at, advice string }{
		{"listen.tcp", l.TCP, ""},
		{"listen.tls", l.TLS, "TLS a port of its own (5061)"},
		{"listen.web", l.Web, "HTTPS a port of its own (8443)"},
		{"cluster.listen", p.config.Cluster.Listen, "the nodes a port of their own"},
	}
	for i, b := range all {
		for _, a := range all[:i] {
			if b.at != "off" && b.at == a.at && !strings.HasSuffix(b.at, ":0") {
				p.fail(p.last(a.name, b.name), b.name, "%q is also %s; give %s", b.at, a.name, b.advice)
			}
		}
	}
}

// acme checks what an authority needs to give a certificate: our consent, and a port to see that the name is ours.
func (p *parse) acme() {
	a := p.config.TLS.ACME
	if len(a.Names) == 0 {
		return
	}
	if !a.Agree {
		p.fail(p.last("tls.acme.names", "tls.acme.agree"), "tls.acme.agree", "read the terms of service of %s, and set agree: true to accept them", a.Directory)
	}
	if p.config.Listen.Web == "off" {
		p.fail(p.last("tls.acme.names", "listen.web"), "tls.acme.names", "listen.web is off; the authority looks there (port 443) whether the name is ours")
	}
}

// groups checks that every @group that is written has members.
func (p *parse) groups() {
	c := p.config
	for _, who := range slices.Sorted(maps.Keys(c.Watch)) {
		for _, name := range append([]string{who}, c.Watch[who]...) {
			if g, ok := strings.CutPrefix(name, "@"); ok && c.Groups[g] == nil {
				p.fail(p.last("watch."+who), "watch."+who, "there is no group %q; name its members under groups", g)
			}
		}
	}
}

// codes checks that no code begins as another does: what is dialled behind one would be ambiguous.
func (p *parse) codes() {
	all := p.config.Codes.byName()
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.name != b.name && (strings.HasPrefix(a.text, b.text) || strings.HasPrefix(b.text, a.text)) {
				p.fail(p.last("codes."+a.name, "codes."+b.name), "codes", "%s %q and %s %q begin alike; a number behind them would be ambiguous",
					a.name, a.text, b.name, b.text)
			}
		}
	}
}

type namedCode struct{ name, text string }

// byName lists what can be dialled, also what ends what the codes have set: #21 as *21 (call/office.go).
func (c Codes) byName() []namedCode {
	ended := []namedCode{
		{"forward_off", c.ForwardOff},
		{"forward_always", c.ForwardAlways},
		{"forward_busy", c.ForwardBusy},
		{"forward_no_answer", c.ForwardNoAnswer},
		{"forward_away", c.ForwardAway},
		{"dnd", c.DoNotDisturb},
	}
	all := []namedCode{
		{"pull", c.Pull},
		{"push", c.Push},
		{"pickup", c.Pickup},
		{"companion", c.Companion},
		{"dnd_off", c.DoNotDisturbOff},
	}
	all = append(all, ended...)
	for _, on := range ended {
		if end := Ending(on.text); end != "" {
			all = append(all, namedCode{on.name, end})
		}
	}
	return all
}

// Ending is the code that ends what a star code has set: *21 is ended by #21. A code that begins otherwise has none: "".
func Ending(code string) string {
	rest, ok := strings.CutPrefix(code, "*")
	if !ok {
		return ""
	}
	return "#" + rest
}

// last is the line of whichever of the fields was set last in the file.
func (p *parse) last(names ...string) int {
	at := 0
	for _, name := range names {
		at = max(at, p.lines[name])
	}
	return at
}
