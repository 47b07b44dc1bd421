package fastpath

import (
	"io"
	"net/http"
	"sync"
)

// A body is one that has arrived. It may be read by any goroutine, until its request is
// over: then the bytes are no longer its own.
type body struct {
	length int // at first

	mu   sync.Mutex
	rest []byte
	over bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	if len(b.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// Close lets nothing more be read.
func (b *body) Close() error {
	b.end()
	return nil
}

func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}
