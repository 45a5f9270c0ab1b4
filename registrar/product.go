package registrar

import (
	"regexp"
	"strings"
)

const (
	unknownProduct = "phone" // sends no User-Agent
	maxProduct     = 28
	maxAgent       = 256 // bytes of a User-Agent that are read and kept
)

// spellings are the User-Agents that do not follow `Vendor Model Version`: the first pattern that matches makes the
// product name from its groups.
var spellings = []struct {
	agent *regexp.Regexp
	name  string
}{
	{regexp.MustCompile(`(?i)^LinphoneAndroid\b`), "linphone-android"},
	{regexp.MustCompile(`(?i)^(LinphoneiOS|LinphoneiPhone)\b`), "linphone-ios"},
	{regexp.MustCompile(`(?i)^Linphone[ _-]?(Desktop|c|csh)?\b`), "linphone"},
	{regexp.MustCompile(`(?i)^(Z|Zoiper)(/| r?v?\d|$)`), "zoiper"},
	{regexp.MustCompile(`(?i)^Bria\b.*\b(iOS|iPhone|iPad)\b`), "bria-ios"},
	{regexp.MustCompile(`(?i)^Bria\b.*\bAndroid\b`), "bria-android"},
	{regexp.MustCompile(`(?i)^Bria\b`), "bria"},
	{regexp.MustCompile(`(?i)\bGroundwire\b`), "groundwire"},
	{regexp.MustCompile(`(?i)^Polycom(?:VVX|SoundPointIP|SoundStationIP|RealPresenceTrio)-([A-Z]+)_([0-9a-z]+)`), "polycom-$1-$2"},
	{regexp.MustCompile(`(?i)^PolycomRealPresenceTrio-Trio_([0-9]+)`), "polycom-trio-$1"},
	{regexp.MustCompile(`(?i)^PolyEdge-(?:Edge_)?([0-9a-z]+)`), "poly-edge-$1"},
	{regexp.MustCompile(`(?i)^snom-?([0-9a-z]+)`), "snom-$1"},
	{regexp.MustCompile(`(?i)^Yealink(?: SIP)?[- ]((?:[a-z]+-)?[0-9a-z]+)`), "yealink-$1"},
	{regexp.MustCompile(`(?i)^Cisco[-/ ](?:CP-?)([0-9a-z]+)`), "cisco-cp$1"},
	{regexp.MustCompile(`(?i)^(Cisco|Linksys|Sipura)[-/ ]((?:SPA|ATA|PAP|WIP)[0-9a-z]+)`), "$1-$2"},
	{regexp.MustCompile(`(?i)FRITZ!(?:Box|Fon)(?: Fon)?(?: WLAN)? ?([0-9]+)?`), "fritz-box-$1"},
	{regexp.MustCompile(`(?i)^(Jitsi|PJSUA)`), "$1"},
	{regexp.MustCompile(`(?i)\bJsSIP\b`), "jssip"},
	{regexp.MustCompile(`(?i)^SIP\.?js\b`), "sipjs"},
}

var (
	versionToken = regexp.MustCompile(`(?i)^r?v?\d+(\.\d+)+|^r?v\d|^\d+$|^\d{4}-\d{2}`)
	hardwareAddr = regexp.MustCompile(`(?i)^([0-9a-f]{12}|([0-9a-f]{2}[:-]){5}[0-9a-f]{2})$`)
	fillerToken  = regexp.MustCompile(`(?i)^(release|version|build|stamp|ua|sip|softphone|client|for|pbx|on)$`)
	notNameBytes = regexp.MustCompile(`[^a-z0-9]+`)
)

// clipped is a User-Agent less what no phone says of itself.
func clipped(agent string) string {
	return strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
}

// product makes a product name without version from a User-Agent: `Yealink SIP-T46S 66.85.0.5` is a yealink-t46s.
// What cannot be read is a phone.
func product(agent string) string {
	agent = strings.TrimSpace(agent)
	for _, s := range spellings {
		if m := s.agent.FindStringSubmatchIndex(agent); m != nil {
			return clean(string(s.agent.ExpandString(nil, s.name, agent, m)))
		}
	}
	agent, _, _ = strings.Cut(agent, "(")
	var words []string
	for _, w := range strings.FieldsFunc(agent, func(c rune) bool { return c == ' ' || c == '/' || c == '_' || c == ',' }) {
		if len(words) > 0 && (versionToken.MatchString(w) || hardwareAddr.MatchString(w)) {
			break
		}
		if fillerToken.MatchString(w) {
			continue
		}
		if words = append(words, w); len(words) == 3 {
			break
		}
	}
	return clean(strings.Join(words, " "))
}

// clean makes a device name of any text: [a-z0-9-], with a letter in it, so that it is never taken for an index.
func clean(s string) string {
	s = notNameBytes.ReplaceAllString(strings.ToLower(s), "-")
	if len(s) > maxProduct {
		s = s[:maxProduct]
	}
	s = strings.Trim(s, "-")
	if !strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") {
		return unknownProduct
	}
	return s
}

var (
	deskProducts = regexp.MustCompile(`^(yealink|grandstream|snom|poly|polycom|cisco|linksys|sipura|fanvil|gigaset|` +
		`aastra|mitel|audiocodes|panasonic|htek|akuvox|siemens|openstage|openscape|unify|avaya|alcatel|fritz-box|obihai|` +
		`innovaphone|tiptel|auerswald|spectralink|vtech|escene|atcom|digium|sangoma|wildix|flyingvoice|thomson|algo|2n|ooma)`)
	softOfDeskVendor = regexp.MustCompile(`^(grandstream-wave|cisco-(webex|jabber)|avaya-(workplace|equinox|one-x)|` +
		`mitel-(micollab|connect)|sangoma-(connect|talk|meet)|gigaset-.*(mobile|app))`)
	browserProducts = regexp.MustCompile(`^(jssip|sipjs|browser|webphone|sipml|mozilla|saraphone)`)
)

// kindOf tells what sort of thing registers: what comes over a WebSocket or without an address of its own (RFC 7118
// §5) is a browser.
func kindOf(product, transport, contactHost string) Kind {
	if transport == "ws" || transport == "wss" || ownHost(contactHost) {
		return Browser
	}
	return kinds.of(product)
}

func kindOfProduct(product string) Kind {
	switch {
	case browserProducts.MatchString(product):
		return Browser
	case deskProducts.MatchString(product) && !softOfDeskVendor.MatchString(product):
		return DeskPhone
	}
	return Softphone
}

const invalid = ".invalid"

// ownHost says whether a contact's host was made up for want of an address (RFC 7118 §5, RFC 2606 §2).
func ownHost(host string) bool {
	return len(host) >= len(invalid) && strings.EqualFold(host[len(host)-len(invalid):], invalid)
}
