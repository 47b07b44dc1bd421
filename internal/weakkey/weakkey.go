// Package weakkey recognises public keys whose private key can be computed, or for which signatures can
// be forged. The same checks apply to keys of tokens and to keys of certificates. The functions are
// safe for concurrent use.
package weakkey

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
)

const (
	minRSABits      = 2048  // minimum for RSA keys: RFC 7518 section 3.3, RFC 9325 section 4.5
	minShortRSABits = 1024  // minimum for RSA keys whose error is [ErrShort]
	minRSAExponent  = 65537 // minimum for RSA keys: NIST SP 800-56B section 6.2
)

// The weaknesses. Each text is a noun phrase that describes the key.
var (
	// ErrShort is returned for RSA keys of 1024 to 2047 bits that have no other weakness.
	ErrShort     = errors.New("an RSA key of fewer than 2048 bits")
	errVeryShort = errors.New("an RSA key of fewer than 1024 bits")
	errExponent  = errors.New("an RSA key with a public exponent below 65537")
	errLowOrder  = errors.New("an Ed25519 key of low order, for which signatures can be forged")
	errROCA      = errors.New("an RSA key that can be factored (ROCA, CVE-2017-15361)")
)

// Check returns the weakness of public, or nil if no weakness is known. It finds weaknesses only of RSA
// keys and of Ed25519 keys.
func Check(public crypto.PublicKey) error {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return checkRSA(public)
	case ed25519.PublicKey:
		if isLowOrder(public) {
			return errLowOrder
		}
	}
	return nil
}

func checkRSA(key *rsa.PublicKey) error {
	switch {
	case key.N.BitLen() < minShortRSABits:
		return errVeryShort
	case key.E < minRSAExponent:
		return errExponent
	case isROCA(key.N):
		return errROCA
	case key.N.BitLen() < minRSABits:
		return ErrShort
	}
	return nil
}

// rocaPrimes are the primes by which isROCA recognises a weak modulus.
var rocaPrimes = []int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}

// isROCA reports whether the faulty library of CVE-2017-15361 (ROCA) generated an RSA modulus. Such a
// modulus can be factored. The library's moduli have a property that isROCA checks: the remainder of
// the modulus by each of the primes is a power of 65537. A sound modulus has that property with
// probability 2^-27.8, one in 200 million.
func isROCA(modulus *big.Int) bool {
	for _, p := range rocaPrimes {
		prime := big.NewInt(p)
		remainder := new(big.Int).Mod(modulus, prime).Int64()
		if !isPower(remainder, 65537%p, p) {
			return false
		}
	}
	return true
}

// isPower reports whether n is a power of base modulo p.
func isPower(n, base, p int64) bool {
	power := int64(1)
	for range p - 1 { // powers repeat after p - 1 steps at most
		if power == n {
			return true
		}
		power = power * base % p
	}
	return false
}

// lowOrder holds the y coordinates, in hexadecimal and little-endian, of the eight points of
// edwards25519 whose order divides the cofactor 8. Two of the coordinates have a second encoding, y +
// p, which decoders also accept.
var lowOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000", // 1, order 1
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1, order 2
	"0000000000000000000000000000000000000000000000000000000000000000", // 0, order 4
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p, a second encoding of 0
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p + 1, a second encoding of 1
}

// isLowOrder reports whether an Ed25519 key is a point of low order, in any encoding. Signatures for
// such a key can be forged without a secret. Let k be the hash of R, the key A and the message (RFC
// 8032 section 5.1.7). For at least one hash in eight, kA is the neutral element, and R = SB is then a
// valid signature. The check ignores the top bit of the encoding, which is the sign of x.
func isLowOrder(public ed25519.PublicKey) bool {
	y := slices.Clone(public)
	y[len(y)-1] &= 0x7f
	return slices.Contains(lowOrder, hex.EncodeToString(y))
}
