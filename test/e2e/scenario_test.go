package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"baton/test/e2e/node"
	"baton/test/wire"
)

// scenario runs sipp with one of the scenarios in sipp/, which are templates of these parts.
type scenario struct {
	file  string
	user  string         // whose phone sipp is
	to    string         // whom it calls
	say   map[string]any // what the file leaves open
	calls int            // 1 if 0
	six   bool           // over IPv6
	path  *wire.Path     // between it and the node; nil = none
	args  []string
}

// The parts of scenarios. Headers are whole lines, with "\n" between them; sdp is a direction, perhaps with the codecs that follow
// (PCMU alone else), "" for no body. A request is sent by the one who called (from "caller") or by the one who was called ("callee").
var parts = template.FuncMap{
	"outside": func(method, headers, sdp string, cseq int) string {
		return send(true, fmt.Sprintf("%s sip:[to]@[remote_ip]:[remote_port] SIP/2.0", method), "From: <sip:[from]@[remote_ip]>;tag=[call_number]x",
			"To: <sip:[to]@[remote_ip]>", "CSeq: "+strconv.Itoa(cseq)+" "+method, headers, sdp)
	},
	"ackRefusal": func(cseq int) string {
		return "<send><![CDATA[\nACK sip:[to]@[remote_ip]:[remote_port] SIP/2.0\n[last_Via:]\nFrom: <sip:[from]@[remote_ip]>;tag=[call_number]x\n[last_To:]\n" +
			"Call-ID: [call_id]\nMax-Forwards: 70\nCSeq: " + strconv.Itoa(cseq) + " ACK\nContent-Length: 0\n\n]]></send>"
	},
	"inside": func(from, method, headers, sdp string, cseq int) string {
		return within(method != "ACK", from, method, headers, sdp, cseq)
	},
	"hangUp": func(from string, cseq int) string { // its answer has response_txn="bye": a 2xx to the INVITE that comes once more, as when the ACK is lost, is none
		return strings.Replace(within(true, from, "BYE", "", "", cseq), "<send", `<send start_txn="bye"`, 1)
	},
	"once": func(from, method, headers, sdp string, cseq int) string { // is not repeated: what comes next is no answer to it
		return within(false, from, method, headers, sdp, cseq)
	},
	"ackInside": func(from string, cseq int) string { // of a refused request of a dialog
		us, them := ends(from)
		return "<send><![CDATA[\nACK [next_url] SIP/2.0\n[last_Via:]\n" + us + "\n" + them +
			"\nCall-ID: [call_id]\nMax-Forwards: 70\nCSeq: " + strconv.Itoa(cseq) + " ACK\nContent-Length: 0\n\n]]></send>"
	},
	"apart": func(message string) string { // belongs to another dialog than the scenario's first
		return strings.Replace(message, "Call-ID: [call_id]", "Call-ID: apart///[call_id]", 1)
	},
	"answer": func(line, headers, sdp string) string {
		return "<send><![CDATA[\nSIP/2.0 " + line + "\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\n" + rest(headers, sdp) + "]]></send>"
	},
	"answerInvite": func(line, headers, sdp string) string {
		repeat := ""
		if line[0] != '1' {
			repeat = ` retrans="500"`
		}
		return "<send" + repeat + "><![CDATA[\nSIP/2.0 " + line + "\nVia:[$via]\nFrom:[$peer]\nTo:[$own];tag=[call_number]u\nCall-ID: [call_id]\nCSeq:[$cseq]\n" +
			rest(headers, sdp) + "]]></send>"
	},
	"keep": func(pairs ...string) string {
		var b strings.Builder
		b.WriteString("<action>")
		for i := 0; i+1 < len(pairs); i += 2 {
			fmt.Fprintf(&b, `<ereg regexp=".*" search_in="hdr" header="%s:" check_it="true" assign_to="%s"/>`, pairs[i], pairs[i+1])
		}
		return b.String() + "</action>"
	},
	"wants": func(header, pattern string) string { // fails the call if the message has no such header
		return fmt.Sprintf(`<action><ereg regexp="%s" search_in="hdr" header="%s:" check_it="true" assign_to="seen"/></action>`, pattern, header)
	},
}

// within is a request of a dialog.
func within(repeat bool, from, method, headers, sdp string, cseq int) string {
	us, them := ends(from)
	return send(repeat, method+" [next_url] SIP/2.0", us, them, "CSeq: "+strconv.Itoa(cseq)+" "+method, headers, sdp)
}

// ends are From and To of a request within a dialog.
func ends(from string) (us, them string) {
	if from == "callee" {
		return "From:[$own];tag=[call_number]u", "To:[$peer]"
	}
	return "From: <sip:[from]@[remote_ip]>;tag=[call_number]x", "To:[$peer]"
}

// send is a request that is repeated until it is answered, or sent once.
func send(repeat bool, line, from, to, cseq, headers, sdp string) string {
	retrans := ""
	if repeat {
		retrans = ` retrans="500"`
	}
	return "<send" + retrans + "><![CDATA[\n" + line + "\nVia: SIP/2.0/[transport] [local_ip]:[local_port];rport;branch=[branch]\n" + from + "\n" + to +
		"\nCall-ID: [call_id]\n" + cseq + "\nMax-Forwards: 70\n" + rest(headers, sdp) + "]]></send>"
}

var lastVersion = 0

func rest(headers, sdp string) string {
	out := "Contact: <sip:[from]@[local_ip]:[local_port]>\nAllow: INVITE, ACK, BYE, CANCEL, OPTIONS, PRACK, UPDATE, REFER, NOTIFY\n"
	if headers != "" {
		out += headers + "\n"
	}
	if sdp == "" {
		return out + "Content-Length: 0\n\n"
	}
	lastVersion++ // each description of a call is newer than the one before (RFC 3264 §8)
	direction, codecs, _ := strings.Cut(sdp, " ")
	if codecs == "" {
		codecs = "0"
	}
	return out + "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=sipp 1 " + strconv.Itoa(lastVersion) + " IN IP[media_ip_type] [media_ip]\ns=-\n" +
		"c=IN IP[media_ip_type] [media_ip]\nt=0 0\nm=audio [media_port] RTP/AVP " + codecs + " 101\n" +
		"a=rtpmap:101 telephone-event/8000\na=" + direction + "\n"
}

// sippRun is one sipp under way.
type sippRun struct {
	t    *testing.T
	s    scenario
	dir  string
	cmd  *exec.Cmd
	stop context.CancelFunc
	done chan error
}

// sipp starts one; it gets an address and ports of its own, or those that an earlier one had.
func (w *world) sipp(s scenario, port int) *sippRun {
	w.t.Helper()
	program := need(w.t, "sipp", "sip-tester")
	r := &sippRun{t: w.t, s: s, dir: w.t.TempDir(), done: make(chan error, 1)}
	text, err := template.New(s.file).Funcs(parts).ParseFiles("sipp/" + s.file)
	w.must(err)
	var xml bytes.Buffer
	w.must(text.Execute(&xml, s.say))
	w.must(os.WriteFile(r.dir+"/scenario.xml", xml.Bytes(), 0o600))
	server, at := w.UDP, node.IP(19)
	if s.six {
		server, at = w.UDP6, node.IP6(19)
	}
	uri := s.to + "@" + server.String() // what the digest is made for; the Request-URI is the same
	if s.to == "" {
		uri = s.user + "@" + server.String()
	}
	to := server
	if s.path != nil { // the URI of the digest is that which the node sees
		to = s.path.Server()
	}
	args := append([]string{
		to.String(), "-sf", r.dir + "/scenario.xml", "-m", strconv.Itoa(max(s.calls, 1)), "-i", ip(at), "-mi", at.String(),
		"-p", strconv.Itoa(port), "-mp", strconv.Itoa(2 * port), "-rtp_echo", "-nostdin", "-key", "from", s.user, "-key", "to", s.to,
		"-au", s.user, "-ap", node.Password(s.user), "-auth_uri", uri, "-timeout", "150s", "-timeout_error",
		"-trace_err", "-error_file", r.dir + "/errors", "-trace_msg", "-message_file", r.dir + "/messages",
		"-trace_stat", "-stf", r.dir + "/counts", "-fd", "1",
	}, s.args...)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Second)
	r.stop = cancel
	r.cmd = exec.CommandContext(ctx, program, args...)
	out, err := os.Create(r.dir + "/out")
	w.must(err)
	defer out.Close()
	r.cmd.Dir, r.cmd.Stdout, r.cmd.Stderr = r.dir, out, out
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	w.must(node.Spawn(r.cmd))
	go func() { r.done <- r.cmd.Wait() }()
	w.t.Cleanup(r.tell)
	return r
}

func ip(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// sippPort is a port for one sipp.
func (w *world) sippPort() int {
	port, _ := sippPorts.Next(w.t)
	return port
}

// wait checks that sipp has left with status 0, and that it counts every call as successful.
func (r *sippRun) wait() {
	r.t.Helper()
	err := <-r.done
	r.stop()
	good, bad, counted := r.counts()
	if want := max(r.s.calls, 1); err == nil && counted == nil && good == want && bad == 0 {
		return
	}
	r.t.Fatalf("sipp %s: %v; %d calls good, %d bad, %v", r.s.file, err, good, bad, counted)
}

// tell shows what sipp has to say of a test that has failed.
func (r *sippRun) tell() {
	r.stop()
	if r.t.Failed() {
		said, _ := os.ReadFile(r.dir + "/errors")
		sent, _ := os.ReadFile(r.dir + "/messages")
		shown, _ := os.ReadFile(r.dir + "/out")
		if len(sent) > 0 { // else it has not come to the point: its scenario is wrong
			shown = nil
		}
		r.t.Logf("sipp %s:\n%s\n%s\n%s", r.s.file, tail(string(shown), 2000), tail(string(said), 2000), tail(string(sent), 8000))
	}
}

// up waits until sipp listens: what is sent to it before that is lost, and repeated after half a second.
func (r *sippRun) up(port int) *sippRun {
	r.t.Helper()
	want := fmt.Sprintf(":%04X ", port)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/udp", r.cmd.Process.Pid)); strings.Contains(string(text), want) {
			return r
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("sipp does not listen at port %d", port)
		}
	}
}

// counts reads the last line of sipp's statistics.
func (r *sippRun) counts() (good, bad int, err error) {
	f, err := os.Open(r.dir + "/counts")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := csv.NewReader(f)
	lines.Comma, lines.FieldsPerRecord, lines.LazyQuotes = ';', -1, true
	all, err := lines.ReadAll()
	if err != nil || len(all) < 2 {
		return 0, 0, fmt.Errorf("%d lines of statistics, %w", len(all), err)
	}
	for i, name := range all[0] {
		n, _ := strconv.Atoi(all[len(all)-1][min(i, len(all[len(all)-1])-1)])
		switch name {
		case "SuccessfulCall(C)":
			good = n
		case "FailedCall(C)":
			bad = n
		}
	}
	return good, bad, nil
}

// sippPhone registers sipp as a user's phone at a port, at which a scenario is to wait for calls; soon, for what else the node
// sends there, as its OPTIONS, is not in the scenario.
func (w *world) sippPhone(user string, six bool, port int) {
	w.t.Helper()
	w.sipp(scenario{file: "register.xml", user: user, six: six}, port).wait()
}
