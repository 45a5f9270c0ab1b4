// Package torture knows the messages of RFC 4475 and RFC 5118, where a checkout has them beside it, and what baton is to do with
// each: over a datagram, over a connection, and for a sender who has logged in.
package torture

import (
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Dir holds the messages: *.dat in directories of their own. It is reached from a package of the project, two levels down at most.
const Dir = "shared/torture"

// After says what a connection is like when the message has been answered.
type After int

// A connection stays open; or it is closed, because nobody knows where the next message begins; or the end of the message is waited
// for, and the connection closed when that does not come.
const (
	Open After = iota
	Closed
	Waits
)

// Case is one message and what it must get.
type Case struct {
	Name string
	Data []byte

	Datagram []int // what a stranger is answered
	Stream   []int // the same over a connection, in ascending order
	After    After

	Login  string // who sends it with his password; "" where a password changes nothing
	As     string // user part that the message has in From and To, put in place of by Login's; "" = it is Login's already
	Served []int  // the status that he gets: one of these
}

// Cases are all messages that there are; none where the checkout has none.
func Cases() ([]Case, error) {
	var all []Case
	for _, up := range []string{"../", "../../", "../../../"} {
		files, err := filepath.Glob(filepath.Join(up, Dir, "*", "*.dat"))
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			all = append(all, of(strings.TrimSuffix(filepath.Base(name), ".dat"), data))
		}
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Name < all[j].Name })
	return all, nil
}

// Known says whether there is a row for the message.
func (c Case) Known() bool {
	_, ok := refused[c.Name]
	_, served := served[c.Name]
	return ok || served || dropped[c.Name]
}

func of(name string, data []byte) Case {
	c := Case{Name: name, Data: data}
	if code := refused[name]; code != 0 {
		c.Datagram = []int{code}
	}
	if s, ok := served[name]; ok {
		c.Datagram = []int{401}
		c.Login, c.As, c.Served = s.login, s.as, s.codes
	}
	c.Stream = c.Datagram
	if f, ok := framed[name]; ok {
		c.Stream, c.After = f.codes, f.after
	}
	return c
}

// dropped are never answered: responses to nothing.
var dropped = map[string]bool{"unreason": true, "noreason": true, "scalarlg": true, "bigcode": true, "bcast": true}

// refused are answered the same whoever sends them: before anybody is asked for a password. 481 is the answer in a dialog that is not
// there, 405 to a method that nobody has heard of.
var refused = map[string]int{
	"wsinv": 481, "intmeth": 405, "esc02": 405,
	"badinv01": 400, "clerr": 400, "ncl": 400, "scalar02": 400, "quotbal": 400, "ltgtruri": 400, "lwsruri": 400, "lwsstart": 400,
	"trws": 400, "escruri": 400, "regbadct": 400, "badaspec": 400, "baddn": 400, "baddn-terminated": 400, "badvers": 505,
	"mismatch01": 400, "mismatch02": 400, "badbranch": 400, "insuf": 400, "unkscm": 416, "novelsc": 416, "unksm2": 400, "bext01": 420,
	"invut": 415, "multi01": 400, "mcl01": 400, "sdp01": 406, "inv2543": 400, "test": 400,
	"ipv6-bad": 400, "via-received-param-with-delim": 481, "mult-ip-in-header": 481, "ipv6-bug-abnf-3-colons": 400,
}

// served are good messages: a stranger is challenged, and who sends them with a password is served. A user who has no phone is 480, a
// host that is none of ours 404; MESSAGE (mpart01) may be served or not.
var served = map[string]struct {
	login, as string
	codes     []int
}{
	"esc01": {"caller", "I%20have%20spaces", []int{404}}, "escnull": {"user", "null-%00-null", []int{200}},
	"lwsdisp": {"caller", "", []int{200}}, "longreq": {"caller", strings.Repeat("amazinglylongcallername", 5), []int{480}},
	"dblreq": {"j.user", "", []int{200}}, "semiuri": {"caller", "", []int{200}}, "transports": {"caller", "", []int{200}},
	"mpart01": {"fluffy", "", []int{200, 202, 404, 405, 415}}, "baddate": {"caller", "", []int{480}}, "regaut01": {"j.user", "", []int{200}},
	"zeromf": {"caller", "", []int{200}}, "cparam01": {"watson", "", []int{200}}, "cparam02": {"watson", "", []int{200}},
	"regescrt": {"user", "", []int{200}}, "ipv6-good": {"user", "", []int{200}}, "port-ambiguous": {"user", "", []int{200}},
	"port-unambiguous": {"user", "", []int{200}}, "via-received-param-no-delim": {"user", "", []int{404}}, // an address that is none of ours
	"ipv6-correct-abnf-2-colons": {"user", "", []int{404}}, "ipv6-in-sdp": {"user", "", []int{404}}, "mult-ip-in-sdp": {"user", "", []int{404}},
	"ipv4-mapped-ipv6": {"user", "", []int{404, 480}}, "5118-ipv4-mapped-ipv6-clfixed": {"user", "", []int{404, 480}},
	"5118-ipv6-in-sdp-clfixed": {"user", "", []int{404}}, "5118-mult-ip-in-sdp-clfixed": {"user", "", []int{404}},
}

// Logins are the users that the messages come from.
func Logins() []string { return []string{"user", "caller", "watson", "j.user", "fluffy"} }

// framed says what differs on a connection: messages whose end cannot be found are refused and the connection is closed; one that is
// shorter than it says, or whose headers do not end, is waited for.
var framed = map[string]struct {
	codes []int
	after After
}{
	"dblreq": {[]int{400, 401}, Closed}, // the second is an INVITE without Contact, and with more behind it than it says
	"ncl":    {[]int{400}, Closed}, "mcl01": {[]int{400}, Closed}, "inv2543": {[]int{400}, Closed},
	"clerr": {nil, Waits}, "baddn": {nil, Waits},
	// Their Content-Length counts line ends as one octet: what is left of the body is no message.
	"ipv4-mapped-ipv6": {[]int{401}, Closed}, "ipv6-in-sdp": {[]int{401}, Closed}, "mult-ip-in-sdp": {[]int{401}, Closed},
}
