// Package facts reads the claims of tokens. A claim is a fact; package validate decides whether the
// token may pass.
package facts

import (
	"crypto/sha256"
	"unsafe"

	"github.com/tallygate/tallygate/access"
)

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

// Bytes estimates the memory in bytes that u takes. The estimate is never below the size of u's parts.
// It is bounded, because a token has at most 16 KiB. The name of the authorization server is not
// counted, because it is shared.
func Bytes(u *access.Unchecked) int {
	n := int(structBytes) + allocation(16*len(u.Scopes)) + allocation(16*len(u.Audience))
	for _, s := range []string{u.Issuer, u.Subject, u.ClientID, u.TokenID} {
		n += allocation(len(s))
	}
	for _, a := range u.Audience {
		n += allocation(len(a))
	}
	// The scopes are slices of one string, joined by spaces.
	text := 0
	for _, s := range u.Scopes {
		text += len(s) + 1
	}
	return n + allocation(text)
}

const structBytes = unsafe.Sizeof(access.Unchecked{})

// allocation returns the bytes that an allocation of n bytes takes. Go's size classes are at most an
// eighth apart, which gives n/8. 16 is the size of the smallest class.
func allocation(n int) int { return n + n/8 + 16 }
