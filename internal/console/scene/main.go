// Command scene serves the console with an invented hour of requests: a token that may be stolen, an
// authorization server that does not answer, and some ordinary refusals. The pictures of docs/console.md
// and the tests in a browser show it. It prints its address, and ends when its standard input is closed.
package main

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/console"
	"github.com/tallygate/tallygate/internal/history"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
	"github.com/tallygate/tallygate/validate"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "scene:", err)
		os.Exit(1)
	}
}

func run() error {
	s, err := newScene()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: console.New(console.Source{
		State: func() *console.State { return &s.state }, History: s.history, Port: func() string { return port }, Now: func() time.Time { return night },
	})}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

const settings = `
listener:
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
  - name: keycloak
    issuer: https://id.bank.example/realms/partners
    audiences: [https://api.bank.example]
    partners: [northwind, borealis]
  - name: tallygate
    issuer: https://as.bank.example
    audiences: [https://api.bank.example]
    partners: [cascade]
    connection: {certificate: {certificate: gate.pem, key: gate-key.pem}}
  - name: appliance
    issuer: https://sso.bank.example
    audiences: [https://api.bank.example]
    tokens: opaque
    partners: [dunmore, eastgate]
    introspection: {endpoint: "https://sso.bank.example/introspect", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret.txt}}
apis:
  - name: accounts
    hosts: [api.bank.example]
    upstream: {url: "http://127.0.0.1:8080"}
    routes:
      - {methods: [GET], path: "/accounts/{id}", scopes: [accounts:read]}
      - {methods: [GET], path: "/accounts/{id}/transactions", scopes: [accounts:read]}
  - name: payments
    hosts: [api.bank.example]
    upstream: {url: "http://127.0.0.1:8081"}
    routes:
      - {methods: [GET], path: "/payments/{id}", scopes: [payments:read]}
      - {methods: [POST], path: /payments, scopes: [payments:write]}
      - {methods: [DELETE], path: "/payments/{id}", scopes: [payments:write]}
  - name: rates
    hosts: [api.bank.example]
    upstream: {url: "http://127.0.0.1:8082"}
    routes:
      - {methods: [GET], path: /rates/**}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts, rates]}
        - {client_id: northwind-treasury, certificate: {san_dns: treasury.northwind.example}, apis: [accounts, {api: payments, methods: [GET, POST]}], rate_limit: {requests_per_second: 50, burst: 100}}
    - name: borealis
      trust: [borealis-ca.pem]
      applications:
        - {client_id: borealis-sync, certificate: {subject_dn: "CN=sync,O=Borealis"}, apis: [{api: accounts, methods: [GET]}]}
    - name: cascade
      trust: [cascade-ca.pem]
      applications:
        - {client_id: cascade-billing, certificate: {san_uri: "spiffe://cascade.example/billing"}, apis: [payments, rates]}
    - name: dunmore
      trust: [dunmore-ca.pem]
      applications:
        - {client_id: dunmore-app, certificate: {san_dns: app.dunmore.example}, apis: [accounts, payments]}
    - name: eastgate
      trust: [eastgate-ca.pem]
      disabled: true
      applications:
        - {client_id: eastgate-reports, certificate: {san_dns: reports.eastgate.example}, apis: [rates]}
admin: {console: {}}
revocations: {server: tallygate, client_id: edge-gate}
`

// night is the time at which the console is shown.
var night = time.Date(2026, 11, 30, 3, 12, 40, 0, time.UTC)

// A scene is the state and the history of the gate that the console shows.
type scene struct {
	history *history.History
	state   console.State
}

func newScene() (*scene, error) {
	cfg, err := config.Parse("/etc/tallygate/tallygate.yaml", "/etc/tallygate", []byte(settings))
	if err != nil {
		return nil, err
	}
	s := &scene{history: history.New()}
	ends := func(days int) time.Time { return night.AddDate(0, 0, days) }
	s.state = console.State{
		Config: cfg, File: "/etc/tallygate/tallygate.yaml", Hash: "3fa91c04d27b", Loaded: night.Add(-74 * time.Minute), Started: night.Add(-9 * 24 * time.Hour), Version: "v1.0.0",
		Certificates: []console.ListenerCertificate{{Listener: "partners", NotAfter: ends(61)}},
		AnchorsEnd:   map[config.Name]time.Time{"northwind": ends(2100), "borealis": ends(890), "cascade": ends(21), "dunmore": ends(1400), "eastgate": ends(700)},
		Servers: []validate.ServerStatus{
			{Name: "keycloak", Required: true, Keys: &jwks.Status{Fetched: true, Keys: 2, At: night.Add(-4 * time.Minute)}},
			{Name: "tallygate", Required: true, Keys: &jwks.Status{Fetched: true, Keys: 2, At: night.Add(-2 * time.Minute)}},
			{Name: "appliance", Required: true, Introspection: &introspect.Status{
				Suspended: true, Answered: night.Add(-7 * time.Minute), Failure: errors.New("connecting: connection refused"), FailedAt: night.Add(-20 * time.Second),
			}},
		},
		Anchors: func(p *config.Partner) ([]*x509.Certificate, error) {
			return []*x509.Certificate{anchor(title(string(p.Name))+" Root", ends(2100))}, nil
		},
		Route: func(method, _, path string) (string, string) {
			if method == http.MethodPost && path == "/payments" {
				return "payments", "/payments"
			}
			return "", ""
		},
	}
	s.state.Revocations = revocations()
	s.traffic()
	s.refusals()
	for name, days := range map[string]int{"northwind": 240, "borealis": 9, "cascade": 310, "dunmore": 120} {
		common := map[string]string{"northwind": "ledger", "borealis": "sync", "cascade": "billing", "dunmore": "app"}[name]
		subject, end := "CN="+common+",O="+title(name), ends(days)
		s.history.See(name, name+"-"+common, sha256.Sum256([]byte(name)), night.Add(-3*time.Second), func() (string, string, time.Time) {
			return subject, "CN=" + title(name) + " Root", end
		})
	}
	return s, nil
}

// revocations returns the revocations of a gate whose feed is connected.
func revocations() *console.Revocations {
	at := func(ago time.Duration, kind, subject string) console.RevocationEvent {
		return console.RevocationEvent{At: night.Add(-ago), Kind: kind, Subject: subject}
	}
	return &console.Revocations{
		Feed: &console.RevocationFeed{
			Host: "issuer-1.bank.example:9444", Connected: true, Since: night.Add(-7 * time.Hour), Failure: "the stream ended: unexpected EOF",
			Position: "b1d5c0e7-00000001:48213", Synced: night.Add(-1200 * time.Millisecond),
		},
		Entries: []console.RevocationEntries{{Kind: "token", Count: 1204}, {Kind: "application", Count: 17}, {Kind: "partner", Count: 3}, {Kind: "certificate", Count: 41}, {Kind: "foreign_token", Count: 0}, {Kind: "foreign_subject", Count: 6}},
		Events: []console.RevocationEvent{
			at(95*time.Second, "certificate", access.Thumbprint(sha256.Sum256([]byte("borealis"))).String()), at(98*time.Second, "application", "borealis-sync"),
			at(11*time.Minute, "token", "dd6d9f54c50fd25b"), at(26*time.Minute, "token", "910d1b589d5c47cc"), at(5*time.Hour, "foreign_subject", "svc-reports"),
		},
	}
}

// traffic counts an hour of requests.
func (s *scene) traffic() {
	count := func(minute, times int, partner, api, reason string, outcome history.Outcome) {
		for range times {
			s.history.Count(partner, history.Key{API: api, Reason: reason, Outcome: outcome}, night.Add(-time.Duration(history.Minutes-1-minute)*time.Minute))
		}
	}
	for m := range history.Minutes {
		wave := (m*37+m*m*11)%23 + m/3
		count(m, 140+4*wave, "northwind", "accounts", "granted", history.Granted)
		count(m, 60+wave, "borealis", "accounts", "granted", history.Granted)
		count(m, 35+(m*13)%17, "cascade", "payments", "granted", history.Granted)
		if m < 52 {
			count(m, 30+(m*7)%11, "dunmore", "accounts", "granted", history.Granted)
		}
		count(m, (m*5)%7/3, "northwind", "accounts", "expired", history.Refused)
		count(m, (m*3)%5/4, "unknown", "none", "no_certificate", history.Refused)
		if m >= 52 {
			count(m, 22+(m*7)%9, "dunmore", "accounts", "issuer_unavailable", history.Failed)
		}
		if m >= 38 && m < 50 {
			count(m, 3+m%4, "cascade", "payments", "insufficient_scope", history.Refused)
		}
	}
	count(33, 12, "borealis", "accounts", "expired", history.Refused)
	count(57, 3, "borealis", "accounts", "bound_to_other", history.Refused)
	count(31, 1, "northwind", "accounts", "upstream_timeout", history.Failed)
}

func (s *scene) refusals() {
	thumbprint := func(text string) string { return access.Thumbprint(sha256.Sum256([]byte(text))).String() }
	add := func(partner, reason string, ago time.Duration, times int, more ...string) {
		fields := []history.Field{{Key: "msg", Value: "request"}, {Key: "partner", Value: partner}, {Key: "reason", Value: reason}, {Key: "host", Value: "api.bank.example"}}
		for i := 0; i < len(more); i += 2 {
			fields = append(fields, history.Field{Key: more[i], Value: more[i+1]})
		}
		kind := history.Kind{Reason: reason, Route: more[1]}
		for i := range times {
			at := night.Add(-ago - time.Duration(times-1-i)*7*time.Second)
			s.history.Refuse(partner, kind, at, append(fields, history.Field{Key: "request_id", Value: fmt.Sprintf("%x", sha256.Sum256([]byte(partner+reason)))[:32]}))
		}
	}
	add("borealis", "bound_to_other", 158*time.Second, 3, "route", "/accounts/{id}", "api", "accounts", "method", "GET", "status", "401", "client_id", "northwind-ledger",
		"token_partner", "northwind", "application", "borealis-sync", "issuer", "keycloak", "remote", "198.51.100.7:41822", "thumbprint", thumbprint("borealis"),
		"summary", "partner borealis showed a token of partner northwind, application northwind-ledger", "error", "cnf.x5t#S256: want "+thumbprint("borealis")+", got "+thumbprint("northwind"),
		"subject_dn", "CN=sync,O=Borealis", "issuer_dn", "CN=Borealis Root", "serial", "5d0f11c2a9", "not_after", night.AddDate(0, 0, 9).Format(time.RFC3339))
	add("borealis", "expired", 26*time.Minute, 12, "route", "/accounts/{id}/transactions", "api", "accounts", "method", "GET", "status", "401", "client_id", "borealis-sync",
		"token_partner", "borealis", "application", "borealis-sync", "issuer", "keycloak", "remote", "203.0.113.20:50112", "error", "exp: want after 2026-11-30T02:46:10Z, got 2026-11-30T02:45:00Z",
		"subject_dn", "CN=sync,O=Borealis", "issuer_dn", "CN=Borealis Root", "not_after", night.AddDate(0, 0, 9).Format(time.RFC3339))
	add("dunmore", "issuer_unavailable", 20*time.Second, 90, "route", "/accounts/{id}", "api", "accounts", "method", "GET", "status", "503", "issuer", "appliance", "remote", "192.0.2.44:60122",
		"error", "connecting: connection refused")
}

func title(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// anchor returns a certificate with the fields that the console shows of an anchor. The certificate has no key
// and no signature.
func anchor(name string, ends time.Time) *x509.Certificate {
	raw, err := asn1.Marshal(pkix.Name{CommonName: name}.ToRDNSequence())
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{Raw: raw, RawSubject: raw, RawIssuer: raw, NotAfter: ends}
}
