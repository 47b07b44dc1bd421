package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A profileGate is a gate that accepts the tokens of every shape, each from a server of its own that
// may issue tokens for one partner.
type profileGate struct {
	*reloading
	shapes []shape
}

func newProfileGate(t *testing.T) *profileGate {
	t.Helper()
	w := &profileGate{newReloading(t), shapes()}
	var servers, partners strings.Builder
	for i, s := range w.shapes {
		name := fmt.Sprintf("p%d", i)
		ca := testpki.NewCA(name + " Root")
		w.pairs[name] = ca.Leaf(name)
		ca.Write(w.dir, name+"-ca")
		signer := testpki.NewSigner(map[bool]string{true: "ES256", false: "RS256"}[s.profile == "rfc9068"], name+"-key")
		w.signers[name] = signer
		keys := []testpki.M{signer.JWK(s.jwk)}
		for _, other := range s.others {
			keys = append(keys, signer.JWK(other))
		}
		document, err := json.Marshal(testpki.M{"keys": keys})
		w.check(err)
		w.replace(name+"-keys.json", document)
		fmt.Fprintf(&servers, "  - name: %s\n    profile: %s\n    issuer: %s\n    audiences: [%q]\n    partners: [%[1]s]\n    key_set: {file: %[1]s-keys.json}\n%[5]s",
			name, s.profile, s.issuer, s.audience, s.settings)
		fmt.Fprintf(&partners, "    - name: %s\n      trust: [%[1]s-ca.pem]\n      applications:\n        - {client_id: %[2]q, apis: [orders]}\n", name, s.client)
	}
	w.replace("gate.yaml", fmt.Appendf(nil, `listener:
  address: 127.0.0.1:0
  certificate: {files: {certificate: gate.pem, key: gate-key.pem}}
authorization_servers:
%sapis:
  - name: orders
    hosts: [api.example.test]
    upstream: {url: %q}
    routes:
      - {methods: [GET], path: "/orders/{id}", scopes: [orders.read]}
partners:
  list:
%sadmin: {address: "127.0.0.1:0"}
log: {granted: all}
`, servers.String(), w.upstream.url(), partners.String()))
	w.serve()
	return w
}

// token makes the token that shape i issues for a certificate, "" for none. edits are merged into
// the claims.
func (w *profileGate) token(name string, i int, certificate string, edits ...testpki.M) {
	s, now := &w.shapes[i], time.Now()
	claims := testpki.M{"iss": s.issuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	for member, value := range s.claims {
		claims[member] = value
	}
	if certificate != "" {
		cnf := testpki.M{"x5t#S256": w.pairs[certificate].Thumbprint()}
		if s.ext {
			claims["ext"] = testpki.M{"cnf": cnf, "tier": "gold"}
		} else {
			claims["cnf"] = cnf
		}
	}
	for _, edit := range edits {
		for member, value := range edit {
			if claims[member] = value; value == nil {
				delete(claims, member)
			}
		}
	}
	w.tokens[name] = w.signers[fmt.Sprintf("p%d", i)].Token(claims, s.header)
}

func (w *profileGate) refuses(t *testing.T, certificate, token string, status int, reason, code string) {
	t.Helper()
	if err := w.call([]string{"-cert", certificate, "-token", token, "GET", "/orders/7"}); err != nil {
		t.Fatal(err)
	}
	if err := w.refused(status, reason, code); err != nil {
		t.Errorf("token %s with certificate %s: %v", token, certificate, err)
	}
}

// RFC 8705 s3, T-JWT-11, T-JWT-21: the token of each profile is granted with its certificate, and
// refused with another certificate, without a binding, as an ID token, and if it names a client of
// another server or two clients. No refused request reaches the upstream.
func TestProfiles(t *testing.T) {
	t.Parallel()
	w := newProfileGate(t)
	seen := map[string]bool{}
	for i, s := range w.shapes {
		own, thief := fmt.Sprintf("p%d", i), fmt.Sprintf("p%d", (i+1)%len(w.shapes))
		seen[s.profile] = true
		t.Run(s.profile+" "+s.client, func(t *testing.T) {
			w.token("bound", i, own)
			if err := w.call([]string{"-cert", own, "-token", "bound", "GET", "/orders/7"}); err != nil {
				t.Fatal(err)
			}
			if err := w.granted(200); err != nil {
				t.Fatalf("%v\n%s", err, w.log.Bytes())
			}
			received, _ := w.upstream.take()
			for _, field := range []string{"Client-Id: " + s.client, "Partner: " + own, "Scopes: orders.read", "Subject: " + s.subject} {
				if !strings.Contains(string(received), "Tallygate-"+field) {
					t.Errorf("the upstream received no %s:\n%s", field, received)
				}
			}
			w.refuses(t, thief, "bound", 401, "bound_to_other", "invalid_token")

			w.token("unbound", i, "")
			w.refuses(t, own, "unbound", 401, "not_bound", "invalid_token")
			w.token("null", i, "", testpki.M{"cnf": json.RawMessage("null"), "ext": json.RawMessage("null")})
			w.refuses(t, own, "null", 401, "not_bound", "invalid_token")
			w.token("empty", i, own, testpki.M{"cnf": testpki.M{}})
			w.refuses(t, own, "empty", 401, "malformed_binding", "invalid_token")
			w.token("scopeless", i, own, testpki.M{"scope": nil, "scp": nil, "roles": nil})
			w.refuses(t, own, "scopeless", 403, "insufficient_scope", "insufficient_scope")
			w.token("elsewhere", i, own, testpki.M{"aud": "https://elsewhere.example.test"})
			w.refuses(t, own, "elsewhere", 401, "wrong_audience", "invalid_token")
			w.token("nobody", i, own, testpki.M{"client_id": nil, "azp": nil, "appid": nil, "cid": nil, "aud": s.audience})
			w.refuses(t, own, "nobody", 403, "unknown_client", "")

			// The server names the client of another server, for the thief's certificate.
			w.token("impersonator", i, thief, w.named(s, w.shapes[(i+1)%len(w.shapes)].client), testpki.M{"aud": s.audience})
			w.refuses(t, thief, "impersonator", 403, "unknown_client", "")
			if s.claims["azp"] != nil && (s.profile == "keycloak" || s.profile == "auth0") {
				w.token("two clients", i, own, testpki.M{"client_id": "another"})
				w.refuses(t, own, "two clients", 401, "malformed_token", "invalid_token")
			}
			if edit, ok := idTokens[s.profile]; ok && s.header["typ"] != "at+jwt" {
				w.token("id", i, own, edit)
				w.refuses(t, own, "id", 401, "wrong_type", "invalid_token")
			}
			w.token("tenant", i, own, testpki.M{"iss": strings.Replace(s.issuer, tenant, otherTenant, 1) + map[bool]string{true: "", false: "x"}[strings.Contains(s.issuer, tenant)]})
			w.refuses(t, own, "tenant", 401, "unknown_issuer", "invalid_token")
		})
	}
	if len(seen) != 11 {
		t.Errorf("tokens of %d profiles, want a shape for each of 11", len(seen))
	}
	w.check(w.stop())
}

// named returns the edit that changes the client of a token, in the claims in which the shape has
// the client.
func (w *profileGate) named(s shape, client string) testpki.M {
	edit := testpki.M{}
	for _, claim := range []string{"client_id", "azp", "appid", "cid"} {
		if s.claims[claim] != nil {
			edit[claim] = client
		}
	}
	return edit
}
