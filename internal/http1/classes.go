package http1

import (
	"encoding/binary"
	"math/bits"
)

// The classes of bytes, RFC 9110 section 5 and RFC 5234. A byte can be in several classes.
const (
	inToken   = 1 << iota // tchar, RFC 9110 section 5.6.2
	inVisible             // VCHAR: printable ASCII without the space
	inText                // VCHAR, space and tab
	inHost                // the bytes of uri-host and port, RFC 3986 section 3.2
)

var classes = func() (classes [256]uint8) {
	add := func(bytes string, class uint8) {
		for _, c := range []byte(bytes) {
			classes[c] |= class
		}
	}
	for c := '!'; c <= '~'; c++ {
		classes[c] |= inVisible | inText
	}
	add(" \t", inText)
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	add(alphanumeric+"!#$%&'*+-.^_`|~", inToken)
	add(alphanumeric+"-._~!$&'()*+,;=:[]%", inHost)
	return classes
}()

// IsToken reports whether every byte of b is a tchar (RFC 9110 section 5.6.2).
func IsToken(b []byte) bool { return all(b, inToken) }

// IsVisible reports whether every byte of b is a VCHAR (RFC 5234 appendix B.1).
func IsVisible(b []byte) bool { return all(b, inVisible) }

// IsText reports whether every byte of b is a VCHAR, a space or a tab.
func IsText(b []byte) bool { return all(b, inText) }

func all[T string | []byte](b T, class uint8) bool { return prefix(b, class) == len(b) }

// prefix returns the number of bytes at the start of b that are in class.
func prefix[T string | []byte](b T, class uint8) int {
	for i := range len(b) {
		if classes[b[i]]&class == 0 {
			return i
		}
	}
	return len(b)
}

// indexControl returns the index of the first byte in b that no field value may contain: a control
// character other than the tab (RFC 9110 section 5.5). It returns -1 if b has no such byte. obs-text, the
// bytes above 0x7f, may occur.
func indexControl(b []byte) int {
	for from := 0; ; from++ {
		i := indexBelow(b[from:], ' ')
		if i < 0 || b[from+i] != '\t' {
			if i >= 0 {
				i += from
			}
			return i
		}
		from += i
	}
}

// indexBelow returns the index of the first byte in b that is less than least or DEL, or -1. least is at
// most 0x7f. The loop looks at 8 bytes at a time; a byte is found by the bit that a subtraction borrows. A
// borrow can only disturb bytes after the first one that is found.
func indexBelow(b []byte, least byte) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		word := binary.LittleEndian.Uint64(b[i:])
		del := word ^ each*0x7f // a DEL becomes 0
		if found := ((word-each*uint64(least))&^word | (del-each)&^del) & top; found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for ; i < len(b); i++ {
		if b[i] < least || b[i] == 0x7f {
			return i
		}
	}
	return -1
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
