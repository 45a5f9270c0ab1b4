package phone

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// authorize answers the first MD5 challenge of a 401 or 407 (RFC 3261 §22, RFC 7616 §3.4): it gives the header's name and value.
func (p *Phone) authorize(res *Message, method, uri string) (string, string, error) {
	ask, reply := "WWW-Authenticate", "Authorization"
	if res.Code == 407 {
		ask, reply = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, challenge := range res.All(ask) {
		c := digestParams(challenge)
		if alg := c["algorithm"]; alg != "" && !strings.EqualFold(alg, "MD5") {
			continue
		}
		return reply, p.digest(c, method, uri), nil
	}
	return "", "", fmt.Errorf("%s: no MD5 challenge in %v", res.Line(), res.All(ask))
}

func (p *Phone) digest(c map[string]string, method, uri string) string {
	return digest(c, p.cfg.login(), p.cfg.Password, method, uri)
}

// Digest answers a challenge, the value of a WWW-Authenticate header, for a request that no phone makes.
func Digest(challenge, login, password, method, uri string) string {
	return digest(digestParams(challenge), login, password, method, uri)
}

func digest(c map[string]string, login, password, method, uri string) string {
	cnonce, nc := token(8), "00000001"
	ha1 := md5hex(login + ":" + c["realm"] + ":" + password)
	ha2 := md5hex(method + ":" + uri)
	mid := c["nonce"]
	if c["qop"] != "" {
		mid += ":" + nc + ":" + cnonce + ":auth"
	}
	v := fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=MD5`,
		login, c["realm"], c["nonce"], uri, md5hex(ha1+":"+mid+":"+ha2))
	if c["qop"] != "" {
		v += fmt.Sprintf(`, qop=auth, nc=%s, cnonce="%s"`, nc, cnonce)
	}
	if c["opaque"] != "" {
		v += fmt.Sprintf(`, opaque="%s"`, c["opaque"])
	}
	return v
}

// digestParams splits the comma-separated parameters of a challenge, of which some are quoted strings with commas.
func digestParams(challenge string) map[string]string {
	_, rest, _ := strings.Cut(strings.TrimSpace(challenge), " ")
	params := map[string]string{}
	for rest != "" {
		name, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		var value string
		if strings.HasPrefix(after, `"`) {
			value, rest, _ = strings.Cut(after[1:], `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		params[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return params
}

func md5hex(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// token is n random bytes in hex, for tags, branches and Call-IDs.
func token(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
