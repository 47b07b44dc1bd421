package http1

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A served connection leads to net/http's server. Its text arrives at once, and then the connection ends.
type served struct {
	mu       sync.Mutex
	text     *strings.Reader
	readings []reading
	err      error // the error of reading the body
	close    func()
}

func (c *served) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Read(p)
}

func (c *served) Write(p []byte) (int, error)      { return len(p), nil }
func (c *served) Close() error                     { c.close(); return nil }
func (c *served) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *served) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *served) SetDeadline(time.Time) error      { return nil }
func (c *served) SetReadDeadline(time.Time) error  { return nil }
func (c *served) SetWriteDeadline(time.Time) error { return nil }

// accepting is a listener for connections that are sent over it.
type accepting chan net.Conn

func (l accepting) Accept() (net.Conn, error) { return <-l, nil }
func (l accepting) Close() error              { return nil }
func (l accepting) Addr() net.Addr            { return &net.TCPAddr{} }

type servedKey struct{}

// server is net/http's server for all executions of the fuzz targets. It ends with the process.
var server = sync.OnceValue(func() accepting {
	l := make(accepting)
	s := &http.Server{
		ReadHeaderTimeout:            time.Hour,
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0),
		ConnContext:                  func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, servedKey{}, c) },
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			c := r.Context().Value(servedKey{}).(*served)
			body, trailer, err := readRest(r.Body, &r.Trailer)
			c.err = errors.Join(c.err, err)
			c.readings = append(c.readings, reading{r.Method + " " + r.RequestURI + " " + r.Proto, r.Host, r.Header.Clone(), body, trailer, 0})
		}),
	}
	go func() { _ = s.Serve(l) }()
	return l
})

// serve returns what net/http's server reads from text, without the ends of the requests.
func serve(t *testing.T, text string) []reading {
	t.Helper()
	if text == "" {
		return nil
	}
	done := make(chan struct{})
	c := &served{text: strings.NewReader(text), close: sync.OnceFunc(func() { close(done) })}
	server() <- c
	<-done
	if c.err != nil {
		t.Errorf("%q: a body: %v", text, c.err)
	}
	return c.readings
}
