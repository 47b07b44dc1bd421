// Package assertion signs JWTs with which the gate tells upstreams about the client of a request.
package assertion

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
)

// lifetime is how long an assertion is valid. An assertion is for one request; one minute
// allows for a difference between the clocks of gate and upstream.
const lifetime = time.Minute

// mediaType is the typ of an assertion. Because of it, verifiers do not accept an assertion as an
// access token (RFC 8725 section 3.11).
const mediaType = "tallygate-assertion+jwt"

// A Signer signs assertions. Its key is generated when the gate starts and never leaves the
// process. A Signer is safe for concurrent use.
type Signer struct {
	key    *ecdsa.PrivateKey
	keyID  string
	keySet []byte // JSON
}

// NewSigner returns the Signer that lease shares. If lease shares no Signer, it returns a new
// Signer, or nil if no route of cfg needs assertions.
func NewSigner(lease *reuse.Lease, cfg *config.Config) (*Signer, error) {
	asked := false
	for _, api := range cfg.APIs {
		for _, r := range api.Routes {
			asked = asked || r.Assertion
		}
	}
	return reuse.Acquire(lease, "assertion signer", nil, func(prev *Signer) (*Signer, error) {
		if !asked || prev != nil {
			return prev, nil
		}
		return generate()
	}, nil)
}

func generate() (*Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the key for assertions: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("making the key for assertions: %w", err)
	}
	sum := sha256.Sum256(der)
	a := &Signer{key: key, keyID: base64.RawURLEncoding.EncodeToString(sum[:16])}
	jwk, err := jwkset.NewJWKFromKey(key.Public(), jwkset.JWKOptions{
		Metadata: jwkset.JWKMetadataOptions{ALG: jwkset.AlgES256, KID: a.keyID, USE: jwkset.UseSig},
	})
	if err != nil {
		return nil, fmt.Errorf("making the key set for assertions: %w", err)
	}
	a.keySet, err = json.Marshal(jwkset.JWKSMarshal{Keys: []jwkset.JWKMarshal{jwk.Marshal()}})
	return a, err
}

// An assertion has the claims about the client of one request.
type assertion struct {
	jwt.RegisteredClaims
	ClientID     string            `json:"client_id"`
	Partner      string            `json:"partner"`
	Scope        string            `json:"scope"`
	RequestID    string            `json:"request_id"`
	Confirmation map[string]string `json:"cnf"` // the client's certificate, as in RFC 8705 section 3.1
}

// A Subject is the granted request that an assertion describes.
type Subject struct {
	Decision   *access.Decision
	Thumbprint string // the thumbprint of the client certificate
	RequestID  string
	ID         string // the jti, which is unique (RFC 7519 section 4.1.7)
}

// Sign returns the assertion for a granted request, a JWT (RFC 7519) with the API as its audience. It
// expires after one minute or with the access token, whichever is earlier. A token that is past exp and
// accepted only within the leeway does not shorten it.
func (a *Signer) Sign(r *Subject, now time.Time) (string, error) {
	d := r.Decision
	ends := now.Add(lifetime)
	if exp := d.Claims.Expires; exp.After(now) && exp.Before(ends) {
		ends = exp
	}
	subject := d.Claims.Subject
	if subject == "" {
		subject = d.Claims.ClientID
	}
	token := jwt.NewWithClaims(jwt.SigningMethodES256, &assertion{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: "tallygate", Subject: subject, Audience: jwt.ClaimStrings{d.API},
			IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(ends), ID: r.ID,
		},
		ClientID: d.Claims.ClientID, Partner: d.Partner, Scope: strings.Join(d.Claims.Scopes, " "), RequestID: r.RequestID,
		Confirmation: map[string]string{"x5t#S256": r.Thumbprint},
	})
	token.Header["typ"], token.Header["kid"] = mediaType, a.keyID
	signed, err := token.SignedString(a.key)
	if err != nil {
		return "", fmt.Errorf("signing the assertion: %w", err)
	}
	return signed, nil
}

// ServeHTTP serves the key set (RFC 7517 section 5) with which upstreams verify assertions.
func (a *Signer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "max-age=60")
	_, _ = w.Write(a.keySet)
}
