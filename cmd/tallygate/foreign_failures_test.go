package main

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// T-INT-01, T-INT-07, T-INT-08, T-JWKS-01, T-JWKS-02: the introspection endpoint fails in every
// way. Cached tokens are granted, new tokens get 503 and are never granted, no request waits for
// long, tokens of other servers are granted, and the gate recovers by itself.
func TestForeignServerFailures(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	f.issue("known", "northwind", "northwind-ledger", opaqueResource)
	f.issue("jwt", "northwind", "northwind-ledger", jwtResource)
	if err := f.mint([]string{"static", "northwind", "northwind-ledger", `claims={"scope":"accounts:read"}`}); err != nil {
		t.Fatal(err)
	}
	f.tell("server stopped")
	f.gate(`{client_id: gate-mtls, timeout: 1s, cache: {max_age: 5m, inactive_max_age: 100ms}}`)
	if status, text, err := f.admin("/readyz"); err != nil || status != 503 || !strings.Contains(string(text), "foreign") {
		t.Errorf("with the server stopped: %d %s, %v", status, text, err)
	}
	for range 6 { // six failed requests would suspend introspection, if the gate sent them
		f.unavailable("known")
	}
	f.unavailable("jwt")
	f.passes("static", "northwind")
	f.tell("server ok")
	f.ready()
	f.passes("known", "northwind")
	f.passes("jwt", "northwind")

	n := 0
	fresh := func() string { // a token that the gate has not seen
		n++
		name := fmt.Sprint("fresh ", n)
		f.issue(name, "northwind", "northwind-ledger", opaqueResource)
		return name
	}
	for _, fault := range []string{"introspection 500", "introspection html", "introspection endless", "introspection empty",
		"introspection 204", "introspection 401", "introspection reset", "introspection slow", "server stopped"} {
		token := fresh()
		f.tell(fault)
		f.unavailable(token)
		f.passes("known", "northwind")
		f.passes("jwt", "northwind")
		f.passes("static", "northwind")
		if fault == "introspection slow" {
			f.load()
		}
		if fault == "server stopped" {
			for _, misuse := range f.misuses() { // cached results are checked too
				misuse("known")
				misuse("jwt")
			}
			f.tell("server ok")
		}
		f.tell("introspection ok")
		took := f.eventually("granted again", func() bool {
			f.send(token, "northwind", "GET", "/accounts/7")
			f.refusals["issuer_unavailable"] = f.decided("issuer_unavailable")
			return f.answered(http.StatusOK)
		})
		t.Logf("%s: recovered after %s", fault, took)
	}

	// The gate learns of no new key while the key set cannot be read.
	f.tell("jwks html")
	f.tell("rotate")
	f.issue("by the new key", "northwind", "northwind-ledger", jwtResource)
	f.unavailable("by the new key")
	f.passes("jwt", "northwind")
	f.tell("jwks ok")
	took := f.eventually("granted", func() bool {
		f.send("by the new key", "northwind", "GET", "/accounts/7")
		return f.answered(http.StatusOK)
	})
	t.Logf("jwks html: recovered after %s, with cool_down 1s", took)
	f.end()
}

// unavailable checks for a refusal with 503 and Retry-After.
func (f *foreign) unavailable(token string) {
	f.t.Helper()
	f.fails(token, "northwind", 503, "issuer_unavailable", "")
	if f.answer.Header.Get("Retry-After") == "" {
		f.t.Errorf("%s: no Retry-After", token)
	}
}

// load sends many new tokens of one partner at once, while the server takes 5 s for each and the
// timeout is 1 s. No request waits for all of them, another server's tokens are granted meanwhile,
// and no goroutine is left at the end.
func (f *foreign) load() {
	f.t.Helper()
	before := f.metric("go_goroutines")
	f.upstream.forget()
	var group sync.WaitGroup
	var wrong atomic.Int64
	start := time.Now()
	send := func(times int, transport *http.Transport, token func() string, want int) {
		defer transport.CloseIdleConnections()
		var calls sync.WaitGroup
		for range times {
			calls.Go(func() {
				status, err := f.get(transport, token())
				if err != nil {
					f.t.Error(err)
				} else if status != want {
					wrong.Add(1)
				}
			})
		}
		calls.Wait()
	}
	group.Go(func() {
		send(200, &http.Transport{TLSClientConfig: f.client("northwind")}, rand.Text, http.StatusServiceUnavailable)
	})
	group.Go(func() {
		transport := &http.Transport{TLSClientConfig: f.client("northwind")}
		for range 20 {
			send(1, transport, func() string { return f.tokens["static"] }, http.StatusOK)
		}
		f.t.Logf("20 tokens of another server, one after the other, meanwhile: %s", time.Since(start).Round(time.Millisecond))
	})
	group.Wait()
	took := time.Since(start).Round(time.Millisecond)
	if _, n := f.upstream.take(); n != 20 {
		f.t.Errorf("%d requests reached the upstream, want those of the other server's tokens", n)
	}
	// Idle connections to the server may remain, with two goroutines each, because connecting
	// continues after the end of the call that needed the connection. There are at most as many as one
	// holder has permits, a quarter of 64.
	var after float64
	f.eventually("quiet", func() bool {
		after = f.metric("go_goroutines")
		return after <= before+2*64/4+8
	})
	f.t.Logf("200 new tokens while each question takes 5 s: all answered after %s, %v goroutines before, %v after", took, before, after)
	if n := wrong.Load(); n > 0 || took > patience {
		f.t.Errorf("%d got another answer than they should; it took %s", n, took)
	}
	f.refusals["issuer_unavailable"] = f.decided("issuer_unavailable")
}
