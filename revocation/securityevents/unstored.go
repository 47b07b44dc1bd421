package securityevents

import (
	"crypto/sha256"
	"sync"
)

// maxUnstored bounds the tokens in an unstored: 1,024 sums of 32 bytes.
const maxUnstored = 1024

// An unstored has the sums of the pushed tokens that got 503, and whose revocations may therefore be unknown. It is safe for
// concurrent use.
type unstored struct {
	mu     sync.Mutex
	tokens map[[sha256.Size]byte]struct{}
}

// overflow stands for every token beyond maxUnstored. No token has this sum.
var overflow [sha256.Size]byte

func (u *unstored) add(raw string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.tokens == nil {
		u.tokens = make(map[[sha256.Size]byte]struct{})
	}
	sum := sha256.Sum256([]byte(raw))
	if len(u.tokens) >= maxUnstored {
		sum = overflow
	}
	u.tokens[sum] = struct{}{}
}

// remove removes a token that got another response than 503. If stored is true, remove empties u: the server then has sent
// the other tokens again, perhaps with new signatures and so with other sums. A token without revocations removes only
// itself, because its receipt does not show that the store works.
func (u *unstored) remove(raw string, stored bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if stored {
		clear(u.tokens)
		return
	}
	delete(u.tokens, sha256.Sum256([]byte(raw)))
}

// hasTokens reports whether u has a token.
func (u *unstored) hasTokens() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.tokens) > 0
}
