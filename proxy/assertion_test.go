package proxy

import (
	"crypto/ecdsa"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/assertion"
)

// keysOf fetches and parses the key set of AssertionKeys as an upstream does.
func keysOf(t *testing.T, p *Proxy) *ecdsa.PublicKey {
	t.Helper()
	w := httptest.NewRecorder()
	p.AssertionKeys().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/assertion/jwks", nil))
	if strings.Contains(w.Body.String(), `"d"`) || w.Header().Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("AssertionKeys served %s %s", w.Header(), w.Body)
	}
	var set jwkset.JWKSMarshal
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%v in %s", err, w.Body)
	}
	jwk, err := jwkset.NewJWKFromMarshal(set.Keys[0], jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return jwk.Key().(*ecdsa.PublicKey)
}

// TestAssertion checks that a route with assertion: true gets a JWT about the client in place of the
// access token, for this API and request only. An assertion sent by the client is removed, and other
// routes get none.
func TestAssertion(t *testing.T) {
	var got http.Header
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer upstream.Close()
	call := func(s *harness) (answered http.Header) {
		t.Helper()
		r, w := s.request(), httptest.NewRecorder()
		r.Header["Tallygate-Assertion"] = []string{"forged"}
		r.Header["Tallygate_assertion"] = []string{"forged"}
		got = nil
		s.proxy.ServeHTTP(w, r)
		return w.Header()
	}
	s := newHarness(t, upstream.URL, io.Discard, withForwardedToken)
	if call(s); got["Tallygate-Assertion"] != nil || got["Tallygate_assertion"] != nil || got["Authorization"] == nil {
		t.Errorf("upstream of a route without assertions got %v, want none", got)
	}
	if s.proxy.AssertionKeys() != nil {
		t.Error("AssertionKeys is not nil without a route that needs assertions")
	}

	s = newHarness(t, upstream.URL, io.Discard, withForwardedToken, withAssertion)
	response := call(s)
	if len(got["Tallygate-Assertion"]) != 1 || got["Tallygate_assertion"] != nil || got["Authorization"] != nil {
		t.Fatalf("the upstream got %v", got)
	}
	public := keysOf(t, s.proxy)
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(got.Get("Tallygate-Assertion"), claims, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithAudience("accounts"), jwt.WithIssuer("tallygate"), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	if err != nil {
		t.Fatal(err)
	}
	if token.Header["typ"] != "tallygate-assertion+jwt" || token.Header["kid"] == "" {
		t.Errorf("assertion header = %v", token.Header)
	}
	id := response.Get("X-Request-Id")
	for name, want := range map[string]any{
		"client_id": "northwind-ledger", "sub": "northwind-ledger", "partner": "northwind", "scope": "accounts:read", "jti": id, "request_id": id,
	} {
		if claims[name] != want {
			t.Errorf("claim %s = %v, want %v", name, claims[name], want)
		}
	}
	if cnf := claims["cnf"].(map[string]any); cnf["x5t#S256"] != s.client.Thumbprint() {
		t.Errorf("cnf = %v, want the thumbprint of the client certificate", cnf)
	}
	if exp, _ := claims.GetExpirationTime(); time.Until(exp.Time) > time.Minute {
		t.Errorf("exp = %s, want at most a minute from now", exp)
	}
	first := got.Get("Tallygate-Assertion")
	if call(s); got.Get("Tallygate-Assertion") == first {
		t.Error("two requests got the same assertion")
	}
}

// TestAssertionEnds checks that an assertion expires no later than the access token.
func TestAssertionEnds(t *testing.T) {
	s := newHarness(t, "http://127.0.0.1:1", io.Discard, withAssertion)
	now := time.Now().Truncate(time.Second)
	public := keysOf(t, s.proxy)
	for _, times := range [][2]time.Duration{
		{time.Hour, time.Minute}, {10 * time.Second, 10 * time.Second}, {-10 * time.Second, time.Minute}, // in the leeway
	} {
		left, want := times[0], times[1]
		of := assertion.Subject{Decision: &access.Decision{Reason: access.Granted, API: "accounts", Claims: access.Claims{ClientID: "c", Expires: now.Add(left)}}}
		raw, err := s.proxy.signer.Sign(&of, now)
		if err != nil {
			t.Fatal(err)
		}
		var claims jwt.RegisteredClaims
		if _, err := jwt.ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return public, nil }); err != nil {
			t.Fatal(err)
		}
		if got := claims.ExpiresAt.Sub(now); got != want || claims.Subject != "c" {
			t.Errorf("assertion for a token that expires in %s: lifetime %s, sub %q, want lifetime %s", left, got, claims.Subject, want)
		}
	}
}

// withAssertion sets assertion: true on every route.
func withAssertion(cfg *config.Config) {
	for i := range cfg.APIs {
		for j := range cfg.APIs[i].Routes {
			cfg.APIs[i].Routes[j].Assertion = true
		}
	}
}

func withForwardedToken(cfg *config.Config) { cfg.IdentityHeaders.ForwardAuthorization = true }
