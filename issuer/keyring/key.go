package keyring

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

const (
	generatedRSABits = 3072 // NIST SP 800-57 part 1: a size of RSA keys for use beyond 2030
	minRSABits       = 2048 // RFC 7518 section 3.3: the smallest size of RSA keys in files
)

// A key is a signing key: the next key, the active key or a retired key.
type key struct {
	id        string // kid: the RFC 7638 thumbprint
	method    jwt.SigningMethod
	private   crypto.Signer
	jwk       map[string]string // the public part, RFC 7517 section 4
	created   time.Time
	activated time.Time // zero if the key is the next key
	retired   time.Time // zero unless the key is retired
}

// generate returns a new private key for algorithm.
func generate(algorithm config.Algorithm) (crypto.Signer, error) {
	switch algorithm {
	case config.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case config.PS256, config.RS256:
		return rsa.GenerateKey(rand.Reader, generatedRSABits)
	case config.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case config.ES384, config.ES512, config.PS384, config.PS512, config.RS384, config.RS512, config.Ed25519: // accepted from other authorization servers, and not offered here
	}
	return nil, fmt.Errorf("signing with %s is not supported", algorithm)
}

// newKey returns private as a key for algorithm. It returns an error if private does not suit
// algorithm.
func newKey(private crypto.Signer, algorithm config.Algorithm) (*key, error) {
	jwk, err := publicJWK(private, algorithm)
	if err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(jwk) // RFC 7638 section 3: the required members in lexical order
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(canonical)
	id := encode(sum[:])
	jwk["kid"], jwk["use"], jwk["alg"] = id, "sig", string(algorithm)
	return &key{id: id, method: jwt.GetSigningMethod(string(algorithm)), private: private, jwk: jwk}, nil
}

// publicJWK returns the required members of the public key's JWK: RFC 7518 section 6, RFC 8037
// section 2.
func publicJWK(private crypto.Signer, algorithm config.Algorithm) (map[string]string, error) {
	switch public := private.Public().(type) {
	case *ecdsa.PublicKey:
		if algorithm != config.ES256 || public.Curve != elliptic.P256() {
			return nil, errUnsuitable(algorithm)
		}
		point, err := public.Bytes()
		if err != nil {
			return nil, err
		}
		x, y := encode(point[1:33]), encode(point[33:]) // without the first byte, which marks an uncompressed point
		return map[string]string{"kty": "EC", "crv": "P-256", "x": x, "y": y}, nil
	case *rsa.PublicKey:
		if algorithm != config.PS256 && algorithm != config.RS256 || public.N.BitLen() < minRSABits {
			return nil, errUnsuitable(algorithm)
		}
		n, e := encode(public.N.Bytes()), encode(big.NewInt(int64(public.E)).Bytes())
		return map[string]string{"kty": "RSA", "n": n, "e": e}, nil
	case ed25519.PublicKey:
		if algorithm != config.EdDSA {
			return nil, errUnsuitable(algorithm)
		}
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": encode(public)}, nil
	}
	return nil, errUnsuitable(algorithm)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func errUnsuitable(algorithm config.Algorithm) error {
	want := "an RSA key of at least 2048 bits"
	if algorithm == config.ES256 {
		want = "a key on P-256"
	}
	if algorithm == config.EdDSA {
		want = "an Ed25519 key"
	}
	return fmt.Errorf("the private key does not suit %s, which needs %s", algorithm, want)
}

// parsePKCS8 parses a private key in PKCS #8 form.
func parsePKCS8(der []byte, algorithm config.Algorithm) (*key, error) {
	private, err := x509.ParsePKCS8PrivateKey(der)
	signer, ok := private.(crypto.Signer)
	if err != nil || !ok {
		return nil, errParse
	}
	return newKey(signer, algorithm)
}

var errParse = errors.New("the private key does not parse")

// parseFile parses a private key in PEM form. Errors name the file and quote nothing of its content.
func parseFile(path string, content []byte, algorithm config.Algorithm) (*key, error) {
	private, err := pemfile.ParseKey(path, content)
	if err != nil {
		return nil, fmt.Errorf("reading signing key: %w", err)
	}
	k, err := newKey(private, algorithm)
	if err != nil {
		return nil, fmt.Errorf("reading signing key %q: %w", path, err)
	}
	return k, nil
}

// warnIfWorldReadable logs a warning if other users may access the file. The file is accepted
// nevertheless, because some mounted volumes report wrong permissions.
func warnIfWorldReadable(path string, log *slog.Logger) {
	if status, err := os.Stat(path); err == nil && status.Mode().Perm()&0o007 != 0 {
		log.Warn("every user of the machine can access the signing key", "file", path, "mode", status.Mode().String())
	}
}
