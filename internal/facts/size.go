package facts

import (
	"unsafe"

	"github.com/tallygate/tallygate/access"
)

// Bytes returns the memory in bytes that u takes: at least the size of its parts, and at most the
// size of the claims in a token of 16 KiB. The server's name is shared and not counted.
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

// allocation returns the bytes that an allocation of n bytes takes: Go's size classes are at most
// an eighth apart, and the smallest counts as 16 bytes.
func allocation(n int) int { return n + n/8 + 16 }
