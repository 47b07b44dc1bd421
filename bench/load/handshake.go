package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A handshaker opens connections one after another, each with the next configuration, and sends no
// request on them.
type handshaker struct {
	ctx     context.Context
	address string
	configs []*tls.Config
	next    int
}

// handshake opens a connection, closes its sending direction and waits until the server closes too.
// By then the server has verified the client's certificate; in TLS 1.3 the client's handshake ends
// before that.
func (h *handshaker) handshake(string) error {
	config := h.configs[h.next%len(h.configs)]
	h.next++
	t, resuming := config.ClientSessionCache.(*ticket)
	first := !resuming || t.state == nil
	state, err := h.connect(config)
	switch {
	case err != nil:
		return err
	case resuming && t.state == nil:
		return errors.New("the server issued no session ticket")
	case state.DidResume == first:
		return fmt.Errorf("resumed: %t, first: %t", state.DidResume, first)
	}
	return nil
}

func (h *handshaker) connect(config *tls.Config) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(h.ctx, requestTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = raw.Close() }()
	if err := raw.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return tls.ConnectionState{}, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return tls.ConnectionState{}, err
	}
	if err := conn.CloseWrite(); err != nil {
		return tls.ConnectionState{}, err
	}
	// Reading handles session tickets, then the end of the connection or an alert.
	if n, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return tls.ConnectionState{}, err
	} else if n > 0 {
		return tls.ConnectionState{}, fmt.Errorf("%d bytes without a request", n)
	}
	return conn.ConnectionState(), nil
}

// A ticket is a session cache with one entry. It keeps the first ticket, so that every handshake resumes
// the same session.
type ticket struct{ state *tls.ClientSessionState }

func (t *ticket) Get(string) (*tls.ClientSessionState, bool) { return t.state, t.state != nil }

func (t *ticket) Put(_ string, state *tls.ClientSessionState) {
	if t.state == nil {
		t.state = state
	}
}
