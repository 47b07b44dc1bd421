package issuer_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
)

const inactive = `{"active":false}` + "\n"

// introspect asks as a resource server.
func (s *harness) introspect(pair *testpki.Pair, id, token string) answer {
	s.t.Helper()
	return s.send(pair, "POST", "/introspect", form.Clone(), "client_id="+id+"&token="+url.QueryEscape(token))
}

// opaque lets the ledger have opaque tokens.
func opaque(cfg *config.Config) { cfg.Partners.List[0].Applications[0].TokenFormat = config.Opaque }

// Both forms of tokens are told about alike, RFC 7662 section 2.2, with the
// confirmation at the top level (RFC 8705 section 3.2).
func TestIntrospect(t *testing.T) {
	for name, edits := range map[string][]func(*config.Config){"jwt": nil, "opaque": {opaque}} {
		t.Run(name, func(t *testing.T) {
			s := newHarness(t, "", edits...)
			token := s.fetch(good)
			a := s.introspect(accounts, "accounts-api", token)
			s.neverStored(a)
			var got map[string]any
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				t.Fatal(err)
			}
			exp, iat, jti := got["exp"].(float64), got["iat"].(float64), got["jti"].(string)
			if exp != iat+300 || time.Since(time.Unix(int64(iat), 0)) > time.Minute || len(jti) != 26 {
				t.Errorf("iat %v, exp %v, jti %q", iat, exp, jti)
			}
			delete(got, "exp")
			delete(got, "iat")
			delete(got, "jti")
			want := map[string]any{
				"active": true, "token_type": "Bearer", "iss": s.identifier, "sub": "northwind-ledger", "client_id": "northwind-ledger",
				"aud": []any{audience}, "scope": "accounts:read accounts:write", "cnf": map[string]any{"x5t#S256": ledger.Thumbprint()},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if line := s.lastLine(); line["msg"] != "introspection request" || line["active"] != true || line["client_id"] != "accounts-api" || line["token_client_id"] != "northwind-ledger" {
				t.Errorf("logged %v", line)
			}
		})
	}
}

// fetch asks for a token for the ledger, of whatever form.
func (s *harness) fetch(body string) string {
	s.t.Helper()
	return s.fetched(s.ask(ledger, body)).Token
}

// T-AS-07, T-AS-08: who may not ask is told so; to who may, a token that does not count
// and one that is none of its business look the same, and nothing more is said.
func TestIntrospectTellsNobodyElse(t *testing.T) {
	for name, edits := range map[string][]func(*config.Config){"jwt": nil, "opaque": {opaque}} {
		t.Run(name, func(t *testing.T) {
			s := newHarness(t, "", edits...)
			token := s.fetch(good)
			s.refused(s.introspect(nil, "accounts-api", token), "invalid_client")
			s.refused(s.introspect(ledger, "accounts-api", token), "invalid_client")
			s.refused(s.introspect(accounts, "payments-api", token), "invalid_client")
			s.refused(s.introspect(accounts, "", token), "invalid_client")
			s.refused(s.introspect(accounts, "accounts-api", ""), "invalid_request")
			s.refused(s.send(accounts, "GET", "/introspect", nil, ""), "method_not_allowed")

			silent := func(what string, pair *testpki.Pair, id, token string) {
				t.Helper()
				a := s.introspect(pair, id, token)
				if a.status != http.StatusOK || a.body != inactive {
					t.Errorf("%s: got %d %s", what, a.status, a.body)
				}
				s.neverStored(a)
			}
			silent("another partner's application", payroll, "southridge-payroll", token)
			silent("the application itself", ledger, "northwind-ledger", token)
			silent("a resource server that the token is not for", paying, "payments-api", token)
			silent("nonsense", accounts, "accounts-api", "nonsense")
			silent("another key's JWT", accounts, "accounts-api", testpki.NewSigner("ES256", "k").Token(testpki.Bound(s.identifier, audience, "northwind-ledger", ledger)))
			silent("altered", accounts, "accounts-api", altered(token))

			s.clock.Store(int64(lifetime + time.Second)) // past exp: here nobody has a leeway
			silent("expired", accounts, "accounts-api", token)
			s.clock.Store(0)
			if a := s.introspect(accounts, "accounts-api", token); !strings.Contains(a.body, `"active":true`) {
				t.Errorf("the token does not count any more: %s", a.body)
			}
			if a := s.revoke(ledger, "token="+url.QueryEscape(token)+byLedger+"&token_type_hint=refresh_token"); a.status != 200 {
				t.Fatalf("revoked with %d %s", a.status, a.body)
			}
			silent("revoked", accounts, "accounts-api", token) // T-AS-10
		})
	}
}

// altered exchanges a character within the signature, or the chance, for another.
func altered(token string) string {
	at := len(token) - 20
	other := "A"
	if token[at] == 'A' {
		other = "B"
	}
	return token[:at] + other + token[at+1:]
}

// T-AS-11: the tokens of a partner that is disabled, or of an application that is gone,
// end with the configuration that says so.
func TestIntrospectClientThatIsNoMore(t *testing.T) {
	for name, edit := range map[string]func(*config.Config){
		"disabled": func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true },
		"gone":     func(cfg *config.Config) { cfg.Partners.List[0].Applications[0].ClientID = "northwind-other" },
	} {
		t.Run(name, func(t *testing.T) {
			var state, key, identifier string
			keep := func(cfg *config.Config) {
				if state == "" {
					state, key, identifier = string(cfg.Issuer.State), string(cfg.Issuer.Signing.Files[0]), string(cfg.Issuer.Issuer)
				}
				cfg.Issuer.State, cfg.Issuer.Signing.Files[0] = config.Path(state), config.Path(key)
				cfg.Issuer.Issuer = config.Identifier(identifier)
			}
			s := newHarness(t, "", opaque, keep)
			token := s.fetch(good)
			if err := s.issuer.Close(); err != nil {
				t.Fatal(err)
			}
			after := newHarness(t, "", keep, edit)
			if a := after.introspect(accounts, "accounts-api", token); a.body != inactive {
				t.Errorf("got %s", a.body)
			}
		})
	}
}

// RFC 9701: the signed answer is for the caller that asked, and can pass for no access
// token.
func TestIntrospectSigned(t *testing.T) {
	s := newHarness(t, "")
	token := s.fetch(good)
	header := form.Clone()
	header.Set("Accept", "application/token-introspection+jwt")
	a := s.send(accounts, "POST", "/introspect", header, "client_id=accounts-api&token="+token)
	if a.status != 200 || a.header.Get("Content-Type") != "application/token-introspection+jwt" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %v", a.status, a.header)
	}
	parts := strings.Split(a.body, ".")
	var head map[string]string
	decodeExactly(t, string(s.decode(parts[0])), &head)
	if head["typ"] != "token-introspection+jwt" || head["kid"] != s.keyID() {
		t.Errorf("header %v", head)
	}
	var body struct {
		Issuer        string         `json:"iss"`
		Audience      string         `json:"aud"`
		IssuedAt      int64          `json:"iat"`
		Introspection map[string]any `json:"token_introspection"`
	}
	decodeExactly(t, string(s.decode(parts[1])), &body)
	if body.Issuer != s.identifier || body.Audience != "accounts-api" || body.IssuedAt == 0 || body.Introspection["active"] != true || body.Introspection["cnf"] == nil {
		t.Errorf("payload %+v", body)
	}
	// It is no token of this issuer's.
	if got := s.introspect(accounts, "accounts-api", a.body); got.body != inactive {
		t.Errorf("the answer counts as a token: %s", got.body)
	}
	dead := s.send(accounts, "POST", "/introspect", header, "client_id=accounts-api&token=nonsense")
	var silent struct {
		Introspection map[string]any `json:"token_introspection"`
	}
	if err := json.Unmarshal(s.decode(strings.Split(dead.body, ".")[1]), &silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"active": false}, silent.Introspection); diff != "" {
		t.Error(diff)
	}
}

// Only the SHA-256 of an opaque token is stored, T-AS-15, and it is random: 256 bits
// are 43 characters.
func TestOpaqueTokens(t *testing.T) {
	s := newHarness(t, "", opaque)
	seen := make(map[string]bool)
	for range 50 {
		token := s.fetch(good)
		if len(token) != 43 || seen[token] {
			t.Errorf("token of %d characters, seen: %t", len(token), seen[token])
		}
		seen[token] = true
	}
	for token := range seen {
		if files := s.stateHolds(token); len(files) > 0 {
			t.Errorf("the token stands in %v", files)
		}
	}
}

// A resource server is told of its own resources only, also where a token is for more.
func TestIntrospectNarrowsTheAudience(t *testing.T) {
	s := newHarness(t, "")
	token := s.fetch(good + "&resource=" + audience + "&resource=" + payments)
	for id, want := range map[string]string{"accounts-api": audience, "payments-api": payments} {
		pair := map[string]*testpki.Pair{"accounts-api": accounts, "payments-api": paying}[id]
		var got struct {
			Audience []string `json:"aud"`
		}
		if err := json.Unmarshal([]byte(s.introspect(pair, id, token).body), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{want}, got.Audience); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
}
