package doctor

import (
	"net/netip"
	"strconv"
	"strings"
)

// parseIPTables reads what "iptables -S" prints: policies, chains, rules of the filter table.
func parseIPTables(text string) chains {
	c := chains{}
	at := func(name string) *chain {
		if c[name] == nil {
			c[name] = &chain{}
		}
		return c[name]
	}
	for line := range strings.Lines(text) {
		words := split(line)
		switch {
		case len(words) < 2:
		case words[0] == "-P" && len(words) > 2:
			at(words[1]).policy = words[2]
		case words[0] == "-N":
			at(words[1])
		case words[0] == "-A":
			r := parseRule(words[2:])
			r.text = strings.TrimSpace(line)
			at(words[1]).rules = append(at(words[1]).rules, r)
		}
	}
	return c
}

// split cuts a line into words; what stands in double quotes is one.
func split(line string) []string {
	var words []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range strings.TrimSpace(line) {
		switch {
		case r == '"':
			quoted, begun = !quoted, true
		case r == ' ' && !quoted:
			if begun {
				words = append(words, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		words = append(words, word.String())
	}
	return words
}

// parseRule reads the options of a rule. One that is not known may hold or not.
func parseRule(words []string) rule {
	var r rule
	for i := 0; i < len(words); {
		negated := words[i] == "!"
		if negated {
			i++
		}
		if i >= len(words) {
			break
		}
		option := words[i]
		n := i + 1
		for n < len(words) && words[n] != "!" && !isOption(words[n]) {
			n++
		}
		r.option(option, words[i+1:n], negated)
		i = n
	}
	return r
}

func isOption(w string) bool { return len(w) > 1 && w[0] == '-' && (w[1] < '0' || w[1] > '9') }

func (r *rule) option(option string, values []string, negated bool) {
	value := strings.Join(values, " ")
	switch option {
	case "-j", "-g":
		r.jump = option == "-j"
		if r.then, _, _ = strings.Cut(value, " "); r.then == "REJECT" {
			r.then = dropped
		}
		return
	case "-m", "--match", "--comment", "--limit-iface-in", "--reject-with", "--log-prefix", "--log-level", "--log-flags":
		return // alone they match everything
	}
	r.when = append(r.when, not(matching(option, value), negated))
}

// matching is the condition of one option.
func matching(option, value string) condition {
	switch option {
	case "-p", "--protocol":
		return protocol(value)
	case "--dport", "--dports", "--destination-port":
		return toPorts(spans(value))
	case "-i":
		return arriving(value)
	case "--ctstate", "--state":
		return state(strings.Split(value, ","))
	case "--dst-type":
		return always(map[string]truth{"LOCAL": yes, "UNICAST": yes}[value])
	case "-d":
		if p, err := netip.ParsePrefix(value); err == nil && p.Addr().IsMulticast() {
			return always(no)
		}
	}
	return always(maybe)
}

// spans reads 5060,20000:29999.
func spans(text string) []span {
	var all []span
	for item := range strings.SplitSeq(text, ",") {
		low, high, isRange := strings.Cut(item, ":")
		if !isRange {
			high = low
		}
		a, err1 := strconv.ParseUint(low, 10, 16)
		b, err2 := strconv.ParseUint(high, 10, 16)
		if err1 == nil && err2 == nil {
			all = append(all, span{uint16(a), uint16(b)})
		}
	}
	return all
}
