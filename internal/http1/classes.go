package http1

// The classes of bytes, RFC 9110 section 5 and RFC 5234. A byte can be in several classes.
const (
	inToken   = 1 << iota // tchar, RFC 9110 section 5.6.2
	inVisible             // VCHAR: printable ASCII without the space
	inText                // VCHAR, space and tab
	inValue               // the bytes of a field value: inText and obs-text, which is above 0x7f
	inTarget              // the bytes of a request target: VCHAR and obs-text; package policy checks more
	inHost                // the bytes of uri-host and port, RFC 3986 section 3.2
)

var classes = func() (classes [256]uint8) {
	add := func(bytes string, class uint8) {
		for _, c := range []byte(bytes) {
			classes[c] |= class
		}
	}
	for c := range 256 {
		switch {
		case c > 0x20 && c < 0x7f:
			classes[c] |= inVisible | inText | inValue | inTarget
		case c > 0x7f:
			classes[c] |= inValue | inTarget
		}
	}
	add(" \t", inText|inValue)
	const alphanumeric = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	add(alphanumeric+"!#$%&'*+-.^_`|~", inToken)
	add(alphanumeric+"-._~!$&'()*+,;=:[]%", inHost)
	return classes
}()

func is(c, class uint8) bool { return classes[c]&class != 0 }

// IsToken reports whether every byte of b is a tchar (RFC 9110 section 5.6.2).
func IsToken(b []byte) bool { return all(b, inToken) }

// IsVisible reports whether every byte of b is a VCHAR (RFC 5234 appendix B.1).
func IsVisible(b []byte) bool { return all(b, inVisible) }

// IsText reports whether every byte of b is a VCHAR, a space or a tab.
func IsText(b []byte) bool { return all(b, inText) }

func all(b []byte, class uint8) bool {
	for _, c := range b {
		if classes[c]&class == 0 {
			return false
		}
	}
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
