package sip

import (
	"fmt"
	"strings"
)

// Get finds a parameter by its name, whatever its case.
func (p Params) Get(name string) (string, bool) {
	for _, q := range p {
		if strings.EqualFold(q.Name, name) {
			return q.Value, true
		}
	}
	return "", false
}

// With returns a copy in which the parameter is set.
func (p Params) With(name, value string) Params {
	out := make(Params, 0, len(p)+1)
	set := false
	for _, q := range p {
		if strings.EqualFold(q.Name, name) {
			if set {
				continue
			}
			q.Value, set = value, true
		}
		out = append(out, q)
	}
	if !set {
		out = append(out, Param{name, value})
	}
	return out
}

// without returns a copy that lacks the parameter.
func (p Params) without(name string) Params {
	var out Params
	for _, q := range p {
		if !strings.EqualFold(q.Name, name) {
			out = append(out, q)
		}
	}
	return out
}

// parseParams reads header parameters, `;name=value;flag`, with white space round every separator (RFC 3261 §25.1).
// Empty ones are passed over: phones leave a semicolon at the end. There may be no more
// than maxParams, because each is compared with those before it.
func parseParams(s string) (Params, error) {
	var out Params
	if s = trim(s); s != "" {
		out = make(Params, 0, min(1+strings.Count(s[1:], ";"), 8))
	}
	for s != "" {
		if s[0] != ';' {
			return nil, fmt.Errorf("parameters do not begin with a semicolon: %q", s)
		}
		var one string
		one, s = cutParam(s[1:])
		if one == "" {
			continue
		}
		p, err := parseParam(one)
		switch {
		case err != nil:
			return nil, err
		case len(out) == maxParams:
			return nil, fmt.Errorf("more than %d parameters", maxParams)
		}
		if _, twice := out.Get(p.Name); twice {
			return nil, fmt.Errorf("parameter %q stands twice", p.Name)
		}
		out = append(out, p)
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

func cutParam(s string) (one, rest string) {
	if i := indexOutside(s, ";"); i >= 0 {
		return trim(s[:i]), s[i:]
	}
	return trim(s), ""
}

func parseParam(s string) (Param, error) {
	name, value, _ := strings.Cut(s, "=")
	name, value = trim(name), trim(value)
	if !isToken(name) {
		return Param{}, fmt.Errorf("bad parameter name %q", name)
	}
	if strings.HasPrefix(value, `"`) {
		if len(value) < 2 || indexOutside(value, "") == -2 || !strings.HasSuffix(value, `"`) {
			return Param{}, fmt.Errorf("bad quoted value of parameter %s", name)
		}
		return Param{name, unquote(value)}, nil
	}
	if separates(value) {
		return Param{}, fmt.Errorf("bad value of parameter %s: %q", name, value)
	}
	return Param{name, value}, nil
}

// write appends the parameters of a header, quoting what is neither token nor host.
func (p Params) write(b *strings.Builder) {
	for _, q := range p {
		b.WriteByte(';')
		b.WriteString(q.Name)
		if q.Value == "" {
			continue
		}
		b.WriteByte('=')
		if plainValue(q.Value) {
			b.WriteString(q.Value)
		} else {
			b.WriteString(quote(q.Value))
		}
	}
}

func plainValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) && strings.IndexByte("[]:", s[i]) < 0 {
			return false
		}
	}
	return true
}
