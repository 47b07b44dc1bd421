package testpki

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"time"
)

// ProofClaims returns the claims of a DPoP proof (RFC 9449 section 4.2) that is made now for a request
// with token. edits are merged into the claims; a nil value removes a claim.
func ProofClaims(method, uri, token string, edits ...M) M {
	sum := sha256.Sum256([]byte(token))
	claims := M{"jti": rand.Text(), "htm": method, "htu": uri, "iat": time.Now().Unix(), "ath": Segment(sum[:])}
	for _, edit := range edits {
		merge(claims, edit)
	}
	return claims
}

// Proof signs claims with the header {typ: dpop+jwt, alg, jwk}. edits are merged into the header; a
// nil value removes a member.
func (s *Signer) Proof(claims M, edits ...M) string {
	header := M{"typ": "dpop+jwt", "alg": s.Algorithm, "jwk": s.publicMembers()}
	for _, edit := range edits {
		merge(header, edit)
	}
	return s.Sign(must(json.Marshal(header)), must(json.Marshal(claims)))
}

// publicMembers returns the members of the JWK that RFC 7638 section 3.2 requires.
func (s *Signer) publicMembers() M { return s.JWK(M{"kid": nil, "alg": nil, "use": nil}) }

// KeyThumbprint returns the JWK thumbprint of the public key (RFC 7638). As section 3 demands,
// encoding/json writes the members of a map in the order of their names and without white space.
func (s *Signer) KeyThumbprint() string {
	sum := sha256.Sum256(must(json.Marshal(s.publicMembers())))
	return Segment(sum[:])
}
