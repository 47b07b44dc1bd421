package weakkey

import (
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// The y coordinates are all that there are: those of the points of order 1, 2 and 4, and the
// two roots of the equation for order 8, whose double has y = 0; and their second encodings
// below 2^255.
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
		t.Fatal("1 + d is no square")
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
		t.Errorf("the list is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
