package edge

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"baton/cluster"
	"baton/config"
	"baton/sip"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const realm = "baton-test"

func hash(s string) string { b := md5.Sum([]byte(s)); return hex.EncodeToString(b[:]) }

// everybody is known, with the password pw.
type everybody struct{}

func (everybody) Secret(login string) (sip.Secret, bool) {
	return sip.Secret{User: login, Identities: []string{login}, MD5: hash(login + ":" + realm + ":pw")}, true
}

// node is one node of a cluster in this process: mesh, edge and agent.
type node struct {
	t     *testing.T
	name  string
	mesh  *cluster.Mesh
	edge  *Edge
	agent *sip.Agent
	stop  func() // the mesh first, as a node that leaves

	mu     sync.Mutex
	owners map[string]string // of dialogs, by Call-ID
	flows  map[string]sip.Flow
	closed []sip.Flow
	invite func(*sip.Exchange)
	place  func(r *sip.Request, decided func(sip.Place)) bool
}

func (n *node) locked(fn func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fn()
}

func log() *slog.Logger {
	if os.Getenv("BATON_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// nodes are n1, n2, … which have found each other.
func nodes(t *testing.T, count int) []*node {
	t.Helper()
	key, dir := cluster.NewKey(), &cluster.Memory{}
	var all []*node
	for i := range count {
		all = append(all, open(t, fmt.Sprintf("n%d", i+1), key, dir))
	}
	for _, n := range all {
		for _, other := range all {
			if n != other {
				soon(t, "nodes find each other", func() bool { return n.mesh.Linked(other.name) && n.edge.Tagged(sip.NodeTag(other.name)) != "" })
			}
		}
	}
	return all
}

func open(t *testing.T, name string, key cluster.Key, dir cluster.Directory) *node {
	t.Helper()
	n := &node{t: t, name: name, owners: map[string]string{}, flows: map[string]sip.Flow{}}
	m, err := cluster.New(cluster.Options{ID: name, Listen: "127.0.0.1:0", Key: key, Directory: dir, Log: log()})
	must(t, err)
	n.mesh = m
	n.edge = New(m, func(_ context.Context, callID string) (owner string, err error) {
		n.locked(func() { owner = n.owners[callID] })
		return owner, nil
	}, log())
	n.agent, err = sip.NewAgent(sip.Options{
		Listen: config.Listen{UDP: "127.0.0.1:0", TCP: "127.0.0.1:0"}, Domain: "example.com", Realm: realm, Secret: []byte("secret"),
		Credentials: everybody{}, Limits: config.Limits{CPU: 90}, Node: name, Nodes: n.edge, Log: log(),
		Advertise: config.Advertise{SIP: name + ".example.com", Local: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		Handlers: map[string]func(*sip.Exchange){
			"REGISTER": func(x *sip.Exchange) {
				n.locked(func() { n.flows[x.User()] = x.Flow() })
				_ = x.Respond(sip.Reply{Code: 200})
			},
			"INVITE": func(x *sip.Exchange) {
				n.mu.Lock()
				serve := n.invite
				n.mu.Unlock()
				serve(x)
			},
		},
		Place: func(r *sip.Request, decided func(sip.Place)) bool {
			n.mu.Lock()
			place := n.place
			n.mu.Unlock()
			return place != nil && place(r, decided)
		},
		FlowClosed: func(f sip.Flow) { n.locked(func() { n.closed = append(n.closed, f) }) },
	})
	must(t, err)
	n.edge.Serve(n.agent)
	ctx, cancel := context.WithCancel(context.Background())
	agentCtx, cancelAgent := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = m.Run(ctx) })
	wg.Go(func() { _ = n.agent.Run(agentCtx) })
	n.stop = func() { cancel() }
	t.Cleanup(func() {
		cancel()
		cancelAgent()
		wg.Wait()
	})
	return n
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// phone is a peer that is no agent: it sends text and reads text.
type phone struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, network string, to *node) *phone {
	t.Helper()
	c, err := net.Dial(network, to.agent.Addrs()[network].String())
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return &phone{t, c, bufio.NewReaderSize(c, 1<<16)}
}

func (p *phone) send(text string) {
	p.t.Helper()
	_, err := p.conn.Write([]byte(text))
	must(p.t, err)
}

var lengthOf = regexp.MustCompile(`(?i)\r\nContent-Length: *(\d+)`)

// read waits for a message; "" if none comes in time.
func (p *phone) read(wait time.Duration) string {
	_ = p.conn.SetReadDeadline(time.Now().Add(wait))
	if p.conn.LocalAddr().Network() == "udp" {
		buf := make([]byte, 1<<16)
		n, err := p.r.Read(buf)
		if err != nil {
			return ""
		}
		return string(buf[:n])
	}
	var text strings.Builder
	for !strings.HasSuffix(text.String(), "\r\n\r\n") {
		line, err := p.r.ReadString('\n')
		if err != nil {
			return ""
		}
		text.WriteString(line)
	}
	if m := lengthOf.FindStringSubmatch(text.String()); m != nil {
		n, _ := strconv.Atoi(m[1])
		_, _ = io.CopyN(&text, p.r, int64(n))
	}
	return text.String()
}

// want waits for a message whose first line begins so; others, repeats for instance, are passed over.
func (p *phone) want(begins string) string {
	p.t.Helper()
	last := ""
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		text := p.read(time.Until(end))
		if strings.HasPrefix(text, begins) {
			return text
		}
		if text != "" {
			last = text
		}
	}
	p.t.Fatalf("no %s; last came\n%s", begins, last)
	return ""
}

func field(text, name string) string {
	for _, line := range strings.Split(text, "\r\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return v
		}
	}
	return ""
}

// answer is the answer to a request, with the To-tag p.
func answer(request, status string) string {
	to := field(request, "To")
	if !strings.Contains(to, "tag=") {
		to += ";tag=p"
	}
	return fmt.Sprintf("SIP/2.0 %s\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\nContact: <sip:bob@127.0.0.1:9>\r\nContent-Length: 0\r\n\r\n",
		status, field(request, "Via"), field(request, "From"), to, field(request, "Call-ID"), field(request, "CSeq"))
}

// request is one of a phone's.
type request struct {
	method, uri, from, to, callID string
	cseq                          int
	branch, auth                  string
}

var branches int

func (r request) String() string {
	if r.branch == "" {
		branches++
		r.branch = fmt.Sprintf("z9hG4bKb%d", branches)
	}
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;rport;branch=%s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\nMax-Forwards: 70\r\nContact: <sip:bob@127.0.0.1:9>\r\nUser-Agent: a phone whose requests are as long as those of a phone\r\n",
		r.method, r.uri, r.branch, r.from, r.to, r.callID, r.cseq, r.method)
	if r.auth != "" {
		text += "Authorization: " + r.auth + "\r\n"
	}
	return text + "Content-Length: 0\r\n\r\n"
}

var nonceIn = regexp.MustCompile(`nonce="([^"]*)"`)

func credentials(user, method, uri, nonce string, nc int) string {
	count := fmt.Sprintf("%08x", nc)
	response := hash(hash(user+":"+realm+":pw") + ":" + nonce + ":" + count + ":x:auth:" + hash(method+":"+uri))
	return fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", qop=auth, nc=%s, cnonce="x", response="%s"`, user, realm, nonce, uri, count, response)
}

// login sends a request with the credentials that it is asked for.
func (p *phone) login(r request, user string) {
	p.t.Helper()
	p.send(r.String())
	nonce := nonceIn.FindStringSubmatch(p.want("SIP/2.0 401"))[1]
	if r.method == "INVITE" {
		r.cseq++
	}
	r.cseq, r.auth = r.cseq+1, credentials(user, r.method, r.uri, nonce, 1)
	p.send(r.String())
}

func register(user string) request {
	return request{method: "REGISTER", uri: "sip:example.com", from: "<sip:" + user + "@example.com>;tag=f", to: "<sip:" + user + "@example.com>", callID: "r-" + user, cseq: 1}
}

// registered is the flow of a phone that has registered at a node, as another names it.
func (p *phone) registered(at *node, user string, to *node) (f sip.Flow) {
	p.t.Helper()
	p.login(register(user), user)
	p.want("SIP/2.0 200")
	at.locked(func() { f = at.flows[user] })
	return f.At(at.name, to.name)
}

func name(user string) sip.NameAddr {
	return sip.NameAddr{URI: sip.URI{Scheme: "sip", User: user, Host: "example.com"}}
}

func newCall(f sip.Flow) sip.Dialog {
	return sip.NewDialog(name("alice"), name("bob"), "sip:bob@127.0.0.1:9", nil, f, 0)
}

// TestTagAlone: a phone that drops the parameters of a Contact is found its call by the tag that it was given.
func TestTagAlone(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	p := dial(t, "udp", n2)
	d := n1.agent.NewDialog(name("alice"), name("bob"), "sip:bob@127.0.0.1:9", nil, p.registered(n2, "bob", n1), 0)
	d.RemoteTag = "p"
	n1.agent.Attach(d, "bob", func(x *sip.Exchange) { _ = x.Respond(sip.Reply{Code: 200}) })
	bye := request{
		method: "BYE", uri: "sip:alice@" + n2.agent.Addrs()["udp"].String(), from: "<sip:bob@example.com>;tag=p",
		to: "<sip:alice@example.com>;tag=" + d.LocalTag, callID: d.CallID, cseq: 1,
	}
	p.send(bye.String())
	p.want("SIP/2.0 200")
}

// TestCallThroughAnotherNode: a phone that is connected to n2 is called by n1, and everything of the dialog goes both ways.
func TestCallThroughAnotherNode(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			all := nodes(t, 2)
			n1, n2 := all[0], all[1]
			p := dial(t, network, n2)
			flow := p.registered(n2, "bob", n1)
			if flow.Node != "n2" || !n1.agent.Alive(flow) {
				t.Fatalf("flow %+v is not alive", flow)
			}
			d := newCall(flow)
			out := d.NewRequest("INVITE", sip.Body{})
			type result struct {
				r   *sip.Response
				err error
			}
			done, rang := make(chan result, 1), make(chan int, 4)
			go func() {
				r, err := n1.agent.Invite(t.Context(), out, func(r *sip.Response) { rang <- r.Code() })
				done <- result{r, err}
			}()
			invite := p.want("INVITE ")
			at := n2.agent.Addrs()[network].String()
			if !strings.Contains(field(invite, "Via"), at) || !strings.Contains(field(invite, "Contact"), at) {
				t.Errorf("it does not come as n2's own:\n%s", invite)
			}
			p.send(answer(invite, "180 Ringing"))
			if code := <-rang; code != 180 {
				t.Errorf("provisional %d", code)
			}
			p.send(answer(invite, "200 OK"))
			res := <-done
			must(t, res.err)
			d.Confirm(res.r)
			requests := make(chan *sip.Exchange, 8)
			n1.agent.Attach(d, "bob", func(x *sip.Exchange) {
				requests <- x
				_ = x.Respond(sip.Reply{Code: 200})
			})
			must(t, n1.agent.Ack(d, out, sip.Body{}))
			p.want("ACK ")

			go func() {
				_, err := n1.agent.Invite(t.Context(), d.NewRequest("INVITE", sip.Body{}), nil)
				done <- result{nil, err}
			}()
			p.send(answer(p.want("INVITE "), "488 Not Acceptable Here"))
			p.want("ACK ")
			if res := <-done; res.err == nil {
				t.Error("the re-INVITE's refusal did not come")
			}

			contact, _, _ := strings.Cut(strings.TrimPrefix(field(invite, "Contact"), "<"), ">")
			bare, _, _ := strings.Cut(contact, ";")
			inside := request{uri: contact, from: field(invite, "To") + ";tag=p", to: field(invite, "From"), callID: field(invite, "Call-ID"), cseq: 1}
			inside.method = "INVITE"
			p.send(inside.String())
			ok := p.want("SIP/2.0 200")
			if got := field(ok, "Contact"); !strings.Contains(got, at) {
				t.Errorf("answered with Contact %s", got)
			}
			ack := inside
			ack.method = "ACK"
			p.send(ack.String())
			if x := <-requests; x.Flow() != flow {
				t.Errorf("request came over %+v, want %+v", x.Flow(), flow)
			}
			again := p.read(1200 * time.Millisecond)
			if again != "" {
				t.Errorf("after the ACK came\n%s", again)
			}
			n1.locked(func() { n1.owners[d.CallID] = "n1" })
			n2.locked(func() { n2.owners[d.CallID] = "n1" })
			inside.method, inside.cseq, inside.uri = "BYE", 2, bare // a phone that drops parameters: the dialog's owner is known
			p.send(inside.String())
			p.want("SIP/2.0 200")
			if x := <-requests; x.Method() != "BYE" {
				t.Errorf("%s came", x.Method())
			}
			n1.agent.Detach(d.ID())
			inside.cseq = 3
			p.send(inside.String())
			p.want("SIP/2.0 481")
		})
	}
}

// TestEachHintFindsTheOwner: a dialog that the phone has begun at n1, whose next request it sends to n2.
func TestEachHintFindsTheOwner(t *testing.T) {
	all := nodes(t, 3)
	n1, n2 := all[0], all[1]
	attached := make(chan *sip.Exchange, 8)
	n1.locked(func() {
		n1.invite = func(x *sip.Exchange) {
			n1.agent.Attach(x.Dialog(0), x.User(), func(x *sip.Exchange) {
				attached <- x
				_ = x.Respond(sip.Reply{Code: 200})
			})
			_ = x.Respond(sip.Reply{Code: 200})
		}
	})
	p, q := dial(t, "udp", n1), dial(t, "udp", n2)
	call := request{method: "INVITE", uri: "sip:bob@example.com", from: "<sip:alice@example.com>;tag=f", to: "<sip:bob@example.com>", callID: "c1", cseq: 1}
	p.login(call, "alice")
	ok := p.want("SIP/2.0 200")
	_, rest, _ := strings.Cut(field(ok, "Contact"), "<")
	contact, _, _ := strings.Cut(rest, ">")
	ack := call
	ack.method, ack.to, ack.uri, ack.cseq = "ACK", field(ok, "To"), contact, 3
	q.send(ack.String()) // also by the other node
	if again := p.read(1200 * time.Millisecond); again != "" {
		t.Errorf("the ACK is not found; repeated was\n%s", again)
	}
	port := n2.agent.Addrs()["udp"].String()
	for hint, uri := range map[string]string{"Contact": contact, "To-tag": "sip:bob@" + port} {
		bye := call
		bye.method, bye.to, bye.uri, bye.cseq = "INFO", field(ok, "To"), uri, 10
		q.send(bye.String())
		q.want("SIP/2.0 200")
		if x := <-attached; x.Flow().Node != "n2" {
			t.Errorf("%s: it came over %+v", hint, x.Flow())
		}
	}
	// wrong everywhere: each takes the other for the owner, and it ends all the same
	for _, n := range all {
		n.locked(func() { n.owners["c9"] = map[string]string{"n1": "n2", "n2": "n3", "n3": "n1"}[n.name] })
	}
	lost := call
	lost.method, lost.to, lost.callID, lost.cseq = "BYE", "<sip:bob@example.com>;tag=nobody", "c9", 5
	q.send(lost.String())
	q.want("SIP/2.0 481")
	// claimed by n2, which has not taken it up yet: asked there, and through n1
	for _, n := range all {
		n.locked(func() { n.owners["c8"] = map[string]string{"n1": "n2", "n2": sip.Untaken, "n3": "n2"}[n.name] })
	}
	for _, at := range []*phone{p, q} {
		lost.callID, lost.branch = "c8", ""
		at.send(lost.String())
		if text := at.want("SIP/2.0 500"); field(text, "Retry-After") == "" {
			t.Errorf("no Retry-After:\n%s", text)
		}
	}
	// who is known as owner counts more than a hint
	n2.locked(func() { n2.owners["c1"] = "n3" })
	n2.edge.owners.forget()
	bye := call
	bye.method, bye.to, bye.uri, bye.cseq = "INFO", field(ok, "To"), contact, 11
	q.send(bye.String())
	q.want("SIP/2.0 481")
	// an owner that cannot be reached now: the dialog does not end by that
	n2.locked(func() { delete(n2.owners, "c1") })
	n2.edge.owners.forget()
	n1.stop()
	soon(t, "n1 has left", func() bool { return !n2.mesh.Linked("n1") })
	bye.cseq, bye.branch = 12, "z9hG4bKlast"
	q.send(bye.String())
	if text := q.want("SIP/2.0 500"); field(text, "Retry-After") == "" {
		t.Errorf("no Retry-After:\n%s", text)
	}
}

// TestCancelOfReinvite: the CANCEL of a re-INVITE, and the ACK of its refusal, find the owner that the INVITE went to.
func TestCancelOfReinvite(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	p := dial(t, "udp", n2)
	d := newCall(p.registered(n2, "bob", n1))
	d.RemoteTag = "p"
	cancelled, came := make(chan bool, 1), make(chan bool, 1)
	n1.agent.Attach(d, "bob", func(x *sip.Exchange) {
		x.Watch(sip.Watch{Cancelled: func() { cancelled <- true }})
		came <- true
	})
	r := request{
		method: "INVITE", uri: "sip:alice@127.0.0.1;baton-node=" + sip.NodeTag("n1"), from: "<sip:bob@example.com>;tag=p",
		to: "<sip:alice@example.com>;tag=" + d.LocalTag, callID: d.CallID, cseq: 1, branch: "z9hG4bKsame",
	}
	p.send(r.String())
	p.want("SIP/2.0 100")
	<-came
	cancel := r
	cancel.method = "CANCEL"
	p.send(cancel.String())
	p.want("SIP/2.0 487")
	ack := r
	ack.method = "ACK"
	p.send(ack.String())
	select {
	case <-cancelled:
	case <-time.After(5 * time.Second):
		t.Error("the owner does not hear of the CANCEL")
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		if text := p.read(time.Until(end)); strings.HasPrefix(text, "SIP/2.0 487") {
			t.Error("the ACK does not find the owner: its refusal is repeated")
		}
	}
}

// TestCancelCrosses200: the 2xx that crosses the CANCEL gets ACK and BYE, through the other node.
func TestCancelCrosses200(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	p := dial(t, "udp", n2)
	d := newCall(p.registered(n2, "bob", n1))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := n1.agent.Invite(ctx, d.NewRequest("INVITE", sip.Body{}), func(*sip.Response) { cancel() })
		done <- err
	}()
	invite := p.want("INVITE ")
	p.send(answer(invite, "180 Ringing"))
	gone := p.want("CANCEL ")
	p.send(answer(invite, "200 OK"))
	p.send(answer(gone, "200 OK"))
	p.want("ACK ")
	p.send(answer(p.want("BYE "), "200 OK"))
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestFlowThatCloses at another node is told: what waits for it ends, and so does the node with all its flows.
func TestFlowThatCloses(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	p, u := dial(t, "tcp", n2), dial(t, "udp", n2)
	flow, datagrams := p.registered(n2, "bob", n1), u.registered(n2, "carol", n1)
	calls := map[string]chan error{"tcp": make(chan error, 1), "udp": make(chan error, 1)}
	for network, f := range map[string]sip.Flow{"tcp": flow, "udp": datagrams} {
		d := newCall(f)
		go func() {
			_, err := n1.agent.Invite(t.Context(), d.NewRequest("INVITE", sip.Body{}), nil)
			calls[network] <- err
		}()
	}
	p.want("INVITE ")
	u.want("INVITE ")
	_ = p.conn.Close()
	gone := func(what string, c chan error) {
		t.Helper()
		select {
		case err := <-c:
			if !errors.Is(err, sip.ErrFlowGone) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the INVITE waits on", what)
		}
	}
	gone("connection closed", calls["tcp"])
	if n1.agent.Alive(flow) {
		t.Error("a closed flow is alive")
	}
	soon(t, "n1 is told that the flow has closed", func() (told bool) {
		n1.locked(func() { told = len(n1.closed) == 1 && n1.closed[0] == flow })
		return told
	})
	d := newCall(flow)
	if _, err := n1.agent.Do(t.Context(), d.NewRequest("OPTIONS", sip.Body{})); !errors.Is(err, sip.ErrFlowGone) {
		t.Errorf("over a closed flow: %v", err)
	}
	never := flow // of an earlier run
	never.ID++
	d = newCall(never)
	if _, err := n1.agent.Do(t.Context(), d.NewRequest("OPTIONS", sip.Body{})); !errors.Is(err, sip.ErrFlowGone) {
		t.Errorf("over a flow that never was: %v", err)
	}
	n2.stop()
	gone("node left", calls["udp"])
	if n1.agent.Alive(datagrams) {
		t.Error("a flow of a node that has left is alive")
	}
}

// TestMissedEnd: a connection that closes while its node is not linked is told of afterwards.
func TestMissedEnd(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	p := dial(t, "tcp", n2)
	flow := p.registered(n2, "bob", n1)
	d := newCall(flow)
	done := make(chan error, 1)
	go func() {
		_, err := n1.agent.Invite(t.Context(), d.NewRequest("INVITE", sip.Body{}), nil)
		done <- err
	}()
	p.want("INVITE ")
	n1.mesh.Break("n2")
	_ = p.conn.Close()
	select {
	case err := <-done:
		if !errors.Is(err, sip.ErrFlowGone) {
			t.Error(err)
		}
	case <-time.After(8 * time.Second):
		t.Error("n1 never hears of it")
	}
}

// TestCloseFlow closes a connection at the node that has it.
func TestCloseFlow(t *testing.T) {
	all := nodes(t, 2)
	n1, n2 := all[0], all[1]
	p := dial(t, "tcp", n2)
	n1.agent.CloseFlow(p.registered(n2, "bob", n1))
	_ = p.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := p.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("the connection is open: %v", err)
	}
}

// TestS17NonceAtAnotherNode: a recorded request is good at no node; a phone whose nonce another node gave is asked again, as for a
// nonce that is too old.
func TestS17NonceAtAnotherNode(t *testing.T) {
	all := nodes(t, 2)
	p, q := dial(t, "udp", all[0]), dial(t, "udp", all[1])
	r := register("bob")
	p.send(r.String())
	nonce := nonceIn.FindStringSubmatch(p.want("SIP/2.0 401"))[1]
	r.cseq, r.auth = 2, credentials("bob", "REGISTER", r.uri, nonce, 1)
	p.send(r.String())
	p.want("SIP/2.0 200")
	for nc := 1; nc < 3; nc++ { // as it was, and the next count
		r.branch, r.auth = "", credentials("bob", "REGISTER", r.uri, nonce, nc)
		q.send(r.String())
		text := q.want("SIP/2.0 401")
		if !strings.Contains(text, "stale=true") {
			t.Errorf("the password is asked for:\n%s", text)
		}
	}
	q.login(register("bob"), "bob")
	q.want("SIP/2.0 200")
}

// TestGuessesAreCountedByAll: who guesses a password at one node is held up at the other too.
func TestGuessesAreCountedByAll(t *testing.T) {
	all := nodes(t, 2)
	p, q := dial(t, "udp", all[0]), dial(t, "udp", all[1])
	tries := func(at *phone, password string, cseq int) string {
		r := register("bob")
		r.cseq = cseq
		at.send(r.String())
		nonce := nonceIn.FindStringSubmatch(at.want("SIP/2.0 401"))[1]
		r.cseq, r.auth = cseq+1, credentials("bob", "REGISTER", r.uri, nonce, 1)
		if password != "pw" {
			r.auth = strings.Replace(r.auth, `response="`, `response="0`, 1)
		}
		at.send(r.String())
		return at.want("SIP/2.0 ")
	}
	tries(q, "wrong", 1) // its flow has failed, and is not what a phone behind the same NAT is let pass for
	if said := tries(q, "pw", 3); !strings.HasPrefix(said, "SIP/2.0 200") {
		t.Fatalf("one mistake holds bob up:\n%s", said)
	}
	q = dial(t, "udp", all[1])
	tries(q, "wrong", 1)
	for i := range 12 {
		tries(p, "wrong", 1+2*i)
	}
	_, _ = all[0].mesh.Call(t.Context(), "n2", "nothing", nil) // what n1 has told before has come with its answer
	if said := tries(q, "pw", 3); !strings.HasPrefix(said, "SIP/2.0 401") {
		t.Errorf("n2 lets in who guesses at n1:\n%s", said)
	}
}

// TestOwnIsEveryNodes: a URI with another node's host means this one too.
func TestOwnIsEveryNodes(t *testing.T) {
	all := nodes(t, 2)
	soon(t, "n1 knows n2's host", func() bool { return all[0].agent.Own("n2.example.com") && all[1].agent.Own("n1.example.com") })
	if all[0].agent.Own("n3.example.com") {
		t.Error("a stranger's host is ours")
	}
}

// TestGarbage of another node ends nothing.
func TestGarbage(t *testing.T) {
	all := nodes(t, 2)
	for _, kind := range []string{kindRead, kindSend, kindGone, kindClose, kindHold, kindHosts, kindFail} {
		for _, text := range []string{"", "x", "\xff\xff", "\x00\x02{}", "\x00\x02{}SIP", "\x00\x05[1,2]"} {
			must(t, all[0].mesh.Send("n2", kind, []byte(text)))
		}
	}
	p := dial(t, "udp", all[1])
	d := newCall(p.registered(all[1], "bob", all[0]))
	go func() { p.send(answer(p.want("OPTIONS "), "200 OK")) }()
	if _, err := all[0].agent.Do(t.Context(), d.NewRequest("OPTIONS", sip.Body{})); err != nil {
		t.Error(err)
	}
}

func FuzzUnpack(f *testing.F) {
	good, _ := pack(sip.Flow{Transport: "udp", Local: netip.MustParseAddrPort("192.0.2.1:5060"), ID: 3}, []byte("SIP"))
	f.Add(good)
	f.Add([]byte("\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, data, err := unpack(b)
		if err == nil && (flow.Node != "" || len(data) > len(b)) {
			t.Fatalf("%+v, %d bytes", flow, len(data))
		}
	})
}

// TestNodeBack: a node that could not be reached for a while is there again, with the connections that it had; one that was started anew has none of them.
func TestNodeBack(t *testing.T) {
	for _, c := range []struct {
		run  string
		want bool
	}{{"first", true}, {"second", false}} {
		all := nodes(t, 2)
		n1, n2 := all[0], all[1]
		p := dial(t, "tcp", n2)
		flow := p.registered(n2, "bob", n1)
		gone := make(chan error, 1)
		go func() {
			d := newCall(flow)
			_, err := n1.agent.Do(context.Background(), d.NewRequest("OPTIONS", sip.Body{}))
			gone <- err
		}()
		p.want("OPTIONS")
		n1.edge.changed(cluster.Event{Node: cluster.Node{ID: "n2", Instance: "first"}, To: cluster.Dead})
		if err := <-gone; !errors.Is(err, sip.ErrFlowGone) {
			t.Errorf("who waits for an answer over a connection of a node that is gone is told %v", err)
		}
		if n1.agent.Alive(flow) {
			t.Error("a connection of a node that is gone is alive")
		}
		n1.edge.changed(cluster.Event{Node: cluster.Node{ID: "n2", Instance: c.run}, To: cluster.Alive, Why: cluster.Linked})
		if got := n1.agent.Alive(flow); got != c.want {
			t.Errorf("after the node is back in its %s run its connection is alive: %v", c.run, got)
		}
	}
}
