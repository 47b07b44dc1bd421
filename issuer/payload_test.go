package issuer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// A payload is the claims of an access token.
type payload struct {
	Issuer       string            `json:"iss"`
	Subject      string            `json:"sub"`
	ClientID     string            `json:"client_id"`
	Audience     []string          `json:"aud"`
	IssuedAt     int64             `json:"iat"`
	Expires      int64             `json:"exp"`
	ID           string            `json:"jti"`
	Scope        *string           `json:"scope"`
	Confirmation map[string]string `json:"cnf"`
}

// verify checks the header and the signature of a token against the published key set, by the
// standard library alone, and returns the claims. It is safe for concurrent use.
func (s *harness) verify(token string) payload {
	s.t.Helper()
	var p payload
	decodeExactly(s.t, string(s.verified(token, "at+jwt")), &p)
	return p
}

// verified checks the header and the signature of a JWT of type typ as verify does, and returns the claims as JSON.
func (s *harness) verified(token, typ string) []byte {
	s.t.Helper()
	var set struct {
		Keys []struct{ Kty, Crv, X, Y, Kid, Use, Alg string }
	}
	decodeExactly(s.t, s.keySet(), &set)
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		s.t.Errorf("the token has %d parts, want 3", len(parts))
		return []byte("{}")
	}
	var header map[string]string
	decodeExactly(s.t, string(s.decode(parts[0])), &header)
	if len(header) != 3 || header["alg"] != "ES256" || header["typ"] != typ {
		s.t.Errorf("the token has header %v, want alg ES256, typ %s and a kid", header, typ)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	signature := s.decode(parts[2]) // r and s, RFC 7518 section 3.4
	if len(signature) != 64 {
		s.t.Errorf("the signature has %d bytes, want 64", len(signature))
		return []byte("{}")
	}
	for _, key := range set.Keys {
		if key.Kid != header["kid"] {
			continue
		}
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, s.decode(key.X), s.decode(key.Y)))
		if err != nil {
			s.t.Error(err)
			return []byte("{}")
		}
		r, v := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		if !ecdsa.Verify(public, digest[:], r, v) {
			s.t.Error("the signature does not verify with the published key")
		}
		return s.decode(parts[1])
	}
	s.t.Errorf("the token has the kid %q, which is not published", header["kid"])
	return []byte("{}")
}

func (s *harness) decode(segment string) []byte {
	b, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		s.t.Error(err)
	}
	return b
}

// decodeExactly decodes JSON into v. A member without a field in v is an error.
func decodeExactly(t *testing.T, content string, v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(content))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Errorf("decoding %s: %v", content, err)
	}
}

// keyID returns the kid of the published key.
func (s *harness) keyID() string {
	s.t.Helper()
	var set struct{ Keys []map[string]string }
	decodeExactly(s.t, s.keySet(), &set)
	return set.Keys[0]["kid"]
}
