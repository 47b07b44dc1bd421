package registeredcerts_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

// Every source registers certificates with every type of key, and no other certificate: neither
// a renewal with the same key nor a certificate with the same name.
func TestSources(t *testing.T) {
	for _, algorithm := range []string{"PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		own := selfSigned(testpki.NewSigner(algorithm, "").Key)
		renewed := selfSigned(own.Key)
		other := testpki.SelfSigned("ledger.northwind.example")
		beside := testpki.SelfSigned("beside.example")
		for name, s := range map[string]*registeredcerts.Set{
			"PEM":         newSet(t, config.ClientKeys{Certificates: []config.Path{file(t, "a.pem", own.CertPEM())}}),
			"two in PEM":  newSet(t, config.ClientKeys{Certificates: []config.Path{file(t, "b.pem", append(beside.CertPEM(), own.CertPEM()...))}}),
			"two files":   newSet(t, config.ClientKeys{Certificates: []config.Path{file(t, "c.pem", beside.CertPEM()), file(t, "d.pem", own.CertPEM())}}),
			"JWKS":        newSet(t, config.ClientKeys{JWKS: keySet(own)}),
			"two in JWKS": newSet(t, config.ClientKeys{JWKS: keySet(beside, own)}),
			"thumbprint":  newSet(t, config.ClientKeys{}, sha256.Sum256(own.Cert.Raw)),
			"both":        newSet(t, config.ClientKeys{JWKS: keySet(beside)}, sha256.Sum256(own.Cert.Raw)),
		} {
			t.Run(algorithm+" "+name, func(t *testing.T) {
				expect(t, s, own.Cert, true)
				expect(t, s, renewed.Cert, false)
				expect(t, s, other.Cert, false)
			})
		}
	}
}

// A registered certificate is accepted within its validity period, both ends included.
func TestValidity(t *testing.T) {
	from := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	until := from.Add(time.Hour)
	own := testpki.SelfSigned("ledger.northwind.example", testpki.Valid(from, until))
	for _, c := range []struct {
		name string
		now  time.Time
		want bool
	}{
		{"a moment before", from.Add(-time.Nanosecond), false},
		{"at its beginning", from, true},
		{"at its end", until, true},
		{"a moment after", until.Add(time.Nanosecond), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			options := silent
			options.Now = func() time.Time { return c.now }
			s, err := registeredcerts.New(config.ClientKeys{JWKS: keySet(own)}, nil, options)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, s, own.Cert, c.want)
		})
	}
}

// A certificate made by the openssl command, which is an authority by default.
func TestOpenSSL(t *testing.T) {
	gatetest.NeedPrograms(t, "openssl")
	for name, newkey := range map[string][]string{
		"RSA": {"rsa:2048"}, "P-256": {"ec", "-pkeyopt", "ec_paramgen_curve:P-256"}, "Ed25519": {"ed25519"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "client.pem")
			arguments := append([]string{"req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=ledger", "-keyout", path + ".key", "-out", path, "-newkey"}, newkey...)
			if out, err := exec.Command("openssl", arguments...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode(data)
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err != nil || !leaf.IsCA {
				t.Fatalf("IsCA is %t, %v; want true", leaf.IsCA, err)
			}
			expect(t, newSet(t, config.ClientKeys{Certificates: []config.Path{config.Path(path)}}), leaf, true)
		})
	}
}

// New reports every error with the file or the key, and quotes no key.
func TestNewRefuses(t *testing.T) {
	own := testpki.SelfSigned("ledger.northwind.example")
	secret := own.KeyPEM()
	at := func(u string) *config.URL {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		return &config.URL{URL: *parsed}
	}
	pemFile := func(data []byte) config.ClientKeys {
		return config.ClientKeys{Certificates: []config.Path{file(t, "own.pem", data)}}
	}
	for _, c := range []struct {
		name string
		keys config.ClientKeys
		want []string
	}{
		{"nothing", config.ClientKeys{}, []string{"no certificate is registered"}},
		{"missing file", config.ClientKeys{Certificates: []config.Path{"/missing/own.pem"}}, []string{"/missing/own.pem"}},
		{"empty file", pemFile(nil), []string{"own.pem", "no certificate"}},
		{"no PEM", pemFile([]byte("rubbish")), []string{"own.pem", "no certificate"}},
		{"private key", pemFile(secret), []string{"own.pem", `"PRIVATE KEY"`}},
		{"private key behind", pemFile(append(own.CertPEM(), secret...)), []string{"own.pem", `"PRIVATE KEY"`}},
		{"cut short", pemFile(own.CertPEM()[:300]), []string{"own.pem", "cut short"}},
		{"second cut short", pemFile(append(own.CertPEM(), own.CertPEM()[:300]...)), []string{"own.pem:", "cut short"}},
		{"no certificate in it", pemFile(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), []string{"own.pem:1", "parsing the certificate"}},
		{"two faults", config.ClientKeys{Certificates: []config.Path{"/missing/a.pem", "/missing/b.pem"}, JWKS: "{}"}, []string{"a.pem", "b.pem", "jwks"}},
		{"http", config.ClientKeys{JWKSURI: at("http://client.example/jwks?canary")}, []string{"jwks_uri must be an https URL"}},
		{"no anchors", config.ClientKeys{JWKSURI: at("https://client.example/jwks"), Trust: []config.Path{file(t, "ca.pem", nil)}}, []string{"jwks_uri", "trust anchors", "ca.pem"}},
		{"anchors missing", config.ClientKeys{JWKSURI: at("https://client.example/jwks"), Trust: []config.Path{"/missing/ca.pem"}}, []string{"/missing/ca.pem"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := registeredcerts.New(c.keys, nil, silent)
			if err == nil || s != nil {
				t.Fatalf("New returned %v, %v; want an error", s, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("New returned %q, want %q in it", err, want)
				}
			}
			if block, _ := pem.Decode(secret); strings.Contains(err.Error(), strings.Split(string(secret), "\n")[1]) || bytes.Contains([]byte(err.Error()), block.Bytes) || strings.Contains(err.Error(), "canary") {
				t.Errorf("New returned %q, which has a secret", err)
			}
		})
	}
}

// Keys of an inline set without a usable certificate are logged with their number.
func TestSkippedAreLogged(t *testing.T) {
	own := testpki.SelfSigned("ledger.northwind.example")
	var log bytes.Buffer
	options := registeredcerts.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))}
	s, err := registeredcerts.New(config.ClientKeys{JWKS: keySet(jwk(own, M{"x5c": nil}), own)}, nil, options)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, s, own.Cert, true)
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "jwks key 1: x5c has no certificate") {
		t.Errorf("the log is %s, want one warning for key 1", got)
	}
}
