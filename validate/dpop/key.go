package dpop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/weakkey"
)

// maxRSABits bounds the length of an RSA key in a proof, and exponent is the only accepted exponent. Without
// these bounds, clients could make the gate spend much CPU time: a client chooses the key, an invalid
// signature costs as much as a valid one, and no rate limit applies before the verification. The time of a
// verification grows with the square of the key's length and with the length of the exponent: 3.2 ms with
// 8192 bits and an exponent of 31 bits, 0.35 ms within these bounds, 0.08 ms with ES256. Keys in use have at
// most 4096 bits, and for decades keys have been generated with the exponent 65537.
const (
	maxRSABits = 4096
	exponent   = "AQAB" // 65537 in base64url
)

// jwk has the members that a public key may have, and the members of private keys: RFC 7518 section
// 6, RFC 8037 section 2.
type jwk struct {
	Type     string         `json:"kty"`
	Curve    string         `json:"crv"`
	X        string         `json:"x"`
	Y        string         `json:"y"`
	Modulus  string         `json:"n"`
	Exponent string         `json:"e"`
	D        jsontext.Value `json:"d"`
	P        jsontext.Value `json:"p"`
	Q        jsontext.Value `json:"q"`
	DP       jsontext.Value `json:"dp"`
	DQ       jsontext.Value `json:"dq"`
	QI       jsontext.Value `json:"qi"`
	Others   jsontext.Value `json:"oth"`
	K        jsontext.Value `json:"k"`
}

var (
	errNoKey    = errors.New("missing or malformed")
	errPrivate  = errors.New("has members of a private or symmetric key")
	errEncoding = errors.New("a member is not in the one spelling of RFC 7518 section 6 or RFC 8037 section 2")
	errCurve    = errors.New("not a point of its curve")
	errLong     = fmt.Errorf("an RSA key of more than %d bits", maxRSABits)
	errExponent = errors.New("an RSA key with another exponent than 65537")
)

// parseKey returns the public key in document, a JWK, and the thumbprint of the JWK, RFC 7638. A JWK
// with a private member (RFC 9449 section 4.3) and a weak key are refused. The thumbprint is computed
// from the text of the members, so each key has exactly one accepted text.
func parseKey(document jsontext.Value) (crypto.PublicKey, access.Thumbprint, error) {
	var k jwk
	if document.Kind() != jsontext.KindBeginObject || json.Unmarshal(document, &k) != nil {
		return nil, access.Thumbprint{}, errNoKey
	}
	for _, private := range []jsontext.Value{k.D, k.P, k.Q, k.DP, k.DQ, k.QI, k.Others, k.K} {
		if private != nil {
			return nil, access.Thumbprint{}, errPrivate
		}
	}
	var public crypto.PublicKey
	var canonical string // the required members in the order of their names, RFC 7638 section 3
	var err error
	switch k.Type {
	case "EC":
		public, err = k.ecdsa()
		canonical = `{"crv":"` + k.Curve + `","kty":"EC","x":"` + k.X + `","y":"` + k.Y + `"}`
	case "OKP":
		public, err = k.ed25519()
		canonical = `{"crv":"` + k.Curve + `","kty":"OKP","x":"` + k.X + `"}`
	case "RSA":
		public, err = k.rsa()
		canonical = `{"e":"` + k.Exponent + `","kty":"RSA","n":"` + k.Modulus + `"}`
	default:
		err = fmt.Errorf("kty %q, want EC, OKP or RSA", access.Truncate(k.Type))
	}
	if err == nil {
		err = weakkey.Check(public)
	}
	if err != nil {
		return nil, access.Thumbprint{}, err
	}
	return public, sha256.Sum256([]byte(canonical)), nil
}

// curves are the curves of RFC 7518 section 6.2.1.1.
var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

func (k *jwk) ecdsa() (crypto.PublicKey, error) {
	curve := curves[k.Curve]
	if curve == nil {
		return nil, fmt.Errorf("crv %q, want P-256, P-384 or P-521", access.Truncate(k.Curve))
	}
	size := (curve.Params().BitSize + 7) / 8
	point := make([]byte, 1, 1+2*size)
	point[0] = 4 // SEC 1 section 2.3.3: the point is uncompressed
	for _, coordinate := range []string{k.X, k.Y} {
		b, err := decode(coordinate)
		if err != nil || len(b) != size {
			return nil, errEncoding
		}
		point = append(point, b...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errCurve
	}
	return public, nil
}

func (k *jwk) ed25519() (crypto.PublicKey, error) {
	if k.Curve != "Ed25519" {
		return nil, fmt.Errorf("crv %q, want Ed25519", access.Truncate(k.Curve))
	}
	b, err := decode(k.X)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errEncoding
	}
	return ed25519.PublicKey(b), nil
}

func (k *jwk) rsa() (crypto.PublicKey, error) {
	n, err := decode(k.Modulus)
	switch {
	case err != nil || len(n) == 0 || n[0] == 0 || n[len(n)-1]&1 == 0:
		return nil, errEncoding
	case len(n) > maxRSABits/8:
		return nil, errLong
	case k.Exponent != exponent:
		return nil, errExponent
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}, nil
}

var encoding = base64.RawURLEncoding.Strict()

// decode decodes base64url without padding. Go's decoder skips line breaks, so decode encodes the
// result again and compares it with s.
func decode(s string) ([]byte, error) {
	b, err := encoding.DecodeString(s)
	if err != nil || encoding.EncodedLen(len(b)) != len(s) {
		return nil, errEncoding
	}
	return b, nil
}
