package http1

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// indexBelow and indexControl find what a loop over bytes finds, wherever the byte stands among others.
func TestIndexControl(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		b := make([]byte, random.IntN(40))
		for i := range b {
			b[i] = byte(random.Uint32() | 0x20)
			if random.IntN(16) == 0 {
				b[i] = "\x00\x01\t\n\r\x1f !\x7e\x7f\x80\xff"[random.IntN(12)]
			}
		}
		if got, want := indexBelow(b, '!'), slices.IndexFunc(b, func(c byte) bool { return c <= ' ' || c == 0x7f }); got != want {
			t.Fatalf("indexBelow(%q, '!') = %d, want %d", b, got, want)
		}
		if got, want := indexControl(b), slices.IndexFunc(b, func(c byte) bool { return c < ' ' && c != '\t' || c == 0x7f }); got != want {
			t.Fatalf("indexControl(%q) = %d, want %d", b, got, want)
		}
	}
}
