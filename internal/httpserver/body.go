package httpserver

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/tallygate/tallygate/internal/http1"
)

// A body is the body of a request. Any goroutine may call Read. Read fails after the handler has returned.
// The trailer is checked and dropped.
type body struct {
	session *session
	length  int64 // the Content-Length, or http1.Chunked
	closed  atomic.Bool
	whole   atomic.Bool // the body has been read to its end

	mu       sync.Mutex // held during a read
	content  http1.Body
	expected bool // the client waits for 100 Continue (RFC 9110 section 10.1.1)
}

// Read reads part of the body. After a read error other than io.EOF, the connection cannot be used any more.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.expected {
		b.expected = false
		b.session.response.continues()
	}
	n, err := b.content.Read(p)
	if err != nil && b.content.Done() && !b.whole.Swap(true) {
		b.session.watch.begin()
	}
	return n, err
}

// Close makes every further read fail.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

// end makes every read fail, also a read that waits for the client. It reports whether the next
// byte on the connection follows the body.
func (b *body) end() (whole bool) {
	b.closed.Store(true)
	if !b.mu.TryLock() {
		_ = b.session.read.at(past)
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	b.content.Reset(nil, 0)
	return b.whole.Load()
}
