package sip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// errPing is a CRLFCRLF between messages: a keep-alive to be answered by CRLF (RFC 5626 §3.5.1).
var errPing = errors.New("keep-alive ping")

// framingError ends a stream: where its next message begins cannot be known (RFC 3261 §18.3). It carries the headers,
// so that the message can be refused.
type framingError struct {
	code int // to refuse it with
	head []byte
	why  error
}

func (e *framingError) Error() string { return e.why.Error() }

// framer cuts a stream into messages by their Content-Length.
type framer struct {
	r       *bufio.Reader
	blank   int    // CRLFs since the last message
	started func() // called when a message's first byte is there; may be nil
}

func newFramer(r io.Reader) *framer { return &framer{r: bufio.NewReaderSize(r, 4096)} }

// next reads one message, or errPing.
func (f *framer) next() ([]byte, error) {
	if err := f.skipBlank(); err != nil {
		return nil, err
	}
	if f.started != nil {
		f.started()
	}
	head, err := f.head()
	if err != nil {
		return nil, err
	}
	n, err := contentLength(head)
	switch {
	case err != nil:
		return nil, &framingError{400, head, err}
	case n > MaxMessage-len(head):
		return nil, &framingError{513, head, fmt.Errorf("message of %d bytes", len(head)+n)}
	}
	msg := append(head, make([]byte, n)...)
	if _, err := io.ReadFull(f.r, msg[len(head):]); err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	return msg, nil
}

// skipBlank passes over the line ends before a message (RFC 3261 §7.5); two of them are a ping.
func (f *framer) skipBlank() error {
	for {
		b, err := f.r.Peek(1)
		if err != nil {
			return err
		}
		if b[0] != '\r' {
			f.blank = 0
			return nil
		}
		if b, err = f.r.Peek(2); err != nil {
			return err
		}
		if b[1] != '\n' {
			return errors.New("CR without LF between messages")
		}
		_, _ = f.r.Discard(2)
		if f.blank++; f.blank == 2 {
			f.blank = 0
			return errPing
		}
	}
}

// head reads start line and headers, with the empty line that ends them.
func (f *framer) head() ([]byte, error) {
	var head []byte
	first := true
	for {
		chunk, err := f.r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return nil, fmt.Errorf("read headers: %w", err)
		}
		head = append(head, chunk...)
		if first && !startsMessage(chunk) {
			return nil, &framingError{400, nil, errNotSIP}
		}
		first = false
		if len(head) > MaxMessage {
			return nil, &framingError{513, wholeLines(head), errors.New("headers do not end")}
		}
		if err == nil && bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			return head, nil
		}
	}
}

// wholeLines are the headers that came before a message was too long: enough to refuse it by.
func wholeLines(head []byte) []byte {
	return append(head[:bytes.LastIndex(head, []byte("\r\n"))+2], "\r\n"...)
}

// startsMessage tells a start line from what is surely none: the rest of a body, another protocol. What is wrong with
// one that may be a request is for the parser to say.
func startsMessage(line []byte) bool {
	method, rest, ok := strings.Cut(string(line), " ")
	return ok && (strings.HasPrefix(method, "SIP/") || isToken(method) && strings.ContainsRune(rest, ':'))
}

// contentLength finds the one Content-Length, long or compact, folded or not.
func contentLength(head []byte) (int, error) {
	text := strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(string(head))
	n, found := 0, 0
	for _, line := range strings.Split(text, "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ":")
		if name = trim(name); !strings.EqualFold(name, "Content-Length") && !strings.EqualFold(name, "l") {
			continue
		}
		v, err := strconv.ParseUint(trim(value), 10, 31)
		if err != nil {
			return 0, fmt.Errorf("bad Content-Length %q", value)
		}
		n = int(v)
		found++
	}
	if found != 1 {
		return 0, fmt.Errorf("%d Content-Lengths", found)
	}
	return n, nil
}
