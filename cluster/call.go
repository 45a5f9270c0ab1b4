package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Messages and requests between nodes.

var (
	// ErrNoNode says that there is no connection to the node now.
	ErrNoNode = errors.New("node is not connected")
	// ErrBusy says that more waits for the node already than there is room for.
	ErrBusy = errors.New("too much waits for the node")
	errSize = fmt.Errorf("more than %d bytes", MaxPayload)
)

// RemoteError is what went wrong at the node that was asked.
type RemoteError struct{ Node, Text string }

func (e *RemoteError) Error() string { return e.Node + ": " + e.Text }

// Send has a node given a message. It never waits: without a connection the error is ErrNoNode, without room ErrBusy, and the
// message is lost. One that was taken may still be lost with the connection.
func (m *Mesh) Send(node, kind string, payload []byte) error {
	s, err := m.sessionTo(node, kind, payload)
	if err == nil && !s.out.put(frame{what: frameMessage, kind: kind, payload: payload}) {
		err = m.drop(s)
	}
	if err != nil {
		return fmt.Errorf("message to node %s: %w", node, err)
	}
	return nil
}

func (m *Mesh) sessionTo(node, kind string, payload []byte) (*session, error) {
	if len(payload) > MaxPayload || len(kind) > maxKind {
		return nil, errSize
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.linked(node); s != nil {
		return s, nil
	}
	return nil, ErrNoNode
}

// drop counts a frame that there was no room for, and says why.
func (m *Mesh) drop(s *session) error {
	if s.over() {
		return ErrNoNode
	}
	m.counts.dropped.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	s.peer.dropped++
	return ErrBusy
}

// Call asks a node and waits for its answer; this node answers itself. The error is a *RemoteError if the node's handler
// failed, ErrNoNode if there is no connection or it ends before the answer, or the cause of ctx.
func (m *Mesh) Call(ctx context.Context, node, kind string, payload []byte) ([]byte, error) {
	b, err := m.call(ctx, node, kind, payload)
	if err != nil {
		return nil, fmt.Errorf("ask node %s for %s: %w", node, kind, err)
	}
	return b, nil
}

func (m *Mesh) call(ctx context.Context, node, kind string, payload []byte) ([]byte, error) {
	if node == m.self.ID {
		fn := m.requests[kind]
		if fn == nil {
			return nil, &RemoteError{node, "no such request"}
		}
		b, err := fn(ctx, node, payload)
		if err != nil {
			return nil, &RemoteError{node, err.Error()}
		}
		return b, nil
	}
	s, err := m.sessionTo(node, kind, payload)
	if err != nil {
		return nil, err
	}
	id, answer, open := s.open()
	if !open {
		return nil, ErrNoNode
	}
	defer s.forget(id)
	if !s.out.put(frame{what: frameRequest, id: id, kind: kind, payload: payload}) {
		return nil, m.drop(s)
	}
	select {
	case f, open := <-answer:
		switch {
		case !open:
			return nil, ErrNoNode
		case f.what == frameFailure:
			return nil, &RemoteError{node, string(f.payload)}
		}
		return f.payload, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-m.done:
		return nil, errLeaves
	}
}

// Result is one node's answer.
type Result struct {
	Node    string
	Payload []byte
	Err     error
}

// CallAll asks all nodes that are connected at once, this one not; the answers stand in the order of the nodes' names.
func (m *Mesh) CallAll(ctx context.Context, kind string, payload []byte, but ...string) []Result {
	m.mu.Lock()
	var all []Result
	for id, p := range m.peers {
		if p.session != nil && !slices.Contains(but, id) {
			all = append(all, Result{Node: id})
		}
	}
	m.mu.Unlock()
	slices.SortFunc(all, func(a, b Result) int { return strings.Compare(a.Node, b.Node) })
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i].Payload, all[i].Err = m.Call(ctx, all[i].Node, kind, payload) })
	}
	wg.Wait()
	return all
}

// open makes room for an answer; false: the connection has ended.
func (s *session) open() (id uint64, answer chan frame, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait == nil {
		return 0, nil, false
	}
	s.lastID++
	answer = make(chan frame, 1)
	s.wait[s.lastID] = answer
	return s.lastID, answer, true
}

// fail tells all who wait for answers that none will come.
func (s *session) fail() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.wait {
		close(c)
	}
	s.wait = nil
}

// request has a request answered, or refuses it when too many are being served.
func (s *session) request(f frame) {
	fn := s.mesh.requests[f.kind]
	if fn == nil {
		s.mesh.counts.unserved.Add(1)
		s.answer(f.id, nil, errors.New("no such request: "+f.kind))
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.answer(f.id, nil, errors.New("too many requests"))
		return
	}
	payload := append([]byte(nil), f.payload...)
	if !s.mesh.spawn(func() { s.handle(f.id, fn, payload) }) {
		<-s.slots
	}
}

func (s *session) handle(id uint64, fn func(context.Context, string, []byte) ([]byte, error), payload []byte) {
	defer func() { <-s.slots }()
	answered := false
	defer func() {
		if !answered {
			s.answer(id, nil, errors.New("it failed within"))
		}
	}()
	b, err := fn(s.ctx, s.node.ID, payload)
	answered = true
	s.answer(id, b, err)
}

func (s *session) answer(id uint64, payload []byte, err error) {
	f := frame{what: frameAnswer, id: id, payload: payload}
	if err == nil && len(payload) > MaxPayload {
		err = errSize
	}
	if err != nil {
		f.what, f.payload = frameFailure, []byte(err.Error())
	}
	if !s.out.put(f) {
		_ = s.mesh.drop(s)
	}
}
