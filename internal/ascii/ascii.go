// Package ascii has the classes of ASCII characters, and the spellings of one character, that
// several grammars share.
package ascii

// IsAlphanumeric reports whether c is a letter or a digit.
func IsAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// Lower returns c, as a lower-case letter if c is a letter.
func Lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// EqualFold reports whether a and b are equal without regard to the case of ASCII letters.
// strings.EqualFold would also treat U+212A, the Kelvin sign, as equal to k.
func EqualFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if Lower(a[i]) != Lower(b[i]) {
			return false
		}
	}
	return true
}

// Escaped returns the byte that the percent escape at the start of s stands for (RFC 3986 section
// 2.1). ok is false if s does not start with an escape.
func Escaped(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' || !isHex(s[1]) || !isHex(s[2]) {
		return 0, false
	}
	return unhex(s[1])<<4 | unhex(s[2]), true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= Lower(c) && Lower(c) <= 'f' }

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return Lower(c) - 'a' + 10
}
