package issuer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/validate"
)

const askLedger = "grant_type=client_credentials&client_id=northwind-ledger"

// askWith requests a token with DPoP headers.
func (s *harness) askWith(pair *testpki.Pair, body string, proofs ...string) answer {
	s.t.Helper()
	header := form.Clone()
	header["DPoP"] = proofs
	return s.send(pair, "POST", "/token", header, body)
}

// proofClaims returns the claims of a proof for the token endpoint.
func (s *harness) proofClaims(edits ...testpki.M) testpki.M {
	return testpki.ProofClaims("POST", s.url+"/token", "", append([]testpki.M{{"ath": nil}}, edits...)...)
}

// unboundLedger makes the ledger's tokens unbound without a proof.
func unboundLedger(cfg *config.Config) { cfg.Partners.List[0].Applications[0].BoundTokens = false }

// RFC 9449 sections 5, 6.1 and 6.2: with a proof, the token is bound to the key of the proof. If the
// application's tokens are bound to certificates, it is bound to the certificate too.
func TestKeyBoundTokens(t *testing.T) {
	for _, algorithm := range []string{"ES256", "PS256", "EdDSA"} {
		key := testpki.NewSigner(algorithm, "")
		for name, c := range map[string]struct {
			edits []func(*config.Config)
			want  map[string]string
		}{
			"bound":   {nil, map[string]string{"x5t#S256": ledger.Thumbprint(), "jkt": key.KeyThumbprint()}},
			"unbound": {[]func(*config.Config){unboundLedger}, map[string]string{"jkt": key.KeyThumbprint()}},
		} {
			s := newHarness(t, "", c.edits...)
			g := s.granted(s.askWith(ledger, askLedger, key.Proof(s.proofClaims())))
			if p := s.verify(g.Token); g.Type != "DPoP" || !cmp.Equal(p.Confirmation, c.want) {
				t.Errorf("%s, %s: got type %q and cnf %v, want DPoP and %v", algorithm, name, g.Type, p.Confirmation, c.want)
			}
			// Without a proof nothing changes.
			if g := s.token(); g.Type != "Bearer" || s.verify(g.Token).Confirmation["jkt"] != "" {
				t.Errorf("%s, %s: without a proof got type %q and token %s, want Bearer without jkt", algorithm, name, g.Type, g.Token)
			}
		}
	}
}

// keyGate returns a gate for the issuer's tokens that takes keys.
func (s *harness) keyGate() *validate.Validator {
	s.t.Helper()
	proofs := config.Default().DPoP
	return s.gate(config.AuthorizationServer{
		Tokens: config.BothKinds, Algorithms: []config.Algorithm{config.ES256}, Types: []string{"at+jwt"},
		KeySet: config.KeySet{Refresh: time.Minute, CoolDown: time.Second, MaxStale: time.Hour},
	}, func(o *validate.Options) { o.DPoP = &proofs })
}

// A token of the issuer with a proof of its key is granted by the gate, which computes the thumbprint
// with code of its own. This holds for JWTs and opaque tokens.
func TestKeyBoundTokensAtTheGate(t *testing.T) {
	for _, format := range []config.TokenFormat{config.JWT, config.Opaque} {
		s := newHarness(t, "", func(cfg *config.Config) { cfg.Partners.List[0].Applications[0].TokenFormat = format })
		key := testpki.NewSigner("ES256", "")
		token := s.fetched(s.askWith(ledger, askLedger, key.Proof(s.proofClaims()))).Token
		gate := s.keyGate()
		call := func(by *testpki.Signer, pair *testpki.Pair) access.Reason {
			r, err := http.NewRequest(http.MethodGet, "https://api.example.com/accounts/7", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "DPoP "+token)
			r.Header.Set("DPoP", by.Proof(testpki.ProofClaims("GET", r.URL.String(), token)))
			credentials, err := gate.Credentials(r)
			if err == nil {
				_, err = gate.Validate(t.Context(), credentials, &access.Certificate{Leaf: pair.Cert, Thumbprint: access.ThumbprintOf(pair.Cert)})
			}
			if err == nil {
				return access.Granted
			}
			return access.ReasonOf(err)
		}
		for _, tt := range []struct {
			by   *testpki.Signer
			pair *testpki.Pair
			want access.Reason
		}{
			{key, ledger, access.Granted},
			{testpki.NewSigner("ES256", ""), ledger, access.BoundToOtherKey},
			{key, archive, access.BoundToOther},
		} {
			if got := call(tt.by, tt.pair); got != tt.want {
				t.Errorf("%s: got %s, want %s", format, got, tt.want)
			}
		}
	}
}

// RFC 9449 section 4.3, at the token endpoint: no token for a bad proof, and no word why.
func TestProofRefused(t *testing.T) {
	s := newHarness(t, "")
	key, other := testpki.NewSigner("ES256", ""), testpki.NewSigner("ES256", "")
	good := key.Proof(s.proofClaims())
	jwk := func(edit testpki.M) testpki.M {
		return testpki.M{"jwk": key.JWK(testpki.M{"kid": nil, "alg": nil, "use": nil}, edit)}
	}
	for name, proofs := range map[string][]string{
		"two":                       {good, good},
		"empty":                     {""},
		"no JWT":                    {"abc"},
		"typ JWT":                   {key.Proof(s.proofClaims(), testpki.M{"typ": "JWT"})},
		"alg none":                  {key.Proof(s.proofClaims(), testpki.M{"alg": "none"})},
		"alg HS256":                 {key.Proof(s.proofClaims(), testpki.M{"alg": "HS256"})},
		"alg of another key":        {key.Proof(s.proofClaims(), testpki.M{"alg": "PS256"})},
		"an algorithm not accepted": {testpki.NewSigner("ES384", "").Proof(s.proofClaims())},
		"another key":               {key.Proof(s.proofClaims(), testpki.M{"jwk": other.JWK()})},
		"no key":                    {key.Proof(s.proofClaims(), testpki.M{"jwk": nil})},
		"a private key":             {key.Proof(s.proofClaims(), jwk(testpki.M{"d": "AAAA"}))},
		"a point off the curve":     {key.Proof(s.proofClaims(), jwk(testpki.M{"x": testpki.Segment(make([]byte, 32))}))},
		"crit":                      {key.Proof(s.proofClaims(), testpki.M{"crit": []string{"x"}})},
		"no jti":                    {key.Proof(s.proofClaims(testpki.M{"jti": nil}))},
		"another method":            {key.Proof(s.proofClaims(testpki.M{"htm": "GET"}))},
		"another endpoint":          {key.Proof(s.proofClaims(testpki.M{"htu": s.url + "/introspect"}))},
		"another host":              {key.Proof(s.proofClaims(testpki.M{"htu": "https://other.example/token"}))},
		"http":                      {key.Proof(s.proofClaims(testpki.M{"htu": strings.Replace(s.url, "https", "http", 1) + "/token"}))},
		"user information":          {key.Proof(s.proofClaims(testpki.M{"htu": strings.Replace(s.url, "://", "://me@", 1) + "/token"}))},
		"no iat":                    {key.Proof(s.proofClaims(testpki.M{"iat": nil}))},
		"old":                       {key.Proof(s.proofClaims(testpki.M{"iat": time.Now().Add(-2 * time.Minute).Unix()}))},
		"ahead":                     {key.Proof(s.proofClaims(testpki.M{"iat": time.Now().Add(time.Minute).Unix()}))},
		"too long":                  {key.Proof(s.proofClaims(testpki.M{"extra": strings.Repeat("x", 9000)}))},
	} {
		s.run(name, func(*testing.T) {
			s.refused(s.askWith(ledger, askLedger, proofs...), "invalid_dpop_proof")
		})
	}
	for _, htu := range []string{s.url + "/token?a=b#c", strings.ToUpper(s.url[:5]) + s.url[5:] + "/token"} {
		if a := s.askWith(ledger, askLedger, key.Proof(s.proofClaims(testpki.M{"htu": htu}))); a.status != http.StatusOK {
			t.Errorf("htu %s: got %d %s, want 200", htu, a.status, a.body)
		}
	}
	// A proof authenticates no client.
	s.refused(s.askWith(payroll, askLedger, good), "invalid_client")

}
