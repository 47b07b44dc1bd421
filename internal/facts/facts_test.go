package facts

import (
	"strings"
	"testing"
)

// The sum covers the whole token, below and above the size of the buffer on the stack.
func TestSumOf(t *testing.T) {
	seen := make(map[Sum]int)
	for _, n := range []int{0, 1, 2047, 2048, 2049, 16 << 10} {
		token := strings.Repeat("x", n)
		for _, raw := range []string{token, token + "y"} {
			if before, ok := seen[SumOf(raw)]; ok {
				t.Errorf("SumOf is equal for tokens of %d and %d bytes, want different sums", before, len(raw))
			}
			seen[SumOf(raw)] = len(raw)
		}
	}
	if n := testing.AllocsPerRun(100, func() { SumOf(strings.Repeat("x", 0)) }); n != 0 {
		t.Errorf("SumOf makes %v allocations, want 0", n)
	}
}
