package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gate"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// filling returns the memory limit of the gate in MiB and the number of large tokens that a partner
// sends: their claims would take twice what the caches may hold, an eighth of the limit. With
// TALLYGATE_BIG they would take twice the limit.
func filling() (limit, tokens int) {
	if os.Getenv("TALLYGATE_BIG") != "" {
		return 460, 100_000
	}
	return 60, 3_000
}

// sendTokens sends n tokens from token over open connections of northwind, and returns the number
// of responses by status; 0 is a closed connection.
func (r *reloading) sendTokens(n int, token func(i int) string) map[int]int {
	r.t.Helper()
	statuses, mu := map[int]int{}, sync.Mutex{}
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 4 {
		transport := &http.Transport{TLSClientConfig: r.client("northwind"), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
		clients.Go(func() {
			defer transport.CloseIdleConnections()
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				status := r.ask(transport, token(i))
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	return statuses
}

// ask sends a request with a token and returns the status, 0 without a response.
func (r *reloading) ask(transport http.RoundTripper, token string) int {
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	request := accountRequest(ctx, r.addresses[gate.PartnersListener], token)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// servesSoon fails the test unless another partner and a new connection of the same partner are
// served within ten seconds.
func (r *reloading) servesSoon() {
	r.t.Helper()
	for certificate, token := range map[string]string{"borealis": "sync", "northwind": "good"} {
		begun := time.Now()
		var status int
		if !gatetest.Within(10*time.Second, func() bool {
			transport := &http.Transport{TLSClientConfig: r.client(certificate)}
			defer transport.CloseIdleConnections()
			status = r.ask(transport, r.tokens[token])
			return status == http.StatusOK
		}) {
			r.t.Fatalf("ten seconds later %s got %d, want 200", certificate, status)
		}
		r.t.Logf("%s is served %s later", certificate, time.Since(begun).Round(time.Millisecond))
	}
}

// T-ADD-04: a partner sends large tokens, two of three of them granted. Their claims do not fill
// the memory.
func TestTokensThatFillMemory(t *testing.T) {
	t.Parallel()
	limit, tokens := filling()
	r := newReloading(t)
	r.signers["good"] = testpki.NewSigner("EdDSA", "k1")
	r.replace("keys.json", testpki.KeySet(r.signers["good"]))
	r.configure("algorithms: [ES256]", "algorithms: [EdDSA]", "granted: all", "granted: sample", "level: debug", "level: info", "header_bytes: 32KiB", "header_bytes: 64KiB")
	for name, args := range map[string][]string{"good": {"northwind", "northwind-ledger"}, "sync": {"borealis", "borealis-sync"}} {
		r.check(r.mint(append([]string{name}, args...)))
	}
	r.environment = []string{fmt.Sprintf("GOMEMLIMIT=%dMiB", limit)}
	r.serve()
	padding := strings.Repeat("a", 11<<10)
	good, other := r.pairs["northwind"], r.pairs["borealis"]
	statuses := r.sendTokens(tokens, func(i int) string {
		// From 3 to 11 KiB, as a subject of so many letters.
		subject, pair, audience := padding[:(3<<10)+i*1021%(8<<10)], good, "https://api.example.test"
		switch i % 6 {
		case 0:
			pair = other
		case 1:
			audience = "https://other.example.test"
		}
		return r.signers["good"].Token(testpki.Bound("https://as.example.test", audience, "northwind-ledger", pair, testpki.M{"sub": subject}))
	})
	used, err := r.metric("tallygate_cache_bytes")
	r.check(err)
	t.Logf("answers by status: %v; %.1f MiB are remembered", statuses, used/(1<<20))
	if used > float64(limit<<20/gate.CacheFraction) {
		t.Errorf("the caches hold %.1f MiB of %d MiB, want an eighth at most", used/(1<<20), limit)
	}
	if statuses[http.StatusOK]+statuses[http.StatusUnauthorized] < tokens*99/100 {
		t.Errorf("answers by status: %v, want 200 and 401", statuses)
	}
	r.servesSoon()
	r.check(r.stop())
}

// T-ADD-04, T-ADD-06: an authorization server returns 300 introspection responses of 0.9 MB for one
// partner. They are refused, and other responses of the server are used.
func TestAnswersThatFillMemory(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		subject := strings.Repeat("a", 900<<10)
		if strings.HasPrefix(request.FormValue("token"), "small") {
			subject = "northwind-ledger"
		}
		_, _ = fmt.Fprintf(w, `{"active": true, "client_id": "northwind-ledger", "aud": "https://api.example.test", "exp": %d, "sub": %q, "cnf": {"x5t#S256": %q}}`,
			time.Now().Add(time.Hour).Unix(), subject, r.pairs["northwind"].Thumbprint())
	}))
	t.Cleanup(server.Close)
	r.replace("secret.txt", []byte("secret"))
	r.configure("authorization_servers:\n", `authorization_servers:
  - name: opaque
    issuer: `+strings.Replace(server.URL, "http:", "https:", 1)+`
    audiences: [https://api.example.test]
    tokens: opaque
    partners: [northwind]
    connection: {insecure_loopback_http: true}
    introspection: {endpoint: "`+server.URL+`/introspect", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret.txt}}
`, "granted: all", "granted: sample", "level: debug", "level: info")
	r.environment = []string{"GOMEMLIMIT=80MiB"}
	r.serve()
	statuses := r.sendTokens(300, func(i int) string { return fmt.Sprint("large-", i) })
	t.Logf("answers by status: %v", statuses)
	if statuses[http.StatusOK] > 0 || statuses[0] > 0 { // 503, and 429 when there are too many
		t.Errorf("answers by status: %v", statuses)
	}
	if n, err := r.metric(`tallygate_introspection_suspended{issuer="opaque"}`); err != nil || n != 0 {
		t.Errorf("the large answers suspend the server for other tokens: %v, %v", n, err)
	}
	r.servesSoon()
	gatetest.EventuallyEqual(t, "requests with small tokens that got 200", 3, func() int {
		return r.sendTokens(3, func(int) string { return "small" })[http.StatusOK]
	})
	r.check(r.stop())
}
