package facts

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// T-INT-09: the whole sum is the key. These share their first 31 bytes, and so whatever a
// shorter hash would be made of.
func TestCacheComparesWholeSum(t *testing.T) {
	c := NewCache[string](100, prometheus.NewCounter(prometheus.CounterOpts{}))
	one, two := Sum{31: 1}, Sum{31: 2}
	c.Add(one, "one")
	if got, ok := c.Get(two); ok {
		t.Errorf("the other sum finds %q", got)
	}
	c.Add(two, "two")
	for sum, want := range map[Sum]string{one: "one", two: "two"} {
		if got, ok := c.Get(sum); !ok || got != want {
			t.Errorf("%x finds %q, want %q", sum, got, want)
		}
	}
	c.Remove(one)
	if _, ok := c.Get(one); ok || c.Len() != 1 {
		t.Errorf("one is still there, of %d", c.Len())
	}
}

// A full cache drops what was used longest ago, and counts it; a nil one remembers nothing.
func TestCacheBound(t *testing.T) {
	evictions := prometheus.NewCounter(prometheus.CounterOpts{})
	c := NewCache[int](2, evictions)
	for i := range 3 { // all in one of the two shards
		c.Add(Sum{0: 2, 1: byte(i)}, i)
	}
	if _, ok := c.Get(Sum{0: 2, 1: 2}); !ok || c.Len() != 1 || testutil.ToFloat64(evictions) != 2 {
		t.Errorf("%d entries, %v evictions", c.Len(), testutil.ToFloat64(evictions))
	}
	none := NewCache[int](0, evictions)
	none.Add(Sum{}, 1)
	none.Remove(Sum{})
	if _, ok := none.Get(Sum{}); ok || none.Len() != 0 {
		t.Error("no cache remembers something")
	}
}

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
