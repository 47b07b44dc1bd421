// Package weakkey tells public keys whose private key others may find, or whose signatures
// others may make. Keys of tokens and of certificates are held to the same rules. It has no
// state; its functions are safe for concurrent use.
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

// rocaPrimes are those by which a weak key is told.
var rocaPrimes = []int64{11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157}

// isROCA reports whether an RSA modulus was made by a chip whose keys anybody can factor
// (CVE-2017-15361): its remainder by each of these primes is a power of 65537. So
// it is by chance for one modulus in 200 million, 2^27.8.
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
	for range p - 1 { // it repeats itself after so many at most
		if power == n {
			return true
		}
		power = power * base % p
	}
	return false
}

// lowOrder holds the y coordinates, in hexadecimal and little-endian, of the eight points
// of edwards25519 whose order divides the cofactor 8. Two coordinates have a second
// encoding, by y + p, that decoders take as well.
var lowOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000", // 1, order 1
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p - 1, order 2
	"0000000000000000000000000000000000000000000000000000000000000000", // 0, order 4
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p, for 0
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // p + 1, for 1
}

// isLowOrder reports whether an Ed25519 key is one of the points of low order, in any
// encoding. For such a key whoever wants finds a signature of any message: where k is the
// hash of R, the key A and the message (RFC 8032 section 5.1.7), kA is the neutral element
// for one hash in eight or more, and then R = SB is a signature without any secret. The top
// bit is the sign of x, and as good as unset here.
func isLowOrder(public ed25519.PublicKey) bool {
	y := slices.Clone(public)
	y[len(y)-1] &= 0x7f
	return slices.Contains(lowOrder, hex.EncodeToString(y))
}
