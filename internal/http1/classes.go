package http1

// The classes of bytes, RFC 9110 section 5 and RFC 5234. A byte can be in several classes.
const (
	inToken  = 1 << iota // tchar, RFC 9110 section 5.6.2
	inTarget             // VCHAR and obs-text, which is above 0x7f; package policy checks more
	inValue              // inTarget, space and tab
	inHost               // the bytes of uri-host and port, RFC 3986 section 3.2
)

var classes = func() (classes [256]uint8) {
	add := func(bytes string, class uint8) {
		for _, c := range []byte(bytes) {
			classes[c] |= class
		}
	}
	for c := range 256 {
		if c > ' ' && c != 0x7f {
			classes[c] |= inTarget | inValue
		}
	}
	add(" \t", inValue)
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	add(alphanumeric+"!#$%&'*+-.^_`|~", inToken)
	add(alphanumeric+"-._~!$&'()*+,;=:[]%", inHost)
	return classes
}()

// IsToken reports whether every byte of b is a tchar (RFC 9110 section 5.6.2).
func IsToken[T text](b T) bool { return all(b, inToken) }

// IsValue reports whether every byte of b may occur in a field value (RFC 9110 section 5.5): all bytes except
// control characters; the tab is allowed.
func IsValue[T text](b T) bool { return valuePrefix(b) == len(b) }

// IsTarget reports whether every byte of b may occur in a request target: all bytes except the space and
// control characters.
func IsTarget[T text](b T) bool { return targetPrefix(b) == len(b) }

type text interface{ string | []byte }

func all[T text](b T, class uint8) bool { return prefix(b, class) == len(b) }

// prefix returns the number of bytes at the start of b that are in class.
func prefix[T text](b T, class uint8) int {
	for i := range len(b) {
		if classes[b[i]]&class == 0 {
			return i
		}
	}
	return len(b)
}

// targetPrefix returns the number of bytes at the start of b that a request target may contain.
func targetPrefix[T text](b T) int { return longPrefix(b, inTarget, '!') }

// valuePrefix returns the number of bytes at the start of b that a field value may contain. The byte after
// them is a control character other than the tab (RFC 9110 section 5.5).
func valuePrefix[T text](b T) int { return longPrefix(b, inValue, ' ') }

// longPrefix is prefix for a class that contains every byte from least to 0x7e. It checks 8 bytes at a time:
// subtracting least sets the top bit of each byte below least, and adding 1 sets the top bit of DEL. A borrow
// or carry may also set the top bit of a byte in the class, but never hides a byte that is not in the class.
// So if a top bit is set, prefix checks the 8 bytes one by one.
func longPrefix[T text](b T, class, least uint8) int {
	const each, top = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(b)-i >= 8; i += 8 {
		eight := b[i : i+8]
		// The compiler merges the eight loads into one.
		word := uint64(eight[0]) | uint64(eight[1])<<8 | uint64(eight[2])<<16 | uint64(eight[3])<<24 |
			uint64(eight[4])<<32 | uint64(eight[5])<<40 | uint64(eight[6])<<48 | uint64(eight[7])<<56
		if ((word-each*uint64(least))|(word+each))&^word&top != 0 {
			if n := prefix(eight, class); n < 8 {
				return i + n
			}
		}
	}
	return i + prefix(b[i:], class)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
