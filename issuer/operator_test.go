package issuer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
)

// An operator ends what an application or a partner has been issued, or a certificate.
func TestOperatorRevokes(t *testing.T) {
	tests := []struct {
		name      string
		order     func(token string) issuer.Order
		otherEnds bool // a token of the same partner's other application
		goesOn    bool // the client gets new tokens that count
	}{
		{"token", func(token string) issuer.Order { return issuer.Order{Token: token} }, false, true},
		{"application", func(string) issuer.Order { return issuer.Order{Application: "northwind-ledger"} }, false, true},
		{"partner", func(string) issuer.Order { return issuer.Order{Partner: "northwind"} }, true, true},
		{"certificate", func(string) issuer.Order { return issuer.Order{Thumbprint: ledger.Thumbprint()} }, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, "", opaque)
			active := func(token string) bool {
				t.Helper()
				return s.introspect(accounts, "accounts-api", token).body != inactive
			}
			first := s.fetch(good)
			other := s.granted(s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive")).Token
			if !active(first) || !active(other) {
				t.Fatal("does not count beforehand")
			}
			report, err := s.issuer.Do(test.order(first))
			if err != nil || !strings.HasPrefix(report.Done, "revoked ") {
				t.Fatalf("reported %+v, %v", report, err)
			}
			if active(first) || active(other) == test.otherEnds {
				t.Errorf("counts: %t, the other: %t", active(first), active(other))
			}
			s.clock.Store(int64(2 * time.Second)) // into another second of iat
			if !test.goesOn {
				s.refused(s.ask(ledger, good), "invalid_client")
				return
			}
			if !active(s.fetch(good)) {
				t.Error("a later token does not count")
			}
		})
	}
}

// T-INT-12: whichever server a token comes from, an operator ends it with its
// application, its partner or its certificate, also after a restart. Another server's jti
// says nothing here.
func TestOperatorRevokesOtherServersTokens(t *testing.T) {
	var state config.Path
	keep := func(cfg *config.Config) {
		if state == "" {
			state = cfg.Issuer.State
		}
		cfg.Issuer.State = state
		cfg.AuthorizationServers = append(cfg.AuthorizationServers, config.AuthorizationServer{Issuer: "https://other.example", Leeway: 30 * time.Second})
	}
	s := newSite(t, "", keep)
	token := s.token()
	bound := access.ThumbprintOf(ledger.Cert)
	foreign := func(at time.Time) access.Unchecked {
		return access.Unchecked{
			Issuer: "https://other.example", TokenID: "j", ClientID: "northwind-ledger", IssuedAt: at,
			Confirmation: access.Confirmation{Present: true, Thumbprint: bound},
		}
	}
	now := time.Now()
	before, after, dateless := foreign(now.Add(-time.Minute)), foreign(now.Add(time.Minute)), foreign(time.Time{})
	expect := func(step string, wantBefore, wantAfter, wantDateless bool) {
		t.Helper()
		for name, c := range map[string]struct {
			token access.Unchecked
			want  bool
		}{"before": {before, wantBefore}, "after": {after, wantAfter}, "dateless": {dateless, wantDateless}} {
			if got := s.issuer.Revoked(c.token); got != c.want {
				t.Errorf("%s, %s: revoked %t, want %t", step, name, got, c.want)
			}
		}
	}
	order := func(o issuer.Order) {
		t.Helper()
		if _, err := s.issuer.Do(o); err != nil {
			t.Fatal(err)
		}
	}
	order(issuer.Order{Token: token.Token})
	before.TokenID = s.verify(token.Token).ID
	expect("one of our own tokens", false, false, false)
	order(issuer.Order{Partner: "southridge"})
	expect("another partner", false, false, false)
	order(issuer.Order{Partner: "northwind"})
	expect("the partner", true, false, true) // there is no telling when a dateless one was issued
	if ahead := foreign(now.Add(20 * time.Second)); !s.issuer.Revoked(ahead) {
		t.Error("a token of before the revocation counts, by a clock that is 20 s ahead")
	}
	s.clock.Store(int64(25 * time.Hour))
	expect("the partner, a day ago", true, false, false)
	s.clock.Store(0)
	order(issuer.Order{Thumbprint: ledger.Thumbprint()})
	expect("the certificate", true, true, true)
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	s = newSite(t, "", keep)
	expect("after a restart", true, true, true)
}

// An order that makes no sense is refused, and so is one for somebody unknown: a typing
// error must not pass for a revocation.
func TestOperatorsMistakes(t *testing.T) {
	s := newSite(t, "")
	for _, order := range []issuer.Order{
		{}, {Application: "northwind-leger"}, {Application: "accounts-api"}, {Partner: "northwnd"},
		{Thumbprint: "x"}, {Application: "northwind-ledger", Partner: "northwind"}, {RotateKeys: true, ListKeys: true},
	} {
		if report, err := s.issuer.Do(order); err == nil {
			t.Errorf("%+v: %+v", order, report)
		}
	}
	if report, err := s.issuer.Do(issuer.Order{Token: "nonsense"}); err != nil || !strings.HasPrefix(report.Done, "nothing") {
		t.Errorf("reported %+v, %v", report, err)
	}
}

// T-AS-14: the key that signs next has been published before, tokens of the old one go
// on counting, and all of it survives a restart.
func TestRotation(t *testing.T) {
	var state string
	ownKeys := func(cfg *config.Config) {
		cfg.Issuer.Signing = config.Signing{Algorithm: config.ES256, Rotate: 24 * time.Hour}
		if state == "" {
			state = string(cfg.Issuer.State)
		}
		cfg.Issuer.State = config.Path(state)
	}
	s := newSite(t, "", ownKeys)
	token, before := s.fetch(good), s.keySet()
	if report, err := s.issuer.Do(issuer.Order{RotateKeys: true}); err != nil || len(report.Keys) != 3 {
		t.Fatalf("reported %+v, %v", report, err)
	}
	second := s.fetch(good)
	kid := func(token string) string {
		var header map[string]string
		decodeExactly(t, string(s.decode(split(token)[0])), &header)
		return header["kid"]
	}
	if kid(token) == kid(second) {
		t.Error("the same key signs")
	}
	if !strings.Contains(before, kid(second)) {
		t.Error("the new key was not published before its first use")
	}
	after := s.send(nil, http.MethodGet, "/jwks", nil, "").body
	if !strings.Contains(after, kid(token)) || !strings.Contains(after, kid(second)) || strings.Contains(after, `"d"`) {
		t.Errorf("key set %s", after)
	}
	for _, raw := range []string{token, second} {
		if a := s.introspect(accounts, "accounts-api", raw); a.body == inactive {
			t.Error("a token does not count")
		}
	}
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	again := newSite(t, "", ownKeys)
	if again.keySet()+"\n" != after {
		t.Errorf("other keys after a restart:\n%s\n%s", again.keySet(), after)
	}
}

// A clock that was set back lets no token escape the revocation of all before it.
func TestRevokeAfterTheClockWasSetBack(t *testing.T) {
	s := newSite(t, "")
	s.clock.Store(int64(3 * time.Minute))
	token := s.fetch(good)
	s.clock.Store(0)
	if _, err := s.issuer.Do(issuer.Order{Partner: "northwind"}); err != nil {
		t.Fatal(err)
	}
	if a := s.introspect(accounts, "accounts-api", token); a.body != inactive {
		t.Errorf("got %s", a.body)
	}
}

// The revoked tokens of a partner stay so when it is renamed.
func TestRevokedPartnerIsRenamed(t *testing.T) {
	var state, key, identifier string
	keep := func(cfg *config.Config) {
		if state == "" {
			state, key, identifier = string(cfg.Issuer.State), string(cfg.Issuer.Signing.Files[0]), string(cfg.Issuer.Issuer)
		}
		cfg.Issuer.State, cfg.Issuer.Signing.Files[0] = config.Path(state), config.Path(key)
		cfg.Issuer.Issuer = config.Identifier(identifier)
	}
	s := newSite(t, "", keep)
	token := s.verify(s.token().Token)
	if _, err := s.issuer.Do(issuer.Order{Partner: "northwind"}); err != nil {
		t.Fatal(err)
	}
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	after := newSite(t, "", keep, func(cfg *config.Config) { cfg.Partners.List[0].Name = "renamed" })
	if !after.issuer.Revoked(access.Unchecked{Issuer: after.identifier, TokenID: token.ID, ClientID: token.ClientID, IssuedAt: time.Unix(token.IssuedAt, 0)}) {
		t.Error("a revoked token counts again")
	}
}

// An opaque token in the place of a client_id is not logged.
func TestLoggedOpaqueToken(t *testing.T) {
	s := newSite(t, "", opaque)
	s.refused(s.ask(ledger, "grant_type=client_credentials&client_id="+s.fetch(good)), "invalid_client")
	if id, logged := s.lastLine()["client_id"]; logged {
		t.Errorf("logged %v", id)
	}
}
