package issuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
)

// A signingKey signs every token, with ES256.
type signingKey struct {
	private *ecdsa.PrivateKey
	id      string // kid: the RFC 7638 thumbprint
	set     []byte // JWK Set with the public key
}

// readSigningKey reads a private key on P-256 from a PEM file, PKCS #8 or SEC 1.
// Errors name the file and quote nothing of it.
func readSigningKey(path string, log *slog.Logger) (*signingKey, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err) // names the file
	}
	private, err := parseSigningKey(content)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %q: %w", path, err)
	}
	key, err := newSigningKey(private)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %q: %w", path, err)
	}
	// Not refused: permissions are not what they seem on every mounted volume.
	if status, err := os.Stat(path); err == nil && status.Mode().Perm()&0o007 != 0 {
		log.Warn("signing key is open to every user of the machine", "path", path, "mode", status.Mode().String())
	}
	return key, nil
}

func parseSigningKey(content []byte) (*ecdsa.PrivateKey, error) {
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return nil, errors.New("no private key in PEM")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("the private key is encrypted")
		default:
			continue // openssl ecparam writes the curve's name first
		}
		if err != nil {
			return nil, errors.New("the private key does not parse")
		}
		private, ok := key.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() {
			return nil, errors.New("the private key is not on P-256, which ES256 needs (RFC 7518 section 3.4)")
		}
		return private, nil
	}
}

// newSigningKey computes what is published of private: x and y are the halves of
// the uncompressed point (RFC 7518 section 6.2.1), and kid is the hash of the
// required members in lexical order (RFC 7638 section 3).
func newSigningKey(private *ecdsa.PrivateKey) (*signingKey, error) {
	point, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	coordinates := point[1:] // after the byte that says "uncompressed"
	x := base64.RawURLEncoding.EncodeToString(coordinates[:len(coordinates)/2])
	y := base64.RawURLEncoding.EncodeToString(coordinates[len(coordinates)/2:])
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	set, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": id, "use": "sig", "alg": "ES256",
	}}})
	if err != nil {
		return nil, err
	}
	return &signingKey{private, id, set}, nil
}

func (i *Issuer) serveKeySet(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, json.RawMessage(i.key.set))
}
