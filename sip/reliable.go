package sip

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Provisional answers that must arrive (RFC 3262): as UAS they are repeated until their PRACK comes, one after the other;
// as UAC each is told once and in its order.

const option100rel = "100rel"

// reliable is what the reliable provisional answers of one INVITE need.
type reliable struct {
	seq     uint32  // RSeq of the newest
	acked   bool    // its PRACK has come
	session bool    // it carries a session description
	data    []byte  // repeated until then
	waiting []Reply // what must not be sent before
}

// answer sends an answer, or keeps it until those before it have arrived. mu is held.
func (tx *serverTx) answer(rep Reply) error {
	reliably := tx.reliably(rep)
	switch {
	case tx.mustWait(rep, reliably):
		tx.rel.waiting = append(tx.rel.waiting, rep)
		return nil
	case reliably:
		return tx.provisional(rep)
	}
	return tx.respond(rep)
}

// reliably says whether an answer is one that must arrive: all provisional ones above 100 if the INVITE requires it, those
// with a session description if it can.
func (tx *serverTx) reliably(rep Reply) bool {
	r := tx.request
	if !tx.inv || rep.Code <= 100 || rep.Code >= 200 || r.ToTag() != "" {
		return false
	}
	return r.Requires(option100rel) || len(rep.Body.Data) > 0 && r.Supports(option100rel)
}

// mustWait says whether something that was sent before must have arrived first: for the next reliable answer anything, for
// a 2xx a session description (RFC 3262 §3 and §5).
func (tx *serverTx) mustWait(rep Reply, reliably bool) bool {
	if tx.rel == nil || tx.rel.acked {
		return false
	}
	if reliably {
		return true
	}
	session := tx.rel.session
	for _, w := range tx.rel.waiting {
		session = session || len(w.Body.Data) > 0
	}
	return rep.Code/100 == 2 && session
}

// answered says whether the final answer was given, be it that it still waits.
func (tx *serverTx) answered() bool {
	if tx.state != proceeding {
		return true
	}
	return tx.rel != nil && len(tx.rel.waiting) > 0 && tx.rel.waiting[len(tx.rel.waiting)-1].Code >= 200
}

// provisional sends a reliable answer and has it repeated. mu is held.
func (tx *serverTx) provisional(rep Reply) error {
	if tx.rel == nil {
		tx.rel = &reliable{seq: firstRSeq()}
		tx.shard.mu.Lock()
		tx.shard.early[tx.earlyKey()] = tx
		tx.shard.mu.Unlock()
	}
	tx.rel.seq++
	tx.rel.acked, tx.rel.session = false, len(rep.Body.Data) > 0
	rep.Headers = append(rep.Headers[:len(rep.Headers):len(rep.Headers)],
		Header{"Require", option100rel}, Header{"RSeq", strconv.FormatUint(uint64(tx.rel.seq), 10)})
	a := tx.shard.agent
	tx.rel.data = a.reply(tx.request, tx.tag, rep)
	tx.last = tx.rel.data
	tx.repeatUntil()
	return a.send(tx.flow, tx.rel.data)
}

// firstRSeq is where the numbers of an INVITE begin (RFC 3262 §3: at random, below 2^31).
func firstRSeq() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:]) >> 2
}

func (tx *serverTx) earlyKey() ackKey {
	return ackKey{DialogID{tx.merge.callID, tx.tag, tx.merge.fromTag}, tx.merge.cseq}
}

// repeatProvisional repeats the reliable answer that is under way, ever more seldom. When no PRACK comes for 64·T1 the
// INVITE is refused, and who watches it is told that it is over. mu is held.
func (tx *serverTx) repeatProvisional() {
	if !time.Now().Before(tx.until) {
		_ = tx.respond(Reply{Code: 504, Headers: []Header{{"Warning", `399 ` + product + ` "no PRACK came"`}}})
		tx.tell(func(w *Watch) { call(w.Cancelled) })
		return
	}
	_ = tx.shard.agent.send(tx.flow, tx.rel.data)
	tx.interval *= 2
	tx.timer.Reset(min(tx.interval, time.Until(tx.until)))
}

// settleProvisional forgets what a final answer makes needless; a PRACK that is under way is taken all the same. mu is held.
func (tx *serverTx) settleProvisional() {
	if tx.rel == nil {
		return
	}
	tx.stopTimer()
	tx.rel.data, tx.rel.waiting = nil, nil
}

// acknowledge takes the number of a PRACK; false if nothing of that number waits for one.
func (tx *serverTx) acknowledge(seq uint32) bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.rel == nil || tx.rel.acked || tx.rel.seq != seq {
		return false
	}
	tx.rel.acked, tx.rel.data = true, nil
	if tx.state == proceeding {
		tx.stopTimer()
	}
	return true
}

// goOn sends what has waited for a PRACK, as far as it need not wait for the next.
func (tx *serverTx) goOn() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	waiting := tx.rel.waiting
	tx.rel.waiting = nil
	for _, rep := range waiting {
		if tx.state == proceeding {
			_ = tx.answer(rep)
		}
	}
}

// prack takes a PRACK to the answer that it acknowledges, and then to those who serve its dialog: it may bring an answer or
// an offer (RFC 3262 §5).
func (s *shard) prack(x *Exchange, serve func(*Exchange)) {
	seq, cseq, err := parseRAck(x.Header("RAck"))
	if err != nil {
		_ = x.Respond(Reply{Code: 400})
		return
	}
	s.mu.Lock()
	tx := s.early[ackKey{DialogID{x.callID, x.ToTag(), x.FromTag()}, cseq}]
	s.mu.Unlock()
	if tx == nil || !tx.acknowledge(seq) {
		_ = x.Respond(Reply{Code: 481})
		return
	}
	s.serve(x, serve)
	tx.goOn()
}

// parseRAck reads `RSeq CSeq INVITE` (RFC 3262 §7.2).
func parseRAck(v string) (seq, cseq uint32, err error) {
	f := strings.Fields(v)
	if len(f) != 3 || f[2] != "INVITE" {
		return 0, 0, fmt.Errorf("bad RAck %q", v)
	}
	var n [2]uint64
	for i := range n {
		if n[i], err = strconv.ParseUint(f[i], 10, 31); err != nil {
			return 0, 0, fmt.Errorf("bad RAck %q", v)
		}
	}
	return uint32(n[0]), uint32(n[1]), nil
}

// RSeq is the number of a provisional answer that its sender wants acknowledged by PRACK, 0 of any other.
func (r *Response) RSeq() uint32 {
	if r.code <= 100 || r.code >= 200 || r.ToTag() == "" || !r.Requires(option100rel) {
		return 0
	}
	n, err := strconv.ParseUint(r.Header("RSeq"), 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// RAck is the header by which a PRACK names the answer that it acknowledges (RFC 3262 §7.2).
func RAck(r *Response) Header {
	return Header{"RAck", fmt.Sprintf("%d %d %s", r.RSeq(), r.cseq, r.method)}
}

// fresh says whether a provisional answer is to be told: of the reliable ones of a dialog each once, in order (RFC 3262 §4).
func (tx *inviteTx) fresh(r *Response) bool {
	n := r.RSeq()
	if n == 0 {
		return true
	}
	if last, seen := tx.told[r.ToTag()]; seen && n != last+1 {
		return false
	}
	if tx.told == nil {
		tx.told = make(map[string]uint32)
	}
	tx.told[r.ToTag()] = n
	return true
}
