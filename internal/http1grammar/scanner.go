// Package http1grammar follows the framing of HTTP/1.x requests (RFC 9112) byte by byte: the request
// line, the header, the body with its chunks, the trailer. It refuses invalid bytes, and bytes that two
// implementations could read as different messages. It repairs nothing, uses no connection and
// allocates nothing.
package http1grammar

// An Error says why bytes are not a valid request. The texts are fixed and quote nothing of the
// request.
type Error string

// Error returns the text.
func (e Error) Error() string { return string(e) }

// The errors.
const (
	ErrEmptyLines       Error = "too many empty lines before the request line"
	ErrRequestLine      Error = "malformed request line"
	ErrVersion          Error = "the version is neither HTTP/1.1 nor HTTP/1.0"
	ErrLineEnd          Error = "a line does not end in CR LF"
	ErrFieldName        Error = "malformed field name"
	ErrFieldValue       Error = "a control character in a field value"
	ErrFolded           Error = "a folded header line"
	ErrHost             Error = "malformed Host"
	ErrHosts            Error = "not exactly one Host"
	ErrContentLength    Error = "malformed Content-Length"
	ErrContentLengths   Error = "more than one Content-Length"
	ErrTransferEncoding Error = "the Transfer-Encoding is not chunked alone"
	ErrTwoLengths       Error = "Content-Length beside Transfer-Encoding"
	ErrHTTP10           Error = "Transfer-Encoding with HTTP/1.0"
	ErrChunkSize        Error = "malformed chunk size"
	ErrChunkExtension   Error = "malformed chunk extension"
	ErrChunkEnd         Error = "a chunk does not end in CR LF"
	ErrTrailer          Error = "a framing field in the trailer"
)

// MostEmptyLines is the number of empty lines that a Scanner skips before a request line. RFC 9112
// section 2.2 asks servers to skip at least one.
const MostEmptyLines = 2

// A state is the position of a [Scanner] in the request.
type state uint8

const (
	start state = iota
	emptyLF
	method
	target
	version
	versionLF
	fieldStart
	fieldName
	fieldValue
	fieldLF
	headLF
	counted // the next byte belongs to a body with a Content-Length
	sizeStart
	size
	extensionSpace // white space after a chunk size or an extension
	extensionNameStart
	extensionName
	extensionNameSpace
	extensionValueStart
	extensionToken
	extensionQuoted
	extensionEscaped
	extensionEnd // the byte after a quoted string
	sizeLF
	chunk
	chunkCR
	chunkLF
	done
)

// A Scanner follows one request. The zero value expects the first byte of the request. It is not
// safe for concurrent use.
type Scanner struct {
	state   state
	trailer bool  // true while the fields of the trailer are read
	empty   uint8 // number of empty lines before the request line
	matched uint8 // number of bytes that match the version or "chunked"
	minor   byte  // the last digit of the version
	digits  uint8 // number of digits of the chunk size

	name  [len(transferEncoding)]byte // the field's name in lower case
	named uint8                       // length of the name; len(name)+1 if the name does not fit
	field field
	place place

	hosts    bool // the header has had a Host
	measured bool // the header has had a Content-Length
	chunked  bool
	left     uint64 // the bytes that remain of the body or of the chunk
}

// Scan follows p, the next bytes of the connection. p[:skip] are empty lines before the request, and
// p[skip:n] are valid bytes of the request. If the request ends in p, n is the end of the request, and
// Done returns true. If err, an [Error], is not nil, p[n] is the invalid byte, and the Scanner cannot
// be used any more. Otherwise n is len(p).
func (s *Scanner) Scan(p []byte) (skip, n int, err error) {
	for n < len(p) && s.state != done {
		if s.state == counted || s.state == chunk {
			n += s.pass(len(p) - n)
			continue
		}
		if err := s.step(p[n]); err != nil {
			return skip, n, err
		}
		n++
		if s.state <= emptyLF {
			skip = n
		}
	}
	return skip, n, nil
}

// Started reports whether a part of the request, or of an empty line before it, has arrived.
func (s *Scanner) Started() bool { return s.state != start }

// HeadDone reports whether the header is complete.
func (s *Scanner) HeadDone() bool { return s.state >= counted || s.trailer }

// Done reports whether the request is complete.
func (s *Scanner) Done() bool { return s.state == done }

// pass skips at most n bytes of the body and returns the number of skipped bytes.
func (s *Scanner) pass(n int) int {
	if uint64(n) < s.left {
		s.left -= uint64(n)
		return n
	}
	n = int(s.left)
	s.left = 0
	if s.state == counted {
		s.state = done
	} else {
		s.state = chunkCR
	}
	return n
}

func (s *Scanner) step(c byte) error {
	switch {
	case s.state < fieldStart:
		return s.line(c)
	case s.state < counted:
		return s.fields(c)
	default:
		return s.body(c)
	}
}

// expect changes the state to next if good is true, and otherwise returns e.
func (s *Scanner) expect(good bool, next state, e Error) error {
	if !good {
		return e
	}
	s.state = next
	return nil
}
