package facts

import (
	"strings"
	"testing"
)

// The sum is that of the whole token, on either side of the buffer on the stack.
func TestSumOf(t *testing.T) {
	seen := make(map[Sum]int)
	for _, n := range []int{0, 1, 2047, 2048, 2049, 16 << 10} {
		token := strings.Repeat("x", n)
		for _, raw := range []string{token, token + "y"} {
			if before, ok := seen[SumOf(raw)]; ok {
				t.Errorf("tokens of %d and %d bytes have one sum", before, len(raw))
			}
			seen[SumOf(raw)] = len(raw)
		}
	}
	if n := testing.AllocsPerRun(100, func() { SumOf(strings.Repeat("x", 0)) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
