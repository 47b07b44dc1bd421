package introspect

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// T-INT-01, T-INT-08, T-DOS-08, one line for each response and its result. Only active: true is
// active, and an invalid response never means inactive.
func TestResponses(t *testing.T) {
	a := newAuthority(t)
	json := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			reply200(w, "application/json; charset=utf-8", []byte(text))
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write(gatetest.JSON(active()))
		}
	}
	good := string(gatetest.JSON(active()))
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   access.Reason
	}{
		"active":              {json(good), access.Granted},
		"inactive":            {json(`{"active":false}`), access.Inactive},
		"inactive and more":   {json(strings.Replace(good, "true", "false", 1)), access.Inactive},
		"active as text":      {json(strings.Replace(good, "true", `"true"`, 1)), access.IssuerUnavailable},
		"active as a number":  {json(strings.Replace(good, "true", "1", 1)), access.IssuerUnavailable},
		"active null":         {json(strings.Replace(good, "true", "null", 1)), access.IssuerUnavailable},
		"active missing":      {json(string(gatetest.JSON(active(M{"active": nil})))), access.IssuerUnavailable},
		"Active":              {json(strings.Replace(good, `"active"`, `"Active"`, 1)), access.IssuerUnavailable},
		"active twice":        {json(`{"active":false,` + good[1:]), access.IssuerUnavailable},
		"cnf twice":           {json(`{"cnf":{},` + good[1:]), access.IssuerUnavailable},
		"HTML":                {json("<html></html>"), access.IssuerUnavailable},
		"empty":               {json(""), access.IssuerUnavailable},
		"null":                {json("null"), access.IssuerUnavailable},
		"an array":            {json("[" + good + "]"), access.IssuerUnavailable},
		"true":                {json("true"), access.IssuerUnavailable},
		"cut off":             {json(good[:len(good)-2]), access.IssuerUnavailable},
		"trailing":            {json(good + good), access.IssuerUnavailable},
		"not UTF-8":           {json(strings.Replace(good, "accounts", "acc\xff", 1)), access.IssuerUnavailable},
		"nested 100,000 deep": {json(`{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "," + good[1:]), access.IssuerUnavailable},
		"too large":           {json(good + strings.Repeat(" ", authserver.MaxIntrospection)), access.IssuerUnavailable},
		"nested 33 deep":      {json(`{"x":` + strings.Repeat("[", 33) + strings.Repeat("]", 33) + "," + good[1:]), access.IssuerUnavailable},
		"too many values":     {json(`{"x":[1` + strings.Repeat(",1", 4096) + "]," + good[1:]), access.IssuerUnavailable},
		"compressed": {func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("the request has Accept-Encoding, want none")
			}
			w.Header().Set("Content-Encoding", "gzip")
			reply200(w, "application/json", []byte(good)) // with a good body
		}, access.IssuerUnavailable},
		"exp as text":            {json(string(gatetest.JSON(active(M{"exp": "1999999999"})))), access.MalformedToken},
		"aud as an object":       {json(string(gatetest.JSON(active(M{"aud": M{}})))), access.MalformedToken},
		"a scope with a space":   {json(string(gatetest.JSON(active(M{"scope": []string{"a b"}})))), access.MalformedToken},
		"scopes of other types":  {json(string(gatetest.JSON(active(M{"scope": []any{"a", 1}})))), access.MalformedToken},
		"a refresh token":        {json(string(gatetest.JSON(active(M{"token_type": "refresh_token"})))), access.WrongType},
		"a refresh token by use": {json(string(gatetest.JSON(active(M{"token_use": "refresh_token"})))), access.WrongType},
		"a refresh token by typ": {json(string(gatetest.JSON(active(M{"typ": "Refresh"})))), access.WrongType},
		"an ID token by typ":     {json(string(gatetest.JSON(active(M{"typ": "ID"})))), access.WrongType},
		"an access token by all": {json(string(gatetest.JSON(active(M{"token_type": "bearer", "token_use": "access_token", "typ": "Bearer"})))), access.Granted},
		"without token_type":     {json(string(gatetest.JSON(active(M{"token_type": nil})))), access.Granted},
		"HTML type":              {func(w http.ResponseWriter, _ *http.Request) { reply200(w, "text/html", []byte(good)) }, access.IssuerUnavailable},
		"no type": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			_, _ = io.WriteString(w, good)
		}, access.IssuerUnavailable},
		"a JWT that nobody ordered": {func(w http.ResponseWriter, _ *http.Request) { reply200(w, jwtMediaType, []byte("e30.e30.")) }, access.IssuerUnavailable},
		"201":                       {status(201), access.IssuerUnavailable},
		"204":                       {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, access.IssuerUnavailable},
		"302":                       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, access.IssuerUnavailable},
		"307": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, access.IssuerUnavailable},
		"400":     {status(400), access.IssuerUnavailable},
		"401":     {status(401), access.IssuerUnavailable},
		"403":     {status(403), access.IssuerUnavailable},
		"404":     {status(404), access.IssuerUnavailable},
		"429":     {status(429), access.IssuerUnavailable},
		"500":     {status(500), access.IssuerUnavailable},
		"hang up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, access.IssuerUnavailable},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 64<<10)); err != nil {
					return
				}
			}
		}, access.IssuerUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			gate := a.client() // with its own breaker
			a.serve(c.answer)
			expect(t, gate, "opaque", c.want)
			if c.want != access.IssuerUnavailable {
				return
			}
			// Nothing is cached: the next response counts.
			a.responds(active())
			expect(t, gate, "opaque", access.Granted)
		})
	}
}

// The claims come from the response, RFC 7662 section 2.2 and RFC 8705 section 3.2.
func TestClaimsOfResponse(t *testing.T) {
	a := newAuthority(t)
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	bound, err := access.ParseThumbprint("A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0")
	if err != nil {
		t.Fatal(err)
	}
	a.responds(active(M{"exp": exp.Unix(), "nbf": exp.Unix() - 7200, "iat": exp.Unix() - 3600, "jti": "j1", "scope": "accounts:read accounts:write", "username": "x"}))
	got, _ := introspectToken(t, a.client(), "opaque")
	want := &access.Unchecked{
		Server: "partners", Issuer: issuer, Subject: "northwind-ledger", ClientID: "northwind-ledger", TokenID: "j1",
		Audience: []string{audience}, Scopes: []string{"accounts:read", "accounts:write"},
		Expires: exp, NotBefore: exp.Add(-2 * time.Hour), IssuedAt: exp.Add(-time.Hour),
		Confirmation: access.Confirmation{Present: true, Thumbprint: bound},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Without iss, the issuer is the server; without exp, the token ends with its cache entry. No
	// other claim is made up.
	a.responds(M{"active": true})
	got, _ = introspectToken(t, a.client(), "opaque")
	if left := time.Until(got.Expires); left < 50*time.Second || left > time.Minute+time.Second {
		t.Errorf("without exp, Expires is in %s, want the lifetime of the entry", left)
	}
	got.Expires = time.Time{}
	if diff := cmp.Diff(&access.Unchecked{Server: "partners", Issuer: issuer}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// iss is kept if present, for validate to compare.
	a.responds(active(M{"iss": "https://other.example"}))
	if got, _ = introspectToken(t, a.client(), "opaque"); got.Issuer != "https://other.example" {
		t.Errorf("Issuer = %q, want the response's iss", got.Issuer)
	}
	// A null member is absent, and scope may be an array.
	null := json.RawMessage("null")
	a.responds(M{"active": true, "iss": null, "sub": null, "client_id": null, "jti": null, "aud": null, "exp": null, "nbf": null, "iat": null, "cnf": null, "token_type": null, "scope": []string{"a", "b"}})
	got, _ = introspectToken(t, a.client(), "opaque")
	got.Expires = time.Time{}
	if diff := cmp.Diff(&access.Unchecked{Server: "partners", Issuer: issuer, Scopes: []string{"a", "b"}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A cnf of any form is present, and matches no certificate.
	for _, cnf := range []any{M{}, "x", []string{}, M{"jkt": "x"}, M{"x5t#S256": 1}, M{"x5t#S256": bound.Hex()}} {
		response := active()
		response["cnf"] = cnf
		a.responds(response)
		if got, _ = introspectToken(t, a.client(), "opaque"); got.Confirmation != (access.Confirmation{Present: true}) {
			t.Errorf("cnf %v gives %+v, want Present without a thumbprint", cnf, got.Confirmation)
		}
	}
}

// T-INT-10: the token is in the body alone, and each authentication method puts its credentials
// in the right place.
func TestAuthentication(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	secret := "s3cret/+%"
	for _, c := range []struct {
		way   config.IntrospectionAuthentication
		check func(t *testing.T, r *http.Request)
	}{
		{config.IntrospectionAuthentication{Method: config.MethodTLS}, func(t *testing.T, r *http.Request) {
			if r.PostForm.Get("client_id") != "gate" || r.Header["Authorization"] != nil {
				t.Errorf("client_id %q and Authorization %q, want client_id alone", r.PostForm["client_id"], r.Header["Authorization"])
			}
		}},
		{config.IntrospectionAuthentication{Method: config.MethodSecretBasic, SecretFile: a.path("secret")}, func(t *testing.T, r *http.Request) {
			// RFC 6749 section 2.3.1: form-encoded, then base64.
			want := "Basic " + base64.StdEncoding.EncodeToString([]byte("gate:s3cret%2F%2B%25"))
			if got := r.Header.Get("Authorization"); got != want || r.PostForm["client_id"] != nil {
				t.Errorf("Authorization = %q, want %q; form %v", got, want, r.PostForm)
			}
		}},
		{config.IntrospectionAuthentication{Method: config.MethodSecretPost, SecretFile: a.path("secret")}, func(t *testing.T, r *http.Request) {
			if r.PostForm.Get("client_id") != "gate" || r.PostForm.Get("client_secret") != secret || r.Header["Authorization"] != nil {
				t.Errorf("form %v and Authorization %q, want client_secret in the form alone", r.PostForm, r.Header["Authorization"])
			}
		}},
		{config.IntrospectionAuthentication{Method: config.MethodBearer, TokenFile: a.path("secret")}, func(t *testing.T, r *http.Request) {
			if got := r.Header.Get("Authorization"); got != "Bearer "+secret {
				t.Errorf("Authorization = %q, want the bearer token", got)
			}
		}},
		{config.IntrospectionAuthentication{Method: config.MethodPrivateKeyJWT, KeyFile: a.path("assertion-key.pem"), KeyID: "2026"}, a.checkAssertion},
	} {
		t.Run(string(c.way.Method), func(t *testing.T) {
			client := a.client(func(s *config.AuthorizationServer) { s.Introspection.Authentication = c.way })
			expect(t, client, "the+token/=", access.Granted)
			r := a.request()
			if r.Method != http.MethodPost || r.URL.RawQuery != "secret=canary" || r.PostForm.Get("token") != "the+token/=" || r.PostForm.Get("token_type_hint") != "access_token" {
				t.Errorf("request %s %s with form %v, want a POST with the token in the body", r.Method, r.URL, r.PostForm)
			}
			if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "gate" {
				t.Error("the request has no client certificate, want the gate's")
			}
			for name, values := range r.Header {
				if strings.Contains(strings.Join(values, " "), "the+token") || name == "Idempotency-Key" {
					t.Errorf("header %s: %q has the token", name, values)
				}
			}
			c.check(t, r)
		})
	}
}

// checkAssertion checks an assertion by RFC 7523 section 3.
func (a *authorizationServer) checkAssertion(t *testing.T, r *http.Request) {
	t.Helper()
	parts := strings.Split(r.PostForm.Get("client_assertion"), ".")
	if len(parts) != 3 || r.PostForm.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
		t.Fatalf("form %v, want one assertion", r.PostForm)
	}
	header, _ := base64.RawURLEncoding.DecodeString(parts[0])
	claims, _ := base64.RawURLEncoding.DecodeString(parts[1])
	for text, wants := range map[string][]string{
		string(header): {`"alg":"ES256"`, `"kid":"2026"`},
		string(claims): {`"iss":"gate"`, `"sub":"gate"`, `"aud":"` + issuer + `"`, `"jti":"`, `"exp":`, `"iat":`},
	} {
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("claims %s of the assertion lack %s", text, want)
			}
		}
	}
}

// Secrets are read for each request, so that a new secret takes effect at once. A missing secret
// stops the start and, later, only the requests that need it.
func TestSecretsAreReadAgain(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	post := func(s *config.AuthorizationServer) {
		s.Introspection.Authentication = config.IntrospectionAuthentication{Method: config.MethodSecretPost, SecretFile: a.path("secret")}
	}
	c := a.client(post)
	a.write("secret", "new")
	expect(t, c, "one", access.Granted)
	if got := a.request().PostForm.Get("client_secret"); got != "new" {
		t.Errorf("secret %q was sent, want the new secret", got)
	}
	for _, bad := range []string{"", "\n", "two\nlines", strings.Repeat("x", 65<<10)} {
		a.write("secret", bad)
		expect(t, c, "two", access.IssuerUnavailable)
		if _, err := a.open(post); err == nil {
			t.Errorf("New with a secret of %d bytes = nil, want an error", len(bad))
		}
	}
	for name, way := range map[string]config.IntrospectionAuthentication{
		"no key":        {Method: config.MethodPrivateKeyJWT, KeyFile: a.path("ca.pem")},
		"missing":       {Method: config.MethodPrivateKeyJWT, KeyFile: a.path("missing")},
		"no PEM":        {Method: config.MethodPrivateKeyJWT, KeyFile: a.path("jwks.json")},
		"missing token": {Method: config.MethodBearer, TokenFile: a.path("missing")},
		"no method":     {},
	} {
		if _, err := a.open(func(s *config.AuthorizationServer) { s.Introspection.Authentication = way }); err == nil {
			t.Errorf("New with %s = nil, want an error", name)
		}
	}
}

// Every kind of configurable key signs an assertion by its algorithm.
func TestAssertionKeys(t *testing.T) {
	a := newAuthority(t)
	for _, algorithm := range []string{"ES256", "PS256", "EdDSA"} {
		signer := testpki.NewSigner(algorithm, "k")
		der, err := x509.MarshalPKCS8PrivateKey(signer.Key)
		if err != nil {
			t.Fatal(err)
		}
		a.write("key.pem", fmt.Sprintf("-----BEGIN PRIVATE KEY-----\n%s\n-----END PRIVATE KEY-----\n", base64.StdEncoding.EncodeToString(der)))
		_, method, err := readKey(a.path("key.pem"))
		if err != nil || method.Alg() != algorithm {
			t.Errorf("key for %s: method %v, error %v", algorithm, method, err)
		}
	}
}

// T-INT-10: the gate sends nothing to a server whose certificate has another authority or name.
func TestServerCertificate(t *testing.T) {
	a := newAuthority(t)
	a.responds(active())
	foreign, _ := testpki.NewCA("private CA").Write(t.TempDir(), "foreign")
	for name, edit := range map[string]func(*config.AuthorizationServer){
		"another authority of the same name": func(s *config.AuthorizationServer) { s.Connection.Trust = []config.Path{config.Path(foreign)} },
		"the system's authorities":           func(s *config.AuthorizationServer) { s.Connection.Trust = nil },
		"another name": func(s *config.AuthorizationServer) {
			s.Introspection.Endpoint.Host = strings.Replace(s.Introspection.Endpoint.Host, "127.0.0.1", "localhost", 1)
		},
		"http": func(s *config.AuthorizationServer) { s.Introspection.Endpoint.Scheme = "http" },
	} {
		c := a.client(edit)
		_, err := c.Introspect(t.Context(), queryOf("opaque"), certificateOf(1), ownedByNorthwind, nil)
		if access.ReasonOf(err) != access.IssuerUnavailable || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := a.calls.Load(); n != 0 {
		t.Errorf("%d requests were sent, want 0", n)
	}
}

// RFC 9701 section 5: a signed response must have the right type, be signed by the server, meant
// for this gate and made for this request, one line for each case.
func TestSignedResponses(t *testing.T) {
	a := newAuthority(t)
	signed := func(s *config.AuthorizationServer) { s.Introspection.Signed = true }
	now := time.Now()
	evil := testpki.NewSigner("ES256", "k1")
	envelope := func(edits ...M) M {
		m := M{"iss": issuer, "aud": "gate", "iat": now.Unix(), "token_introspection": active()}
		for _, edit := range edits {
			for k, v := range edit {
				if m[k] = v; v == nil {
					delete(m, k)
				}
			}
		}
		return m
	}
	typ := M{"typ": "token-introspection+jwt"}
	for name, c := range map[string]struct {
		mediaType, body string
		want            access.Reason
	}{
		"good":             {jwtMediaType, a.key.Token(envelope(), typ), access.Granted},
		"full typ":         {jwtMediaType, a.key.Token(envelope(), M{"typ": jwtMediaType}), access.Granted},
		"several aud":      {jwtMediaType, a.key.Token(envelope(M{"aud": []string{"x", "gate"}}), typ), access.Granted},
		"aud the resource": {jwtMediaType, a.key.Token(envelope(M{"aud": audience}), typ), access.Granted},
		"inactive":         {jwtMediaType, a.key.Token(envelope(M{"token_introspection": M{"active": false}}), typ), access.Inactive},

		"unsigned JSON":      {jsonMediaType, string(gatetest.JSON(active())), access.IssuerUnavailable},
		"JSON as the type":   {jsonMediaType, a.key.Token(envelope(), typ), access.IssuerUnavailable},
		"another's key":      {jwtMediaType, evil.Token(envelope(), typ), access.IssuerUnavailable},
		"alg none":           {jwtMediaType, a.key.Token(envelope(), typ, M{"alg": "none"}), access.IssuerUnavailable},
		"an access token":    {jwtMediaType, a.key.Token(envelope()), access.IssuerUnavailable},
		"typ JWT":            {jwtMediaType, a.key.Token(envelope(), M{"typ": "JWT"}), access.IssuerUnavailable},
		"another issuer":     {jwtMediaType, a.key.Token(envelope(M{"iss": "https://other.example"}), typ), access.IssuerUnavailable},
		"no issuer":          {jwtMediaType, a.key.Token(envelope(M{"iss": nil}), typ), access.IssuerUnavailable},
		"for another":        {jwtMediaType, a.key.Token(envelope(M{"aud": "other-gate"}), typ), access.IssuerUnavailable},
		"for nobody":         {jwtMediaType, a.key.Token(envelope(M{"aud": nil}), typ), access.IssuerUnavailable},
		"old":                {jwtMediaType, a.key.Token(envelope(M{"iat": now.Add(-2 * time.Minute).Unix()}), typ), access.IssuerUnavailable},
		"of tomorrow":        {jwtMediaType, a.key.Token(envelope(M{"iat": now.Add(time.Minute).Unix()}), typ), access.IssuerUnavailable},
		"without iat":        {jwtMediaType, a.key.Token(envelope(M{"iat": nil}), typ), access.IssuerUnavailable},
		"without the member": {jwtMediaType, a.key.Token(envelope(M{"token_introspection": nil}), typ), access.IssuerUnavailable},
		"active outside":     {jwtMediaType, a.key.Token(envelope(M{"token_introspection": M{}, "active": true}), typ), access.IssuerUnavailable},
		"member twice":       {jwtMediaType, a.key.Sign(gatetest.JSON(M{"alg": "ES256", "kid": "k1", "typ": typ["typ"]}), append([]byte(`{"iss":"x",`), gatetest.JSON(envelope())[1:]...)), access.IssuerUnavailable},
		"no JWT":             {jwtMediaType, "x", access.IssuerUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			a.serve(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Accept") != jwtMediaType {
					t.Errorf("Accept = %s, want the media type of RFC 9701", r.Header.Get("Accept"))
				}
				reply200(w, c.mediaType, []byte(c.body))
			})
			expect(t, a.client(signed), "opaque", c.want)
		})
	}
}
