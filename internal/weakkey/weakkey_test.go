package weakkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"testing"
)

// made returns a modulus of at least so many bits as a chip of CVE-2017-15361 makes them:
// 65537 to some power, modulo the primes' product, plus a multiple of that.
func made(bits uint) *big.Int {
	product := big.NewInt(1)
	for _, p := range rocaPrimes {
		product.Mul(product, big.NewInt(p))
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123_456_789), product)
	return n.Add(n, new(big.Int).Mul(product, new(big.Int).Lsh(big.NewInt(1), bits-uint(product.BitLen())+1)))
}

func TestFault(t *testing.T) {
	strong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tiny := new(big.Int).Rsh(short.N, 1)
	neighbour := new(big.Int).Add(made(2048), big.NewInt(2))
	for _, tt := range []struct {
		name string
		key  any
		want error
	}{
		{"strong", strong.Public(), nil},
		{"on a curve", curve.Public(), nil},
		{"1024 bits", short.Public(), ErrShort},
		{"2047 bits", &rsa.PublicKey{N: new(big.Int).Rsh(strong.N, 1), E: 65537}, ErrShort},
		{"1023 bits", &rsa.PublicKey{N: tiny, E: 65537}, errTiny},
		{"the exponent 3", &rsa.PublicKey{N: strong.N, E: 3}, errExponent},
		{"the exponent 257", &rsa.PublicKey{N: strong.N, E: 257}, errExponent},
		{"1024 bits and the exponent 3", &rsa.PublicKey{N: short.N, E: 3}, errExponent},
		{"ROCA", &rsa.PublicKey{N: made(2048), E: 65537}, errROCA},
		{"ROCA of 1024 bits", &rsa.PublicKey{N: made(1024), E: 65537}, errROCA},
		{"a neighbour of ROCA", &rsa.PublicKey{N: neighbour, E: 65537}, nil},
	} {
		if got := Fault(tt.key); !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}
