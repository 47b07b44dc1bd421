// Package upstream connects to the servers of APIs. An [Upstream] is the server of one API with its
// connections. Package http1 below it is the client for small HTTP/1.1 requests.
package upstream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/upstream/http1"
)

// An Upstream is the server of one API and the connections to it. It is safe for concurrent use.
type Upstream struct {
	Protocol     config.UpstreamProtocol
	Scheme, Host string    // scheme and host in the URL of each request
	Transport    Transport // sends the requests
	RoundTripper           // a *Client for HTTP/1.1

	madeFrom madeFrom
	retired  atomic.Bool // a reload has replaced the Upstream, so no new request uses it
}

// madeFrom has the inputs from which New made an Upstream.
type madeFrom struct {
	settings config.Upstream
	files    [sha256.Size]byte // digest of the files that settings names
}

// A Transport is an *http1.Transport for HTTP/1.1, and an *http.Transport for HTTP/2.
type Transport interface {
	http.RoundTripper
	CloseIdleConnections()
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

func (from madeFrom) open(settings *tls.Config, log *slog.Logger) *Upstream {
	c := from.settings
	u := &Upstream{Protocol: c.Protocol, Scheme: c.URL.Scheme, Host: c.URL.Host, madeFrom: from}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	dial := dialer.DialContext
	if socket := c.URL.Socket(); socket != "" {
		u.Scheme, u.Host = "http", "localhost" // never resolved, because dial ignores the address
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}
	}
	var protocols http.Protocols
	protocols.SetHTTP1(c.Protocol == config.HTTP1)
	protocols.SetHTTP2(c.Protocol == config.H2)
	protocols.SetUnencryptedHTTP2(c.Protocol == config.H2C)
	if c.Protocol == config.H2 {
		settings.VerifyConnection = onlyHTTP2
	}
	general := &http.Transport{
		Proxy:                 nil, // HTTPS_PROXY of the environment must not divert partners' requests
		DialContext:           dial,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: c.Timeout,
		TLSClientConfig:       settings,
		Protocols:             &protocols,
		HTTP2: &http.HTTP2Config{
			// The gate buffers at most 256 KiB of each response for a slow client. The window of the
			// connection stays large, so that many slow clients do not stop the other streams on the
			// connection.
			MaxReceiveBufferPerStream: 256 << 10,
			SendPingTimeout:           30 * time.Second, // detects a server that no longer responds; for HTTP/1.1, TCP keep-alives do so
			WriteByteTimeout:          30 * time.Second,
		},
		// The gate forwards bodies unchanged: it neither requests gzip nor inflates responses.
		DisableCompression: true,
		// A busy sidecar has about 256 concurrent requests to its one upstream. Each idle connection
		// holds about 8 KiB of buffers: 256 * 8 KiB = 2 MiB.
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	u.Transport = general
	u.RoundTripper = &standardTransport{general, u.Scheme, u.Host}
	if c.Protocol == config.HTTP1 {
		// general sends the bodies that package http1 does not send: long bodies, slow bodies, and
		// bodies of unknown length. The upstream may respond before the whole body has been sent, and
		// net/http reuses such a connection if the rest of the body is sent within 50 ms. Therefore
		// general reuses no connection. A new connection costs little beside a body of 16 KiB or 100
		// ms.
		general.MaxIdleConnsPerHost = -1
		u.Transport = newHTTP1Transport(general, u, log)
		u.RoundTripper = newClient(general, u, log)
	}
	return u
}

// newHTTP1Transport returns the transport for requests to u over HTTP/1.1. It has the limits of
// general, and uses general for the requests that package http1 does not send.
func newHTTP1Transport(general *http.Transport, u *Upstream, log *slog.Logger) *http1.Transport {
	t := &http1.Transport{
		BodyWait:         100 * time.Millisecond, // long enough for a client that sends the body in a second write directly after the header
		HandshakeTimeout: general.TLSHandshakeTimeout,
		HeaderTimeout:    general.ResponseHeaderTimeout,
		HeaderBytes:      general.MaxResponseHeaderBytes,
		MaxIdle:          general.MaxIdleConns,
		IdleTimeout:      u.madeFrom.settings.IdleTimeout,
		Fallback:         general,
		// An unrequested second response comes directly after the first, in the same write or in the
		// next. At 50,000 requests a second, 50,000/s * 1 ms = 50 of the 256 idle connections wait for
		// the end of Settle.
		Settle: time.Millisecond,
		Unasked: func() {
			log.Warn("upstream sent a response without a request; its connections are not reused for one minute", "upstream", u.madeFrom.settings.URL.Redacted())
		},
	}
	at := url.URL{Host: u.Host}
	port := cmp.Or(at.Port(), "80")
	if u.Scheme == "https" {
		port = cmp.Or(at.Port(), "443")
		t.TLS = general.TLSClientConfig.Clone()
		t.TLS.ServerName = cmp.Or(t.TLS.ServerName, at.Hostname())
	}
	address := net.JoinHostPort(at.Hostname(), port)
	t.Dial = func(ctx context.Context) (net.Conn, error) { return general.DialContext(ctx, "tcp", address) }
	return t
}

// newClient returns the client for requests to u over HTTP/1.1. It has the limits of
// general.
func newClient(general *http.Transport, u *Upstream, log *slog.Logger) *Client {
	t := &Client{
		BodyWait:         100 * time.Millisecond, // long enough for a client that sends the body in a second write directly after the header
		HandshakeTimeout: general.TLSHandshakeTimeout,
		HeaderTimeout:    general.ResponseHeaderTimeout,
		MaxIdle:          general.MaxIdleConns,
		IdleTimeout:      u.madeFrom.settings.IdleTimeout,
		// An unrequested second response comes directly after the first, in the same write or in the
		// next. At 50,000 requests a second, 50,000/s * 1 ms = 50 of the 256 idle connections wait for
		// the end of Settle.
		Settle: time.Millisecond,
		Unasked: func() {
			log.Warn("upstream sent a response without a request; its connections are not reused for one minute", "upstream", u.madeFrom.settings.URL.Redacted())
		},
	}
	at := url.URL{Host: u.Host}
	port := cmp.Or(at.Port(), "80")
	if u.Scheme == "https" {
		port = cmp.Or(at.Port(), "443")
		t.TLS = general.TLSClientConfig.Clone()
		t.TLS.ServerName = cmp.Or(t.TLS.ServerName, at.Hostname())
	}
	address := net.JoinHostPort(at.Hostname(), port)
	t.Dial = func(ctx context.Context) (net.Conn, error) { return general.DialContext(ctx, "tcp", address) }
	return t
}

// retire closes the idle connections. AfterRequest closes each connection that becomes idle later.
func (u *Upstream) retire() {
	u.retired.Store(true)
	u.Transport.CloseIdleConnections()
	u.CloseIdleConnections()
}

// AfterRequest must be called at the end of each request.
func (u *Upstream) AfterRequest() {
	if u.retired.Load() {
		u.Transport.CloseIdleConnections()
		u.CloseIdleConnections()
	}
}

// clientTLS reads the files that c names. It returns the TLS settings for the upstream and a digest
// of the contents of all files.
func clientTLS(c *config.UpstreamTLS) (*tls.Config, [sha256.Size]byte, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: string(c.ServerName)}
	sum := sha256.New()
	read := func(file config.Path) ([]byte, error) {
		content, err := os.ReadFile(string(file))
		// The sum includes the length of each file. Without the lengths, two lists of files with the
		// same bytes in total would have the same sum, although a file ends at another byte.
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(content))))
		sum.Write(content)
		return content, err
	}
	if len(c.Trust) > 0 {
		settings.RootCAs = x509.NewCertPool()
	}
	for _, file := range c.Trust {
		content, err := read(file)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("reading anchors: %w", err)
		}
		anchors, err := pemfile.ParseCertificates(string(file), content)
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("reading anchors: %w", err)
		}
		for _, a := range anchors {
			settings.RootCAs.AddCert(a.Certificate)
		}
	}
	if c.Certificate != (config.KeyPair{}) {
		certificate, noCertificate := read(c.Certificate.Certificate)
		key, noKey := read(c.Certificate.Key)
		err := errors.Join(noCertificate, noKey)
		var pair tls.Certificate
		if err == nil {
			pair, err = pemfile.ParseKeyPair(c.Certificate.Certificate, certificate, c.Certificate.Key, key)
		}
		if err != nil {
			return nil, [sha256.Size]byte{}, fmt.Errorf("reading certificate and key: %w", err)
		}
		// The upstream gets the configured certificate, even if its list of acceptable authorities
		// lacks the issuer of the certificate.
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return settings, [sha256.Size]byte(sum.Sum(nil)), nil
}

var errNoHTTP2 = errors.New("the upstream does not speak HTTP/2")

// onlyHTTP2 returns an error, which ends the handshake, if the server does not choose h2 by ALPN.
// Without this check, net/http would use HTTP/1.1 with such a server.
func onlyHTTP2(state tls.ConnectionState) error {
	if state.NegotiatedProtocol != "h2" {
		return errNoHTTP2
	}
	return nil
}

// IsTLSError reports whether err is a failure of TLS: an untrusted certificate, a record that is not
// TLS, an alert, or a server without HTTP/2.
func IsTLSError(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert *net.OpError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.Is(err, errNoHTTP2) ||
		errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error")
}
