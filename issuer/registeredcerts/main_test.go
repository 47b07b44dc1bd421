package registeredcerts_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

func TestMain(m *testing.M) {
	// net/http reads these variables once, and never uses a proxy for loopback.
	for name, value := range map[string]string{"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "", "NO_PROXY": "", "no_proxy": ""} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

type M = testpki.M

var silent = registeredcerts.Options{Log: slog.New(slog.DiscardHandler)}

// selfSigned creates a self-signed certificate of key, as clients of this method have.
func selfSigned(key crypto.Signer) *testpki.Pair {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "ledger.northwind.example"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	return &testpki.Pair{Cert: testpki.Certify(template, template, key.Public(), key), Key: key}
}

// jwk returns p's public key as a JWK with p's certificate in x5c. edits are merged into it.
func jwk(p *testpki.Pair, edits ...M) M {
	s := testpki.Signer{Key: p.Key, KeyID: "k"}
	edits = append([]M{{"alg": nil, "x5c": []string{x5c(p.Cert)}}}, edits...)
	return s.JWK(edits...)
}

func x5c(c *x509.Certificate) string { return base64.StdEncoding.EncodeToString(c.Raw) }

// keySet returns a JWK Set of keys, each a pair or another JSON value.
func keySet(keys ...any) string {
	list := []any{}
	for _, k := range keys {
		if p, ok := k.(*testpki.Pair); ok {
			k = jwk(p)
		}
		list = append(list, k)
	}
	document, err := json.Marshal(M{"keys": list})
	if err != nil {
		panic(err)
	}
	return string(document)
}

// file writes data to a new folder and returns its path.
func file(t testing.TB, name string, data []byte) config.Path {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Path(path)
}

func newSet(t testing.TB, keys config.ClientKeys, listed ...access.Thumbprint) *registeredcerts.Set {
	t.Helper()
	options := silent
	options.Lease = new(reuse.Pool).Lease()
	s, err := registeredcerts.New(keys, listed, options)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expect checks that s.Has(c) is want.
func expect(t testing.TB, s *registeredcerts.Set, c *x509.Certificate, want bool) {
	t.Helper()
	if got, err := s.Has(t.Context(), c); got != want || err != nil {
		t.Errorf("Has(%s) returned %t, %v; want %t", c.Subject, got, err, want)
	}
}
