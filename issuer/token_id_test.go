package issuer

import (
	"sync"
	"testing"
)

// T-AS-15: 100,000 jti created in parallel are unique, and each of the 26 positions takes each
// of the 32 letters, so no part is a time, a counter or a process id. TestThousandTokens checks
// that tokens have such a jti.
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
	var letters [26]map[byte]bool
	for i := range letters {
		letters[i] = make(map[byte]bool)
	}
	for id := range ids {
		if len(id) != len(letters) {
			t.Fatalf("newTokenID returned %q, want 26 characters of base32", id)
		}
		seen[id] = true
		for i := range letters {
			letters[i][id[i]] = true
		}
	}
	if len(seen) != workers*each {
		t.Errorf("got %d different jti, want %d", len(seen), workers*each)
	}
	for i := range letters {
		if len(letters[i]) != 32 { // 26 positions × log2(32) = 130 bits
			t.Errorf("position %d has %d different letters, want 32", i, len(letters[i]))
		}
	}
}
