package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A recorder is an upstream that keeps every byte that it receives.
type recorder struct {
	listener net.Listener
	server   *http.Server
	mu       sync.Mutex
	received bytes.Buffer
	requests int
	mode     string
	changed  chan struct{} // closed when mode does
}

func newRecorder() *recorder {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	u := &recorder{listener: l, mode: "echo", changed: make(chan struct{})}
	u.server = &http.Server{Handler: u, ReadHeaderTimeout: patience}
	go func() { _ = u.server.Serve(tapped{l, u}) }()
	return u
}

func (u *recorder) url() string { return "http://" + u.listener.Addr().String() }

func (u *recorder) close() {
	u.behave("echo")
	_ = u.server.Close()
}

func (u *recorder) behave(mode string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mode = mode
	close(u.changed)
	u.changed = make(chan struct{})
}

func (u *recorder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.requests++
	mode, changed := u.mode, u.changed
	u.mu.Unlock()
	switch mode {
	case "hang":
		select {
		case <-changed:
		case <-r.Context().Done():
		}
	case "reset":
		panic(http.ErrAbortHandler)
	case "break": // in the middle of an answer
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte("the first of a thousand bytes"))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case "hints": // identities where they are easily overlooked
		w.Header().Set("Client-Cert", "leaked")
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Trailer", "Tallygate-Partner, Checksum")
		w.Header().Set("Connection", "Secret-Hop")
		w.Header().Set("Secret-Hop", "leaked")
		_, _ = w.Write([]byte("hinted"))
		w.Header().Set("Tallygate-Partner", "leaked")
		w.Header().Set("Checksum", "abc")
		w.Header().Set(http.TrailerPrefix+"Client-Cert", "leaked")
	case "flood": // without an end
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	case "gzip": // without having been asked for it
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("\x1f\x8b as it came"))
	case "early": // without taking the body
		w.WriteHeader(http.StatusUnprocessableEntity)
	case "switch": // without a request for an upgrade
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
			_ = conn.Close()
		}
	case "099": // a status that net/http reads, and does not write
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = conn.Write([]byte("HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n"))
			_ = conn.Close()
		}
	default:
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "Checksum")
		for _, name := range []string{"Tallygate-Partner", "Client-Cert", "X-Forwarded-Client-Cert"} {
			w.Header().Set(name, "leaked")
		}
		w.Header().Set("Set-Cookie", "a=b")
		_, _ = fmt.Fprintf(w, "upstream took %s with %d bytes\n", r.RequestURI, n)
		w.Header().Set("Checksum", "abc")
	}
}

// take returns and clears the received bytes.
func (u *recorder) take() ([]byte, int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	received, n := bytes.Clone(u.received.Bytes()), u.requests
	u.received.Reset()
	u.requests = 0
	return received, n
}

func (u *recorder) peek() ([]byte, int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return bytes.Clone(u.received.Bytes()), u.requests
}

// settle returns when the upstream has received nothing for a while.
func (u *recorder) settle() {
	const quiet = 300 * time.Millisecond
	received, n := u.peek()
	for since := time.Now(); time.Since(since) < quiet; time.Sleep(10 * time.Millisecond) {
		if more, m := u.peek(); m != n || len(more) != len(received) {
			received, n, since = more, m, time.Now()
		}
	}
}

func (u *recorder) forget() { u.take() }

// tapped returns connections that copy all read bytes to the recorder.
type tapped struct {
	net.Listener
	recorder *recorder
}

func (l tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return tappedConn{c, l.recorder}, err
}

type tappedConn struct {
	net.Conn
	recorder *recorder
}

func (c tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	c.recorder.received.Write(p[:n])
	return n, err
}
