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

// T-INT-01, T-INT-07, T-INT-08, T-JWKS-01, T-JWKS-02: the server's introspection fails in
// every way. What is remembered serves, what is new is 503 and never a grant, nobody waits
// for long, other servers' tokens pass, and all is well again by itself.
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
	f.unavailable("known")
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
	f.end()
}

// unavailable holds a refusal to what clients need: 503, and when to come again.
func (f *foreign) unavailable(token string) {
	f.t.Helper()
	f.fails(token, "northwind", 503, "issuer_unavailable", "")
	if f.answer.Header.Get("Retry-After") == "" {
		f.t.Errorf("%s: no Retry-After", token)
	}
}

// load sends many new tokens at once while the server takes 5 s for each, with a timeout
// of one: nobody waits for all of them, and nothing is left when they are answered.
func (f *foreign) load() {
	f.t.Helper()
	before := f.metric("go_goroutines")
	transport := &http.Transport{TLSClientConfig: f.client("northwind"), MaxConnsPerHost: 100}
	defer transport.CloseIdleConnections()
	var group sync.WaitGroup
	var other atomic.Int64
	start := time.Now()
	for range 200 {
		group.Go(func() {
			r, err := http.NewRequest(http.MethodGet, "https://"+f.addresses["partners"]+"/accounts/7", nil)
			if err != nil {
				f.t.Error(err)
				return
			}
			r.Host = "api.example.test"
			r.Header.Set("Authorization", "Bearer "+rand.Text())
			answer, err := transport.RoundTrip(r)
			if err != nil {
				f.t.Error(err)
				return
			}
			_ = answer.Body.Close()
			if answer.StatusCode != http.StatusServiceUnavailable {
				other.Add(1)
			}
		})
	}
	group.Wait()
	took := time.Since(start).Round(time.Millisecond)
	transport.CloseIdleConnections()
	// An idle connection to the server, of which there may be as many as calls under way,
	// 64 by default, has two goroutines.
	var after float64
	f.eventually("quiet", func() bool {
		after = f.metric("go_goroutines")
		return after <= before+2*64+10
	})
	f.t.Logf("200 new tokens while each question takes 5 s: all answered after %s, %v goroutines before, %v after", took, before, after)
	if n := other.Load(); n > 0 || took > patience {
		f.t.Errorf("%d got another answer than 503; it took %s", n, took)
	}
	f.refusals["issuer_unavailable"] = f.decided("issuer_unavailable")
}
