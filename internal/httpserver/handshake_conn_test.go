package httpserver

import (
	"errors"
	"net"
	"testing"
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
