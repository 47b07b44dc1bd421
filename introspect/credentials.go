package introspect

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// credentials are how the gate authenticates at a server. Files are read for each call.
type credentials struct {
	config.IntrospectionAuthentication
	clientID string
	issuer   string // of the server
}

// check returns an error when a file is not what it should be.
func (c *credentials) check() error {
	return c.apply(url.Values{}, http.Header{}, time.Now())
}

// apply puts the credentials where their method wants them.
func (c *credentials) apply(form url.Values, header http.Header, now time.Time) error {
	switch c.Method {
	case config.MethodTLS: // the certificate is the connection's
		form.Set("client_id", c.clientID) // RFC 8705 section 2
	case config.MethodSecretBasic:
		secret, err := readSecret(c.SecretFile)
		if err != nil {
			return err
		}
		// Both are form-encoded first, RFC 6749 section 2.3.1.
		pair := url.QueryEscape(c.clientID) + ":" + url.QueryEscape(secret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case config.MethodSecretPost:
		secret, err := readSecret(c.SecretFile)
		if err != nil {
			return err
		}
		form.Set("client_id", c.clientID)
		form.Set("client_secret", secret)
	case config.MethodPrivateKeyJWT:
		assertion, err := c.assertion(now)
		if err != nil {
			return err
		}
		form.Set("client_id", c.clientID)
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	case config.MethodBearer:
		token, err := readSecret(c.TokenFile)
		if err != nil {
			return err
		}
		header.Set("Authorization", "Bearer "+token)
	default:
		return fmt.Errorf("no such method: %q", c.Method)
	}
	return nil
}

// mostSecret bounds a file with a secret; a token or key is a few KB.
const maxSecretFile = 64 << 10

// readSecret returns the one line in a file.
func readSecret(file config.Path) (string, error) {
	content, err := os.ReadFile(string(file))
	if err != nil {
		return "", fmt.Errorf("reading secret: %w", err)
	}
	secret := bytes.TrimSpace(content)
	if len(secret) == 0 || len(content) > maxSecretFile || bytes.ContainsAny(secret, "\r\n\x00") {
		return "", fmt.Errorf("reading secret %q: expected one line", file)
	}
	return string(secret), nil
}

// assertionLifetime is how long an assertion counts: for one call, and clocks that
// differ.
const assertionLifetime = time.Minute

// assertion returns a JWT by which the gate proves who it is, RFC 7523 section 2.2. It is
// for the server alone and, by its jti, for one call.
func (c *credentials) assertion(now time.Time) (string, error) {
	key, method, err := readKey(c.KeyFile)
	if err != nil {
		return "", err
	}
	token := jwt.NewWithClaims(method, jwt.MapClaims{
		"iss": c.clientID, "sub": c.clientID, "aud": c.issuer,
		"iat": now.Unix(), "exp": now.Add(assertionLifetime).Unix(), "jti": rand.Text(),
	})
	if c.KeyID != "" {
		token.Header["kid"] = c.KeyID
	}
	signed, err := token.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("signing by %q: %w", c.KeyFile, err)
	}
	return signed, nil
}

// readKey returns the private key in a PEM file, and the algorithm that it signs by.
func readKey(file config.Path) (crypto.PrivateKey, jwt.SigningMethod, error) {
	key, err := pemfile.ReadKey(string(file))
	if err != nil {
		return nil, nil, fmt.Errorf("reading key: %w", err)
	}
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			return k, jwt.SigningMethodES256, nil
		}
	case *rsa.PrivateKey:
		return k, jwt.SigningMethodPS256, nil
	case ed25519.PrivateKey:
		return k, jwt.SigningMethodEdDSA, nil
	}
	return nil, nil, fmt.Errorf("reading key %q: neither P-256 nor RSA nor Ed25519", file)
}
