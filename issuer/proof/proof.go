// Package proof checks the DPoP proofs of token requests, RFC 9449 section 5. The gate checks the
// proofs of its requests with other code, so that a thumbprint that this package computes wrongly
// matches no thumbprint that the gate computes.
package proof

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/weakkey"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

const (
	maxProof   = 8 << 10 // bytes; a proof with an RSA key of 4096 bits has 2.5 KB
	maxRSABits = 4096    // bounded because the client chooses the key, and a signature by a long key takes long to verify
	exponent   = 65537   // the exponent of RSA keys, for the same reason
)

// A Checker checks proofs for one endpoint, which may have several URLs. It is safe for concurrent
// use.
type Checker struct {
	algorithms []string
	maxAge     time.Duration
	leeway     time.Duration
	endpoints  []string
}

// New returns a Checker for proofs. The htu of a proof must be one of the URLs endpoints.
func New(settings config.DPoP, endpoints ...string) *Checker {
	c := &Checker{maxAge: settings.MaxAge, leeway: settings.Leeway, endpoints: endpoints}
	for _, a := range settings.Algorithms {
		if jwt.GetSigningMethod(string(a)) != nil { // the library knows EdDSA, and not the name Ed25519 (RFC 9864)
			c.algorithms = append(c.algorithms, string(a))
		}
	}
	return c
}

// Algorithms returns the accepted algorithms.
func (c *Checker) Algorithms() []string { return c.algorithms }

// claims are the claims of a proof, RFC 9449 section 4.2.
type claims struct {
	ID       string           `json:"jti"`
	Method   string           `json:"htm"`
	URI      string           `json:"htu"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	jwt.RegisteredClaims
}

// Thumbprint returns the JWK thumbprint (RFC 7638) of the key of a proof. proofs are the DPoP headers
// of a POST request; there must be exactly one. The same proof may be used again, because the client
// authenticates by its certificate, and an attacker could only get a token that is bound to a key
// that the attacker does not have.
func (c *Checker) Thumbprint(proofs []string, now time.Time) (string, error) {
	if len(proofs) != 1 {
		return "", fmt.Errorf("%d DPoP headers, want one", len(proofs))
	}
	if len(c.algorithms) == 0 { // without algorithms, the parser would accept every algorithm
		return "", errors.New("no algorithm is accepted")
	}
	if len(proofs[0]) > maxProof {
		return "", fmt.Errorf("the DPoP proof is longer than %d bytes", maxProof)
	}
	var payload claims
	var key crypto.PublicKey
	find := func(token *jwt.Token) (any, error) {
		if token.Header["typ"] != "dpop+jwt" {
			return nil, errors.New("typ is not dpop+jwt")
		}
		if _, critical := token.Header["crit"]; critical {
			return nil, errors.New("the header has crit")
		}
		var err error
		key, err = publicKey(token.Header["jwk"], token.Method.Alg())
		return key, err
	}
	if _, err := jwt.ParseWithClaims(proofs[0], &payload, find,
		jwt.WithValidMethods(c.algorithms), jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()); err != nil {
		return "", fmt.Errorf("the DPoP proof: %w", err)
	}
	if err := c.check(&payload, now); err != nil {
		return "", fmt.Errorf("the DPoP proof: %w", err)
	}
	return thumbprint(key)
}

// check compares the claims with a POST request to one of the endpoints.
func (c *Checker) check(p *claims, now time.Time) error {
	switch {
	case p.ID == "":
		return errors.New("jti is missing")
	case p.Method != "POST":
		return errors.New("htm is not POST")
	case !slices.ContainsFunc(c.endpoints, func(endpoint string) bool { return sameURL(p.URI, endpoint) }):
		return errors.New("htu is not the URL of the endpoint")
	case p.IssuedAt == nil:
		return errors.New("iat is missing")
	case now.Sub(p.IssuedAt.Time) > c.maxAge:
		return fmt.Errorf("iat is more than %s ago", c.maxAge)
	case p.IssuedAt.Sub(now) > c.leeway:
		return fmt.Errorf("iat is more than %s ahead", c.leeway)
	}
	return nil
}

// sameURL reports whether htu, without its query and fragment, equals the URL endpoint.
func sameURL(htu, endpoint string) bool {
	got, err := url.Parse(htu)
	want, bad := url.Parse(endpoint)
	return err == nil && bad == nil && got.User == nil && strings.EqualFold(got.Scheme, want.Scheme) &&
		authority(got) == authority(want) && got.EscapedPath() == want.EscapedPath()
}

// authority returns host and port of an https URL. Authorities with the same host and port have the
// same result.
func authority(u *url.URL) string {
	host := strings.ToLower(u.Host)
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":")
}

// publicKey returns the key in member, which is the jwk header of a proof that is signed with
// algorithm.
func publicKey(member any, algorithm string) (crypto.PublicKey, error) {
	members, ok := member.(map[string]any)
	if !ok {
		return nil, errors.New("jwk is missing or no object")
	}
	if slices.ContainsFunc(registeredcerts.PrivateMembers, func(name string) bool { _, has := members[name]; return has }) {
		return nil, errors.New("jwk has members of a private key")
	}
	document, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	jwk, err := jwkset.NewJWKFromRawJSON(document, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, errors.New("jwk is no valid public key")
	}
	public := jwk.Key()
	if !fits(public, algorithm) {
		return nil, fmt.Errorf("alg %s does not fit the key", algorithm)
	}
	return public, weakkey.Check(public)
}

// fits reports whether a key of the type of public can make signatures of algorithm, RFC 7518 section
// 3.1 and RFC 8037 section 3.1.
func fits(public crypto.PublicKey, algorithm string) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return map[string]string{"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm] == public.Params().Name
	case ed25519.PublicKey:
		return algorithm == "EdDSA"
	case *rsa.PublicKey:
		return (strings.HasPrefix(algorithm, "PS") || strings.HasPrefix(algorithm, "RS")) && public.N.BitLen() <= maxRSABits && public.E == exponent
	}
	return false
}

// thumbprint returns the JWK thumbprint of public, RFC 7638 section 3. encoding/json writes the
// members of a map in the order of their names and without white space, as the RFC requires.
func thumbprint(public crypto.PublicKey) (string, error) {
	members := registeredcerts.JWKMembers(public)
	if members == nil {
		return "", errors.New("the key has no JWK")
	}
	document, err := json.Marshal(members)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(document)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
