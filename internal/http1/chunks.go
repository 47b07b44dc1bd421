package http1

import (
	"bufio"
	"bytes"
	"math"
	"strconv"

	"github.com/tallygate/tallygate/internal/ascii"
)

// maxSizeDigits is how many hexadecimal digits a chunk's size may have: 16 digits are 64 bits.
const maxSizeDigits = 16

// chunkSize parses a chunk-size line without its end (RFC 9112 section 7.1).
func chunkSize(line []byte) (int64, error) {
	digits := 0
	var size uint64
	for digits < len(line) {
		digit, ok := hexadecimal(line[digits])
		if !ok {
			break
		}
		if digits++; digits > maxSizeDigits {
			return 0, ErrChunkSize
		}
		size = size<<4 | uint64(digit)
	}
	if digits == 0 || size > math.MaxInt64 {
		return 0, ErrChunkSize
	}
	if digits < len(line) && line[digits] != ';' { // no white space before the extensions, as in net/http
		return 0, ErrChunkSize
	}
	return int64(size), checkExtensions(line[digits:])
}

// ChunksArrived reports whether received begins with a whole chunked body that has no trailer, so that a [Body]
// reads no further byte before the end of the body or an error.
func ChunksArrived(received []byte) bool {
	for {
		line, rest, found := bytes.Cut(received, []byte("\r\n"))
		size, err := chunkSize(line)
		switch {
		case !found || err != nil:
			return false
		case size == 0:
			return bytes.HasPrefix(rest, []byte("\r\n"))
		case int64(len(rest)-len("\r\n")) < size:
			return false
		}
		received = rest[int(size)+len("\r\n"):]
	}
}

// checkExtensions checks chunk extensions (RFC 9112 section 7.1.1). Each extension has a name and may
// have a token or a quoted string as its value. White space is accepted around the separators, but not at
// the end.
func checkExtensions(b []byte) error {
	for len(b) > 0 {
		if b = skipSpace(b); len(b) == 0 || b[0] != ';' {
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
			after, ok := cutQuoted(rest[1:])
			if !ok {
				return ErrChunkExtension
			}
			b = after
			continue
		}
		value, after := cutToken(rest)
		if len(value) == 0 {
			return ErrChunkExtension
		}
		b = after
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
	n := prefix(b, inToken)
	return b[:n], b[n:]
}

// cutQuoted returns the bytes after a quoted string (RFC 9110 section 5.6.4). b begins after the opening
// quotation mark. ok is false if the string is malformed or does not end.
func cutQuoted(b []byte) (after []byte, ok bool) {
	if valuePrefix(b) < len(b) {
		return nil, false
	}
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			return b[i+1:], true
		case '\\':
			i++
		}
	}
	return nil, false
}

func hexadecimal(c byte) (digit byte, ok bool) {
	switch c = ascii.Lower(c); {
	case isDigit(c):
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// WriteChunk writes p, which must not be empty, as a chunk. After a failed write, out returns the error from
// every later call, so the caller may check only the error of a later Flush.
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
