package edge

import (
	"context"
	"sync"
	"time"

	"baton/sip"
)

const (
	ownerFresh   = time.Second      // how long what was found is not asked for again
	ownerKept    = 10 * time.Second // and how long it is told of meanwhile
	ownerTimeout = time.Second      // of one look
	maxLooks     = 64               // under way
	maxHeld      = 256              // messages that wait for them
	maxOwners    = 4096             // that are remembered
)

// owners are the nodes of dialogs as they were found lately.
type owners struct {
	find func(ctx context.Context, callID string) (string, error)

	mu    sync.Mutex
	known map[string]ownership
	looks map[string][]func() // by Call-ID, what waits for it
	held  int
}

type ownership struct {
	node string // "" = none was found
	at   time.Time
}

func newOwners(find func(context.Context, string) (string, error)) *owners {
	return &owners{find: find, known: map[string]ownership{}, looks: map[string][]func(){}}
}

// of is the node of a dialog, "" = not known.
func (o *owners) of(callID string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if k := o.known[callID]; time.Since(k.at) < ownerKept {
		return k.node
	}
	return ""
}

// seek has then called when the owner is known, or cannot be found; what waits for one dialog stays in order. False: there is
// nothing to wait for.
func (o *owners) seek(callID string, then func()) bool {
	if o.find == nil {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	waiting, busy := o.looks[callID]
	if !busy && (time.Since(o.known[callID].at) < ownerFresh || len(o.looks) >= maxLooks) || o.held >= maxHeld {
		return false
	}
	o.held++
	o.looks[callID] = append(waiting, then)
	if !busy {
		go o.look(callID)
	}
	return true
}

// look finds one owner. Where that cannot be asked it is as it was found before; if it was not, the message itself tells, as well as it can.
func (o *owners) look(callID string) {
	ctx, cancel := context.WithTimeout(context.Background(), ownerTimeout)
	defer cancel()
	node, err := o.find(ctx, callID)
	if err != nil {
		node = o.of(callID)
	}
	o.learn(callID, node)
	for {
		o.mu.Lock()
		waiting := o.looks[callID]
		if len(waiting) == 0 {
			delete(o.looks, callID)
			o.mu.Unlock()
			return
		}
		o.looks[callID], o.held = waiting[1:], o.held-1
		o.mu.Unlock()
		waiting[0]()
	}
}

func (o *owners) learn(callID, node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) >= maxOwners {
		for id, k := range o.known {
			if time.Since(k.at) > ownerFresh {
				delete(o.known, id)
			}
		}
		if len(o.known) >= maxOwners {
			clear(o.known)
		}
	}
	o.known[callID] = ownership{node, time.Now()}
}

// forget has all be found anew: a node is gone, and its calls are soon another's.
func (o *owners) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	clear(o.known)
}

// Owner is the node that a dialog belongs to, as it was found lately.
func (e *Edge) Owner(d sip.DialogID) string { return e.owners.of(d.CallID) }

// Seek has then called once Owner can tell, if it has to be found out first.
func (e *Edge) Seek(d sip.DialogID, then func()) bool { return e.owners.seek(d.CallID, then) }
