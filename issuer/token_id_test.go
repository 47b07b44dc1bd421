package issuer

import (
	"sync"
	"testing"
)

// TestTokenIDs: T-AS-15. Of 100,000 jti made in parallel none comes twice, and each
// of the 26 places takes each of the 32 letters, so nothing in it is a time, a
// counter or a process. That tokens carry them is TestThousandTokens.
func TestTokenIDs(t *testing.T) {
	const workers, each = 8, 12_500 // 8 × 12,500 = 100,000
	ids := make(chan string, workers*each)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				ids <- newTokenID()
			}
		})
	}
	wg.Wait()
	close(ids)

	seen := make(map[string]bool, workers*each)
	var places [26]map[byte]bool
	for i := range places {
		places[i] = make(map[byte]bool)
	}
	for id := range ids {
		if len(id) != len(places) {
			t.Fatalf("jti %q", id)
		}
		seen[id] = true
		for i := range places {
			places[i][id[i]] = true
		}
	}
	if len(seen) != workers*each {
		t.Errorf("%d different jti", len(seen))
	}
	for i := range places {
		if len(places[i]) != 32 { // 26 places × log2(32) = 130 bits
			t.Errorf("%d letters at place %d", len(places[i]), i)
		}
	}
}
