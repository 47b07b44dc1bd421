package introspect

import (
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
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// credentials authenticate the gate at the server. The files of the credentials are read for each
// request, so that renewed secrets need no reload.
type credentials struct {
	config.IntrospectionAuthentication
	clientID string
	issuer   string // identifier of the server
}

// check returns an error if a file is not valid.
func (c *credentials) check() error {
	return c.apply(url.Values{}, http.Header{}, time.Now())
}

// apply adds the credentials to form or header, depending on the method.
func (c *credentials) apply(form url.Values, header http.Header, now time.Time) error {
	switch c.Method {
	case config.MethodTLS: // the TLS connection has the certificate
		form.Set("client_id", c.clientID) // RFC 8705 section 2
	case config.MethodSecretBasic:
		secret, err := authserver.ReadSecret(c.SecretFile)
		if err != nil {
			return err
		}
		// RFC 6749 section 2.3.1 form-encodes both the identifier and the secret.
		pair := url.QueryEscape(c.clientID) + ":" + url.QueryEscape(secret)
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case config.MethodSecretPost:
		secret, err := authserver.ReadSecret(c.SecretFile)
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
		token, err := authserver.ReadSecret(c.TokenFile)
		if err != nil {
			return err
		}
		header.Set("Authorization", "Bearer "+token)
	default:
		return fmt.Errorf("unknown authentication method %q", c.Method)
	}
	return nil
}

// assertionLifetime is the validity of a client assertion: one request, plus clock skew.
const assertionLifetime = time.Minute

// assertion returns a signed JWT that authenticates the gate, RFC 7523 section 2.2. Its aud is the
// server's identifier, and its jti makes the JWT valid for one request.
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

// readKey returns the private key in a PEM file and its signing method.
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
	return nil, nil, fmt.Errorf("reading key %q: want P-256, RSA or Ed25519", file)
}
