package validate

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = gatetest.Issuer
	audience = "https://api.example"
	client   = "northwind-ledger"
)

type M = testpki.M

// every has all algorithms that can be accepted.
var every = []config.Algorithm{
	config.ES256, config.ES384, config.ES512, config.PS256, config.PS384, config.PS512, config.RS256, config.EdDSA,
}

// partner has a client certificate of one partner, other a client certificate of another.
var (
	ca      = testpki.NewCA("Northwind CA")
	partner = ca.Leaf("ledger.northwind.example")
	other   = testpki.NewCA("Contoso CA").Leaf("orders.contoso.example")
)

// certificate returns p as package mtls does.
func certificate(p *testpki.Pair) *access.Certificate {
	return &access.Certificate{Leaf: p.Cert, Thumbprint: access.ThumbprintOf(p.Cert)}
}

// localKeys returns options in which the signers' keys are the keys of our own issuer.
func localKeys(signers ...*testpki.Signer) Options {
	return Options{Local: map[config.Identifier]LocalIssuer{issuer: localKeySet(testpki.KeySet(signers...))}}
}

// revokedIf returns a function for Options.Revoked that always knows whether a token is revoked.
func revokedIf(revoked func(*access.Unchecked) bool) func(*access.Unchecked) (RevocationStatus, error) {
	return func(u *access.Unchecked) (RevocationStatus, error) { return StatusOf(revoked(u), nil) }
}

// newValidator returns a Validator that is closed with the test.
func newValidator(t testing.TB, options Options, servers ...config.AuthorizationServer) *Validator {
	t.Helper()
	if options.Lease == nil {
		options.Lease = new(reuse.Pool).Lease()
	}
	t.Cleanup(options.Lease.Release)
	v, err := New(servers, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.CancelRequests)
	return v
}

// bound returns the claims of a good token that is bound to partner.
func bound(edits ...M) M { return testpki.Bound(issuer, audience, client, partner, edits...) }

// expect validates raw with p's certificate and compares the reason.
func expect(t testing.TB, v *Validator, raw string, p *testpki.Pair, want access.Reason) {
	t.Helper()
	claims, err := v.Validate(t.Context(), Credentials{Token: raw}, certificate(p))
	if got := gatetest.Reason(t, err); got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	if err != nil && claims.Issuer != "" {
		t.Errorf("Validate = %+v with an error, want zero claims", claims)
	}
}

// localKeySet returns a key set that never changes.
func localKeySet(document []byte) LocalIssuer {
	return LocalIssuer{KeySet: func() ([]byte, uint64) { return document, 1 }}
}
