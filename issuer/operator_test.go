package issuer_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer"
)

// An operator revokes a token, the tokens of an application or a partner, or a certificate.
func TestOperatorRevokes(t *testing.T) {
	tests := []struct {
		name      string
		request   func(token string) issuer.RevocationRequest
		endsOther bool // revokes a token of the same partner's other application too
		allowsNew bool // the client gets new tokens that are active
	}{
		{"token", func(token string) issuer.RevocationRequest { return issuer.RevocationRequest{Token: token} }, false, true},
		{"application", func(string) issuer.RevocationRequest {
			return issuer.RevocationRequest{Application: "northwind-ledger"}
		}, false, true},
		{"partner", func(string) issuer.RevocationRequest { return issuer.RevocationRequest{Partner: "northwind"} }, true, true},
		{"certificate", func(string) issuer.RevocationRequest {
			return issuer.RevocationRequest{Thumbprint: ledger.Thumbprint()}
		}, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newHarness(t, "", opaque)
			active := func(token string) bool {
				t.Helper()
				return s.introspect(accounts, "accounts-api", token).body != inactive
			}
			first := s.fetch(good)
			other := s.granted(s.ask(archive, "grant_type=client_credentials&client_id=northwind-archive")).Token
			if !active(first) || !active(other) {
				t.Fatal("before Revoke, a token is inactive")
			}
			response, err := s.issuer.Revoke(test.request(first))
			if err != nil || !strings.HasPrefix(response.Done, "revoked ") {
				t.Fatalf("Revoke returned %+v, %v; want done to begin with \"revoked \"", response, err)
			}
			if got, other := active(first), active(other); got || other == test.endsOther {
				t.Errorf("after Revoke: active is %t, want false; of the other application %t, want %t", got, other, !test.endsOther)
			}
			s.clock.Store(int64(2 * time.Second)) // into another second, so that iat differs
			if !test.allowsNew {
				s.refused(s.ask(ledger, good), "invalid_client")
				return
			}
			if !active(s.fetch(good)) {
				t.Error("a token issued after the revocation is inactive")
			}
		})
	}
}

// T-INT-12: a revocation of an application, partner or certificate covers tokens of every
// authorization server, also after a restart. Only the jti of our own tokens is looked up.
func TestOperatorRevokesOtherServersTokens(t *testing.T) {
	same := sameIssuer()
	keep := func(cfg *config.Config) {
		same(cfg)
		cfg.AuthorizationServers = append(cfg.AuthorizationServers, config.AuthorizationServer{Issuer: "https://other.example", Leeway: 30 * time.Second})
	}
	s := newHarness(t, "", keep)
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
			if got := isRevoked(t, s.issuer, c.token); got != c.want {
				t.Errorf("%s, %s: revoked %t, want %t", step, name, got, c.want)
			}
		}
	}
	revoke := func(request issuer.RevocationRequest) {
		t.Helper()
		if _, err := s.issuer.Revoke(request); err != nil {
			t.Fatal(err)
		}
	}
	revoke(issuer.RevocationRequest{Token: token.Token})
	before.TokenID = s.verify(token.Token).ID
	expect("one of our own tokens", false, false, false)
	revoke(issuer.RevocationRequest{Partner: "southridge"})
	expect("another partner", false, false, false)
	revoke(issuer.RevocationRequest{Partner: "northwind"})
	expect("the partner", true, false, true) // a token without iat may be older than the revocation
	if ahead := foreign(now.Add(20 * time.Second)); !isRevoked(t, s.issuer, ahead) {
		t.Error("Revoked is false for an iat 20 s ahead, want true: the leeway of its server is 30 s")
	}
	s.clock.Store(int64(25 * time.Hour))
	expect("the partner, a day ago", true, false, false)
	s.clock.Store(0)
	revoke(issuer.RevocationRequest{Thumbprint: ledger.Thumbprint()})
	expect("the certificate", true, true, true)
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	s = newHarness(t, "", keep)
	expect("after a restart", true, true, true)
}

// A typing error must not look like a revocation: unknown names and malformed requests fail.
func TestOperatorsMistakes(t *testing.T) {
	s := newHarness(t, "")
	for _, request := range []issuer.RevocationRequest{
		{}, {Application: "northwind-leger"}, {Application: "accounts-api"}, {Partner: "northwnd"},
		{Thumbprint: "x"}, {Application: "northwind-ledger", Partner: "northwind"},
	} {
		if response, err := s.issuer.Revoke(request); err == nil {
			t.Errorf("Revoke(%+v) returned %+v, want an error", request, response)
		}
	}
	if response, err := s.issuer.Revoke(issuer.RevocationRequest{Token: "nonsense"}); err != nil || !strings.HasPrefix(response.Done, "nothing") {
		t.Errorf("Revoke of an unknown token returned %+v, %v; want done to begin with \"nothing\"", response, err)
	}
}

// The operator's socket has one path and method for each operation, and nothing else.
func TestServeOperator(t *testing.T) {
	s := newHarness(t, "", opaque)
	token := s.fetch(good)
	tests := []struct {
		method, path, body string
		status             int
		want               string // part of the answer
	}{
		{"GET", "/keys", "", 200, `"state":"active"`},
		{"GET", "/jwks", "", 200, `"kty":"EC"`},
		{"POST", "/introspect", `{"token":"` + token + `"}`, 200, `"active":true`},
		{"POST", "/introspect", `{"token":"x"}`, 200, `{"active":false}`},
		{"POST", "/revoked", `{"ClientID":"northwind-ledger"}`, 200, `{"by":0}`},
		{"POST", "/revocations", `{"token":"` + token + `"}`, 200, `{"done":"revoked a token of application northwind-ledger`},
		{"POST", "/introspect", `{"token":"` + token + `"}`, 200, `{"active":false}`},
		{"POST", "/revocations", `{"partner":"northwnd"}`, 422, `there is no partner "northwnd"`},
		{"POST", "/revocations", `{}`, 422, "exactly one of"},
		{"POST", "/keys/rotate", "", 422, "the signing keys are files"},
		{"POST", "/revocations", `{"token":1}`, 400, "not the expected JSON"},
		{"POST", "/revocations", `{"token":"` + strings.Repeat("x", 20<<10) + `"}`, 400, "too large"},
		{"POST", "/keys", "", 405, ""},
		{"GET", "/revocations?kind=token", "", 200, `"actor":"user:root"`},
		{"GET", "/revocations?kind=x", "", 422, "want a query of limit, kind"},
		{"DELETE", "/revocations", "", 405, ""},
		{"GET", "/keys/rotate", "", 405, ""},
		{"POST", "/", `{"partner":"northwind"}`, 404, ""},
		{"POST", "/token", good, 404, ""},
	}
	for _, test := range tests {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(test.method, test.path, strings.NewReader(test.body))
		r.RemoteAddr = issuer.UserActor("root")
		s.issuer.ServeOperator(w, r)
		if got := w.Body.String(); w.Code != test.status || !strings.Contains(got, test.want) {
			t.Errorf("%s %s %.60s: got %d %s, want %d with %s", test.method, test.path, test.body, w.Code, got, test.status, test.want)
		}
	}
}

// T-AS-14: the next signing key is published before it signs, tokens of the old key stay
// valid, and all keys survive a restart.
func TestRotation(t *testing.T) {
	same := sameIssuer()
	ownKeys := func(cfg *config.Config) {
		cfg.Issuer.Signing = config.Signing{Algorithm: config.ES256, Rotate: 24 * time.Hour}
		same(cfg)
	}
	s := newHarness(t, "", ownKeys)
	token, before := s.fetch(good), s.keySet()
	if keys, err := s.issuer.RotateKeys(); err != nil || len(keys) != 3 {
		t.Fatalf("RotateKeys returned %+v, %v; want 3 keys: old, active and next", keys, err)
	}
	second := s.fetch(good)
	kid := func(token string) string {
		var header map[string]string
		decodeExactly(t, string(s.decode(split(token)[0])), &header)
		return header["kid"]
	}
	if kid(token) == kid(second) {
		t.Errorf("after RotateKeys, key %s still signs", kid(token))
	}
	if !strings.Contains(before, kid(second)) {
		t.Error("RotateKeys has activated a key that was not published before")
	}
	after := s.send(nil, http.MethodGet, "/jwks", nil, "").body
	if !strings.Contains(after, kid(token)) || !strings.Contains(after, kid(second)) || strings.Contains(after, `"d"`) {
		t.Errorf("after RotateKeys, the key set is %s; want keys %s and %s without private parts", after, kid(token), kid(second))
	}
	for _, raw := range []string{token, second} {
		if a := s.introspect(accounts, "accounts-api", raw); a.body == inactive {
			t.Errorf("a token signed by key %s is inactive after RotateKeys", kid(raw))
		}
	}
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	again := newHarness(t, "", ownKeys)
	if again.keySet()+"\n" != after {
		t.Errorf("after a restart, the key set is\n%s\nwant\n%s", again.keySet(), after)
	}
}

// A token issued before the clock was set back is covered by a revocation made afterwards.
func TestRevokeAfterTheClockWasSetBack(t *testing.T) {
	s := newHarness(t, "")
	s.clock.Store(int64(3 * time.Minute))
	token := s.fetch(good)
	s.clock.Store(0)
	if _, err := s.issuer.Revoke(issuer.RevocationRequest{Partner: "northwind"}); err != nil {
		t.Fatal(err)
	}
	if a := s.introspect(accounts, "accounts-api", token); a.body != inactive {
		t.Errorf("introspection returned %s, want %s", a.body, inactive)
	}
}

// The tokens of a revoked partner stay revoked when the partner is renamed.
func TestRevokedPartnerIsRenamed(t *testing.T) {
	keep := sameIssuer()
	s := newHarness(t, "", keep)
	token := s.verify(s.token().Token)
	if _, err := s.issuer.Revoke(issuer.RevocationRequest{Partner: "northwind"}); err != nil {
		t.Fatal(err)
	}
	if err := s.issuer.Close(); err != nil {
		t.Fatal(err)
	}
	after := newHarness(t, "", keep, func(cfg *config.Config) { cfg.Partners.List[0].Name = "renamed" })
	if !isRevoked(t, after.issuer, access.Unchecked{Issuer: after.identifier, TokenID: token.ID, ClientID: token.ClientID, IssuedAt: time.Unix(token.IssuedAt, 0)}) {
		t.Error("Revoked is false after the partner was renamed, want true")
	}
}

// An opaque token sent as client_id by mistake is not logged.
func TestLoggedOpaqueToken(t *testing.T) {
	s := newHarness(t, "", opaque)
	s.refused(s.ask(ledger, "grant_type=client_credentials&client_id="+s.fetch(good)), "invalid_client")
	if id, logged := s.lastLine()["client_id"]; logged {
		t.Errorf("the log has client_id %v, want no client_id", id)
	}
}
