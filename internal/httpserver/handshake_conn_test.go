package httpserver

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// The limit counts the bytes that are read until the handshake completes.
func TestHandshakeBytes(t *testing.T) {
	stream := bottomless{}
	f := &handshakeConn{Conn: stream, left: maxHandshakeBytes}
	read, buffer := 0, make([]byte, 1000)
	for {
		n, err := f.Read(buffer)
		read += n
		if err != nil {
			if !errors.Is(err, ErrHandshakeTooLong) || read != maxHandshakeBytes {
				t.Errorf("after %d bytes: %v", read, err)
			}
			break
		}
	}
	f.handshakeDone()
	for range 1000 {
		if n, err := f.Read(buffer); n != len(buffer) || err != nil {
			t.Fatalf("after the handshake: %d, %v", n, err)
		}
	}
}

// A bottomless connection always has something to read.
type bottomless struct{ net.Conn }

func (bottomless) Read(p []byte) (int, error) { return len(p), nil }

// crypto/tls also writes while it reads. The deadline of a response that has ended does not make such a write fail.
func TestWriteAfterOldDeadline(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	d := &deadline{set: raw.SetWriteDeadline}
	f := &handshakeConn{Conn: raw, left: noLimit, write: d}
	_ = d.at(past)
	d.begin(0)
	if _, err := io.WriteString(f, "x"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write of a response after its deadline: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	d.end()
	if _, err := io.WriteString(f, "x"); err != nil {
		t.Errorf("a write between two responses: %v", err)
	}
	_ = d.at(time.Now().Add(-time.Second))
	d.begin(0)
	if _, err := io.WriteString(f, "x"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write of the next response after its deadline: %v, want %v", err, os.ErrDeadlineExceeded)
	}
	d.end()
}
