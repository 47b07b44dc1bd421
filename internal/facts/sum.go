// Package facts is what tokens say: it reads that from their claims. What may pass is no
// fact and never stands here: whoever reads one must judge it.
package facts

import "crypto/sha256"

// A Sum is the whole SHA-256 of a token. Two tokens that share a part of it share
// nothing.
type Sum [sha256.Size]byte

// SumOf returns the sum of a raw token. Most tokens fit a buffer on the stack; Sum256
// takes bytes, and converting the string would put a copy of every token on the heap.
func SumOf(raw string) Sum {
	var buffer [2 << 10]byte
	if len(raw) > len(buffer) {
		return sha256.Sum256([]byte(raw))
	}
	return sha256.Sum256(buffer[:copy(buffer[:], raw)])
}
