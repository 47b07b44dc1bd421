package main

import (
	"encoding/json"
	"net/http"
	"net/url"
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
