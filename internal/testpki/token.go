package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"strings"
	"sync"
	"time"
)

// A Signer signs tokens.
type Signer struct {
	Key       crypto.Signer
	KeyID     string
	Algorithm string // name of the algorithm in RFC 7518
}

// M is a JSON object.
type M = map[string]any

// rsaKey is shared, because the generation of an RSA key is slow and no test needs two RSA keys.
var rsaKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })

// NewSigner creates a key for algorithm. All RSA signers share one key.
func NewSigner(algorithm, keyID string) *Signer {
	s := &Signer{KeyID: keyID, Algorithm: algorithm}
	switch algorithm {
	case "ES256":
		s.Key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "ES384":
		s.Key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "ES512":
		s.Key = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	case "EdDSA":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		check(err)
		s.Key = key
	default:
		s.Key = rsaKey()
	}
	return s
}

// Bound returns the claims of a valid access token for one hour, bound to cert. edits are merged
// into the claims; a nil value removes a claim.
func Bound(issuer, audience, clientID string, cert *Pair, edits ...M) M {
	now := time.Now()
	claims := M{
		"iss": issuer, "aud": audience, "sub": clientID, "client_id": clientID,
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": rand.Text(),
		"cnf": M{"x5t#S256": cert.Thumbprint()},
	}
	for _, edit := range edits {
		merge(claims, edit)
	}
	return claims
}

// Token signs claims with the header {alg, kid, typ: at+jwt}. edits are merged into the header;
// a nil value removes a member.
func (s *Signer) Token(claims M, edits ...M) string {
	header := M{"alg": s.Algorithm, "kid": s.KeyID, "typ": "at+jwt"}
	for _, edit := range edits {
		merge(header, edit)
	}
	return s.Sign(must(json.Marshal(header)), must(json.Marshal(claims)))
}

// Sign returns a compact JWS of exactly these header and payload bytes. It signs with s.Algorithm, even
// if the header names another algorithm.
func (s *Signer) Sign(header, payload []byte) string {
	input := Segment(header) + "." + Segment(payload)
	return input + "." + Segment(s.signature([]byte(input)))
}

// Segment returns b in base64url without padding.
func Segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// JWK returns the public key as a JSON Web Key. edits are merged into the members.
func (s *Signer) JWK(edits ...M) M {
	key := M{"kid": s.KeyID, "alg": s.Algorithm, "use": "sig"}
	switch public := s.Key.Public().(type) {
	case *ecdsa.PublicKey:
		point := must(public.Bytes()) // the octet 4, then x and y
		size := (len(point) - 1) / 2
		key["kty"], key["crv"] = "EC", public.Params().Name
		key["x"], key["y"] = Segment(point[1:1+size]), Segment(point[1+size:])
	case ed25519.PublicKey:
		key["kty"], key["crv"], key["x"] = "OKP", "Ed25519", Segment(public)
	case *rsa.PublicKey:
		key["kty"], key["n"] = "RSA", Segment(public.N.Bytes())
		key["e"] = Segment(big.NewInt(int64(public.E)).Bytes())
	}
	for _, edit := range edits {
		merge(key, edit)
	}
	return key
}

// KeySet returns a JWK Set of the signers' public keys.
func KeySet(signers ...*Signer) []byte {
	keys := []M{}
	for _, s := range signers {
		keys = append(keys, s.JWK())
	}
	return must(json.Marshal(M{"keys": keys}))
}

func (s *Signer) signature(input []byte) []byte {
	if key, ok := s.Key.(ed25519.PrivateKey); ok {
		return ed25519.Sign(key, input)
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[s.Algorithm[2:]]
	h := hash.New()
	h.Write(input)
	digest := h.Sum(nil)
	switch key := s.Key.(type) {
	case *ecdsa.PrivateKey:
		r, t, err := ecdsa.Sign(rand.Reader, key, digest)
		check(err)
		size := (key.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), t.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		if strings.HasPrefix(s.Algorithm, "PS") {
			return must(rsa.SignPSS(rand.Reader, key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		}
		return must(rsa.SignPKCS1v15(rand.Reader, key, hash, digest))
	}
	panic("no signature by " + s.Algorithm)
}

func merge(into, edit M) {
	maps.Copy(into, edit)
	maps.DeleteFunc(into, func(_ string, v any) bool { return v == nil })
}
