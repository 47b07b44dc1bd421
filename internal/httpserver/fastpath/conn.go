package fastpath

import (
	"context"
	"crypto/tls"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/tallygate/tallygate/internal/http1grammar"
)

// server marks requests as served by an http.Server. Only for such requests, httputil.ReverseProxy
// panics when the response of the upstream breaks off. Without the panic, the client would take the
// truncated answer for complete.
var server = new(http.Server)

// A conn is a connection while a Server serves it. One goroutine owns a conn, except for the fields
// that are atomic or guarded.
type conn struct {
	server *Server
	tls    *tls.Conn
	state  tls.ConnectionState
	remote string
	base   context.Context
	*buffers
	watch watch

	early   []byte      // bytes that have been received from the client and that in has not read yet
	waiting atomic.Bool // true while await waits for a request
	rests   time.Time   // the end of the last answer, when the connection became idle
	readBy  time.Time   // the current read deadline
	sent    bool        // part of the final answer has been sent
	broken  bool        // a write has failed
	cancel  context.CancelFunc

	writing sync.Mutex
	writeBy time.Time // the current write deadline; zero: no deadline
}

func newConn(l *Server, c *tls.Conn, early []byte) *conn {
	s := &conn{server: l, tls: c, state: c.ConnectionState(), remote: c.RemoteAddr().String(), early: early, rests: time.Now()}
	base := context.WithValue(context.Background(), http.ServerContextKey, server)
	s.base = l.ConnContext(context.WithValue(base, http.LocalAddrContextKey, c.LocalAddr()), c)
	s.buffers = spare.Get().(*buffers)
	s.in.Reset(s)
	s.out.Reset(s)
	s.watch.init(s)
	return s
}

// release returns the buffers to the pool. Before that, it removes the connection from the buffers,
// because a later write to the buffers would reach the client of another connection.
func (s *conn) release() {
	s.in.Reset(nil)
	s.out.Reset(nil)
	spare.Put(s.buffers)
	s.buffers = nil
}

// settle clears the read deadline and the write deadline.
func (s *conn) settle() { _ = s.tls.SetDeadline(time.Time{}) }

// Read returns the bytes in early, and in the same call also bytes that TLS has already received.
func (s *conn) Read(p []byte) (int, error) {
	if len(s.early) == 0 {
		return s.tls.Read(p)
	}
	n := copy(p, s.early)
	s.early = s.early[n:]
	if n == len(p) {
		return n, nil
	}
	s.readBy = past
	_ = s.tls.SetReadDeadline(past)
	more, _ := s.tls.Read(p[n:]) // the next call of Read gets the same error
	return n + more, nil
}

// Write sends p over TLS. A failed write cancels the context of the request.
func (s *conn) Write(p []byte) (int, error) {
	n, err := s.tls.Write(p)
	s.sent = true
	if err != nil {
		s.broken = true
		s.cancel()
	}
	return n, err
}

// await waits for the first bytes of a request. It skips empty lines before the request line (RFC
// 9112 section 2.2).
func (s *conn) await() error {
	for lines := 0; ; {
		received, _ := s.in.Peek(s.in.Buffered())
		empty, partial := emptyLine(received)
		if !empty && !partial && len(received) > 0 || lines == http1grammar.MostEmptyLines {
			return nil
		}
		if empty {
			_, _ = s.in.Discard(len("\r\n"))
			lines++
			continue
		}
		if err := s.receive(len(received) + 1); err != nil {
			return err
		}
	}
}

// emptyLine reports whether received begins with a whole empty line or is a partial empty line.
func emptyLine(received []byte) (whole, partial bool) {
	whole = len(received) > 1 && received[0] == '\r' && received[1] == '\n'
	return whole, len(received) == 1 && received[0] == '\r'
}

// receive waits until n bytes are buffered.
func (s *conn) receive(n int) error {
	s.waiting.Store(true)
	defer s.waiting.Store(false)
	if s.readBy.Sub(s.rests) < s.server.Quiet/2 {
		s.readBy = s.rests.Add(s.server.Quiet)
		_ = s.tls.SetReadDeadline(s.readBy)
	}
	if s.server.closed.Load() { // checked after waiting and the deadline are set, because Close sets closed before it reads waiting
		return errClosed
	}
	_, err := s.in.Peek(n)
	return err
}

// next returns the received request. If the request is not plain, next returns a nil request and all
// received bytes.
func (s *conn) next() (*http.Request, []byte) {
	received, _ := s.in.Peek(s.in.Buffered())
	head, length := plain(received)
	if head == 0 {
		return nil, slices.Concat(received, s.early)
	}
	r, err := http.ReadRequest(s.in)
	if err != nil || !httpguts.ValidHostHeader(r.Host) {
		return nil, slices.Concat(received, s.early)
	}
	r.RemoteAddr, r.TLS = s.remote, &s.state
	r.Body = http.NoBody
	if length > 0 {
		r.Body = &body{rest: received[head : head+length], length: length}
	}
	return r, nil
}

// serve answers r and reports whether the connection can serve another request.
func (s *conn) serve(r *http.Request) (more bool) {
	ctx, cancel := context.WithCancel(s.base)
	defer cancel()
	s.cancel = cancel
	r = r.WithContext(ctx)
	s.forgetDeadline()
	b, hasBody := r.Body.(*body) // read before the handler runs, because a handler may replace r.Body
	a := &answer{conn: s, request: r, header: make(http.Header), length: unknown}
	s.sent = false
	s.watch.begin()
	served := s.call(a, r)
	stays := s.watch.end()
	if hasBody {
		b.end()
		_, _ = s.in.Discard(b.length)
	}
	if !served {
		a.breakOff()
		return false
	}
	a.finish()
	s.rests = time.Now()
	return stays && !s.broken && a.isWhole() && !a.last && !s.server.closed.Load()
}

// call runs the handler and reports whether the handler returned without a panic.
func (s *conn) call(a *answer, r *http.Request) (served bool) {
	defer func() {
		if served {
			return
		}
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // compared as net/http does: only this very value is the signal
			s.server.Panicked(s.tls.RemoteAddr(), v)
		}
	}()
	s.server.Handler.ServeHTTP(a, r)
	return true
}

// forgetDeadline clears the write deadline of the last answer if the deadline has passed.
func (s *conn) forgetDeadline() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.writeBy.IsZero() && !time.Now().Before(s.writeBy) {
		s.writeBy = time.Time{}
		_ = s.tls.SetWriteDeadline(time.Time{})
	}
}

// slack is how much earlier a write may time out than the handler asked for. The difference is also at
// most an eighth of the remaining time. Within these bounds the old deadline stays, because setting a
// deadline costs more than comparing two deadlines.
const slack = 100 * time.Millisecond

// setWriteDeadline sets the deadline of all further writes. Any goroutine may call it, and the last
// call wins. A deadline in the past takes effect at once.
func (s *conn) setWriteDeadline(t time.Time) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if ahead := t.Sub(s.writeBy); !s.writeBy.IsZero() && ahead >= 0 && ahead < min(slack, time.Until(t)/8) {
		return nil
	}
	s.writeBy = t
	return s.tls.SetWriteDeadline(t)
}
