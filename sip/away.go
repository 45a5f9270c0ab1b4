package sip

import "sync"

// away are the flows of other nodes that this one uses. One that nobody has told us the end of is alive as long as its node is.
type away struct {
	mu    sync.Mutex
	flows map[Flow]chan struct{}   // connections; each channel closes with its flow
	nodes map[string]chan struct{} // for UDP
	ended [2]map[Flow]struct{}     // connections that were told to be no more, the younger and the older half

	down map[string]map[Flow]struct{} // by node: the connections of one that is taken for dead. They are there again if it lives
}

// maxEnded is how many connections of other nodes that are no more are remembered, twice: the number of one never comes again.
const maxEnded = 10_000

// use notes a flow, and gives what closes with it.
func (w *away) use(f Flow) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !f.reliable() {
		if w.nodes == nil {
			w.nodes = make(map[string]chan struct{})
		}
		if w.nodes[f.Node] == nil {
			w.nodes[f.Node] = make(chan struct{})
		}
		return w.nodes[f.Node]
	}
	if w.hasEnded(f) {
		return over
	}
	if w.flows == nil {
		w.flows = make(map[Flow]chan struct{})
	}
	if w.flows[f] == nil {
		w.flows[f] = make(chan struct{})
	}
	return w.flows[f]
}

// over is closed.
var over = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func (w *away) hasEnded(f Flow) bool {
	_, young := w.ended[0][f]
	_, old := w.ended[1][f]
	_, down := w.down[f.Node][f]
	return young || old || down
}

func (w *away) dead(f Flow) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hasEnded(f)
}

// end notes the end of a flow; false: it was known.
func (w *away) end(f Flow) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.finish(f)
}

func (w *away) finish(f Flow) bool {
	if !f.reliable() || w.hasEnded(f) {
		return false
	}
	w.remember(f)
	w.drop(f)
	return true
}

// remember notes that a connection will never be again.
func (w *away) remember(f Flow) {
	if w.ended[0] == nil || len(w.ended[0]) >= maxEnded {
		w.ended[1], w.ended[0] = w.ended[0], make(map[Flow]struct{})
	}
	w.ended[0][f] = struct{}{}
}

// drop tells those who use a connection that it is no more.
func (w *away) drop(f Flow) {
	if c := w.flows[f]; c != nil {
		close(c)
		delete(w.flows, f)
	}
}

func (w *away) endNode(node string) (ended []Flow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for f := range w.flows {
		if f.Node != node {
			continue
		}
		if w.down == nil {
			w.down = make(map[string]map[Flow]struct{})
		}
		if w.down[node] == nil {
			w.down[node] = make(map[Flow]struct{})
		}
		w.down[node][f] = struct{}{}
		w.drop(f)
		ended = append(ended, f)
	}
	if c := w.nodes[node]; c != nil {
		close(c)
		delete(w.nodes, node)
	}
	return ended
}

// back takes a node for living again that was taken for dead. lived: it has lived all the time, and so have its connections.
func (w *away) back(node string, lived bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !lived {
		for f := range w.down[node] {
			w.remember(f)
		}
	}
	delete(w.down, node)
}

func (w *away) of(node string) (all []Flow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for f := range w.flows {
		if f.Node == node {
			all = append(all, f)
		}
	}
	return all
}
