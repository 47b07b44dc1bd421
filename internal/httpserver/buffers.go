package httpserver

import (
	"bufio"
	"bytes"
	"io"
	"sync"

	"github.com/tallygate/tallygate/internal/http1"
)

const (
	// bufferSize is the size of the buffers of a connection, one for each direction.
	bufferSize = 4 << 10
	// smallBody is how many bytes of a body a response holds back. A body that ends within these bytes
	// gets a Content-Length.
	smallBody = 2 << 10
	// fewFields is the number of fields that buffers in the pool have memory for.
	fewFields = 64
)

// buffers are lent to a connection that serves requests.
type buffers struct {
	in     *bufio.Reader
	out    *bufio.Writer
	parser http1.Parser
	fields []http1.Field
	small  [smallBody]byte

	usual *bufio.Reader // has bufferSize bytes; in is another reader after grow
}

var bufferPool = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, bufferSize)
	return &buffers{in: in, usual: in, out: bufio.NewWriterSize(nil, bufferSize)}
}}

func newBuffers(in io.Reader, out io.Writer) *buffers {
	b := bufferPool.Get().(*buffers)
	b.in.Reset(in)
	b.out.Reset(out)
	return b
}

// release clears the references to the connection and to its requests, and returns b to the pool. The bytes
// in the buffers are not cleared, because every later use writes them before it reads them.
func (b *buffers) release() {
	b.in = b.usual
	b.in.Reset(nil)
	b.out.Reset(nil)
	if cap(b.fields) > fewFields {
		b.fields, b.parser = nil, http1.Parser{}
	}
	clear(b.fields[:cap(b.fields)])
	b.parser.Reset()
	bufferPool.Put(b)
}

// grow gives b.in a buffer of four times the size, but of no more than limit + 1 bytes. limit is the largest
// permitted header. The new b.in returns the bytes that are buffered, and then reads from in.
func (b *buffers) grow(in io.Reader, limit int) {
	received, _ := b.in.Peek(b.in.Buffered())
	size := min(4*b.in.Size(), limit+1)
	b.in = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(bytes.Clone(received)), in), size)
}

// shrink returns to the usual buffer when the larger buffer is empty.
func (b *buffers) shrink(in io.Reader) {
	if b.in != b.usual && b.in.Buffered() == 0 {
		b.in = b.usual
		b.in.Reset(in)
	}
}
