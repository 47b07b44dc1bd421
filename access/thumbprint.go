package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

// A Thumbprint is the SHA-256 of the DER encoding of a certificate (x5t#S256, RFC 8705 section 3.1),
// or of the JWK of a public key (jkt, RFC 9449 section 6.1). The zero Thumbprint matches nothing.
type Thumbprint [sha256.Size]byte

// encodedThumbprint is the length of a thumbprint in base64url without padding: 32 bytes have 256
// bits, a character has 6 bits, and 256 / 6 rounded up is 43.
const encodedThumbprint = 43

// Strict refuses trailing bits that are not zero, so that a thumbprint has exactly one spelling.
var thumbprintEncoding = base64.RawURLEncoding.Strict()

var errThumbprint = errors.New("a thumbprint is exactly 43 characters of unpadded base64url")

func ThumbprintOf(cert *x509.Certificate) Thumbprint {
	return sha256.Sum256(cert.Raw)
}

// ParseThumbprint decodes s, which must be 43 characters of base64url with canonical trailing
// bits (RFC 8705 section 3.1). Padding, line breaks, the standard alphabet and hex are errors,
// and so is the all-zero value, which no certificate has.
func ParseThumbprint(s string) (Thumbprint, error) {
	// The decoder skips line breaks, so a shorter value with line breaks would pass a check of
	// the length alone. 43 characters must decode to 32 bytes.
	if len(s) != encodedThumbprint {
		return Thumbprint{}, errThumbprint
	}
	var t Thumbprint
	n, err := thumbprintEncoding.Decode(t[:], []byte(s))
	if err != nil || n != len(t) || t == (Thumbprint{}) {
		return Thumbprint{}, errThumbprint
	}
	return t, nil
}

// String returns t in base64url without padding, the form of x5t#S256.
func (t Thumbprint) String() string {
	var b [encodedThumbprint]byte
	thumbprintEncoding.Encode(b[:], t[:])
	return string(b[:])
}

// Hex returns t in lower-case hexadecimal, the form that openssl and most consoles print.
func (t Thumbprint) Hex() string { return hex.EncodeToString(t[:]) }

// Matches reports, in constant time, whether t and other are equal and not zero.
func (t Thumbprint) Matches(other Thumbprint) bool {
	var zero Thumbprint
	return subtle.ConstantTimeCompare(t[:], other[:])&^subtle.ConstantTimeCompare(t[:], zero[:]) == 1
}
