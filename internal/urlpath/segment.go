// Package urlpath defines which segments of URL paths are accepted, and the path patterns of such
// segments. All servers decode an accepted segment to the same text, so the upstream sees the same path
// that a pattern matched. The package does no I/O, and all its functions are safe for concurrent use.
package urlpath

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tallygate/tallygate/internal/ascii"
)

// The reasons why a segment is not canonical. A reason does not quote the segment, because the segment
// may come from a request and the text of the reason goes to the log.
var (
	errDotSegment     = errors.New(`a "." or ".." segment is not canonical`)
	errSegmentByte    = errors.New("a byte that must be percent-encoded, or a semicolon, is not canonical")
	errEscape         = errors.New("a % that does not begin an escape is not canonical")
	errEscapedMeaning = errors.New("an escaped slash, backslash, semicolon or control character is not canonical")
	errDoubleEscape   = errors.New("an escape of an escape is not canonical")
	errNeedlessEscape = errors.New("an escaped letter, digit or one of -._~ is not canonical")
	errSegmentText    = errors.New("an escape sequence that is not UTF-8 is not canonical")
	errEmptyReading   = errors.New("a segment that some servers read as empty is not canonical")
	errOuterSpace     = errors.New("a space at the start or the end of a segment is not canonical")
)

const (
	// RFC 3986 section 2.3.
	unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	// The rest of pchar (RFC 3986 section 3.3) without ";". Some servers end the segment at ";" (matrix
	// parameters), and other servers do not.
	otherSegmentBytes = "!$&'()*+,=:@"
)

var (
	unreservedBytes = byteSet(unreserved)
	segmentBytes    = byteSet(unreserved + otherSegmentBytes)
)

func byteSet(s string) (set [256]bool) {
	for _, c := range []byte(s) {
		set[c] = true
	}
	return set
}

// DecodeSegment percent-decodes one segment of a path, once. It decodes the segments of route patterns
// and of requests. The error says why two servers may decode raw to different texts:
//
//   - raw is a dot segment;
//   - raw has a byte that is no pchar of RFC 3986, or ";" or "\";
//   - raw has an escape of "/", "\", ";", a control character, an unreserved character or another
//     escape;
//   - the text of raw is not UTF-8, or begins or ends with a space.
//
// A segment without escapes is returned unchanged, without an allocation.
func DecodeSegment(raw string) (string, error) {
	if raw == "." || raw == ".." {
		return "", errDotSegment
	}
	escapes := 0
	for i := 0; i < len(raw); i++ {
		switch {
		case segmentBytes[raw[i]]:
		case raw[i] == '%':
			if err := checkEscape(raw[i:]); err != nil {
				return "", err
			}
			escapes++
			i += 2
		default:
			return "", errSegmentByte
		}
	}
	if escapes == 0 {
		return raw, nil
	}
	return decodeEscapes(raw, escapes)
}

// checkEscape checks the escape at the start of s. It accepts bytes beyond ASCII, because only several
// bytes together show whether they are UTF-8.
func checkEscape(s string) error {
	c, ok := ascii.Escaped(s)
	switch {
	case !ok:
		return errEscape
	case c == '/' || c == '\\' || c == ';':
		return errEscapedMeaning
	case c == '%':
		if _, twice := ascii.Escaped("%" + s[3:min(len(s), 5)]); twice {
			return errDoubleEscape
		}
	case unreservedBytes[c]:
		return errNeedlessEscape
	}
	return nil
}

// decodeEscapes decodes raw and checks the decoded text. checkEscape must have accepted each escape in
// raw.
func decodeEscapes(raw string, escapes int) (string, error) {
	var b strings.Builder
	b.Grow(len(raw) - 2*escapes)
	for i := 0; i < len(raw); i++ {
		if raw[i] != '%' {
			b.WriteByte(raw[i])
			continue
		}
		c, _ := ascii.Escaped(raw[i:])
		b.WriteByte(c)
		i += 2
	}
	text := b.String()
	switch {
	case !utf8.ValidString(text):
		return "", errSegmentText
	case strings.ContainsFunc(text, unicode.IsControl): // control characters are U+0000 to U+001F and U+007F to U+009F
		return "", errEscapedMeaning
	case strings.TrimSpace(text) != text:
		return "", errOuterSpace
	}
	return text, nil
}
