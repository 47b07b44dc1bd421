package http1grammar

// What a byte may be part of. The classes are those of RFC 9110 section 5 and RFC 5234.
const (
	inToken   = 1 << iota // tchar
	inVisible             // VCHAR: printable ASCII without the space
	inText                // VCHAR, space and tab
	inValue               // of a field: inText and obs-text, the bytes above 0x7f
	inTarget              // of a request: VCHAR and obs-text; the policy judges it further
	inHost                // uri-host and port of RFC 3986 section 3.2
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

// IsToken reports whether b holds nothing but tchar (RFC 9110 section 5.6.2).
func IsToken(b []byte) bool { return all(b, inToken) }

// IsVisible reports whether b holds nothing but VCHAR (RFC 5234 appendix B.1).
func IsVisible(b []byte) bool { return all(b, inVisible) }

// IsText reports whether b holds nothing but VCHAR, space and tab.
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
