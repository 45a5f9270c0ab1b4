package doctor

import (
	"encoding/json"
	"fmt"
	"strings"
)

// table is one of nftables with the chains that packets to this machine go through first.
type table struct {
	name string // family and name: inet filter
	in   []string
	chains
}

// parseNFT reads what "nft -j list ruleset" prints (libnftables-json(5)).
func parseNFT(text []byte) ([]*table, error) {
	var set struct {
		All []struct {
			Chain *struct{ Family, Table, Name, Hook, Policy string }
			Rule  *struct {
				Family, Table, Chain string
				Expr                 []map[string]json.RawMessage
			}
		} `json:"nftables"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read the rules of nft: %w", err)
	}
	var all []*table
	at := func(family, name string) *table {
		for _, t := range all {
			if t.name == family+" "+name {
				return t
			}
		}
		t := &table{name: family + " " + name, chains: chains{}}
		all = append(all, t)
		return t
	}
	for _, item := range set.All {
		if c := item.Chain; c != nil {
			t := at(c.Family, c.Table)
			t.chains[c.Name] = &chain{policy: strings.ToUpper(c.Policy)}
			if c.Hook == "input" {
				t.in = append(t.in, c.Name)
			}
		}
		if r := item.Rule; r != nil {
			if c := at(r.Family, r.Table).chains[r.Chain]; c != nil {
				c.rules = append(c.rules, nftRules(r.Expr, r.Table+" "+r.Chain)...)
			}
		}
	}
	return all, nil
}

// nftRules makes rules of the statements of one: a verdict map is one for each of its entries.
func nftRules(statements []map[string]json.RawMessage, where string) []rule {
	var r rule
	var all []rule
	for _, s := range statements {
		for kind, body := range s {
			switch kind {
			case "match":
				r.when = append(r.when, nftMatch(body))
			case "accept", "drop", "reject", "return", "jump", "goto":
				r.then, r.jump = nftVerdict(kind, body)
			case "vmap":
				all = append(all, nftMap(r, body)...)
			case "counter", "log", "comment", "limit":
				if kind == "limit" {
					r.when = append(r.when, always(maybe))
				}
			default: // xt, ct helper, sets …
				r.when = append(r.when, always(maybe))
			}
		}
	}
	if r.then != "" {
		all = append(all, r)
	}
	for i := range all {
		all[i].text = "a rule in nft chain " + where
	}
	return all
}

// nftVerdict is what a statement does, in iptables' words.
func nftVerdict(kind string, body json.RawMessage) (then string, jump bool) {
	switch kind {
	case "accept":
		return accepted, false
	case "drop", "reject":
		return dropped, false
	case "return":
		return returned, false
	}
	var to struct{ Target string }
	if json.Unmarshal(body, &to) != nil {
		return "", false
	}
	return to.Target, kind == "jump"
}

// nftMap makes a rule of each entry of a verdict map.
func nftMap(base rule, body json.RawMessage) []rule {
	var m struct {
		Key  json.RawMessage
		Data struct{ Set [][]json.RawMessage }
	}
	if json.Unmarshal(body, &m) != nil {
		return nil
	}
	var all []rule
	for _, entry := range m.Data.Set {
		var verdict map[string]json.RawMessage
		if len(entry) != 2 || json.Unmarshal(entry[1], &verdict) != nil {
			continue
		}
		for kind, body := range verdict {
			r := rule{when: append(append([]condition(nil), base.when...), nftTest(m.Key, entry[0]))}
			r.then, r.jump = nftVerdict(kind, body)
			all = append(all, r)
		}
	}
	return all
}

func nftMatch(body json.RawMessage) condition {
	var m struct {
		Op          string
		Left, Right json.RawMessage
	}
	if json.Unmarshal(body, &m) != nil || m.Op != "==" && m.Op != "!=" && m.Op != "in" {
		return always(maybe)
	}
	return not(nftTest(m.Left, m.Right), m.Op == "!=")
}

// nftTest is whether what left names is (among) right.
func nftTest(left, right json.RawMessage) condition {
	var l struct {
		Meta    struct{ Key string }
		Ct      struct{ Key string }
		Payload struct{ Protocol, Field string }
		Fib     struct{ Result string }
	}
	if json.Unmarshal(left, &l) != nil {
		return always(maybe)
	}
	words, ports := nftValues(right)
	switch {
	case l.Payload.Field == "dport":
		if ports == nil {
			return and(protocolOf(l.Payload.Protocol), always(maybe)) // a named set
		}
		return and(protocolOf(l.Payload.Protocol), toPorts(ports))
	case l.Payload.Field == "sport":
		return and(protocolOf(l.Payload.Protocol), always(maybe))
	case l.Meta.Key == "l4proto", l.Payload.Field == "protocol", l.Payload.Field == "nexthdr":
		return protocol(words...)
	case l.Meta.Key == "iifname" || l.Meta.Key == "iif":
		return arriving(strings.Join(words, ","))
	case l.Ct.Key == "state":
		return state(words)
	case l.Fib.Result == "type":
		return always(map[string]truth{"local": yes, "unicast": yes}[strings.Join(words, ",")])
	case l.Payload.Protocol == "icmp" || l.Payload.Protocol == "icmpv6":
		return always(no)
	}
	return always(maybe)
}

func and(a, b condition) condition { return func(p packet) truth { return min(a(p), b(p)) } }

// protocolOf is the condition that the field of a header implies; th is any transport.
func protocolOf(name string) condition {
	if name == "th" {
		return always(yes)
	}
	return protocol(name)
}

// nftValues are the words and port ranges of a value, a set or a range.
func nftValues(raw json.RawMessage) (words []string, ports []span) {
	var one any
	if json.Unmarshal(raw, &one) != nil {
		return nil, nil
	}
	items := []any{one}
	switch v := one.(type) {
	case []any:
		items = v
	case map[string]any:
		if set, ok := v["set"].([]any); ok {
			items = set
		}
	}
	for _, item := range items {
		switch v := item.(type) {
		case string:
			words = append(words, v)
		case float64:
			ports = append(ports, span{uint16(v), uint16(v)})
		case map[string]any:
			if r, ok := v["range"].([]any); ok && len(r) == 2 {
				a, ok1 := r[0].(float64)
				b, ok2 := r[1].(float64)
				if ok1 && ok2 {
					ports = append(ports, span{uint16(a), uint16(b)})
				}
			}
		}
	}
	return words, ports
}
