package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const byMutualTLS = `{client_id: gate-mtls, timeout: 1s, cache: {max_age: 500ms, inactive_max_age: 100ms}}`

// Tokens of a certified server that nobody here wrote, bound by RFC 8705: of two partners,
// JWT and opaque, with each certificate and none. A request passes exactly where token and
// certificate belong together, from memory as the first time.
func TestForeignServer(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	for kind, resource := range map[string]string{"opaque": opaqueResource, "jwt": jwtResource} {
		f.issue(kind+" of ledger", "northwind", "northwind-ledger", resource)
		f.issue(kind+" of sync", "sync", "borealis-sync", resource)
		f.issue(kind+" of plain", "plain", "plain", resource)
	}
	f.gate(byMutualTLS)
	f.ready()
	for range 2 {
		for _, kind := range []string{"opaque", "jwt"} {
			f.passes(kind+" of ledger", "northwind")
			f.passes(kind+" of sync", "sync")
			f.fails(kind+" of ledger", "sync", 401, "bound_to_other", "invalid_token")
			f.fails(kind+" of sync", "northwind", 401, "bound_to_other", "invalid_token")
			f.fails(kind+" of ledger", "renewed", 401, "bound_to_other", "invalid_token")
			f.fails(kind+" of ledger", "", 401, "no_certificate", "invalid_token")
			f.fails(kind+" of ledger", "stranger", 401, "untrusted_certificate", "invalid_token")
			f.fails(kind+" of plain", "plain", 401, "not_bound", "invalid_token")
			// What is remembered is what the token says, not what it may: other calls are
			// judged by it, whether it was just found out or not.
			f.send(kind+" of ledger", "northwind", "GET", "/payments/7")
			f.check(f.refused(403, "api_not_allowed", ""))
			f.send(kind+" of ledger", "northwind", "POST", "/accounts/7")
			f.check(f.refused(403, "insufficient_scope", "insufficient_scope"))
		}
	}
	f.asked()

	// T-INT-05: what the server revokes counts within max_age, 500 ms here.
	f.passes("opaque of sync", "sync")
	f.post("sync", "/token/revocation", url.Values{"client_id": {"borealis-sync"}, "token": {f.tokens["opaque of sync"]}})
	took := f.eventually("refused", func() bool {
		f.send("opaque of sync", "sync", "GET", "/accounts/7")
		return f.answered(http.StatusUnauthorized)
	})
	t.Logf("revoked at the server, refused here after %s, with max_age 500ms", took)
	f.tokens["made up"] = "garbage-0123456789abcdefghijklmnopqrstuvwxy"
	f.refusals["inactive"]++
	f.fails("made up", "northwind", 401, "inactive", "invalid_token")
	f.end()
}

func (f *foreign) answered(status int) bool { return f.answer != nil && f.answer.StatusCode == status }

func (f *foreign) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Error(err)
	}
}

// asked holds the last question to RFC 7662 section 2.1: the token in the body alone.
func (f *foreign) asked() {
	f.t.Helper()
	var last struct {
		Method, URL, Certificate string
		Authorization            bool
		Parameters               []string
	}
	if err := json.Unmarshal([]byte(f.ask("requests")), &last); err != nil {
		f.t.Fatal(err)
	}
	want := "client_id token token_type_hint"
	if last.Method != "POST" || last.URL != "/token/introspection" || last.Authorization || last.Certificate != "gate" || strings.Join(last.Parameters, " ") != want {
		f.t.Errorf("asked by %+v", last)
	}
}

// The gate proves who it is in five ways, and answers may be signed. Where the server does
// not believe it, nothing is granted.
func TestForeignServerAuthentication(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	f.issue("token", "northwind", "northwind-ledger", opaqueResource)
	for name, introspection := range map[string]string{
		"tls_client_auth":     `{client_id: gate-mtls}`,
		"client_secret_basic": `{client_id: gate-basic, authentication: {method: client_secret_basic, secret_file: basic.txt}}`,
		"client_secret_post":  `{client_id: gate-post, authentication: {method: client_secret_post, secret_file: post.txt}}`,
		"private_key_jwt":     `{client_id: gate-jwt, authentication: {method: private_key_jwt, key_file: assertion-key.pem}}`,
		"signed answers":      `{client_id: gate-signed, signed: true}`,
	} {
		f.gate(introspection)
		f.ready()
		f.fails("token", "renewed", 401, "bound_to_other", "invalid_token")
		f.passes("token", "northwind")
		f.end()
		if f.t.Failed() {
			t.Fatalf("by %s", name)
		}
	}
	f.gate(`{client_id: gate-basic, authentication: {method: client_secret_basic, secret_file: post.txt}}`)
	f.ready()
	f.fails("token", "northwind", 503, "issuer_unavailable", "")
	f.end()
}

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

// decided returns how often the gate has decided so.
func (f *foreign) decided(reason string) int {
	f.t.Helper()
	return int(f.metric(`tallygate_decisions_total\{.*reason="` + reason + `"\}`))
}

// metric returns the sum of the gate's series that match.
func (f *foreign) metric(pattern string) (sum float64) {
	f.t.Helper()
	_, text, err := f.admin("/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^`+pattern+` (\S+)$`).FindAllSubmatch(text, -1) {
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			f.t.Fatal(err)
		}
		sum += v
	}
	return sum
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

// T-JWKS-08: the server rotates its key while requests go on. None is refused, and the new
// key costs one reading.
func TestForeignServerRotation(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	f.issue("old", "northwind", "northwind-ledger", jwtResource)
	f.gate(byMutualTLS)
	f.ready()
	f.passes("old", "northwind")
	f.counts()
	transport := &http.Transport{TLSClientConfig: f.client("northwind")}
	defer transport.CloseIdleConnections()
	var rotated atomic.Pointer[string]
	var sent, refused atomic.Int64
	call := func(token string) {
		r, err := http.NewRequest(http.MethodGet, "https://"+f.addresses["partners"]+"/accounts/7", nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.Host = "api.example.test"
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Error(err)
			return
		}
		_ = answer.Body.Close()
		if sent.Add(1); answer.StatusCode != http.StatusOK {
			refused.Add(1)
		}
	}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				call(f.tokens["old"])
				if fresh := rotated.Load(); fresh != nil {
					call(*fresh)
				}
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	f.tell("rotate")
	var fresh struct {
		AccessToken string `json:"access_token"`
	}
	body := f.post("northwind", "/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"northwind-ledger"}, "resource": {jwtResource}, "scope": {"accounts:read"}})
	if err := json.Unmarshal(body, &fresh); err != nil {
		t.Fatal(err)
	}
	rotated.Store(&fresh.AccessToken)
	time.Sleep(500 * time.Millisecond)
	close(stop)
	group.Wait()
	readings := f.counts()["/jwks"]
	t.Logf("%d requests across the rotation, %d refused, %d readings of the key set", sent.Load(), refused.Load(), readings)
	if refused.Load() > 0 || readings != 1 {
		t.Error("want none refused, and one reading")
	}
	f.end()
}
