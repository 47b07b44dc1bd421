package httpserver

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"
)

// EndClients ends the connections of the clients whose certificate revoked reports: an idle connection at once, and
// any other connection when its requests are done. It does not end running requests and tunnels. It visits all
// connections, and skips a connection whose handshake is under way. So the caller must refuse the requests of such a
// client, and close the connection of each.
func (s *Server) EndClients(revoked func(leaf *x509.Certificate) bool) {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.conns)) // so that revoked is called without the lock, which new connections need
	s.mu.Unlock()
	for _, c := range all {
		if leaf := c.leaf.Load(); leaf != nil && revoked(leaf) {
			c.endIdle()
		}
	}
	s.multiplexed.Range(func(c, of any) bool {
		if h := of.(*http2Conn); h.leaf != nil && revoked(h.leaf) {
			h.last.Store(true)
			h.endIdle(c.(net.Conn))
		}
		return true
	})
}

// leafOf returns the certificate of the client of c, whose handshake is complete, or nil.
func leafOf(c *tls.Conn) *x509.Certificate {
	if chain := c.ConnectionState().PeerCertificates; len(chain) > 0 {
		return chain[0]
	}
	return nil
}

// An http2Conn is a connection over HTTP/2, see Server.multiplexed.
type http2Conn struct {
	leaf *x509.Certificate // the client's certificate, or nil
	idle atomic.Bool       // no stream is open
	last atomic.Bool       // the connection must be closed when it is idle
}

// endGrace is how long the HTTP/2 server may take to flush the end of the last response.
const endGrace = 100 * time.Millisecond

// endIdle closes c, which belongs to h, soon if it is idle.
func (h *http2Conn) endIdle(c net.Conn) {
	if h.idle.Load() {
		time.AfterFunc(endGrace, func() {
			if h.idle.Load() { // otherwise the end of the new stream calls endIdle
				_ = c.Close()
			}
		})
	}
}

// http2State follows the connections over HTTP/2, as [http.Server.ConnState].
func (s *Server) http2State(c net.Conn, state http.ConnState) {
	of, ok := s.multiplexed.Load(c)
	if !ok {
		return
	}
	h := of.(*http2Conn)
	switch state {
	case http.StateActive:
		h.idle.Store(false)
	case http.StateIdle:
		h.idle.Store(true)
		if h.last.Load() { // EndClients sets last before it reads idle, so at least one of the two ends the connection
			h.endIdle(c)
		}
	case http.StateClosed:
		s.multiplexed.Delete(c)
	case http.StateNew, http.StateHijacked: // serveHTTP2 has added c, and HTTP/2 has no hijacking
	}
}
