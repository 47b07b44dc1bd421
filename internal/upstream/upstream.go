// Package upstream connects to the servers of APIs. An [Upstream] is the server of one API with its
// connections. A [Client] sends its requests over HTTP/1.1, and net/http over HTTP/2.
package upstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"log/slog"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
)

// An Upstream is the server of one API and the connections to it. It is safe for concurrent use.
type Upstream struct {
	Protocol     config.UpstreamProtocol
	RoundTripper // a *Client for HTTP/1.1

	madeFrom madeFrom
	retired  atomic.Bool // a reload has replaced the Upstream, so no new request uses it
}

// madeFrom has the inputs from which New made an Upstream.
type madeFrom struct {
	settings config.Upstream
	files    [sha256.Size]byte // digest of the files that settings names
}

// SameDestination reports whether u and other send requests to the same server over the same
// protocol, with the same TLS settings. Only their timeouts may differ.
func (u *Upstream) SameDestination(other *Upstream) bool {
	from := u.madeFrom
	from.settings.Timeout, from.settings.IdleTimeout = other.madeFrom.settings.Timeout, other.madeFrom.settings.IdleTimeout
	return reflect.DeepEqual(from, other.madeFrom)
}

// New returns the Upstream of the API with this name, whose settings are c. It reads the files that c
// names and opens no connection. While the settings and the files of an API do not change, all leases
// share one Upstream with its connections. After the last lease is released, each connection is closed
// when it becomes idle.
func New(lease *reuse.Lease, name string, c config.Upstream, log *slog.Logger) (*Upstream, error) {
	settings, files, err := clientTLS(&c.TLS)
	if err != nil {
		return nil, err
	}
	c.Requests = 0 // package proxy counts the requests, so a new limit needs no new connections
	from := madeFrom{c, files}
	return reuse.Acquire(lease, name, from, func(*Upstream) (*Upstream, error) { return from.open(settings, log), nil }, (*Upstream).retire)
}

const (
	connectTimeout = 5 * time.Second // bounds a TCP handshake, and also a TLS handshake
	// maxIdle bounds the idle connections. A busy sidecar has about 256 concurrent requests to its one upstream.
	maxIdle = 256
)

func (from madeFrom) open(settings *tls.Config, log *slog.Logger) *Upstream {
	u := &Upstream{Protocol: from.settings.Protocol, madeFrom: from}
	if u.Protocol == config.HTTP1 {
		u.RoundTripper = from.newClient(settings, log)
	} else {
		u.RoundTripper = from.newHTTP2(settings)
	}
	return u
}

// dial connects to address, or to the socket that the settings name.
func (from madeFrom) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if socket := from.settings.URL.Socket(); socket != "" {
		network, address = "unix", socket
	}
	return (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, address)
}

// newClient returns the client for requests over HTTP/1.1.
func (from madeFrom) newClient(settings *tls.Config, log *slog.Logger) *Client {
	at := from.settings.URL
	c := &Client{
		BodyWait:         100 * time.Millisecond, // long enough for a client that sends the body in a second write directly after the header
		HandshakeTimeout: connectTimeout,
		HeaderTimeout:    from.settings.Timeout,
		MaxIdle:          maxIdle,
		IdleTimeout:      from.settings.IdleTimeout,
		// An unrequested second response comes directly after the first, in the same write or in the
		// next. At 50,000 requests a second, 50,000/s * 1 ms = 50 of the 256 idle connections wait for
		// the end of Settle.
		Settle: time.Millisecond,
		Unasked: func() {
			log.Warn("upstream sent a response without a request; its connections are not reused for one minute", "upstream", at.Redacted())
		},
	}
	port := "80"
	if at.Scheme == "https" {
		port = "443"
		c.TLS = settings
		c.TLS.ServerName = cmp.Or(settings.ServerName, at.Hostname())
	}
	address := net.JoinHostPort(at.Hostname(), cmp.Or(at.Port(), port))
	c.Dial = func(ctx context.Context) (net.Conn, error) { return from.dial(ctx, "tcp", address) }
	return c
}

// retire closes the idle connections. AfterRequest closes each connection that becomes idle later.
func (u *Upstream) retire() {
	u.retired.Store(true)
	u.CloseIdleConnections()
}

// AfterRequest must be called at the end of each request.
func (u *Upstream) AfterRequest() {
	if u.retired.Load() {
		u.CloseIdleConnections()
	}
}
