package web

import (
	"net/http"
	"runtime"

	"baton/load"
	"baton/sip"
)

// Held counts what a node holds at this moment, so that a leak shows.
type Held struct {
	Goroutines   int    `json:"goroutines"`
	HeapBytes    uint64 `json:"heap_bytes"` // live, after a collection
	Calls        int    `json:"calls"`
	Streams      int    `json:"streams"` // media ports open
	Dialogs      int    `json:"dialogs"`
	Transactions int    `json:"transactions"` // SIP exchanges, also those kept for repeats
	Records      int    `json:"records"`      // of calls in the store

	Subscriptions int `json:"subscriptions"` // of phones to what others' phones do

	Connections sip.Connections `json:"connections"` // over TCP and TLS
	Web         PortCounts      `json:"web"`         // connections of the HTTPS port
	Relays      int             `json:"relays"`      // allocations of TURN
	Traffic     sip.Traffic     `json:"traffic"`     // SIP that was not served
	Load        load.Load       `json:"load"`
}

// debug shows what the node holds. It collects garbage first, and is for tests and the curious.
func (s *Server) debug(*http.Request) (any, error) {
	if s.Held == nil {
		return nil, refuse(http.StatusNotFound, "no node runs")
	}
	held, err := s.Held()
	if err != nil {
		return nil, err
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	held.HeapBytes, held.Goroutines = m.HeapAlloc, runtime.NumGoroutine()
	return held, nil
}
