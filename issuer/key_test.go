package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tallygate/tallygate/internal/testpki"
)

// TestKeyID: the key of RFC 9449 s4.1 has the RFC 7638 thumbprint of RFC 9449
// s6.1.
func TestKeyID(t *testing.T) {
	const x, y = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs", "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"
	point := []byte{4}
	for _, c := range []string{x, y} {
		b, err := base64.RawURLEncoding.DecodeString(c)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	key, err := newSigningKey(&ecdsa.PrivateKey{PublicKey: *public})
	if err != nil {
		t.Fatal(err)
	}
	if key.id != "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" {
		t.Errorf("kid %s", key.id)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(key.set, &set); err != nil || set.Keys[0]["x"] != x || set.Keys[0]["y"] != y {
		t.Errorf("key set %s, %v", key.set, err)
	}
}

func TestSigningKeyFile(t *testing.T) {
	p256 := testpki.NewCA("k")
	sec1 := func(curve elliptic.Curve) []byte {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	}
	pkcs8 := func(algorithm string) []byte {
		return (&testpki.Pair{Key: testpki.NewSigner(algorithm, "").Key}).KeyPEM()
	}
	block := func(kind, content string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte(content)})
	}
	tests := []struct {
		name    string
		content []byte
		ok      bool
	}{
		{"PKCS 8", p256.KeyPEM(), true},
		{"SEC 1", sec1(elliptic.P256()), true},
		{"curve first, as openssl writes it", slices.Concat(block("EC PARAMETERS", "\x06\x08*\x86H\xce=\x03\x01\x07"), sec1(elliptic.P256())), true},
		{"certificate first", slices.Concat(p256.CertPEM(), p256.KeyPEM()), true},

		{"empty", nil, false},
		{"no PEM", []byte("secret"), false},
		{"certificate alone", p256.CertPEM(), false},
		{"P-384 in SEC 1", sec1(elliptic.P384()), false},
		{"P-384 in PKCS 8", pkcs8("ES384"), false},
		{"Ed25519", pkcs8("EdDSA"), false},
		{"RSA", pkcs8("RS256"), false},
		{"encrypted", block("ENCRYPTED PRIVATE KEY", "secret"), false},
		{"broken", block("PRIVATE KEY", "secret"), false},
		{"wrong kind", block("EC PRIVATE KEY", "secret"), false},
		{"cut off", p256.KeyPEM()[:100], false},
		{"public key", block("PUBLIC KEY", "secret"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "signing.pem")
			if err := os.WriteFile(path, test.content, 0o600); err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			key, err := readSigningKey(path, slog.New(slog.NewJSONHandler(&log, nil)))
			if (err == nil) != test.ok || (key != nil) != test.ok {
				t.Fatalf("got %v, %v", key, err)
			}
			if log.Len() > 0 {
				t.Errorf("logged %s", &log)
			}
			if err != nil && (!strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error %q", err)
			}
		})
	}
	t.Run("absent", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "absent.pem")
		if _, err := readSigningKey(path, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("got %v", err)
		}
	})
}

// TestSigningKeyPermissions: a key that everybody may read is used, with a warning.
func TestSigningKeyPermissions(t *testing.T) {
	for mode, warned := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o602: true} {
		path := filepath.Join(t.TempDir(), "signing.pem")
		if err := os.WriteFile(path, testpki.NewCA("k").KeyPEM(), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		if _, err := readSigningKey(path, slog.New(slog.NewJSONHandler(&log, nil))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), `"level":"WARN"`) && strings.Contains(log.String(), path); got != warned {
			t.Errorf("mode %v: logged %q", mode, &log)
		}
	}
}
