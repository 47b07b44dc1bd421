package http1

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// longPrefix has the same result as a loop over bytes, for every position of a byte.
func TestLongPrefix(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		b := make([]byte, random.IntN(40))
		for i := range b {
			b[i] = byte(random.Uint32() | 0x20)
			if random.IntN(16) == 0 {
				b[i] = "\x00\x01\t\n\r\x1f !\x7e\x7f\x80\xff"[random.IntN(12)]
			}
		}
		control := slices.IndexFunc(b, func(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f })
		if got, want := valuePrefix(b), index(b, control); got != want || valuePrefix(string(b)) != want {
			t.Fatalf("valuePrefix(%q) = %d, want %d", b, got, want)
		}
		other := slices.IndexFunc(b, func(c byte) bool { return c <= ' ' || c == 0x7f })
		if got, want := targetPrefix(b), index(b, other); got != want || targetPrefix(string(b)) != want {
			t.Fatalf("targetPrefix(%q) = %d, want %d", b, got, want)
		}
	}
}

// index returns i, or the length of b if i is -1.
func index(b []byte, i int) int {
	if i < 0 {
		return len(b)
	}
	return i
}
