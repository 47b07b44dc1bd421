package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

const eventsConfig = `
listener:
  address: 127.0.0.1:0
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
  - name: foreign
    issuer: https://as.example.test
    audiences: [https://api.example.test]
    types: [at+jwt, absent]
    leeway: 0s
    CONNECTION
    key_set: {file: keys.json}
    security_events: {audience: https://gate.example.test, max_staleness: 12s, SOURCE}
OWN
apis:
  - name: accounts
    hosts: [api.example.test]
    upstream: {url: "UPSTREAM"}
    routes:
      - {methods: [GET], path: "/accounts/{id}"}
partners:
  list:
    - name: northwind
      trust: [northwind-ca.pem]
      applications:
        - {client_id: northwind-ledger, certificate: {san_dns: ledger.northwind.example}, apis: [accounts]}
admin: {address: "127.0.0.1:0"}
log: {level: debug, granted: all}
ISSUER
`

// A sender is an authorization server that offers Security Event Tokens for polls over TLS, and a gate process.
type sender struct {
	*foreign
	server *httptest.Server

	mu       sync.Mutex
	down     bool
	sets     map[string]string
	errors   map[string]string // codes by jti
	acked    map[string]bool
	received int // polls
}

func newSender(t *testing.T) *sender {
	t.Helper()
	notShort(t)
	dir := t.TempDir()
	s := &sender{foreign: &foreign{testGate: newTestGate(dir), t: t}, sets: map[string]string{}, errors: map[string]string{}, acked: map[string]bool{}}
	t.Cleanup(s.close)
	ca := testpki.NewCA("Events Root")
	ca.Write(dir, "events-ca")
	s.write("token.txt", "poll t0ken\n")
	s.write("push.txt", "Bearer push s3cret\n")
	s.server = httptest.NewUnstartedServer(http.HandlerFunc(s.offer))
	s.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf("as", testpki.IP("127.0.0.1")).TLS()}}
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

// offer answers a poll (RFC 8936 section 2).
func (s *sender) offer(w http.ResponseWriter, r *http.Request) {
	var poll struct {
		Acknowledged []string                        `json:"ack"`
		Errors       map[string]struct{ Err string } `json:"setErrs"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received++
	if s.down || r.Header.Get("Authorization") != "Bearer poll t0ken" || json.NewDecoder(r.Body).Decode(&poll) != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	for _, id := range poll.Acknowledged {
		s.acked[id] = true
		delete(s.sets, id)
	}
	for id, e := range poll.Errors {
		s.errors[id] = e.Err
		delete(s.sets, id)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(testpki.M{"sets": s.sets, "moreAvailable": false})
}

func (s *sender) fail(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// event returns a token with one event about subject, which was issued age ago.
func (s *sender) event(id string, age time.Duration, subject testpki.M) string {
	const session = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
	return s.signers["good"].Token(testpki.M{
		"iss": "https://as.example.test", "aud": "https://gate.example.test", "jti": id, "iat": time.Now().Add(-age).Unix(),
		"sub_id": subject, "events": testpki.M{session: testpki.M{}},
	}, testpki.M{"typ": "secevent+jwt"})
}

// deliver offers a token and returns the error code, or "" if the gate acknowledges the token.
func (s *sender) deliver(id, raw string) (code string) {
	s.t.Helper()
	s.mu.Lock()
	s.sets[id] = raw
	s.mu.Unlock()
	s.eventually("reported", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		code = s.errors[id]
		return code != "" || s.acked[id]
	})
	return code
}

// serve starts the gate with the given settings of the server, and with the given settings of our own issuer,
// which may be empty.
func (s *sender) serve(connection, source, server, issuer string) {
	s.t.Helper()
	s.foreign.write("gate.yaml", strings.NewReplacer("UPSTREAM", s.upstream.url(), "CONNECTION", connection, "SOURCE", source, "OWN", server, "ISSUER", issuer).Replace(eventsConfig))
	s.restart()
}

func (s *sender) restart() {
	s.t.Helper()
	clear(s.refusals)
	if err := s.start(binary(s.t), filepath.Join(s.dir, "gate.yaml")); err != nil {
		s.t.Fatal(err)
	}
}

// kill ends the gate with SIGKILL.
func (s *sender) kill() {
	s.t.Helper()
	s.check(s.process.Process.Kill())
	<-s.exited
	s.process = nil
}

// tokens mints an old and a new token of the application.
func (s *sender) tokenPair() {
	s.t.Helper()
	old := time.Now().Add(-2 * time.Minute).Unix()
	s.check(s.mint([]string{"old", "northwind", "northwind-ledger", fmt.Sprintf(`claims={"jti":"old","iat":%d}`, old)}))
	s.check(s.mint([]string{"older", "northwind", "northwind-ledger", fmt.Sprintf(`claims={"jti":"older","iat":%d}`, old)}))
	s.check(s.mint([]string{"new", "northwind", "northwind-ledger"}))
}

// Another authorization server revokes a token, and the tokens that it issued to a subject, by events that the gate polls. The
// gate introspects nothing and sends nothing upstream, keeps the revocations over a restart, refuses the server's tokens while
// it cannot poll, and never takes an access token for an event or an event for an access token.
func TestSecurityEventsPolled(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.tokenPair()
	s.serve(`connection: {trust: [events-ca.pem]}`, `state: events, poll: {endpoint: "`+s.server.URL+`/poll", interval: 1s, authentication: {method: bearer, token_file: token.txt}}`, "", "")
	s.ready()
	for _, token := range []string{"old", "older", "new"} {
		s.passes(token, "northwind")
	}
	one := testpki.M{"format": "jwt_id", "iss": "https://as.example.test", "jti": "old"}
	all := testpki.M{"format": "iss_sub", "iss": "https://as.example.test", "sub": "northwind-ledger"}
	if code := s.deliver("1", s.event("1", 0, one)); code != "" {
		t.Errorf("the event gets %s, want an acknowledgement", code)
	}
	s.fails("old", "northwind", 401, "revoked", "invalid_token")
	s.passes("older", "northwind")
	if code := s.deliver("2", s.tokens["new"]); code != "invalid_request" {
		t.Errorf("an access token as an event gets %q, want invalid_request", code)
	}
	if code := s.deliver("3", s.event("3", 0, testpki.M{"format": "iss_sub", "iss": "https://elsewhere.example", "sub": "northwind-ledger"})); code != "invalid_request" {
		t.Errorf("an event about another server's subject gets %q, want invalid_request", code)
	}
	s.passes("older", "northwind")
	s.foreign.tokens["event"] = s.event("4", time.Minute, all)
	s.fails("event", "northwind", 401, "wrong_type", "invalid_token")
	if code := s.deliver("4", s.tokens["event"]); code != "" {
		t.Errorf("the event gets %s, want an acknowledgement", code)
	}
	s.fails("older", "northwind", 401, "revoked", "invalid_token")
	s.passes("new", "northwind")
	for result, want := range map[string]float64{"applied": 2, "invalid": 2} {
		if got := s.metric(`tallygate_security_events_total\{issuer="foreign",result="` + result + `"\}`); got != want {
			t.Errorf("%v events are counted as %s, want %v", got, result, want)
		}
	}
	if strings.Contains(s.log.String(), "poll t0ken") {
		t.Error("the log has the secret of the poll")
	}
	s.end()

	s.fail(true)
	s.restart()
	s.fails("new", "northwind", 503, "revocations_stale", "")
	s.fails("old", "northwind", 401, "revoked", "invalid_token")
	if status, _, err := s.admin("/readyz"); err != nil || status == http.StatusOK {
		t.Errorf("readyz = %d, %v while no poll has succeeded, want not ready", status, err)
	}
	s.fail(false)
	s.ready()
	s.passes("new", "northwind")
	s.fails("older", "northwind", 401, "revoked", "invalid_token")
	s.fail(true)
	s.eventually("stale", func() bool {
		s.send("new", "northwind", "GET", "/accounts/7")
		return s.answered(http.StatusServiceUnavailable)
	})
	s.fail(false)
	s.ready()
	s.passes("new", "northwind")
	s.end()
}

// Another authorization server pushes its events to our own issuer's listener. An event that was answered with 202 survives
// kill -9.
func TestSecurityEventsPushed(t *testing.T) {
	t.Parallel()
	s := newSender(t)
	s.tokenPair()
	s.check(os.Mkdir(filepath.Join(s.dir, "state"), 0o700))
	s.serve("", "push: {path: /security-events/foreign, authorization_file: push.txt}",
		`  - {name: ours, issuer: "https://`+s.issuerAddress+`", audiences: [https://api.example.test]}`,
		`issuer: {issuer: "https://`+s.issuerAddress+`", address: `+s.issuerAddress+`, state: state, audience: https://api.example.test}`)
	s.ready()
	s.passes("old", "northwind")
	all := testpki.M{"format": "iss_sub", "iss": "https://as.example.test", "sub": "northwind-ledger"}
	push := func(path, authorization, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+s.issuerAddress+path, bytes.NewReader([]byte(body)))
		s.check(err)
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", "application/secevent+jwt")
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.client("")}}
		defer client.CloseIdleConnections()
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		return response.StatusCode
	}
	event := s.event("1", time.Minute, all)
	for _, c := range []struct {
		path, authorization string
		want                int
	}{
		{"/security-events/foreign", "Bearer wrong", 400}, {"/security-events/other", "Bearer push s3cret", 404}, {"/security-events/foreign/", "Bearer push s3cret", 404},
	} {
		if got := push(c.path, c.authorization, event); got != c.want {
			t.Errorf("a push to %s: status %d, want %d", c.path, got, c.want)
		}
	}
	s.passes("old", "northwind")
	if got := push("/security-events/foreign", "Bearer push s3cret", event); got != http.StatusAccepted {
		t.Errorf("a push: status %d, want 202", got)
	}
	s.fails("old", "northwind", 401, "revoked", "invalid_token")
	s.passes("new", "northwind")
	s.kill()
	s.restart()
	s.ready()
	s.fails("old", "northwind", 401, "revoked", "invalid_token")
	s.passes("new", "northwind")
	gatetest.Eventually(t, "logged", func() bool { return len(s.lines("request")) > 0 })
	s.end()
}
