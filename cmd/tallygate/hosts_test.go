package main

import (
	"context"
	"io"
	"net/http"
	"testing"
)

// T-SNI-05: each request on an HTTP/2 connection is decided by its own host. A host that no API
// serves gets 421.
func TestCoalescedConnection(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	r.configure("hosts: [api.example.test]", `hosts: [api.example.test, "*.partners.example.test"]`)
	r.serve()
	transport := &http.Transport{TLSClientConfig: r.client("northwind"), ForceAttemptHTTP2: true, MaxConnsPerHost: 1}
	defer transport.CloseIdleConnections()
	for i, c := range []struct {
		host   string
		status int
	}{
		{"api.example.test", 200}, {"other.example.test", 421}, {"a.partners.example.test", 200}, {"a.b.partners.example.test", 421},
		{"api.example.test", 200},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.addresses["partners"]+"/accounts/7", nil)
		r.check(err)
		request.Host = c.host
		request.Header.Set("Authorization", "Bearer "+r.tokens["good"])
		answer, err := transport.RoundTrip(request)
		r.check(err)
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != c.status || answer.ProtoMajor != 2 {
			t.Errorf("request %d for %s: %s by %s, want %d", i, c.host, answer.Status, answer.Proto, c.status)
		}
	}
	if received, n := r.upstream.peek(); n != 3 {
		t.Errorf("%d requests reached the upstream:\n%s", n, received)
	}
	r.check(r.stop())
}
