package gate

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
	"github.com/tallygate/tallygate/validate"
)

const eventsConfig = `
listener: {address: "127.0.0.1:0", certificate: {files: {certificate: gate.pem, key: gate-key.pem}}}
authorization_servers:
  - name: foreign
    issuer: https://as.example
    audiences: [https://api.example]
    key_set: {file: keys.json}
    introspection: {endpoint: "https://127.0.0.1:1/introspect", authentication: {method: bearer, token_file: token}}
    also_introspect: true
    security_events:
      audience: gate
      poll: {endpoint: "https://127.0.0.1:1/poll", authentication: {method: bearer, token_file: token}}
      state: events
      when_stale: WHEN
apis: [{name: accounts, hosts: [api.example], upstream: {url: "http://127.0.0.1:1"}, routes: [{methods: [GET], path: /accounts}]}]
partners:
  list: [{name: northwind, trust: [ca.pem], applications: [{client_id: ledger, certificate: {san_dns: ledger.example}, apis: [accounts]}]}]
admin: {address: "127.0.0.1:0"}
`

// eventsState returns the state of a gate that has not polled yet, so that the events are stale.
func eventsState(t *testing.T, whenStale config.WhenRevocationsStale) *state {
	t.Helper()
	dir := t.TempDir()
	testpki.SelfSigned("gate", testpki.IP("127.0.0.1")).Write(dir, "gate")
	testpki.NewCA("Northwind").Write(dir, "ca")
	for name, content := range map[string][]byte{
		"keys.json": testpki.KeySet(testpki.NewSigner("ES256", "k1")), "token": []byte("t0ken"),
		"gate.yaml": []byte(strings.Replace(eventsConfig, "WHEN", string(whenStale), 1)),
	} {
		gatetest.WriteFile(t, filepath.Join(dir, name), content)
	}
	g, err := New(filepath.Join(dir, "gate.yaml"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := g.current.Load()
	t.Cleanup(s.Close)
	return s
}

// The status of a token while security events are stale, by when_stale and by the status without security
// events.
func TestSecurityEventStatus(t *testing.T) {
	const unknown, not, revoked, ask = validate.RevocationUnknown, validate.NotRevoked, validate.Revoked, validate.Introspect
	cause := errors.New("cause")
	for _, c := range []struct {
		when      config.WhenRevocationsStale
		without   validate.RevocationStatus
		err       error
		want      validate.RevocationStatus
		wantReady bool
	}{
		{config.RefuseRevocationsStale, not, nil, unknown, false},
		{config.RefuseRevocationsStale, ask, nil, unknown, false},
		{config.RefuseRevocationsStale, unknown, cause, unknown, false},
		{config.RefuseRevocationsStale, revoked, nil, revoked, false},
		{config.IntrospectRevocationsStale, not, nil, ask, true},
		{config.IntrospectRevocationsStale, unknown, cause, unknown, true},
		{config.IntrospectRevocationsStale, revoked, nil, revoked, true},
		{config.ContinueRevocationsStale, not, nil, not, true},
		{config.ContinueRevocationsStale, ask, nil, ask, true},
		{config.ContinueRevocationsStale, unknown, cause, unknown, true},
	} {
		t.Run(string(c.when), func(t *testing.T) {
			s := eventsState(t, c.when)
			token := &access.Unchecked{Issuer: "https://as.example", TokenID: "t1", Subject: "alice", IssuedAt: time.Now()}
			got, err := s.events.status(token, c.without, c.err)
			if got != c.want || got == unknown && err == nil || got == not && err != nil {
				t.Errorf("status of %v = %v, %v; want %v", c.without, got, err, c.want)
			}
			if err := s.events.ready(s.cfg.AuthorizationServers); (err == nil) != c.wantReady {
				t.Errorf("ready = %v, want ready %t", err, c.wantReady)
			}
			if got, err := s.events.status(&access.Unchecked{Issuer: "https://other.example"}, c.without, c.err); got != c.without || err != c.err { //nolint:errorlint // the very value is promised
				t.Errorf("status of another server's token = %v, %v; want %v, %v", got, err, c.without, c.err)
			}
			err = s.events.receivers["https://as.example"].set.Add(revocation.Entry{
				Kind: revocation.ForeignToken, Subject: revocation.ForeignTokenSum("https://as.example", "t1"), Until: time.Now().Add(time.Hour),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := s.events.status(token, c.without, c.err); got != revoked {
				t.Errorf("status of a revoked token = %v, want %v", got, revoked)
			}
		})
	}
}
