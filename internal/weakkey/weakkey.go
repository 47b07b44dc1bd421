// Package weakkey tells public keys whose private key others may find, or whose signatures
// others may make. Keys of tokens and of certificates are held to the same rules. It has no
// state; its functions are safe for concurrent use.
package weakkey

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
)

const (
	leastBits      = 2048  // of an RSA key: RFC 7518 section 3.3, RFC 9325 section 4.5
	leastShortBits = 1024  // of one that is [ErrShort] and not worse
	leastExponent  = 65537 // of an RSA key: NIST SP 800-56B section 6.2
)

// Why a key is weak. The texts say what the key is.
var (
	// ErrShort is of RSA keys from 1024 to 2047 bits with no other weakness.
	ErrShort    = errors.New("an RSA key of fewer than 2048 bits")
	errTiny     = errors.New("an RSA key of fewer than 1024 bits")
	errExponent = errors.New("an RSA key with a public exponent below 65537")
	errLowOrder = errors.New("an Ed25519 key of low order, under which anybody can sign")
	errROCA     = errors.New("an RSA key that anybody can factor (ROCA, CVE-2017-15361)")
)

// Fault returns why signatures by public must not be believed, nil for nothing that is
// known. Only RSA and Ed25519 keys have faults here.
func Fault(public crypto.PublicKey) error {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return faultRSA(public)
	case ed25519.PublicKey:
		if isLowOrder(public) {
			return errLowOrder
		}
	}
	return nil
}

func faultRSA(key *rsa.PublicKey) error {
	switch {
	case key.N.BitLen() < leastShortBits:
		return errTiny
	case key.E < leastExponent:
		return errExponent
	case isROCA(key.N):
		return errROCA
	case key.N.BitLen() < leastBits:
		return ErrShort
	}
	return nil
}
