package fastpath

import (
	"io"
	"net/http"
	"sync"
)

// A body is the body of a request, which has been received completely. Any goroutine may read it until
// the request ends. After the request, the connection reuses the bytes of the body.
type body struct {
	length int // length of the body before the first read

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

// Close makes every further read fail.
func (b *body) Close() error {
	b.end()
	return nil
}

func (b *body) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}
