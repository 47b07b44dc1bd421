package http1

import (
	"strings"
	"testing"
)

// Buffers that are lent to another connection expose nothing of the last message, also after a long head.
func TestReleasedBuffers(t *testing.T) {
	const canary = "canary"
	head := "GET /" + canary + " HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat(canary, BufferSize) + "\r\n\r\n"
	b := NewBuffers(strings.NewReader(head+canary), nil)
	b.Begin()
	for {
		_, n, err := b.ParseRequest()
		if err == nil && n == 0 {
			err = b.More(1 << 20)
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > 0 {
			break
		}
	}
	_, _ = b.Out.WriteString(canary)
	b.Fields = b.Fields[:1] // the head before the last had more
	b.Release()
	if b.In.Buffered() > 0 || b.In.Size() != BufferSize || b.Out.Buffered() > 0 || b.Fields[0] != (Field{}) || b.Fields[:2][1] != (Field{}) || b.from != nil {
		t.Errorf("got %d bytes to read of %d, %d to write and the fields %v, want nothing", b.In.Buffered(), b.In.Size(), b.Out.Buffered(), b.Fields[:2])
	}
}

// More gives room for the longest permitted head and one byte more, so that the parser sees that a head is too
// long.
func TestBuffersGrow(t *testing.T) {
	const limit = 5 * BufferSize
	b := NewBuffers(strings.NewReader(strings.Repeat("x", 2*limit)), nil)
	defer b.Release()
	b.Begin()
	for b.In.Buffered() <= limit {
		if err := b.More(limit); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.In.Buffered(); got != limit+1 {
		t.Errorf("got %d bytes of a head, want %d", got, limit+1)
	}
}
