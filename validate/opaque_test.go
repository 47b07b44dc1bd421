package validate

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// An authorizationServer introspects tokens. Tokens that are not in known are inactive.
type authorizationServer struct {
	*httptest.Server
	anchor, secret string // files

	mu    sync.Mutex
	known map[string]M
	down  bool
	only  string   // the only accepted secret; "": any
	asked []string // tokens
}

func newAuthority(t testing.TB) *authorizationServer {
	t.Helper()
	ca, dir := testpki.NewCA("private CA"), t.TempDir()
	a := &authorizationServer{known: map[string]M{}, secret: dir + "/secret"}
	a.anchor, _ = ca.Write(dir, "ca")
	gatetest.WriteFile(t, a.secret, []byte("secret"))
	a.Server = httptest.NewUnstartedServer(a)
	a.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	a.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Leaf("localhost", testpki.IP("127.0.0.1")).TLS()}}
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

func (a *authorizationServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token := r.PostFormValue("token")
	a.asked = append(a.asked, token)
	if a.down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if a.only != "" && r.Header.Get("Authorization") != "Bearer "+a.only {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	response := M{"active": false}
	if known, ok := a.known[token]; ok {
		response = known
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(response)
}

// knows adds a token with its response; nil removes the token.
func (a *authorizationServer) knows(token string, response M) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[token] = response
	if response == nil {
		delete(a.known, token)
	}
}

func (a *authorizationServer) fail(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// calls returns the tokens that were introspected since the last call.
func (a *authorizationServer) calls() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	asked := a.asked
	a.asked = nil
	return asked
}

// introspectedBy makes a server of package config introspect tokens at a.
func (a *authorizationServer) introspectedBy(tokens config.TokenKinds, edits ...func(*config.Introspection)) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) {
		u, _ := url.Parse(a.URL)
		s.Tokens = tokens
		s.Connection.Trust = []config.Path{config.Path(a.anchor)}
		s.Introspection = &config.Introspection{
			Endpoint:       &config.URL{URL: *u},
			Authentication: config.IntrospectionAuthentication{Method: config.MethodBearer, TokenFile: config.Path(a.secret)},
			Timeout:        10 * time.Second, Concurrency: 16,
			Cache: config.IntrospectionCache{Entries: 1000, MaxAge: time.Minute, InactiveEntries: 100, InactiveMaxAge: time.Minute},
		}
		for _, edit := range edits {
			edit(s.Introspection)
		}
	}
}

func named(name, issuer string) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) {
		s.Name, s.Issuer = config.Name(name), config.Identifier(issuer)
	}
}

// activeResponse is the response about a good token of partner.
func activeResponse(edits ...M) M {
	return bound(append([]M{{"active": true, "token_type": "Bearer"}}, edits...)...)
}

// T-CNF-06, T-INT-03, T-INT-11, T-JWT-08, one line for each case: the claims of an opaque token
// are checked like the claims of a JWT, the first time and on a cache hit.
func TestOpaqueTokens(t *testing.T) {
	a := newAuthority(t)
	v := newValidator(t, Options{}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly)))
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		response M
		want     access.Reason
	}{
		"good":                   {activeResponse(), access.Granted},
		"without iss":            {activeResponse(M{"iss": nil}), access.Granted},
		"without exp":            {activeResponse(M{"exp": nil}), access.Granted},
		"unknown":                {nil, access.Inactive},
		"another issuer":         {activeResponse(M{"iss": "https://other.example"}), access.UnknownIssuer},
		"issuer with a slash":    {activeResponse(M{"iss": issuer + "/"}), access.UnknownIssuer},
		"another audience":       {activeResponse(M{"aud": "https://other.example"}), access.WrongAudience},
		"audiences with ours":    {activeResponse(M{"aud": []string{"x", audience}}), access.Granted},
		"no audience":            {activeResponse(M{"aud": nil}), access.WrongAudience},
		"no audience, no issuer": {activeResponse(M{"aud": nil, "iss": nil}), access.WrongAudience},
		"expired in the leeway":  {activeResponse(M{"exp": in(-20 * time.Second)}), access.Granted},
		"expired":                {activeResponse(M{"exp": in(-31 * time.Second)}), access.Expired},
		"not yet":                {activeResponse(M{"nbf": in(time.Minute)}), access.NotYetValid},
		"issued tomorrow":        {activeResponse(M{"iat": in(time.Minute)}), access.NotYetValid},
		"no cnf":                 {activeResponse(M{"cnf": nil}), access.NotBound},
		"cnf null":               {activeResponse(M{"cnf": null}), access.NotBound},
		"all null that may be":   {activeResponse(M{"nbf": null, "iat": null, "exp": null, "jti": null, "sub": null, "iss": null, "scope": null, "username": null, "token_type": null, "typ": null, "token_use": null}), access.Granted},
		"exp as text":            {activeResponse(M{"exp": "1999999999"}), access.MalformedToken},
		"aud null":               {activeResponse(M{"aud": null}), access.WrongAudience},
		"scopes as an array":     {activeResponse(M{"scope": []string{"a", "b"}}), access.Granted},
		"a scope with a space":   {activeResponse(M{"scope": []string{"a b"}}), access.MalformedToken},
		"cnf empty":              {activeResponse(M{"cnf": M{}}), access.MalformedBinding},
		"cnf of a DPoP key":      {activeResponse(M{"cnf": M{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}, "token_type": "DPoP"}), access.BindingNotAccepted},
		"cnf beside a DPoP key":  {activeResponse(M{"cnf": M{"x5t#S256": partner.Thumbprint(), "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}), access.BindingNotAccepted},
		"cnf padded":             {activeResponse(M{"cnf": M{"x5t#S256": partner.Thumbprint() + "="}}), access.MalformedBinding},
		"cnf of another":         {activeResponse(M{"cnf": M{"x5t#S256": other.Thumbprint()}}), access.BoundToOther},
		"cnf within":             {activeResponse(M{"cnf": nil, "x5t#S256": partner.Thumbprint()}), access.NotBound},
		"a refresh token":        {activeResponse(M{"token_use": "refresh_token"}), access.WrongType},
	} {
		a.knows(name, c.response)
		for range 2 {
			expect(t, v, name, partner, c.want)
		}
		if c.want == access.Granted {
			expect(t, v, name, other, access.BoundToOther)
			expect(t, v, name, partner, access.Granted)
		}
	}
}

// Revocation and audience of a cached opaque token are checked on every request, without a
// request to the server.
func TestOpaqueTokenIsCheckedOnEveryHit(t *testing.T) {
	a := newAuthority(t)
	revoked := false
	v := newValidator(t, Options{Revoked: revokedIf(func(u *access.Unchecked) bool { return revoked && u.TokenID != "" })}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly)))
	a.knows("opaque", activeResponse())
	expect(t, v, "opaque", partner, access.Granted)
	a.calls()
	a.fail(true)
	revoked = true
	expect(t, v, "opaque", partner, access.Revoked)
	revoked = false
	expect(t, v, "opaque", partner, access.Granted)
	v.servers[0].audiences = []string{"https://moved.example"}
	expect(t, v, "opaque", partner, access.WrongAudience)
	claims, err := v.Validate(t.Context(), Credentials{Token: "opaque"}, nil)
	if gatetest.Reason(t, err) != access.NoCertificate || claims.Issuer != "" {
		t.Errorf("Validate without a certificate = %v, want no_certificate", err)
	}
	if asked := a.calls(); len(asked) != 0 {
		t.Errorf("introspected tokens: %v, want none", asked)
	}
}

// The server of a token is found without trusting the token: a JWT's iss is looked up, and an
// opaque token goes to the servers with opaque tokens. A malformed token, or a token that names
// another server, is sent to no server.
func TestIntrospectedServers(t *testing.T) {
	key, foreign := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k1")
	a, b := newAuthority(t), newAuthority(t)
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	v := newValidator(t, Options{},
		gatetest.AuthorizationServer(fromFile, a.introspectedBy(config.BothKinds)),
		gatetest.AuthorizationServer(b.introspectedBy(config.OpaqueOnly), named("second", "https://second.example")))
	jwe := strings.Join([]string{testpki.Segment([]byte(`{"alg":"dir","enc":"A256GCM"}`)), "", "aaaa", "bbbb", "cccc"}, ".")
	for _, raw := range []string{"opaque", jwe, "a.b.c", "....", "a.b", "+/=="} {
		expect(t, v, raw, partner, access.Inactive)
		if diff := cmp.Diff([]string{raw}, a.calls()); diff != "" {
			t.Errorf("%s at the first server (-want +got):\n%s", raw, diff)
		}
		if diff := cmp.Diff([]string{raw}, b.calls()); diff != "" {
			t.Errorf("%s at the second server (-want +got):\n%s", raw, diff)
		}
	}
	quiet := func(raw string, want access.Reason) {
		t.Helper()
		expect(t, v, raw, partner, want)
		if asked := append(a.calls(), b.calls()...); len(asked) != 0 {
			t.Errorf("%s: asked about it", want)
		}
	}
	quiet(key.Token(bound()), access.Granted)
	quiet(foreign.Token(bound()), access.BadSignature)
	quiet(key.Token(bound(M{"iss": "https://nobody.example"})), access.UnknownIssuer)
	quiet(key.Token(bound(M{"iss": nil})), access.UnknownIssuer)
	quiet(key.Sign([]byte(`{"alg":"ES256","kid":"k1","kid":"k2"}`), []byte(`{}`)), access.MalformedToken)
	quiet(key.Token(bound(), M{"alg": "none"}), access.UnsupportedAlgorithm)
	quiet(key.Token(bound())+"=", access.MalformedToken)

	// JWTs of a server without a key set are introspected at this server alone.
	theirs := foreign.Token(bound(M{"iss": "https://second.example"}))
	b.knows(theirs, activeResponse(M{"iss": "https://second.example"}))
	expect(t, v, theirs, partner, access.Granted)
	if asked := a.calls(); len(asked) != 0 {
		t.Errorf("the first server got tokens %v, want none", asked)
	}
	expect(t, v, theirs, other, access.BoundToOther)
	if diff := cmp.Diff([]string{theirs}, b.calls()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// T-INT-02: servers are asked in their order until one knows the token. Each server has its own
// cache, and a failing server does not affect tokens of other servers.
func TestServersSideBySide(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	v := newValidator(t, Options{},
		gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly, func(i *config.Introspection) { i.Cache.InactiveEntries = 0 })),
		gatetest.AuthorizationServer(b.introspectedBy(config.OpaqueOnly, func(i *config.Introspection) { i.Cache.InactiveEntries = 0 }), named("second", "https://second.example")))
	second := activeResponse(M{"iss": "https://second.example"})
	a.knows("of a", activeResponse())
	b.knows("of b", second)
	b.knows("of b too", second)
	expect(t, v, "of a", partner, access.Granted)
	if n := len(b.calls()); n != 0 {
		t.Errorf("the second server got a token of the first, want none")
	}
	expect(t, v, "of b", partner, access.Granted)
	claims, err := v.Validate(t.Context(), Credentials{Token: "of b"}, certificate(partner))
	if err != nil || claims.Server != "second" {
		t.Errorf("Validate = %+v, %v; want claims of the right server", claims, err)
	}
	expect(t, v, "of nobody", partner, access.Inactive)
	if a.calls(); len(b.calls()) != 2 {
		t.Error("the second server did not get every token")
	}

	a.fail(true)
	expect(t, v, "of a", partner, access.Granted)     // cached
	expect(t, v, "of b", partner, access.Granted)     // cached; the first server is not awaited
	expect(t, v, "of b too", partner, access.Granted) // found although the first server fails
	expect(t, v, "of nobody", partner, access.IssuerUnavailable)
	b.fail(true)
	expect(t, v, "of b too", partner, access.Granted)
	expect(t, v, "new", partner, access.IssuerUnavailable)

	// Invalid claims in the response of the first server are reported, although the second
	// server, which fails, was not asked.
	a.fail(false)
	a.knows("malformed", activeResponse(M{"nbf": "x"}))
	expect(t, v, "malformed", partner, access.MalformedToken)

	// The first server decides about a token that both servers know.
	a.fail(false)
	b.fail(false)
	a.knows("of both", activeResponse(M{"client_id": "first"}))
	b.knows("of both", second)
	claims, err = v.Validate(t.Context(), Credentials{Token: "of both"}, certificate(partner))
	if err != nil || claims.ClientID != "first" || claims.Server != "partners" {
		t.Errorf("Validate = %+v, %v; want claims of the right server", claims, err)
	}
	if _, ok := v.byIssuer["https://second.example"]; !ok {
		t.Error("the configuration has no second server")
	}
}

// also_introspect: a JWT must be active at its server, whose response must not contradict it. A
// JWT that is refused anyway is not introspected.
func TestAlsoIntrospect(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	a := newAuthority(t)
	_, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	revoked := revokedIf(func(u *access.Unchecked) bool { return u.ClientID == "revoked" })
	v := newValidator(t, Options{Revoked: revoked}, gatetest.AuthorizationServer(fromFile, a.introspectedBy(config.JWTOnly), func(s *config.AuthorizationServer) { s.AlsoIntrospect = true }))
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		token, response M // response nil: unknown to the server
		want            access.Reason
		scopes          []string
	}{
		"active":                   {M{"scope": "a b"}, M{}, access.Granted, []string{"a", "b"}},
		"active and no more":       {nil, M{"iss": nil, "aud": nil, "sub": nil, "client_id": nil, "jti": nil, "exp": nil, "cnf": nil, "iat": nil}, access.Granted, nil},
		"inactive":                 {nil, nil, access.Inactive, nil},
		"expired there":            {nil, M{"exp": in(-time.Minute)}, access.Expired, nil},
		"not yet there":            {nil, M{"nbf": in(time.Minute)}, access.NotYetValid, nil},
		"for others there":         {nil, M{"aud": "https://other.example"}, access.WrongAudience, nil},
		"another cnf there":        {nil, M{"cnf": M{"x5t#S256": other.Thumbprint()}}, access.BoundToOther, nil},
		"a malformed cnf there":    {nil, M{"cnf": M{}}, access.MalformedBinding, nil},
		"a DPoP key there":         {nil, M{"cnf": M{"x5t#S256": partner.Thumbprint(), "jkt": "x"}}, access.MalformedBinding, nil},
		"another client there":     {nil, M{"client_id": "evil"}, access.MalformedToken, nil},
		"another subject there":    {nil, M{"sub": "evil"}, access.MalformedToken, nil},
		"another issuer there":     {nil, M{"iss": "https://other.example"}, access.MalformedToken, nil},
		"another jti there":        {nil, M{"jti": "x"}, access.MalformedToken, nil},
		"client named there alone": {M{"client_id": nil, "sub": nil, "jti": nil}, M{"client_id": client, "sub": "S", "jti": "J"}, access.Granted, nil},
		"a client revoked there":   {M{"client_id": nil}, M{"client_id": "revoked"}, access.Revoked, nil},
		"a refresh token there":    {nil, M{"token_use": "refresh_token"}, access.WrongType, nil},
		"fewer scopes there":       {M{"scope": "a b c"}, M{"scope": "c a"}, access.Granted, []string{"a", "c"}},
		"fewer, as an array":       {M{"scope": []string{"a", "b"}}, M{"scope": []string{"b"}}, access.Granted, []string{"b"}},
		"none, as an array":        {M{"scope": "a b"}, M{"scope": []string{}}, access.Granted, nil},
		"null of scopes there":     {M{"scope": "a b"}, M{"scope": null}, access.Granted, []string{"a", "b"}},
		"null there":               {nil, M{"iss": null, "aud": null, "sub": null, "client_id": null, "jti": null, "exp": null, "cnf": null, "iat": null}, access.Granted, nil},
		"malformed there":          {nil, M{"nbf": "x"}, access.MalformedToken, nil},
		"no scopes there":          {M{"scope": "a b"}, M{"scope": ""}, access.Granted, nil},
		"nothing of scopes there":  {M{"scope": "a b"}, M{"scope": nil}, access.Granted, []string{"a", "b"}},
		"more scopes there":        {M{"scope": "a"}, M{"scope": "a b"}, access.Granted, []string{"a"}},
		"not bound in the token":   {M{"cnf": nil}, M{"cnf": M{"x5t#S256": partner.Thumbprint()}}, access.NotBound, nil},
		"bound to other, both":     {M{"cnf": M{"x5t#S256": other.Thumbprint()}}, M{"cnf": M{"x5t#S256": other.Thumbprint()}}, access.BoundToOther, nil},
		"for others, in the token": {M{"aud": "https://other.example"}, M{}, access.WrongAudience, nil},
		"expired, says the token":  {M{"exp": in(-time.Minute)}, M{}, access.Expired, nil},
	} {
		t.Run(name, func(t *testing.T) {
			claims := bound(c.token)
			raw := key.Token(claims)
			if c.response != nil {
				response := maps.Clone(claims)
				response["active"] = true
				for k, v := range c.response {
					if response[k] = v; v == nil {
						delete(response, k)
					}
				}
				a.knows(raw, response)
			}
			a.calls()
			for range 2 { // checked, and on a cache hit
				got, err := v.Validate(t.Context(), Credentials{Token: raw}, certificate(partner))
				if gatetest.Reason(t, err) != c.want {
					t.Fatalf("got %v, want %s", err, c.want)
				}
				if id, _ := claims["jti"].(string); err != nil && id != "" && strings.Contains(err.Error(), id) {
					t.Errorf("the detail %v has the jti, want it left out", err)
				}
				if said := []string{got.ClientID, got.Subject, got.TokenID}; name == "client named there alone" && !slices.Equal(said, []string{client, "S", "J"}) {
					t.Errorf("unexpected claim %q", said)
				}
				if err == nil && !slices.Equal(got.Scopes, c.scopes) {
					t.Errorf("scopes %q, want %q", got.Scopes, c.scopes)
				}
			}
			refusedByToken := strings.Contains(name, "the token") || name == "bound to other, both"
			most := 1 // the second time by the cache: a grant or an inactive token
			if c.want != access.Granted && c.want != access.Inactive && c.want != access.WrongType {
				most = 2 // a refused token is not cached
			}
			if asked := a.calls(); refusedByToken != (len(asked) == 0) || len(asked) > most {
				t.Errorf("%d introspection requests, want fewer", len(asked))
			}
		})
	}
	a.fail(true)
	expect(t, v, key.Token(bound()), partner, access.IssuerUnavailable)
}

// The response about a JWT never stands for the JWT: not after the JWT has left the cache, and
// not after its key has left the key set.
func TestResponseIsNoJWT(t *testing.T) {
	key, next := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "k2")
	a := newAuthority(t)
	path, fromFile := gatetest.KeyFile(t, testpki.KeySet(key))
	server := gatetest.AuthorizationServer(fromFile, a.introspectedBy(config.BothKinds), func(s *config.AuthorizationServer) {
		s.AlsoIntrospect, s.Cache.Entries = true, 0
	})
	var pool reuse.Pool
	v := newValidator(t, Options{Lease: pool.Lease()}, server)
	raw := key.Token(bound(M{"scope": "a"}))
	a.knows(raw, activeResponse(M{"scope": "a b", "jti": nil}))
	for range 3 {
		claims, err := v.Validate(t.Context(), Credentials{Token: raw}, certificate(partner))
		if err != nil || !slices.Equal(claims.Scopes, []string{"a"}) {
			t.Errorf("Validate gives scopes %q, %v; want the scopes of both", claims.Scopes, err)
		}
	}
	gatetest.WriteFile(t, path, testpki.KeySet(next))
	expect(t, newValidator(t, Options{Lease: pool.Lease()}, server), raw, partner, access.UnknownKey)
}

// Our own issuer is asked in this process, on every request.
func TestLocalOpaqueTokens(t *testing.T) {
	key := testpki.NewSigner("ES256", "k1")
	state := struct {
		active bool
		err    error
	}{active: true}
	good := access.Unchecked{
		Issuer: issuer, ClientID: client, Audience: []string{audience}, Expires: time.Now().Add(time.Hour),
		Confirmation: access.Confirmation{Present: true, Thumbprint: access.ThumbprintOf(partner.Cert)},
	}
	own := localKeySet(testpki.KeySet(key))
	own.Introspect = func(raw string) (access.Unchecked, bool, error) {
		return good, state.active && raw == "opaque", state.err
	}
	v := newValidator(t, Options{Local: map[config.Identifier]LocalIssuer{issuer: own}}, gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Tokens = config.BothKinds }))
	expect(t, v, "opaque", partner, access.Granted)
	expect(t, v, "opaque", other, access.BoundToOther)
	expect(t, v, "another", partner, access.Inactive)
	expect(t, v, key.Token(bound()), partner, access.Granted)
	state.active = false
	expect(t, v, "opaque", partner, access.Inactive)
	state.active, state.err = true, errors.New("the disk is full")
	expect(t, v, "opaque", partner, access.IssuerUnavailable)
	state.err = nil
	claims, err := v.Validate(context.Background(), Credentials{Token: "opaque"}, certificate(partner))
	if err != nil || claims.Server != "partners" {
		t.Errorf("Validate = %+v, %v; want the local issuer's claims", claims, err)
	}
}

// Ready waits only for required servers.
func TestReady(t *testing.T) {
	a := newAuthority(t)
	optional := func(s *config.AuthorizationServer) { s.Required = false }
	unknown := a.introspectedBy(config.OpaqueOnly, func(i *config.Introspection) { i.Endpoint = nil })
	v := newValidator(t, Options{}, gatetest.AuthorizationServer(unknown, optional), gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly), named("second", "https://second.example")))
	if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "second") {
		t.Errorf("Ready() = %v before the check, want an error that names the second server", err)
	}
	if err := v.CheckCredentials(t.Context()); err == nil || !strings.Contains(err.Error(), "partners") || strings.Contains(err.Error(), "second") {
		t.Errorf("CheckCredentials() = %v, want an error that names partners alone", err)
	}
	if err := v.Ready(); err != nil {
		t.Errorf("Ready() = %v, want nil", err)
	}
	expect(t, v, "opaque", partner, access.IssuerUnavailable) // the first server may know it
	v = newValidator(t, Options{}, gatetest.AuthorizationServer(unknown, named("partners", "https://127.0.0.1:1")), gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly), named("second", "https://second.example")))
	if err := v.CheckCredentials(t.Context()); err == nil {
		t.Error("CheckCredentials of an absent server = nil, want an error")
	}
	if err := v.Ready(); err == nil || !strings.Contains(err.Error(), "partners") || strings.Contains(err.Error(), "second") {
		t.Errorf("Ready() = %v, want an error that names partners alone", err)
	}
	if err := v.RefreshOnce(t.Context()); err == nil || !strings.Contains(err.Error(), "https://127.0.0.1:1") {
		t.Errorf("RefreshOnce() = %v, want an error that names the server", err)
	}
}

// A reload with a secret that the server refuses fails, because tokens that the previous
// Validator can check could not be checked any more.
func TestPrefetchChecksCredentials(t *testing.T) {
	a := newAuthority(t)
	a.only = "secret"
	server := gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly))
	var pool reuse.Pool
	before := newValidator(t, Options{Lease: pool.Lease()}, server)
	if err := before.CheckCredentials(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir() + "/other"
	for secret, lost := range map[string]bool{"secret": false, "wrong": true} {
		gatetest.WriteFile(t, other, []byte(secret))
		lease := pool.Lease()
		next := newValidator(t, Options{Lease: lease}, gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly, func(i *config.Introspection) {
			i.Authentication.TokenFile = config.Path(other)
		})))
		if err := next.Prefetch(t.Context(), before); errors.Is(err, ErrTokensUnverifiable) != lost {
			t.Errorf("Prefetch with secret %q = %v", secret, err)
		}
		lease.Release()
	}
}
