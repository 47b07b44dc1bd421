package http1

import (
	"bufio"
	"errors"
	"io"
)

// A Body reads the body of a message from a connection. It follows the framing of the message strictly
// and reads no byte after the body. It is not safe for concurrent use.
type Body struct {
	in       *bufio.Reader
	left     int64 // the bytes that remain of the body or of the chunk, or UntilClose
	phase    phase
	overhead int // bytes of chunk extensions and of the trailer
	trailer  []Field
	err      error
}

// A phase is the position of a Body.
type phase uint8

const (
	counted    phase = iota // in a body with a length, or in the last body of a connection
	chunkStart              // before a chunk size
	chunkData
	chunkEnd // before the CR LF after the data of a chunk
	ended
)

// maxOverhead bounds the chunk extensions and the trailer of a body in bytes. The bound for the part of a
// chunk-size line after the size is the buffer of the connection.
const maxOverhead = 16 << 10

// Reset prepares b for a body with length bytes, Chunked or UntilClose, which begins at the next byte of
// in.
func (b *Body) Reset(in *bufio.Reader, length int64) {
	*b = Body{in: in, left: length}
	switch length {
	case 0:
		b.phase = ended
	case Chunked:
		b.phase, b.left = chunkStart, 0
	}
}

// Done reports whether the body has been read to its end.
func (b *Body) Done() bool { return b.phase == ended }

// Trailer returns the trailer fields after the end of a chunked body.
func (b *Body) Trailer() []Field { return b.trailer }

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
	if b.left == UntilClose {
		if errors.Is(err, io.EOF) {
			b.phase = ended
			return n, io.EOF
		}
		return n, b.fail(err)
	}
	b.left -= int64(n)
	if b.left > 0 {
		return n, b.fail(err)
	}
	if b.phase == counted {
		b.phase = ended
		return n, io.EOF
	}
	b.phase = chunkEnd
	return n, nil
}

func (b *Body) fail(err error) error {
	if err == io.EOF { //nolint:errorlint // an EOF within another error is not the end of the connection
		err = io.ErrUnexpectedEOF
	}
	b.err = err
	return err
}

// nextChunk reads up to the data of the next chunk or the end of the body.
func (b *Body) nextChunk() error {
	if b.phase == chunkEnd {
		var end [2]byte
		if _, err := io.ReadFull(b.in, end[:]); err != nil {
			return err
		}
		if string(end[:]) != "\r\n" {
			return ErrChunkEnd
		}
		b.phase = chunkStart
	}
	line, err := b.readLine()
	if err != nil {
		return err
	}
	size, extension, err := chunkSize(line)
	if err != nil {
		return err
	}
	if b.overhead += len(extension); b.overhead > maxOverhead {
		return ErrTrailerSize
	}
	if size > 0 {
		b.left, b.phase = size, chunkData
		return nil
	}
	return b.readTrailer()
}

// readLine returns the next line without its end. The line is valid until the next read.
func (b *Body) readLine() ([]byte, error) {
	line, err := b.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, ErrTrailerSize
	}
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, ErrLineEnd
	}
	return line[:len(line)-2], nil
}

// readTrailer reads the trailer (RFC 9112 section 7.1.2). RFC 9110 section 6.5.1 forbids framing fields in
// a trailer.
func (b *Body) readTrailer() error {
	for {
		line, err := b.readLine()
		switch {
		case err != nil:
			return err
		case len(line) == 0:
			b.phase = ended
			return nil
		}
		if b.overhead += len(line); b.overhead > maxOverhead {
			return ErrTrailerSize
		}
		name, value, err := splitField(line)
		if err != nil {
			return err
		}
		if isFraming(name) {
			return ErrTrailer
		}
		if len(b.trailer) == MaxFields {
			return ErrFields
		}
		b.trailer = append(b.trailer, Field{string(name), string(value)})
	}
}
