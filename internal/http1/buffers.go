package http1

import (
	"bufio"
	"bytes"
	"io"
	"sync"
)

// BufferSize is the size in bytes of the buffers of a connection, one for each direction.
const BufferSize = 4 << 10

// fewFields is the number of fields that buffers in the pool have memory for.
const fewFields = 64

// Buffers are lent to a connection while it carries messages. They are not safe for concurrent use.
type Buffers struct {
	In     *bufio.Reader
	Out    *bufio.Writer
	Fields []Field // the fields of the last head; valid until the next head or Release

	parser Parser
	from   io.Reader
	usual  *bufio.Reader // has BufferSize bytes; In is another reader after a long head
}

var bufferPool = sync.Pool{New: func() any {
	in := bufio.NewReaderSize(nil, BufferSize)
	return &Buffers{In: in, usual: in, Out: bufio.NewWriterSize(nil, BufferSize)}
}}

// NewBuffers returns Buffers for a connection. The connection must give them back with Release.
func NewBuffers(in io.Reader, out io.Writer) *Buffers {
	b := bufferPool.Get().(*Buffers)
	b.from = in
	b.In.Reset(in)
	b.Out.Reset(out)
	return b
}

// Release clears the references to the connection and to its messages, which may be secret, and makes b
// available to other connections. The bytes in the buffers are not cleared, because every later use writes them
// before it reads them.
func (b *Buffers) Release() {
	b.from, b.In = nil, b.usual
	b.In.Reset(nil)
	b.Out.Reset(nil)
	if cap(b.Fields) > fewFields {
		b.Fields, b.parser = nil, Parser{}
	}
	clear(b.Fields[:cap(b.Fields)])
	b.parser.Reset()
	bufferPool.Put(b)
}

// Begin prepares b for the head of the next message.
func (b *Buffers) Begin() {
	b.parser.Reset()
	if b.In != b.usual && b.In.Buffered() == 0 {
		b.In = b.usual
		b.In.Reset(b.from)
	}
}

// ParseRequest returns the head of a request if it has arrived whole. See [Parser.ParseRequest].
func (b *Buffers) ParseRequest() (r Request, n int, err error) {
	if r, n, err = b.parser.ParseRequest(b.Pending(), b.Fields); n > 0 {
		b.Fields = r.Fields
		_, err = b.In.Discard(n)
	}
	return r, n, err
}

// ParseResponse returns the head of a response if it has arrived whole. See [Parser.ParseResponse].
func (b *Buffers) ParseResponse() (r Response, n int, err error) {
	if r, n, err = b.parser.ParseResponse(b.Pending(), b.Fields); n > 0 {
		b.Fields = r.Fields
		_, err = b.In.Discard(n)
	}
	return r, n, err
}

// Pending returns the bytes that have arrived and that In has not returned. They are valid until the next read.
func (b *Buffers) Pending() []byte {
	received, _ := b.In.Peek(b.In.Buffered())
	return received
}

// More waits for further bytes of a head. If the buffer is full, it first becomes four times as large, but has room
// for no more than limit + 1 bytes. limit is the largest permitted head.
func (b *Buffers) More(limit int) error {
	received := b.Pending()
	if size := b.In.Size(); len(received) == size {
		arrived := bytes.NewReader(bytes.Clone(received))
		b.In = bufio.NewReaderSize(io.MultiReader(arrived, b.from), min(4*size, limit+1))
	}
	_, err := b.In.Peek(len(received) + 1)
	return err
}
