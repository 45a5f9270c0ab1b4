package sip

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"baton/config"
)

// limited gives an agent limits.
func limited(l config.Limits) func(*Options) { return func(o *Options) { o.Limits = l } }

// agreeing answers 200 to everything outside dialogs.
func agreeing(o *Options) {
	o.Handlers = map[string]func(*Exchange){}
	for _, m := range []string{"REGISTER", "INVITE", "MESSAGE"} {
		o.Handlers[m] = func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) }
	}
}

// echo is what answered a flood.
type echo struct{ messages, bytes, challenges int }

// listen counts answers until nothing has come for a while.
func (w *wire) listen(got *echo, mu *sync.Mutex) {
	for {
		data, err := w.read(500 * time.Millisecond)
		if err != nil {
			return
		}
		mu.Lock()
		got.messages++
		got.bytes += len(data)
		if strings.HasPrefix(string(data), "SIP/2.0 401 ") {
			got.challenges++
		}
		mu.Unlock()
	}
}

// TestFloodOfStrangers sends 30,000 INVITEs without a password, as a phone writes them, from one address and from many,
// and wants one answer at most to each, no more than half as many bytes again, and nothing to be left of it.
func TestFloodOfStrangers(t *testing.T) {
	const n = 30_000
	for _, sources := range []int{1, 250} {
		t.Run(fmt.Sprint(sources), func(t *testing.T) {
			a := start(t, limited(config.Default().Limits))
			var all []*wire
			var got echo
			var mu sync.Mutex
			var wg sync.WaitGroup
			for i := range sources {
				w := dial(t, "udp", fmt.Sprintf("127.0.1.%d", 1+i), a.Addrs()["udp"])
				all = append(all, w)
				wg.Go(func() { w.listen(&got, &mu) })
			}
			sent, before, begin := 0, heap(), time.Now()
			for i := range n {
				m := msg{method: "INVITE", callID: fmt.Sprint("flood", i), body: strings.Repeat("a=rtpmap:0 PCMU/8000\r\n", 8)}.String()
				all[i%sources].send(m)
				sent += len(m)
				if i%40 == 0 { // the kernel's buffer is not what is tried here
					time.Sleep(time.Millisecond)
				}
			}
			wg.Wait()
			grown := int64(heap()) - int64(before)
			runtime.KeepAlive(all)
			t.Logf("%d requests of %d bytes, %+v, heap grew by %d KiB; %+v", n, sent, got, grown>>10, a.Traffic())
			if got.messages > n || got.bytes > sent*3/2 || got.challenges == 0 {
				t.Errorf("%+v to %d requests of %d bytes", got, n, sent)
			}
			most := 100 * float64(min(sources, 20)) * (burstSeconds + time.Since(begin).Seconds())
			if float64(got.challenges) > most {
				t.Errorf("%d were read, want %.0f at most", got.challenges, most)
			}
			if a.tables() != 0 || grown > 4<<20 {
				t.Errorf("%d entries and %d bytes are kept", a.tables(), grown)
			}
		})
	}
}

// TestOneSourceTooFast wants a stranger to be served up to his limit, to be told a few times that he is too fast, with
// when to come again, and then nothing; each that was not served to be counted; and nobody else to notice.
func TestOneSourceTooFast(t *testing.T) {
	a := start(t, agreeing, limited(config.Limits{Stranger: 10}))
	w := dial(t, "udp", "127.0.0.9", a.Addrs()["udp"])
	const n = 300
	for i := range n {
		w.send(msg{method: "INVITE", callID: fmt.Sprint("c", i)}.String())
	}
	codes := w.outcomes(300 * time.Millisecond)
	if codes[401] < 100 || codes[401] > 120 || codes[503] < 3 || codes[503] > 8 || len(codes) != 2 {
		t.Errorf("%v, want some 100 challenges and 3 refusals a second", codes)
	}
	c := a.Traffic()
	if int(c.Refused["stranger"]) != codes[503] || int(c.Dropped["stranger"]) != n-codes[401]-codes[503] {
		t.Errorf("%v, counted %+v", codes, c)
	}
	w.send("SIP/2.0 200 OK\r\n\r\n") // what is no request is never answered
	other := dial(t, "udp", "127.0.0.10", a.Addrs()["udp"])
	if r := other.attempt("alice", "pw"); r.code != 200 {
		t.Errorf("another source gets %d", r.code)
	}
}

// TestStrangersTogether wants strangers of many sources to have a limit together that REGISTERs have for themselves, and
// who has logged in not to share it.
func TestStrangersTogether(t *testing.T) {
	a := start(t, agreeing, limited(config.Limits{Strangers: 5}))
	at := a.Addrs()["udp"]
	known := dial(t, "udp", "127.0.0.9", at)
	if r := known.attempt("alice", "pw"); r.code != 200 {
		t.Fatalf("got %d", r.code)
	}
	for i := range 100 {
		w := dial(t, "udp", fmt.Sprintf("127.0.1.%d", 1+i), at)
		w.send(msg{method: "INVITE", callID: fmt.Sprint("c", i)}.String())
	}
	soon(t, "the limit", func() bool {
		c := a.Traffic()
		return c.Dropped["strangers"]+c.Refused["strangers"] > 40
	})
	if r := dial(t, "udp", "127.0.0.10", at).attempt("alice", "pw"); r.code != 200 {
		t.Errorf("a phone that is not known yet gets %d", r.code)
	}
	known.authenticated(msg{method: "INVITE", callID: "call"})
	known.expect(100)
	known.expect(200)
}

// TestNeighbourFloods has a source use up all that it may send, the phone behind the same NAT that has logged in going
// on with its calls.
func TestNeighbourFloods(t *testing.T) {
	a := start(t, agreeing, limited(config.Limits{Stranger: 10, Source: 10}))
	at := a.Addrs()["udp"]
	phone := dial(t, "udp", "127.0.0.9", at)
	if r := phone.attempt("alice", "pw"); r.code != 200 {
		t.Fatalf("got %d", r.code)
	}
	local, _ := addrOf(phone)
	d := Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: Flow{Transport: "udp", Local: at, Remote: local}}
	inside := make(chan string, 100)
	a.Attach(d, "alice", func(x *Exchange) {
		inside <- x.Method()
		_ = x.Respond(Reply{Code: 200})
	})
	neighbour := dial(t, "udp", "127.0.0.9", at)
	spent := func() {
		for i := range 200 {
			neighbour.send(msg{method: "INVITE", callID: fmt.Sprint("c", i)}.String())
		}
	}
	spent()
	soon(t, "the limit", func() bool { return a.Traffic().Dropped["source"] > 50 })
	for i := range 20 {
		phone.send(msg{method: "INFO", toTag: "lt", cseq: 10 + i}.String())
		phone.expect(200)
	}
	phone.authenticated(msg{method: "INVITE", callID: "new"})
	phone.expect(100)
	phone.expect(200)
	if len(inside) != 20 {
		t.Errorf("%d of 20 INFOs reached the dialog", len(inside))
	}
}

// TestBeyondTheLimit wants of the few messages beyond a limit that are read those to be served that belong to something,
// as from a phone whose NAT has given it another port in a call, and the others to be refused.
func TestBeyondTheLimit(t *testing.T) {
	a := start(t, handle("INVITE", func(x *Exchange) { _ = x.Respond(Reply{Code: 180}) }))
	at := a.Addrs()["udp"]
	phone := dial(t, "udp", "127.0.0.9", at)
	ringing := phone.authenticated(msg{method: "INVITE", callID: "ringing"})
	phone.expect(100)
	phone.expect(180)
	local, _ := addrOf(phone)
	d := Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: Flow{Transport: "udp", Local: at, Remote: local}}
	a.Attach(d, "alice", func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) })
	cancel := ringing
	cancel.method, cancel.headers = "CANCEL", nil
	for _, c := range []struct {
		name, from string
		m          msg
		want       int // 0 = nothing
	}{
		{"in a dialog", "127.0.0.9", msg{method: "BYE", toTag: "lt"}, 200},
		{"in a dialog, from elsewhere", "127.0.0.10", msg{method: "BYE", toTag: "lt"}, 503},
		{"in no dialog", "127.0.0.9", msg{method: "BYE", toTag: "none"}, 503},
		{"new", "127.0.0.9", msg{method: "INVITE", callID: "new"}, 503},
		{"a repeat", "127.0.0.9", ringing, 180},
		{"CANCEL for nothing", "127.0.0.9", msg{method: "CANCEL", callID: "new"}, 0},
		{"CANCEL", "127.0.0.9", cancel, 200},
	} {
		w := dial(t, "udp", c.from, at)
		from, _ := addrOf(w)
		a.turnAway([]byte(c.m.String()), Flow{Transport: "udp", Local: at, Remote: from}, overSource)
		if c.want == 0 {
			w.quiet(50 * time.Millisecond)
		} else if r := w.response(); r.code != c.want {
			t.Errorf("%s: %d, want %d", c.name, r.code, c.want)
		}
	}
}

// TestAnsweringIsAProof wants a flow to be known once a request of ours was answered over it, as that of a phone that had
// registered before the node was restarted; an answer to nothing is no proof.
func TestAnsweringIsAProof(t *testing.T) {
	a := start(t)
	w := dial(t, "udp", "127.0.0.9", a.Addrs()["udp"])
	local, _ := addrOf(w)
	flow := Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}
	w.send("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKnone\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
	done := make(chan error, 1)
	go func() {
		us := NameAddr{URI: URI{Scheme: "sip", Host: "example.com"}}
		d := Dialog{CallID: "1", Local: us, Remote: us, LocalTag: "1", Target: "sip:a@127.0.0.9", Flow: flow}
		_, err := a.Do(context.Background(), Outgoing{Dialog: d, Method: "OPTIONS", CSeq: 1})
		done <- err
	}()
	r := w.request()
	if a.limits.knows(flow) {
		t.Error("known by an answer to nothing")
	}
	w.send(string(a.reply(r, "tag", Reply{Code: 200})))
	if err := receive(t, "answer", done); err != nil || !a.limits.knows(flow) {
		t.Errorf("after its answer: known %v, error %v", a.limits.knows(flow), err)
	}
}

// TestUserTooFast wants a user to have limits of his own, for calls and for everything else outside of them.
func TestUserTooFast(t *testing.T) {
	for _, method := range []string{"MESSAGE", "INVITE"} {
		a := start(t, agreeing, limited(config.Limits{User: 1, Calls: 2}))
		w := dial(t, "udp", "", a.Addrs()["udp"])
		w.send(msg{method: method}.String())
		nonce := nonceOf(w.expect(401))
		for i := range 60 {
			m := msg{method: method, callID: fmt.Sprint("c", i), cseq: 2}
			m.headers = []string{login{user: "alice", password: "pw", method: method, nc: i + 1}.header(nonce)}
			w.send(m.String())
		}
		codes := w.outcomes(300 * time.Millisecond)
		if most := map[string]int{"MESSAGE": 10, "INVITE": 20}[method]; codes[200] < most || codes[200] > most+20 || codes[503] < 3 {
			t.Errorf("%s: %v, want some %d served", method, codes, most)
		}
		if c := a.Traffic(); len(c.Dropped)+len(c.Refused) == 0 {
			t.Errorf("%s: counted %+v", method, c)
		}
	}
}

// outcomes counts the final answers of different calls, until nothing has come for a while. A 2xx that is repeated is
// one answer.
func (w *wire) outcomes(quiet time.Duration) map[int]int {
	w.t.Helper()
	codes, seen := map[int]int{}, map[string]bool{}
	for last := time.Now(); time.Since(last) < quiet; {
		data, err := w.read(quiet)
		if err != nil {
			break
		}
		m, err := parse(data, Flow{})
		if err != nil {
			w.t.Fatal(err)
		}
		if r := m.(*Response); r.code >= 200 && !seen[r.callID] {
			seen[r.callID], last = true, time.Now()
			codes[r.code]++
		}
	}
	return codes
}

// TestBusyNode wants a node that has too much to do to refuse what is new, and to go on with the rest.
func TestBusyNode(t *testing.T) {
	busy := true
	a := start(t, agreeing, func(o *Options) { o.Busy = func() bool { return busy } })
	w := dial(t, "udp", "", a.Addrs()["udp"])
	local, _ := addrOf(w)
	d := Dialog{CallID: "cid", LocalTag: "lt", RemoteTag: "ft", Flow: Flow{Transport: "udp", Local: a.Addrs()["udp"], Remote: local}}
	a.Attach(d, "alice", func(x *Exchange) { _ = x.Respond(Reply{Code: 200}) })
	for _, method := range []string{"INVITE", "MESSAGE", "SUBSCRIBE"} {
		w.send(msg{method: method, callID: method}.String())
		r := w.expect(503)
		if s, err := strconv.Atoi(r.Header("Retry-After")); err != nil || s < 5 || s > 15 {
			t.Errorf("%s: Retry-After is %q", method, r.Header("Retry-After"))
		}
	}
	for _, method := range []string{"INFO", "INVITE"} {
		w.send(msg{method: method, toTag: "lt"}.String())
		if r := w.final(); r.code != 200 {
			t.Errorf("%s in a dialog: %d", method, r.code)
		}
	}
	for _, method := range []string{"REGISTER", "OPTIONS"} {
		w.authenticated(msg{method: method, callID: method})
		w.expect(200)
	}
	if c := a.Traffic(); c.Refused["busy"] != 3 {
		t.Errorf("counted %+v", c)
	}
}

// TestQueuesAreShared stops a queue and fills it: strangers take a quarter of it at most, new requests of those who are
// known three, and what belongs to a call has the rest; the same in bytes. What does not fit is counted.
func TestQueuesAreShared(t *testing.T) {
	for _, c := range []struct {
		name string
		body int
		want [3]int // how many of strangers, of new ones, and of in-dialog ones are taken in the end
	}{
		{"messages", 0, [3]int{queueLimit / 4, queueLimit / 2, queueLimit / 4}},
		{"bytes", 60_000, [3]int{16 << 20 / 60_500, 32 << 20 / 60_500, 16 << 20 / 60_500}},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := start(t)
			stranger := Flow{Transport: "udp", Remote: netip.MustParseAddrPort("127.0.0.9:9")}
			friend := Flow{Transport: "udp", Remote: netip.MustParseAddrPort("127.0.0.8:9")}
			a.limits.learn(friend, "alice")
			inside, release := make(chan struct{}), make(chan struct{})
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				a.shard("cid").queue.Do(func() { close(inside); <-release })
			}()
			<-inside
			body := strings.Repeat("x", c.body)
			for i, kind := range []struct {
				flow Flow
				m    msg
			}{{stranger, msg{method: "INVITE", body: body}}, {friend, msg{method: "INVITE", body: body}}, {friend, msg{method: "INFO", toTag: "lt", body: body}}} {
				before := a.Traffic().Dropped["queue"]
				data := []byte(kind.m.String())
				for range queueLimit {
					a.receive(data, kind.flow)
				}
				taken := queueLimit - int(a.Traffic().Dropped["queue"]-before)
				if d := taken - c.want[i]; d < -8 || d > 8 {
					t.Errorf("%d of kind %d are taken, want %d", taken, i, c.want[i])
				}
			}
			if w := a.Traffic().Waiting; w == 0 {
				t.Error("nothing waits")
			}
			close(release)
			<-stopped
			soon(t, "nothing to wait", func() bool { return a.Traffic().Waiting == 0 })
		})
	}
}
