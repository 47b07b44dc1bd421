package httpserver

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/tallygate/tallygate/internal/http1guard"
)

// A MalformedHandler answers a malformed HTTP/1.x request with 400 and closes its connection. state
// is nil without TLS.
type MalformedHandler func(c net.Conn, state *tls.ConnectionState, fault error)

const (
	// answerTimeout bounds the sending of the response to a malformed request.
	answerTimeout = 5 * time.Second
	// After the response, the connection stays open for lingerTime and up to lingerBytes, as in
	// net/http. If the gate closed the connection while bytes arrive, TCP would send a reset, and the
	// client could lose the response.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
)

// AnswerMalformed returns a MalformedHandler that sends the response of handler. handler gets a request
// with only the remote address and the TLS state.
func AnswerMalformed(handler func(w http.ResponseWriter, r *http.Request, fault error)) MalformedHandler {
	return func(c net.Conn, state *tls.ConnectionState, fault error) {
		defer func() { _ = c.Close() }()
		r := &http.Request{
			URL: &url.URL{}, ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Body: http.NoBody,
			RemoteAddr: c.RemoteAddr().String(), TLS: state,
		}
		w := &storedAnswer{header: make(http.Header)}
		handler(w, r, fault)
		_ = c.SetWriteDeadline(time.Now().Add(answerTimeout))
		if w.writeTo(c) != nil {
			return
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.CopyN(io.Discard, c, lingerBytes)
	}
}

// A storedAnswer buffers a response.
type storedAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *storedAnswer) Header() http.Header         { return a.header }
func (a *storedAnswer) WriteHeader(status int)      { a.status = status }
func (a *storedAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

// writeTo sends the response. It is the last response of its connection.
func (a *storedAnswer) writeTo(w io.Writer) error {
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	answer := http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header,
		Body: io.NopCloser(&a.body), ContentLength: int64(a.body.Len()), Close: true,
	}
	var whole bytes.Buffer // the whole response is sent with a single write
	if err := answer.Write(&whole); err != nil {
		return err
	}
	_, err := w.Write(whole.Bytes())
	return err
}

// A guardedListener reads each connection of a listener without TLS through a guard.
type guardedListener struct {
	net.Listener
	refuse MalformedHandler
}

func (l guardedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &guarded{c, http1guard.New(c, func(fault error) { l.refuse(c, nil, fault) })}, nil
}

// A guarded is a connection without TLS whose bytes pass through a guard.
type guarded struct {
	net.Conn
	guard *http1guard.Guard
}

func (c *guarded) Read(p []byte) (int, error) { return c.guard.Read(p) }

func (c *guarded) changed(state http.ConnState) { c.guard.Changed(state) }

// changed is the ConnState function of an http.Server. It tells the state to connections with a guard.
func changed(c net.Conn, state http.ConnState) {
	if c, ok := c.(interface{ changed(state http.ConnState) }); ok {
		c.changed(state)
	}
}
