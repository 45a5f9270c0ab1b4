package doctor

// packet is what a phone sends: new, from another machine.
type packet struct {
	proto string // udp, tcp
	port  uint16
}

// truth is whether a rule's condition holds for a packet of which not everything is known.
type truth int

const (
	no truth = iota
	maybe
	yes
)

// condition is one match of a rule.
type condition func(packet) truth

// rule is one line of a firewall.
type rule struct {
	when []condition
	then string // ACCEPT, DROP, RETURN, the name of a chain, "" = goes on
	jump bool   // comes back from the chain
	text string // as its tool shows it
}

// chain is a list of rules; policy is what a base chain does at its end.
type chain struct {
	policy string
	rules  []rule
}

// chains are those of one table by their names.
type chains map[string]*chain

// The verdicts, in the words of iptables.
const (
	accepted = "ACCEPT"
	dropped  = "DROP"
	returned = "RETURN"
	some     = "SOME" // accepted from some sources or interfaces, dropped from others
)

// outcome is what becomes of a packet, and by which rule.
type outcome struct {
	verdict string
	by      string
}

// maxDepth bounds jumps from chain to chain.
const maxDepth = 16

// judge sends a packet through a base chain. What holds for some sources alone counts as an exception: if everything
// else is dropped, the outcome is some; a drop for some sources is taken for the list of unwanted ones that it mostly is.
func (c chains) judge(base string, p packet) outcome {
	w := walk{chains: c, packet: p, left: 10_000}
	o := w.through(base, 0)
	if o.verdict == "" || o.verdict == returned {
		o = outcome{c[base].policy, "policy of chain " + base + ": " + c[base].policy}
	}
	if o.verdict == dropped && w.excepted != "" {
		return outcome{some, w.excepted}
	}
	return o
}

// walk is one packet on its way.
type walk struct {
	chains
	packet   packet
	excepted string // a rule that accepts some
	left     int    // rules that may still be looked at
}

func (w *walk) through(name string, depth int) outcome {
	c, known := w.chains[name]
	if !known || depth > maxDepth {
		return outcome{}
	}
	for _, r := range c.rules {
		if w.left--; w.left < 0 {
			return outcome{}
		}
		holds := r.holds(w.packet)
		if holds == no {
			continue
		}
		o := w.reached(r, depth)
		switch {
		case o.verdict == "":
			if holds == yes && !r.jump && w.chains[r.then] != nil {
				return outcome{} // goto: this chain is not come back to
			}
		case holds == maybe && o.verdict == accepted:
			w.excepted = o.by
		case holds == yes:
			return o
		}
	}
	return outcome{}
}

// reached is what a rule does to a packet that it is about.
func (w *walk) reached(r rule, depth int) outcome {
	switch r.then {
	case accepted, dropped, returned:
		return outcome{r.then, r.text}
	}
	if o := w.through(r.then, depth+1); o.verdict != returned {
		return o
	}
	return outcome{}
}

// holds is whether all conditions hold.
func (r rule) holds(p packet) truth {
	all := yes
	for _, c := range r.when {
		all = min(all, c(p))
	}
	return all
}

// not turns a condition round.
func not(c condition, turn bool) condition {
	if !turn {
		return c
	}
	return func(p packet) truth { return yes - c(p) }
}

func always(t truth) condition { return func(packet) truth { return t } }

func protocol(names ...string) condition {
	return func(p packet) truth {
		for _, n := range names {
			if n == p.proto || n == "all" || n == numbers[p.proto] {
				return yes
			}
		}
		return no
	}
}

// numbers are those of the protocols (IANA).
var numbers = map[string]string{"udp": "17", "tcp": "6"}

// span is a range of ports.
type span struct{ first, last uint16 }

func toPorts(all []span) condition {
	return func(p packet) truth {
		for _, s := range all {
			if s.first <= p.port && p.port <= s.last {
				return yes
			}
		}
		return no
	}
}

// state is whether a new packet is among the states of connections.
func state(names []string) condition {
	for _, n := range names {
		if n == "NEW" || n == "new" {
			return always(yes)
		}
	}
	return always(no)
}

// arriving is whether a packet from another machine comes in by the interface.
func arriving(on string) condition {
	if on == "lo" {
		return always(no)
	}
	return always(maybe)
}
