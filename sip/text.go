package sip

import "strings"

// The character classes of RFC 3261 §25.1, and the small readers built on them.

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// tokenChars is true for the bytes of a token.
var tokenChars = func() (is [256]bool) {
	for c := range is {
		is[c] = isAlnum(byte(c)) || strings.IndexByte("-.!%*_+`'~", byte(c)) >= 0
	}
	return is
}()

func isTokenChar(c byte) bool { return tokenChars[c] }

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}

func trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// indexBlank finds the first space or tab, -1 if there is none.
func indexBlank(s string) int {
	for i := 0; i < len(s); i++ {
		if isBlank(s[i]) {
			return i
		}
	}
	return -1
}

// separates says whether s holds a byte that no unquoted value of a parameter may have.
func separates(s string) bool {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ', '\t', '"', ',', '<', '>':
			return true
		}
	}
	return false
}

// indexOutside finds the first byte of s that is one of chars and stands outside quotes and angle brackets.
// It is -1 if there is none, and -2 if a quote or bracket is left open.
func indexOutside(s, chars string) int {
	quoted, angle := false, false
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case isAlnum(c): // neither opens nor closes, and is never asked for
		case quoted && c == '\\':
			i++
		case c == '"' && !angle:
			quoted = !quoted
		case quoted:
		case angle:
			angle = c != '>'
		case strings.IndexByte(chars, c) >= 0:
			return i
		case c == '<':
			angle = true
		}
	}
	if quoted || angle {
		return -2
	}
	return -1
}

// splitList cuts a comma-separated header value into its trimmed elements (RFC 3261 §7.3.1). What is longer than any list
// stays whole at its end.
func splitList(s string) []string {
	var out []string
	for more := true; more; {
		var one string
		if len(out) == maxList {
			return append(out, trim(s))
		}
		one, s, more = cutList(s)
		out = append(out, one)
	}
	return out
}

// cutList takes the first element off a comma-separated value.
func cutList(s string) (one, rest string, more bool) {
	i := indexOutside(s, ",")
	if i < 0 {
		return trim(s), "", false
	}
	return trim(s[:i]), s[i+1:], true
}

// unquote takes the quotes and backslashes off a quoted-string; anything else is returned as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// quote makes a quoted-string of s. Control bytes, which could end the line, become spaces.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c == 0x7f:
			b.WriteByte(' ')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// printable takes from s what could break out of a header line.
func printable(s string) string {
	clean := func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}
	return strings.Map(clean, s)
}

// unescape resolves %HH; a bad escape is kept as it stands.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if ok1 && ok2 {
				b = append(b, hi<<4|lo)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// escape writes s into b with %HH for every byte that is neither alphanumeric, a mark, nor in also.
func escape(b *strings.Builder, s, also string) {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		c := s[i]
		if isAlnum(c) || strings.IndexByte("-_.!~*'()", c) >= 0 || strings.IndexByte(also, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
}
