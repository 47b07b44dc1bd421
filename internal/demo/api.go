package demo

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
)

// A legacyAPI stands in for the API behind the gate. It answers every request with the headers that
// it received, and counts requests.
type legacyAPI struct {
	mu    sync.Mutex
	calls int
	last  http.Header
}

func (a *legacyAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.calls++
	a.last = r.Header.Clone()
	a.mu.Unlock()
	headers := map[string]string{}
	for name := range r.Header {
		headers[name] = r.Header.Get(name)
	}
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(map[string]any{"served": r.Method + " " + r.URL.Path, "headers_that_reached_the_api": headers})
}

// seen returns the number of requests so far, and the header of the last request.
func (a *legacyAPI) seen() (int, http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls, a.last
}

// names returns the field names of h in order.
func names(h http.Header) []string {
	var list []string
	for name := range h {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
