package http1

import (
	"bufio"
	"io"
)

// Bounds for the parts of a chunked body that are not content, in bytes.
const (
	maxChunkLine = 4<<10 - len("\r\n") // the length of a chunk-size line with its extensions, as in net/http
	maxExcess    = 16 << 10            // the largest Body.excess, as in net/http
	maxTrailer   = 16 << 10
)

// A Body reads the body of a message from a connection. It follows the framing of the message strictly
// and reads no byte after the body. It is not safe for concurrent use.
type Body struct {
	in      *bufio.Reader
	left    int64 // the bytes that remain of the body or of the chunk, or UntilClose
	phase   phase
	line    []byte  // the last line that was read
	short   [8]byte // memory for line, enough for most chunk sizes
	excess  int64   // the overhead of all chunks that is above the allowance, see countOverhead
	trailer []Field
	err     error
}

// A phase is the position of a Body.
type phase uint8

const (
	counted    phase = iota // in a body with a length, or in a body that ends with the connection
	chunkStart              // before a chunk size
	chunkData
	chunkEnd // before the CR LF after the data of a chunk
	ended
)

// Reset prepares b for a body with length bytes, Chunked or UntilClose, which begins at the next byte of
// in. The memory for lines is kept.
func (b *Body) Reset(in *bufio.Reader, length int64) {
	*b = Body{in: in, left: length, line: b.line[:0]}
	switch length {
	case 0:
		b.phase = ended
	case Chunked:
		b.phase, b.left = chunkStart, 0
	}
}

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return b.phase == ended }

// Trailer returns the trailer fields of a chunked body that has been read to its end.
func (b *Body) Trailer() []Field {
	if b.phase != ended {
		return nil
	}
	return b.trailer
}

// Read reads the content of the body. At its end, Read returns io.EOF. If the connection ends earlier,
// Read returns io.ErrUnexpectedEOF, and for a malformed chunk or trailer an [Error]. After an error,
// every later call returns the same error.
func (b *Body) Read(p []byte) (n int, err error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.phase == ended:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	for b.phase == chunkStart || b.phase == chunkEnd {
		if err := b.nextChunk(); err != nil {
			return 0, b.fail(err)
		}
	}
	if b.phase == ended {
		return 0, io.EOF
	}
	if b.left != UntilClose && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err = b.in.Read(p)
	switch {
	case b.left == UntilClose:
		if isEOF(err) {
			b.phase = ended
			return n, io.EOF
		}
		return n, b.fail(err)
	case int64(n) < b.left:
		b.left -= int64(n)
		return n, b.fail(err)
	case b.phase == counted:
		b.left, b.phase = 0, ended
		return n, io.EOF
	}
	b.left, b.phase = 0, chunkEnd
	return n, nil // if err is not nil, the next read from in returns an error too
}

// fail sets the error that this and every later Read returns: err, or io.ErrUnexpectedEOF if the connection
// has ended.
func (b *Body) fail(err error) error {
	if isEOF(err) {
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return err
}

// isEOF reports whether err is io.EOF itself, with which a connection reports its regular end. An error that
// wraps io.EOF is a failure of the connection.
func isEOF(err error) bool {
	return err == io.EOF //nolint:errorlint // see above
}

// nextChunk reads up to the data of the next chunk or the end of the body.
func (b *Body) nextChunk() error {
	if b.phase == chunkEnd {
		for _, want := range []byte("\r\n") {
			c, err := b.in.ReadByte()
			if err != nil {
				return err
			}
			if c != want {
				return ErrChunkEnd
			}
		}
		b.phase = chunkStart
	}
	if err := b.readLine(maxChunkLine, ErrChunkLine); err != nil {
		return err
	}
	size, err := chunkSize(b.line)
	if err != nil {
		return err
	}
	if size == 0 {
		return b.readTrailer()
	}
	b.left, b.phase = size, chunkData
	return b.countOverhead()
}

// countOverhead refuses a body whose chunks have much more overhead than content. The allowance of a chunk is
// 16 bytes for its chunk-size line, and 2 more for each byte of content. The excess over the allowance is
// summed over the chunks, and chunks that stay below their allowance reduce the sum. The shortest chunk-size
// line has 3 bytes, 1 digit and CR LF, so a client may send each byte in a chunk of its own. net/http has the
// same rule.
func (b *Body) countOverhead() error {
	overhead := int64(len(b.line) + len("\r\n"))
	b.excess = max(b.excess+overhead-16-2*min(b.left, maxExcess), 0)
	if b.excess > maxExcess {
		return ErrChunkOverhead
	}
	return nil
}

// readLine reads the next line into b.line, without its end. It returns tooLong for a line of more than limit
// bytes. At a control character other than tab, it returns the bytes up to and including this character: no
// grammar of the callers allows the character, so they refuse the line before the rest arrives. The line may
// be longer than the buffer of b.in.
func (b *Body) readLine(limit int, tooLong Error) error {
	if b.line == nil {
		b.line = b.short[:]
	}
	b.line = b.line[:0]
	for {
		c, err := b.in.ReadByte()
		switch {
		case err != nil:
			return err
		case c == '\r':
			if c, err = b.in.ReadByte(); err == nil && c != '\n' {
				err = ErrLineEnd
			}
			return err
		case c == '\n':
			return ErrLineEnd
		case len(b.line) >= limit:
			return tooLong
		}
		b.line = append(b.line, c)
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil
		}
	}
}

// readTrailer reads the trailer (RFC 9112 section 7.1.2). RFC 9110 section 6.5.1 forbids framing fields in
// a trailer.
func (b *Body) readTrailer() error {
	for left := maxTrailer; ; left -= len(b.line) + len("\r\n") {
		if err := b.readLine(left, ErrTrailerSize); err != nil {
			return err
		}
		line := b.line
		if len(line) == 0 {
			b.phase = ended
			return nil
		}
		name, value, err := splitField(line)
		if err != nil {
			return err
		}
		if isFraming(line[:name]) {
			return ErrTrailer
		}
		if len(b.trailer) == MaxFields {
			return ErrFields
		}
		b.trailer = append(b.trailer, Field{string(line[:name]), string(line[value.from:value.to])})
	}
}
