package registeredcerts

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/jsonlimit"
)

const (
	// maxKeySet bounds a key set in bytes. Twenty RSA keys of 2048 bits fit, because each key takes 3
	// KB with its certificate. A client has two keys during a renewal.
	maxKeySet = 64 << 10
	// maxKeys bounds the keys of a set, because a certificate must be parsed for each key.
	maxKeys = 100
)

var (
	errTooLarge = fmt.Errorf("larger than %d bytes", maxKeySet)
	errNoKeySet = errors.New(`not a JWK Set: an object whose member "keys" is an array`)
)

// PrivateMembers lists the members of private keys: the members in RFC 7518 sections 6.2.2, 6.3.2 and
// 6.4 and in RFC 8037 section 2, and priv of the key type AKP.
var PrivateMembers = []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"}

// parseKeySet parses a JWK Set (RFC 7517 section 5). It returns the certificates that the set
// registers. skipped says for each other key why the key registers no certificate; this is no error,
// because sets also have keys for other purposes. A set with a private key is an error, because a
// reader of the set could impersonate the client. A repeated member is an error too. Errors quote
// nothing of the document.
func parseKeySet(document []byte) (found thumbprints, skipped []error, err error) {
	if len(document) > maxKeySet {
		return nil, nil, errTooLarge
	}
	if err := jsonlimit.Check(document); err != nil {
		return nil, nil, err
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	err = json.Unmarshal(document, &set)
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntax):
		return nil, nil, fmt.Errorf("not JSON, or a repeated member, near byte %d", syntax.ByteOffset)
	case err != nil || set.Keys == nil:
		return nil, nil, errNoKeySet
	case len(set.Keys) > maxKeys:
		return nil, nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	found = make(thumbprints)
	for i, document := range set.Keys {
		var jwk jwk
		if json.Unmarshal(document, &jwk) != nil {
			skipped = append(skipped, fmt.Errorf("jwks key %d is not an object", i+1))
			continue
		}
		if jwk.isPrivate() {
			return nil, nil, fmt.Errorf("jwks key %d has private members: register public keys only, and treat this key as disclosed", i+1)
		}
		c, err := jwk.certificate()
		if err != nil {
			skipped = append(skipped, fmt.Errorf("jwks key %d: %w", i+1, err))
			continue
		}
		found[access.ThumbprintOf(c)] = true
	}
	return found, skipped, nil
}

// jwk has the members of a JWK.
type jwk map[string]jsontext.Value

// text returns the value of the member name. It returns "" if the member is absent or not a string.
func (m jwk) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

// isPrivate reports whether the JWK has a member of a private key.
func (m jwk) isPrivate() bool {
	for _, name := range PrivateMembers {
		if _, ok := m[name]; ok {
			return true
		}
	}
	return false
}

// certificate returns the certificate that the key registers, which is the first certificate in x5c.
// The public key of the certificate must equal the JWK (RFC 7517 section 4.7).
func (m jwk) certificate() (*x509.Certificate, error) {
	if _, ok := m["use"]; ok && (m.text("use") == "" || m.text("use") == "enc") {
		return nil, errors.New("its use is enc or not a string") // a use other than sig is accepted too, because TLS keys are published with such values
	}
	var x5c []string
	if json.Unmarshal(m["x5c"], &x5c) != nil || len(x5c) == 0 {
		return nil, errors.New("x5c has no certificate")
	}
	der, err := base64.StdEncoding.Strict().DecodeString(x5c[0])
	if err != nil {
		return nil, errors.New("x5c is not padded base64")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing the certificate in x5c: %w", err)
	}
	key := JWKMembers(c.PublicKey)
	if key == nil {
		return nil, errors.New("the certificate in x5c has a key of an unsupported type")
	}
	for name, value := range key {
		if m.text(name) != value {
			return nil, fmt.Errorf("the member %s differs from the certificate in x5c", name)
		}
	}
	if _, ok := m["x5t#S256"]; ok && m.text("x5t#S256") != access.ThumbprintOf(c).String() {
		return nil, errors.New("x5t#S256 differs from the certificate in x5c")
	}
	return c, nil
}

// JWKMembers returns the members of a public key as a JWK (RFC 7518 section 6, RFC 8037 section 2),
// or nil for an unsupported type. Each key has exactly one representation, so two keys are equal if
// the members are equal as strings.
func JWKMembers(public any) map[string]string {
	encode := base64.RawURLEncoding.EncodeToString
	switch public := public.(type) {
	case *rsa.PublicKey:
		return map[string]string{
			"kty": "RSA", "n": encode(public.N.Bytes()), "e": encode(big.NewInt(int64(public.E)).Bytes()),
		}
	case *ecdsa.PublicKey:
		point, err := public.Bytes() // point is the byte 4, then x and y
		if err != nil || public.Curve == elliptic.P224() {
			return nil // P-224 has no name for the member crv
		}
		half := 1 + (len(point)-1)/2
		return map[string]string{
			"kty": "EC", "crv": public.Params().Name, "x": encode(point[1:half]), "y": encode(point[half:]),
		}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": encode(public)}
	}
	return nil
}
