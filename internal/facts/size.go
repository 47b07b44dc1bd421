package facts

import (
	"unsafe"

	"github.com/tallygate/tallygate/access"
)

// Bytes returns how much memory u takes: at least what its own parts take, and at most what
// [Members.Read] makes of a token of 16 KiB. The server's name is shared.
func Bytes(u *access.Unchecked) int {
	n := int(structBytes) + allocated(16*len(u.Scopes)) + allocated(16*len(u.Audience))
	for _, s := range []string{u.Issuer, u.Subject, u.ClientID, u.TokenID} {
		n += allocated(len(s))
	}
	for _, a := range u.Audience {
		n += allocated(len(a))
	}
	// The scopes are parts of one text, which is as long as they are with a space between.
	text := 0
	for _, s := range u.Scopes {
		text += len(s) + 1
	}
	return n + allocated(text)
}

const structBytes = unsafe.Sizeof(access.Unchecked{})

// allocated returns what an allocation of n bytes takes: Go's size classes are at most an
// eighth apart, and at least 16 bytes.
func allocated(n int) int { return n + n/8 + 16 }
