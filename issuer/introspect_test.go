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

// introspect sends an introspection request as a resource server.
func (s *harness) introspect(pair *testpki.Pair, id, token string) answer {
	s.t.Helper()
	return s.send(pair, "POST", "/introspect", form.Clone(), "client_id="+id+"&token="+url.QueryEscape(token))
}

// opaque configures opaque tokens for the ledger.
func opaque(cfg *config.Config) { cfg.Partners.List[0].Applications[0].TokenFormat = config.Opaque }

// JWTs and opaque tokens get the same response (RFC 7662 section 2.2), with cnf at the top level
// (RFC 8705 section 3.2).
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
				t.Errorf("got iat %v, exp %v, jti %q; want a lifetime of 300 s and a jti", iat, exp, jti)
			}
			delete(got, "exp")
			delete(got, "iat")
			delete(got, "jti")
			want := map[string]any{
				"active": true, "token_type": "Bearer", "iss": s.identifier, "sub": "northwind-ledger", "client_id": "northwind-ledger",
				"aud": []any{audience}, "scope": "accounts:read accounts:write", "cnf": map[string]any{"x5t#S256": ledger.Thumbprint()},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if line := s.lastLine(); line["msg"] != "introspection request" || line["active"] != true || line["client_id"] != "accounts-api" || line["token_client_id"] != "northwind-ledger" {
				t.Errorf("got log line %v, want an active token with its client and jti hash", line)
			}
		})
	}
}

// fetch returns a token for the ledger, opaque or JWT.
func (s *harness) fetch(body string) string {
	s.t.Helper()
	return s.fetched(s.ask(ledger, body)).Token
}

// T-AS-07, T-AS-08: a client that may not introspect is refused. A resource server gets the same
// response for an inactive token and for a token of another resource, and no other member.
func TestIntrospectInactive(t *testing.T) {
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
					t.Errorf("%s: got %d %s, want 200 %s", what, a.status, a.body, inactive)
				}
				s.neverStored(a)
			}
			silent("another partner's application", payroll, "southridge-payroll", token)
			silent("the application itself", ledger, "northwind-ledger", token)
			silent("a resource server that the token is not for", paying, "payments-api", token)
			silent("nonsense", accounts, "accounts-api", "nonsense")
			silent("another key's JWT", accounts, "accounts-api", testpki.NewSigner("ES256", "k").Token(testpki.Bound(s.identifier, audience, "northwind-ledger", ledger)))
			silent("altered", accounts, "accounts-api", altered(token))

			s.clock.Store(int64(lifetime + time.Second)) // past exp: introspection has no leeway
			silent("expired", accounts, "accounts-api", token)
			s.clock.Store(0)
			if a := s.introspect(accounts, "accounts-api", token); !strings.Contains(a.body, `"active":true`) {
				t.Errorf("the token is inactive too early: got %s", a.body)
			}
			if a := s.revoke(ledger, "token="+url.QueryEscape(token)+byLedger+"&token_type_hint=refresh_token"); a.status != 200 {
				t.Fatalf("POST /revoke: got %d %s, want 200", a.status, a.body)
			}
			silent("revoked", accounts, "accounts-api", token) // T-AS-10
		})
	}
}

// altered returns token with one character changed, in the signature or the random part.
func altered(token string) string {
	at := len(token) - 20
	other := "A"
	if token[at] == 'A' {
		other = "B"
	}
	return token[:at] + other + token[at+1:]
}

// T-AS-11: the tokens of a disabled partner or a removed application are inactive.
func TestIntrospectRemovedClient(t *testing.T) {
	for name, edit := range map[string]func(*config.Config){
		"disabled": func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true },
		"gone":     func(cfg *config.Config) { cfg.Partners.List[0].Applications[0].ClientID = "northwind-other" },
	} {
		t.Run(name, func(t *testing.T) {
			keep := sameIssuer()
			s := newHarness(t, "", opaque, keep)
			token := s.fetch(good)
			if err := s.issuer.Close(); err != nil {
				t.Fatal(err)
			}
			after := newHarness(t, "", keep, edit)
			if a := after.introspect(accounts, "accounts-api", token); a.body != inactive {
				t.Errorf("introspection returned %s, want %s", a.body, inactive)
			}
		})
	}
}

// RFC 9701: the signed response is for the client that has requested it, and cannot be used as an access token.
func TestIntrospectSigned(t *testing.T) {
	s := newHarness(t, "")
	token := s.fetch(good)
	header := form.Clone()
	header.Set("Accept", "application/token-introspection+jwt")
	a := s.send(accounts, "POST", "/introspect", header, "client_id=accounts-api&token="+token)
	if a.status != 200 || a.header.Get("Content-Type") != "application/token-introspection+jwt" || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %v, want 200 with the signed media type", a.status, a.header)
	}
	parts := strings.Split(a.body, ".")
	var head map[string]string
	decodeExactly(t, string(s.decode(parts[0])), &head)
	if head["typ"] != "token-introspection+jwt" || head["kid"] != s.keyID() {
		t.Errorf("the JWT has header %v, want typ token-introspection+jwt", head)
	}
	var body struct {
		Issuer        string         `json:"iss"`
		Audience      string         `json:"aud"`
		IssuedAt      int64          `json:"iat"`
		Introspection map[string]any `json:"token_introspection"`
	}
	decodeExactly(t, string(s.decode(parts[1])), &body)
	if body.Issuer != s.identifier || body.Audience != "accounts-api" || body.IssuedAt == 0 || body.Introspection["active"] != true || body.Introspection["cnf"] == nil {
		t.Errorf("the JWT has payload %+v, want iss, aud, iat and token_introspection", body)
	}
	// The signed response is not an access token.
	if got := s.introspect(accounts, "accounts-api", a.body); got.body != inactive {
		t.Errorf("introspection of the signed response returned %s, want %s", got.body, inactive)
	}
	dead := s.send(accounts, "POST", "/introspect", header, "client_id=accounts-api&token=nonsense")
	var silent struct {
		Introspection map[string]any `json:"token_introspection"`
	}
	if err := json.Unmarshal(s.decode(strings.Split(dead.body, ".")[1]), &silent); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"active": false}, silent.Introspection); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// T-AS-15: an opaque token is random, 256 bits in 43 characters, and only its SHA-256 is stored.
func TestOpaqueTokens(t *testing.T) {
	s := newHarness(t, "", opaque)
	seen := make(map[string]bool)
	for range 50 {
		token := s.fetch(good)
		if len(token) != 43 || seen[token] {
			t.Errorf("got a token of %d characters, repeated: %t; want 43, false", len(token), seen[token])
		}
		seen[token] = true
	}
	for token := range seen {
		if files := s.stateHolds(token); len(files) > 0 {
			t.Errorf("the files %v contain the token, want none", files)
		}
	}
}

// A resource server gets its own resources as audience, even if the token has more.
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
			t.Errorf("%s (-want +got):\n%s", id, diff)
		}
	}
}
