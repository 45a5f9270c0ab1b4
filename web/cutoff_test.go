package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"baton/call"
)

// TestCutOffAnswer: who asks a node for a move that it does not begin is told to try again, elsewhere perhaps.
func TestCutOffAnswer(t *testing.T) {
	w := httptest.NewRecorder()
	failWith(w, httptest.NewRequest(http.MethodPost, "/v1/move", nil), nil, conflict(fmt.Errorf("move: %w", call.ErrCutOff)))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "10" {
		t.Errorf("it got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}
