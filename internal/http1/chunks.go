package http1

import (
	"bufio"
	"strconv"
)

// maxSizeDigits is how many hexadecimal digits a chunk's size may have: 16 digits are 64 bits.
const maxSizeDigits = 16

// chunkSize parses a chunk-size line without its end (RFC 9112 section 7.1).
func chunkSize(line []byte) (size int64, extension []byte, err error) {
	digits := 0
	var n uint64
	for digits < len(line) {
		digit, good := hexadecimal(line[digits])
		if !good {
			break
		}
		if digits++; digits > maxSizeDigits {
			return 0, nil, ErrChunkSize
		}
		n = n<<4 | uint64(digit)
	}
	extension = line[digits:]
	if digits == 0 || int64(n) < 0 { //nolint:gosec // a size above 2^63-1 becomes negative and is refused
		return 0, nil, ErrChunkSize
	}
	return int64(n), extension, checkExtensions(extension) //nolint:gosec // checked above
}

// checkExtensions checks chunk extensions (RFC 9112 section 7.1.1). Each extension has a name and may
// have a token or a quoted string as its value. White space is allowed around the separators, but not at
// the end.
func checkExtensions(b []byte) error {
	for len(b) > 0 {
		b = skipSpace(b)
		if len(b) == 0 || b[0] != ';' {
			return ErrChunkExtension
		}
		name, rest := cutToken(skipSpace(b[1:]))
		if len(name) == 0 {
			return ErrChunkExtension
		}
		b = rest
		if rest = skipSpace(b); len(rest) == 0 || rest[0] != '=' {
			continue
		}
		rest = skipSpace(rest[1:])
		if len(rest) > 0 && rest[0] == '"' {
			if b = cutQuoted(rest[1:]); b == nil {
				return ErrChunkExtension
			}
			continue
		}
		value, rest := cutToken(rest)
		if len(value) == 0 {
			return ErrChunkExtension
		}
		b = rest
	}
	return nil
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	return b
}

func cutToken(b []byte) (token, rest []byte) {
	n := 0
	for n < len(b) && is(b[n], inToken) {
		n++
	}
	return b[:n], b[n:]
}

// cutQuoted returns the bytes after the quoted string whose content begins b, or nil if the string is
// malformed or does not end.
func cutQuoted(b []byte) []byte {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return b[i+1:]
		case b[i] == '\\':
			i++
			if i == len(b) || !is(b[i], inValue) {
				return nil
			}
		case !is(b[i], inValue):
			return nil
		}
	}
	return nil
}

func hexadecimal(c byte) (digit byte, good bool) {
	switch c = lower(c); {
	case isDigit(c):
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// WriteChunk writes p, which must not be empty, as a chunk. Errors of out are sticky, so the caller may
// look at the error of a later Flush only.
func WriteChunk(out *bufio.Writer, p []byte) error {
	_, _ = out.Write(strconv.AppendInt(out.AvailableBuffer(), int64(len(p)), 16))
	_, _ = out.WriteString("\r\n")
	_, _ = out.Write(p)
	_, err := out.WriteString("\r\n")
	return err
}

// WriteLastChunk ends a chunked body with trailer.
func WriteLastChunk(out *bufio.Writer, trailer []Field) error {
	_, _ = out.WriteString("0\r\n")
	WriteFields(out, trailer)
	_, err := out.WriteString("\r\n")
	return err
}

// WriteFields writes fields as field lines.
func WriteFields(out *bufio.Writer, fields []Field) {
	for i := range fields {
		_, _ = out.WriteString(fields[i].Name)
		_, _ = out.WriteString(": ")
		_, _ = out.WriteString(fields[i].Value)
		_, _ = out.WriteString("\r\n")
	}
}
