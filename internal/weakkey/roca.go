package weakkey

import "math/big"

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
