package main

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
)

const foreignConfig = `
listener:
  address: 127.0.0.1:0
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
  - name: foreign
    issuer: ISSUER
    audiences: [https://api.example.test, https://jwt.example.test]
    tokens: both
    connection:
      trust: [internal-ca.pem]
      certificate: {certificate: gate-client.pem, key: gate-client-key.pem}
    key_set: {cool_down: 1s}
    introspection: INTROSPECTION
  - name: static
    issuer: https://as.example.test
    audiences: [https://api.example.test]
    key_set: {file: keys.json}
apis:
  - name: accounts
    hosts: [api.example.test]
    upstream: {url: "UPSTREAM"}
    routes:
      - {methods: [GET], path: "/accounts/{id}", scopes: [accounts:read]}
      - {methods: [POST], path: "/accounts/{id}", scopes: [accounts:write]}
  - name: payments
    hosts: [api.example.test]
    upstream: {url: "UPSTREAM"}
    routes:
      - {methods: [GET], path: "/payments/{id}"}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts]}
        - {client_id: plain, certificate: {san_dns: plain.example.test}, apis: [accounts]}
    - name: borealis
      trust: [borealis-ca.pem]
      applications:
        - {client_id: borealis-sync, certificate: {san_dns: sync.borealis.example}, apis: [accounts, payments]}
admin: {address: "127.0.0.1:0"}
log: {level: debug, granted: all}
`

// gate starts the gate with that introspection section.
func (f *foreign) gate(introspection string) {
	f.t.Helper()
	f.write("gate.yaml", strings.NewReplacer("ISSUER", f.issuer, "UPSTREAM", f.upstream.url(), "INTROSPECTION", introspection).Replace(foreignConfig))
	if err := f.start(binary(f.t), filepath.Join(f.dir, "gate.yaml")); err != nil {
		f.t.Fatal(err)
	}
}

// ready waits until the gate is ready.
func (f *foreign) ready() {
	f.t.Helper()
	f.eventually("ready", func() bool {
		status, _, err := f.admin("/readyz")
		return err == nil && status == http.StatusOK
	})
}

// end stops the gate and checks that its log holds no token.
func (f *foreign) end() {
	f.t.Helper()
	if err := f.stop(); err != nil {
		f.t.Fatal(err)
	}
}

// eventually waits until check succeeds, and returns how long that took.
func (f *foreign) eventually(what string, check func() bool) time.Duration {
	f.t.Helper()
	start := time.Now()
	gatetest.Eventually(f.t, what, check)
	return time.Since(start).Round(time.Millisecond)
}

// send makes a call with a token and a certificate; "" stands for no token or certificate.
func (f *foreign) send(token, certificate, method, path string) {
	f.t.Helper()
	args := []string{"-cert", certificate}
	if token != "" {
		args = append(args, "-token", token)
	}
	if err := f.call(append(args, method, path)); err != nil {
		f.t.Fatal(err)
	}
}

// passes and fails check the result of a call.
func (f *foreign) passes(token, certificate string) {
	f.t.Helper()
	f.send(token, certificate, "GET", "/accounts/7")
	if err := f.granted(http.StatusOK); err != nil {
		f.t.Errorf("token %s with certificate %s: %v", token, certificate, err)
	}
}

func (f *foreign) fails(token, certificate string, status int, reason, code string) {
	f.t.Helper()
	f.send(token, certificate, "GET", "/accounts/7")
	if err := f.refused(status, reason, code); err != nil {
		f.t.Errorf("token %s with certificate %q: %v", token, certificate, err)
	}
}

func (f *foreign) answered(status int) bool { return f.answer != nil && f.answer.StatusCode == status }

func (f *foreign) check(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Error(err)
	}
}

// decided returns the count of a decision.
func (f *foreign) decided(reason string) int {
	f.t.Helper()
	return int(f.metric(`tallygate_decisions_total\{.*reason="` + reason + `"\}`))
}

// metric returns the sum of the gate's series that match.
func (f *foreign) metric(pattern string) float64 {
	f.t.Helper()
	sum, err := f.sum(pattern)
	if err != nil {
		f.t.Fatal(err)
	}
	return sum
}

// get makes a call and returns the status. It is safe for concurrent use.
func (f *foreign) get(transport *http.Transport, token string) (status int, err error) {
	r := accountRequest(f.t.Context(), f.addresses["partners"], token)
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Do(r)
	if err != nil {
		return 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}
