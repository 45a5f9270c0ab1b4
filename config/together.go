package config

import "strings"

// together checks what only fields side by side can get wrong. Each error stands at the line that set the later one.
func (p *parse) together() {
	c := p.config
	if c.Listen.UDP == "off" && c.Listen.TCP == "off" && c.Listen.TLS == "off" {
		p.fail(p.last("listen.udp", "listen.tcp", "listen.tls"), "listen", "every listener is off; no phone could register")
	}
	if c.Listen.TCP != "off" && c.Listen.TCP == c.Listen.TLS && !strings.HasSuffix(c.Listen.TLS, ":0") {
		p.fail(p.last("listen.tcp", "listen.tls"), "listen.tls", "%q is also listen.tcp; give TLS a port of its own (5061)", c.Listen.TLS)
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		p.fail(p.last("tls.certificate", "tls.key"), "tls", "certificate and key belong together; set both or neither")
	}
	if strings.HasPrefix(c.Codes.Pull, c.Codes.Push) || strings.HasPrefix(c.Codes.Push, c.Codes.Pull) {
		p.fail(p.last("codes.pull", "codes.push"), "codes", "pull %q and push %q begin alike; a number behind them would be ambiguous", c.Codes.Pull, c.Codes.Push)
	}
}

// last is the line of whichever of the fields was set last in the file.
func (p *parse) last(names ...string) int {
	at := 0
	for _, name := range names {
		at = max(at, p.lines[name])
	}
	return at
}
