package access

import "strings"

// longestClip leaves room for what our own details say (two thumbprints, two times)
// and for any sane issuer or key identifier.
const longestClip = 256

// Clip shortens s, which a stranger may have chosen, to what a log line should carry
// of it: 256 bytes. Whoever sends a few bytes must not make us write many.
func Clip(s string) string {
	if len(s) <= longestClip {
		return s
	}
	return strings.ToValidUTF8(s[:longestClip], "") + "…" // a character may have been cut
}
