package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
)

// A Thumbprint is the SHA-256 of a certificate's DER encoding, the x5t#S256 of
// RFC 8705 section 3.1. The zero Thumbprint matches nothing.
type Thumbprint [sha256.Size]byte

// encodedThumbprint is the length of a thumbprint in base64url without padding:
// 32 bytes are 256 bits, six to a character, rounded up.
const encodedThumbprint = 43

// Strict refuses trailing bits that are not zero, so that one thumbprint has one
// spelling.
var thumbprintEncoding = base64.RawURLEncoding.Strict()

var errThumbprint = errors.New("a thumbprint is exactly 43 characters of unpadded base64url")

// ThumbprintOf returns cert's thumbprint.
func ThumbprintOf(cert *x509.Certificate) Thumbprint {
	return sha256.Sum256(cert.Raw)
}

// ParseThumbprint returns the thumbprint that s spells: exactly 43 characters of
// base64url with canonical trailing bits. Padding, line breaks, the standard
// alphabet and hex are errors (RFC 8705 section 3.1), and so is the all-zero
// value, which no certificate has.
func ParseThumbprint(s string) (Thumbprint, error) {
	// The decoder skips line breaks, so the length alone would let a shorter
	// value with breaks through: 43 characters must decode to 32 bytes.
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

// String returns t in base64url without padding, as it stands in a cnf member.
func (t Thumbprint) String() string {
	var b [encodedThumbprint]byte
	thumbprintEncoding.Encode(b[:], t[:])
	return string(b[:])
}

// Hex returns t in lower-case hexadecimal, as openssl and most consoles print it.
func (t Thumbprint) Hex() string { return hex.EncodeToString(t[:]) }

// Matches reports whether t and other are the same thumbprint, in constant time.
// The zero Thumbprint matches nothing, not even itself.
func (t Thumbprint) Matches(other Thumbprint) bool {
	var zero Thumbprint
	return subtle.ConstantTimeCompare(t[:], other[:])&^subtle.ConstantTimeCompare(t[:], zero[:]) == 1
}
