package validate

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer   = "https://as.example"
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

// settings returns a server with the defaults of package config, without a key set.
func settings(edits ...func(*config.AuthorizationServer)) config.AuthorizationServer {
	s := config.AuthorizationServer{
		Name:       "partners",
		Required:   true,
		Tokens:     config.JWTOnly,
		Issuer:     issuer,
		Audiences:  []string{audience, "https://old.example"},
		Algorithms: []config.Algorithm{config.ES256, config.PS256, config.EdDSA},
		Types:      []string{"at+jwt"},
		Leeway:     30 * time.Second,
		KeySet:     config.KeySet{Refresh: 5 * time.Minute, CoolDown: 10 * time.Second, MaxStale: 24 * time.Hour},
		Cache:      config.Cache{Entries: 1000},
	}
	for _, edit := range edits {
		edit(&s)
	}
	return s
}

func algorithms(list ...config.Algorithm) func(*config.AuthorizationServer) {
	return func(s *config.AuthorizationServer) { s.Algorithms = list }
}

// keyFile makes the server read document as its key set from a file.
func keyFile(t testing.TB, document []byte) (string, func(*config.AuthorizationServer)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "jwks.json")
	write(t, path, document)
	return path, func(s *config.AuthorizationServer) { s.KeySet.File = config.Path(path) }
}

func write(t testing.TB, path string, document []byte) {
	t.Helper()
	if err := os.WriteFile(path, document, 0o600); err != nil {
		t.Fatal(err)
	}
}

func set(keys ...any) []byte { return encode(M{"keys": keys}) }

// localKeys returns options with the signers' keys as those of our own issuer.
func localKeys(signers ...*testpki.Signer) Options {
	return Options{Local: map[config.Identifier]LocalIssuer{issuer: localKeySet(testpki.KeySet(signers...))}}
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

// reason returns the reason of err, Granted for nil. An error that wraps no Denial fails the
// test.
func reason(t testing.TB, err error) access.Reason {
	t.Helper()
	if err == nil {
		return access.Granted
	}
	var d *access.Denial
	if !errors.As(err, &d) {
		t.Fatalf("error %v wraps no Denial", err)
	}
	return d.Reason
}

// expect validates raw with p's certificate and compares the reason.
func expect(t testing.TB, v *Validator, raw string, p *testpki.Pair, want access.Reason) {
	t.Helper()
	claims, err := v.Validate(t.Context(), Credentials{Token: raw}, certificate(p))
	if got := reason(t, err); got != want {
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
