// Package facts reads the claims of tokens. A claim is a fact; whether the token may pass is
// decided by package validate.
package facts

import "crypto/sha256"

// A Sum is the SHA-256 of a token. It is never shortened, so that no two tokens share a cache
// entry.
type Sum [sha256.Size]byte

// SumOf returns the SHA-256 of a raw token. Sum256 takes bytes, and converting the string would
// allocate a copy of every token, so tokens up to 2 KiB go through a buffer on the stack.
func SumOf(raw string) Sum {
	var buffer [2 << 10]byte
	if len(raw) > len(buffer) {
		return sha256.Sum256([]byte(raw))
	}
	return sha256.Sum256(buffer[:copy(buffer[:], raw)])
}
