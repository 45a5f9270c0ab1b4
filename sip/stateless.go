package sip

// Answers that nothing is remembered of (RFC 3261 §8.2.7): challenges, and refusals of what cannot be served. Whoever
// sent the request has not shown that he is where it seems to come from, so that over UDP an answer must be no weapon
// against who is there: it goes to the source alone, once, and is not much longer than the request was.

// stateless answers a request once and forgets it. An answer over UDP that would be too long is written in the short
// form; when that is too long too, there is none: the request is shorter than any phone's.
func (a *Agent) stateless(r *Request, rep Reply) {
	tag := a.auth.statelessTag(r)
	data := a.reply(r, tag, rep)
	if !r.flow.reliable() && amplifies(data, r) {
		if data = a.shortReply(r, tag, rep); amplifies(data, r) {
			return
		}
	}
	_ = a.send(r.flow, data)
}

// amplifies says whether an answer is more than half as long again as its request.
func amplifies(answer []byte, r *Request) bool { return 2*len(answer) > 3*r.length }

// dispensable names the headers that an answer in the short form leaves out.
var dispensable = []string{"Server", "Allow", "Accept", "Supported"}

// letters holds the compact forms by the long ones (RFC 3261 §7.3.3).
var letters = func() map[string]string {
	m := make(map[string]string)
	for letter, name := range compact {
		m[name] = letter
	}
	return m
}()
