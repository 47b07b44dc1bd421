package validate

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A proving client has a key, and a gate that takes tokens that are bound to keys.
type proving struct {
	t   testing.TB
	v   *Validator
	key *testpki.Signer
}

const called = "https://api.example/accounts/7"

func withDPoP(options Options, edits ...func(*config.DPoP)) Options {
	settings := config.Default().DPoP
	for _, edit := range edits {
		edit(&settings)
	}
	options.DPoP = &settings
	return options
}

// request returns a GET of called with the token raw under the scheme, and proofs.
func proofRequest(scheme, raw string, proofs ...string) *http.Request {
	r := request(called, scheme+" "+raw)
	r.Header["Dpop"] = proofs
	return r
}

// validate returns the reason for r, which came with p's certificate.
func (c *proving) validate(r *http.Request, p *testpki.Pair) access.Reason {
	c.t.Helper()
	credentials, err := c.v.Credentials(r)
	if err == nil {
		_, err = c.v.Validate(r.Context(), credentials, certificate(p))
	}
	return gatetest.Reason(c.t, err)
}

// proof returns a new proof for called with the token raw.
func (c *proving) proof(raw string, edits ...M) string {
	return c.key.Proof(testpki.ProofClaims("GET", called, raw, edits...))
}

// T-CNF-08, RFC 9449 sections 7.1 and 7.2: each kind of binding under each scheme, with and without a
// proof; for new and for cached claims, and for the answers of introspection.
func TestKeyBinding(t *testing.T) {
	signer, key := testpki.NewSigner("ES256", "k1"), testpki.NewSigner("ES256", "")
	a := newAuthority(t)
	jwt := newValidator(t, withDPoP(localKeys(signer)), gatetest.AuthorizationServer(func(s *config.AuthorizationServer) { s.Profile = config.ProfileEntra }))
	opaque := newValidator(t, withDPoP(Options{}), gatetest.AuthorizationServer(a.introspectedBy(config.OpaqueOnly), func(s *config.AuthorizationServer) { s.Profile = config.ProfileEntraV1 }))
	jkt, x5t := key.KeyThumbprint(), partner.Thumbprint()
	const (
		none, good, others = "", "good", "others"
	)
	for _, tt := range []struct {
		name   string
		cnf    any
		scheme string
		proof  string
		want   access.Reason
	}{
		{"key", M{"jkt": jkt}, "DPoP", good, access.Granted},
		{"key, dpop", M{"jkt": jkt}, "dpop", good, access.Granted},
		{"key, null beside", M{"jkt": jkt, "x5t#S256": null}, "DPoP", good, access.Granted},
		{"both", M{"jkt": jkt, "x5t#S256": x5t}, "DPoP", good, access.Granted},
		{"certificate", M{"x5t#S256": x5t}, "Bearer", none, access.Granted},
		{"certificate, a proof beside", M{"x5t#S256": x5t}, "Bearer", good, access.Granted},
		{"certificate, mtls_pop", M{"x5t#S256": x5t}, "mtls_pop", none, access.Granted},

		{"key, no proof", M{"jkt": jkt}, "DPoP", none, access.InvalidDPoPProof},
		{"key, proof of another key", M{"jkt": jkt}, "DPoP", others, access.BoundToOtherKey},
		{"key, Bearer", M{"jkt": jkt}, "Bearer", none, access.WrongScheme},
		{"key, Bearer with a proof", M{"jkt": jkt}, "Bearer", good, access.WrongScheme},
		{"key, mtls_pop with a proof", M{"jkt": jkt}, "mtls_pop", good, access.WrongScheme},
		{"both, Bearer", M{"jkt": jkt, "x5t#S256": x5t}, "Bearer", none, access.WrongScheme},
		{"both, mtls_pop", M{"jkt": jkt, "x5t#S256": x5t}, "mtls_pop", none, access.WrongScheme},
		{"both, no proof", M{"jkt": jkt, "x5t#S256": x5t}, "DPoP", none, access.InvalidDPoPProof},
		{"both, another certificate", M{"jkt": jkt, "x5t#S256": other.Thumbprint()}, "DPoP", good, access.BoundToOther},
		{"both, another key", M{"jkt": other.Thumbprint(), "x5t#S256": x5t}, "DPoP", good, access.BoundToOtherKey},
		{"certificate, DPoP", M{"x5t#S256": x5t}, "DPoP", good, access.WrongScheme},
		{"another certificate, mtls_pop", M{"x5t#S256": other.Thumbprint()}, "mtls_pop", none, access.BoundToOther},
		{"unbound, DPoP", nil, "DPoP", good, access.NotBound},
		{"unbound, mtls_pop", nil, "mtls_pop", none, access.NotBound},
		{"malformed key", M{"jkt": jkt + "="}, "DPoP", good, access.MalformedBinding},
		{"key as thumbprint", M{"x5t#S256": jkt}, "DPoP", good, access.BoundToOther},
		{"jwk in place of jkt", M{"jwk": key.JWK()}, "DPoP", good, access.MalformedBinding},
	} {
		for kind, c := range map[string]*proving{"JWT": {t, jwt, key}, "opaque": {t, opaque, key}} {
			raw := signer.Token(bound(M{"cnf": tt.cnf, "azp": client}))
			if kind == "opaque" {
				raw = opaqueName(a, tt.name, tt.cnf)
			}
			for _, cached := range []bool{false, true} {
				var proofs []string
				switch tt.proof {
				case good:
					proofs = []string{c.proof(raw)}
				case others:
					proofs = []string{testpki.NewSigner("EdDSA", "").Proof(testpki.ProofClaims("GET", called, raw))}
				}
				if got := c.validate(proofRequest(tt.scheme, raw, proofs...), partner); got != tt.want {
					t.Errorf("%s, %s, cached %t: got %s, want %s", tt.name, kind, cached, got, tt.want)
				}
			}
		}
	}
}

// opaqueName makes an opaque token of a, without spaces.
func opaqueName(a *authorizationServer, name string, cnf any) string {
	raw := testpki.Segment([]byte(name))
	a.knows(raw, activeResponse(M{"cnf": cnf, "token_type": "DPoP"}))
	return raw
}

// A stream takes its decision again with the proof that it began with. Another request does not.
func TestProofCountsOnce(t *testing.T) {
	signer, now := testpki.NewSigner("ES256", "k1"), time.Now()
	options := withDPoP(localKeys(signer))
	options.Now = func() time.Time { return now }
	c := &proving{t, newValidator(t, options, gatetest.AuthorizationServer()), testpki.NewSigner("ES256", "")}
	raw := signer.Token(bound(M{"cnf": M{"jkt": c.key.KeyThumbprint()}}))
	r := proofRequest("DPoP", raw, c.proof(raw))
	credentials, err := c.v.Credentials(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, later := range []time.Duration{0, time.Second, 10 * time.Minute} {
		now = now.Add(later)
		if _, err := c.v.Validate(context.Background(), credentials, certificate(partner)); err != nil {
			t.Errorf("after %s the stream got %v, want nil", later, err)
		}
	}
	now = now.Add(-10 * time.Minute)
	if got := c.validate(r, partner); got != access.ReplayedDPoPProof {
		t.Errorf("another request with the proof got %s, want replayed_dpop_proof", got)
	}
	// The stream ends when the gate no longer accepts keys.
	var pool reuse.Pool
	options.Lease = pool.Lease()
	c.v = newValidator(t, options, gatetest.AuthorizationServer())
	if got := c.validate(r, partner); got != access.Granted {
		t.Fatalf("the proof at another gate got %s, want granted", got)
	}
	off := newValidator(t, Options{Local: options.Local, Lease: pool.Lease(), Now: options.Now}, gatetest.AuthorizationServer())
	if _, err := off.Validate(context.Background(), credentials, certificate(partner)); gatetest.Reason(t, err) != access.BindingNotAccepted {
		t.Errorf("without DPoP the stream got %v, want binding_not_accepted", err)
	}
	// A reload that turns DPoP on again has forgotten nothing.
	options.Lease = pool.Lease()
	c.v = newValidator(t, options, gatetest.AuthorizationServer())
	if got := c.validate(r, partner); got != access.ReplayedDPoPProof {
		t.Errorf("after two reloads the proof got %s, want replayed_dpop_proof", got)
	}
}

// T-CNF-10: only tokens that passed every other check fill the memory, and a full share is 429.
func TestProofMemory(t *testing.T) {
	signer, owner := testpki.NewSigner("ES256", "k1"), "northwind"
	options := withDPoP(localKeys(signer), func(d *config.DPoP) { d.Proofs = 1 }) // two in each of 16 shards
	options.Partner = func(string, string, *access.Certificate) string { return owner }
	c := &proving{t, newValidator(t, options, gatetest.AuthorizationServer()), testpki.NewSigner("ES256", "")}
	cnf := M{"cnf": M{"jkt": c.key.KeyThumbprint()}}
	good, expired := signer.Token(bound(cnf)), signer.Token(bound(cnf, M{"exp": time.Now().Add(-time.Hour).Unix()}))
	use := func(raw string) access.Reason { return c.validate(proofRequest("DPoP", raw, c.proof(raw)), partner) }
	for range 100 {
		if got := use(expired); got != access.Expired {
			t.Fatalf("an expired token got %s, want expired", got)
		}
	}
	seen := map[access.Reason]int{}
	for range 400 {
		seen[use(good)]++
	}
	if seen[access.Granted] != 16 || seen[access.RateLimited] != 384 {
		t.Errorf("one partner got %v, want 16 granted and 384 rate_limited", seen)
	}
	owner, seen = "borealis", map[access.Reason]int{}
	for range 400 {
		seen[use(good)]++
	}
	if seen[access.Granted] != 16 || seen[access.Overloaded] != 384 {
		t.Errorf("the second partner got %v, want 16 granted and 384 overloaded", seen)
	}
	if got := c.validate(request(called, "Bearer "+signer.Token(bound())), partner); got != access.Granted {
		t.Errorf("a token that is bound to a certificate got %s, want granted", got)
	}
}

// The cost of a proof beside BenchmarkHit: one signature, once for each request.
func BenchmarkProof(b *testing.B) {
	signer := testpki.NewSigner("ES256", "k1")
	options := withDPoP(localKeys(signer), func(d *config.DPoP) { d.Proofs = 1 << 24 })
	c := &proving{b, newValidator(b, options, gatetest.AuthorizationServer()), testpki.NewSigner("ES256", "")}
	raw := signer.Token(bound(M{"cnf": M{"jkt": c.key.KeyThumbprint()}}))
	cert := certificate(partner)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		r := proofRequest("DPoP", raw, c.proof(raw))
		b.StartTimer()
		credentials, err := c.v.Credentials(r)
		if err == nil {
			_, err = c.v.Validate(context.Background(), credentials, cert)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
