// Package http1grammar follows the framing of HTTP/1.x requests (RFC 9112) byte by byte: the
// request line, the header, the body with its chunks, the trailer. It refuses what is invalid
// and what two readers could take for different messages, and repairs nothing. It knows no
// connection and allocates nothing.
package http1grammar

// An Error says why bytes are no request. The texts are fixed: nothing of the request is in
// them.
type Error string

// Error returns the text.
func (e Error) Error() string { return string(e) }

// What is refused.
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

// MostEmptyLines are skipped before a request line. RFC 9112 section 2.2 asks for one at
// least.
const MostEmptyLines = 2

// A state is where in a request a [Scanner] is.
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
	counted // the body, by its length
	sizeStart
	size
	extensionSpace // behind a size or an extension
	extensionNameStart
	extensionName
	extensionNameSpace
	extensionValueStart
	extensionToken
	extensionQuoted
	extensionEscaped
	extensionEnd // behind a quoted string
	sizeLF
	chunk
	chunkCR
	chunkLF
	done
)

// A Scanner follows one request. The zero value expects its first byte. It is not safe for
// concurrent use.
type Scanner struct {
	state   state
	trailer bool  // the fields are those of the trailer
	empty   uint8 // lines before the request line
	matched uint8 // bytes of the version or of "chunked"
	minor   byte  // last digit of the version
	digits  uint8 // of the chunk size

	name  [len(transferEncoding)]byte // of the field, in lower case
	named uint8                       // bytes of the name; len(name)+1 stands for more
	field field
	place place

	hosts    bool // there has been a Host
	measured bool // there has been a Content-Length
	chunked  bool
	left     uint64 // bytes of the body or of the chunk
}

// Scan follows p, the next bytes of the connection. p[skip:n] belong to the request and are
// valid; p[:skip] are empty lines before it. n is less than len(p) where the request ends in p,
// as Done then reports, and with an error, which is an [Error] and about p[n]. A Scanner is of
// no use after an error.
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

// Started reports whether part of the request or of an empty line before it has come.
func (s *Scanner) Started() bool { return s.state != start }

// HeadDone reports whether the header has come to its end.
func (s *Scanner) HeadDone() bool { return s.state >= counted || s.trailer }

// Done reports whether the request has come to its end.
func (s *Scanner) Done() bool { return s.state == done }

// pass takes up to n bytes of the body and returns how many.
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

// expect goes on to next where c is what must come, and fails with e otherwise.
func (s *Scanner) expect(good bool, next state, e Error) error {
	if !good {
		return e
	}
	s.state = next
	return nil
}
