package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

const byMutualTLS = `{client_id: gate-mtls, timeout: 1s, cache: {max_age: 500ms, inactive_max_age: 100ms}}`

// Tokens of a certified authorization server, bound by RFC 8705: of two partners, JWT and opaque,
// with each certificate and without. A request is granted only if token and certificate belong
// together, on the first call and from the cache.
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
			f.fails(kind+" of sync", "northwind", 401, "bound_to_other", "invalid_token")
			f.fails(kind+" of ledger", "renewed", 401, "bound_to_previous", "invalid_token")
			f.fails(kind+" of ledger", "", 401, "no_certificate", "invalid_token")
			f.fails(kind+" of sync", "", 401, "no_certificate", "invalid_token")
			f.fails(kind+" of ledger", "stranger", 401, "untrusted_certificate", "invalid_token")
			f.fails(kind+" of plain", "plain", 401, "not_bound", "invalid_token")
			f.fails(kind+" of plain", "sync", 401, "not_bound", "invalid_token")
			for _, misuse := range f.misuses() {
				misuse(kind + " of ledger")
			}
		}
	}
	f.asked()

	// T-INT-03: after a refused call, the cache has the claims of the token, and the gate decides
	// about the next call again.
	for kind, resource := range map[string]string{"opaque": opaqueResource, "jwt": jwtResource} {
		for reason, misuse := range f.misuses() {
			token := kind + " first " + reason
			f.issue(token, "northwind", "northwind-ledger", resource)
			misuse(token)
			f.passes(token, "northwind")
		}
	}

	// T-INT-05: a revocation by the server takes effect within max_age, 500 ms in this test.
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

// TestForeignServerRecipe runs the configuration of docs/servers/oidc-provider.md.
func TestForeignServerRecipe(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	f.issue("bound", "northwind", "northwind-ledger", jwtResource)
	f.issue("unbound", "plain", "plain", jwtResource)
	f.pairs["internal-ca"].Write(f.dir, "as-ca")
	block := strings.NewReplacer("https://as.example.com", f.issuer, "https://api.example.com", jwtResource).Replace(pageBlock(t, "oidc-provider.md", "yaml", "issuer: "))
	f.gateWith(block)
	f.passes("bound", "northwind")
	f.fails("bound", "renewed", 401, "bound_to_previous", "invalid_token")
	f.fails("unbound", "northwind", 401, "not_bound", "invalid_token")
	f.end()
}

// misuses are calls that must be refused with ledger's token, by reason.
func (f *foreign) misuses() map[string]func(token string) {
	return map[string]func(string){
		"bound_to_other": func(token string) {
			f.t.Helper()
			f.fails(token, "sync", 401, "bound_to_other", "invalid_token")
		},
		"api_not_allowed": func(token string) {
			f.t.Helper()
			f.send(token, "northwind", "GET", "/payments/7")
			f.check(f.refused(403, "api_not_allowed", ""))
		},
		"insufficient_scope": func(token string) {
			f.t.Helper()
			f.send(token, "northwind", "POST", "/accounts/7")
			f.check(f.refused(403, "insufficient_scope", "insufficient_scope"))
		},
	}
}

// asked checks the last introspection request: RFC 7662 section 2.1 (the token is in the body
// only), and RFC 8705 section 5 (a client with a certificate uses the alias).
func (f *foreign) asked() {
	f.t.Helper()
	var last struct {
		Method, Host, URL, Certificate string
		Authorization                  bool
		Parameters                     []string
	}
	if err := json.Unmarshal([]byte(f.ask("requests")), &last); err != nil {
		f.t.Fatal(err)
	}
	want := "client_id token token_type_hint"
	if last.Method != "POST" || last.Host != f.alias || last.URL != "/token/introspection" || last.Authorization || last.Certificate != "gate" || strings.Join(last.Parameters, " ") != want {
		f.t.Errorf("asked by %+v", last)
	}
}

// The gate authenticates in four ways, and responses may be signed. If the server rejects the
// gate's credentials, nothing is granted.
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
		f.fails("token", "renewed", 401, "bound_to_previous", "invalid_token")
		f.passes("token", "northwind")
		if name == "signed answers" { // signed with a key that the gate has not read yet
			f.tell("rotate")
			f.issue("later", "northwind", "northwind-ledger", opaqueResource)
			f.passes("later", "northwind")
		}
		f.end()
		if f.t.Failed() {
			t.Fatalf("by %s", name)
		}
	}
	for name, introspection := range map[string]string{
		"another's certificate": `{client_id: borealis-sync}`,
		"another's secret":      `{client_id: gate-basic, authentication: {method: client_secret_basic, secret_file: post.txt}}`,
		"another's key":         `{client_id: gate-jwt, authentication: {method: private_key_jwt, key_file: gate-client-key.pem}}`,
	} {
		f.gate(introspection)
		f.eventually("kept from being ready", func() bool {
			status, text, err := f.admin("/readyz")
			return err == nil && status == http.StatusServiceUnavailable && strings.Contains(string(text), "refuses the gate's own credentials")
		})
		f.unavailable("token")
		f.fails("token", "", 401, "no_certificate", "invalid_token")
		f.end()
		check := exec.Command(binary(t), "check", "--online", "-c", "gate.yaml")
		check.Dir = f.dir
		if out, err := check.CombinedOutput(); err == nil || !strings.Contains(string(out), `the server refuses the gate's own credentials with status 401: "invalid_client"`) {
			t.Errorf("check --online: %v\n%s", err, out)
		}
		if f.t.Failed() {
			t.Fatalf("by %s", name)
		}
	}
}

// T-JWKS-08: the server rotates its key during requests with old and new tokens, some of them
// cached. None is refused, and the new key costs one fetch.
func TestForeignServerRotation(t *testing.T) {
	t.Parallel()
	f := newForeign(t)
	type call struct{ token, certificate string }
	issue := func(generation string) (calls []call) {
		for i := range 10 {
			for certificate, clientID := range map[string]string{"northwind": "northwind-ledger", "sync": "borealis-sync"} {
				name := fmt.Sprint(generation, " ", i, " of ", clientID)
				f.issue(name, certificate, clientID, jwtResource)
				calls = append(calls, call{f.tokens[name], certificate})
			}
		}
		return calls
	}
	transports := make(map[string]*http.Transport)
	for _, certificate := range []string{"northwind", "sync"} {
		transports[certificate] = &http.Transport{TLSClientConfig: f.client(certificate), MaxIdleConnsPerHost: 4}
		defer transports[certificate].CloseIdleConnections()
	}
	old, unseen := issue("old"), issue("unseen")
	f.gate(byMutualTLS)
	f.ready()
	f.counts()
	var current atomic.Pointer[[]call]
	current.Store(&old)
	var sent, refused atomic.Int64
	stop := make(chan struct{})
	var group sync.WaitGroup
	for worker := range 4 {
		group.Go(func() {
			for i := worker; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				calls := *current.Load()
				c := calls[i%len(calls)]
				status, err := f.get(transports[c.certificate], c.token)
				if err != nil {
					t.Error(err)
					return
				}
				if sent.Add(1); status != http.StatusOK {
					refused.Add(1)
				}
			}
		})
	}
	more := func(n int64) {
		target := sent.Load() + n
		f.eventually("busy", func() bool { return sent.Load() >= target || t.Failed() })
	}
	more(50)
	f.tell("rotate")
	all := slices.Concat(old, unseen, issue("new"))
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	current.Store(&all)
	more(300)
	close(stop)
	group.Wait()
	readings := f.counts()["/jwks"]
	t.Logf("%d requests across the rotation, %d refused, %d readings of the key set", sent.Load(), refused.Load(), readings)
	if refused.Load() > 0 || readings != 1 {
		t.Error("want none refused, and one reading")
	}
	f.forge()
	f.end()
}

// forge sends tokens that the server did not issue. Each names another key, and together they cost
// one fetch of the key set per cool-down of 1 s.
func (f *foreign) forge() {
	f.t.Helper()
	transport := &http.Transport{TLSClientConfig: f.client("northwind")}
	defer transport.CloseIdleConnections()
	f.upstream.forget()
	start := time.Now()
	claims := testpki.Bound(f.issuer, jwtResource, "northwind-ledger", f.pairs["northwind"], testpki.M{"scope": "accounts:read"})
	n := 0
	for ; time.Since(start) < 1200*time.Millisecond; n++ {
		token := testpki.NewSigner("ES256", fmt.Sprint("made up ", n)).Token(claims)
		if status, err := f.get(transport, token); err != nil || status != http.StatusUnauthorized {
			f.t.Fatalf("a forged token: %d, %v", status, err)
		}
	}
	took, readings := time.Since(start), f.counts()["/jwks"]
	f.t.Logf("%d forged tokens in %s: %d readings of the key set", n, took.Round(time.Millisecond), readings)
	if most := int(took/time.Second) + 1; readings < 1 || readings > most {
		f.t.Errorf("want 1 to %d readings", most)
	}
	if _, n := f.upstream.take(); n > 0 {
		f.t.Errorf("%d requests reached the upstream", n)
	}
}
