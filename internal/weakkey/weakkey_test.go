package weakkey

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// weakModulus returns a modulus of at least so many bits like the library of CVE-2017-15361:
// a power of 65537 modulo the product of the primes, plus a multiple of the product.
func weakModulus(bits uint) *big.Int {
	product := big.NewInt(1)
	for _, p := range rocaPrimes {
		product.Mul(product, big.NewInt(p))
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123_456_789), product)
	return n.Add(n, new(big.Int).Mul(product, new(big.Int).Lsh(big.NewInt(1), bits-uint(product.BitLen())+1)))
}

func TestCheck(t *testing.T) {
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
	neighbour := new(big.Int).Add(weakModulus(2048), big.NewInt(2))
	for _, tt := range []struct {
		name string
		key  any
		want error
	}{
		{"strong", strong.Public(), nil},
		{"on a curve", curve.Public(), nil},
		{"1024 bits", short.Public(), ErrShort},
		{"2047 bits", &rsa.PublicKey{N: new(big.Int).Rsh(strong.N, 1), E: 65537}, ErrShort},
		{"1023 bits", &rsa.PublicKey{N: tiny, E: 65537}, errVeryShort},
		{"the exponent 3", &rsa.PublicKey{N: strong.N, E: 3}, errExponent},
		{"the exponent 257", &rsa.PublicKey{N: strong.N, E: 257}, errExponent},
		{"1024 bits and the exponent 3", &rsa.PublicKey{N: short.N, E: 3}, errExponent},
		{"ROCA", &rsa.PublicKey{N: weakModulus(2048), E: 65537}, errROCA},
		{"ROCA of 1024 bits", &rsa.PublicKey{N: weakModulus(1024), E: 65537}, errROCA},
		{"a neighbour of ROCA", &rsa.PublicKey{N: neighbour, E: 65537}, nil},
	} {
		if got := Check(tt.key); !errors.Is(got, tt.want) {
			t.Errorf("%s: Check returned %v, want %v", tt.name, got, tt.want)
		}
	}
}

// lowOrder is complete: it has the y coordinates of the points of order 1, 2 and 4, the two
// roots of the equation for order 8, whose double has y = 0, and all second encodings below
// 2^255.
func TestLowOrderIsComplete(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	mod := func(x *big.Int) *big.Int { return x.Mod(x, p) }
	mul := func(a, b *big.Int) *big.Int { return mod(new(big.Int).Mul(a, b)) }
	// d = -121665/121666, RFC 8032 section 5.1.
	d := mul(mod(big.NewInt(-121665)), new(big.Int).ModInverse(big.NewInt(121666), p))
	// The double of (x, y) has y' = (y² + x²)/(2 - y² + x²), zero where x² = -y². On the curve
	// -x² + y² = 1 + d x² y², so that 2y² = 1 - d y⁴: with u = y², d u² + 2u - 1 = 0.
	root := new(big.Int).ModSqrt(mod(new(big.Int).Add(big.NewInt(1), d)), p)
	if root == nil {
		t.Fatal("1 + d is not a square modulo p, want a square")
	}
	ys := []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1))}
	for _, r := range []*big.Int{root, new(big.Int).Neg(root)} {
		u := mul(mod(new(big.Int).Sub(r, big.NewInt(1))), new(big.Int).ModInverse(d, p))
		if y := new(big.Int).ModSqrt(u, p); y != nil {
			ys = append(ys, y, new(big.Int).Sub(p, y))
		}
	}
	var want []string
	for _, y := range ys {
		for _, same := range []*big.Int{y, new(big.Int).Add(y, p)} {
			if same.BitLen() <= 255 {
				bytes := same.FillBytes(make([]byte, 32))
				slices.Reverse(bytes)
				want = append(want, hex.EncodeToString(bytes))
			}
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(lowOrder)); !slices.Equal(got, want) {
		t.Errorf("lowOrder is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
