package proxy

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
	"github.com/tallygate/tallygate/proxy/http1"
)

// upstream is where one API's requests go.
type upstream struct {
	settings     config.Upstream
	files        [sha256.Size]byte // what the files that settings name held
	scheme, host string
	transport    transport
	retired      atomic.Bool // no new request comes
}

// A transport is an *http1.Transport, or an *http.Transport where HTTP/2 is spoken.
type transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// serves reports whether u is what newUpstream would return for c, whose files hold that.
func (u *upstream) serves(c config.Upstream, files [sha256.Size]byte) bool {
	return u != nil && u.files == files && reflect.DeepEqual(u.settings, c)
}

// leadsTo reports whether requests that u sends come to where other sends them, as far as
// the configuration tells.
func (u *upstream) leadsTo(other *upstream) bool {
	settings := u.settings
	settings.Timeout = other.settings.Timeout
	return other.serves(settings, u.files)
}

// newUpstream returns before where that serves c. It reads the files that c names and
// opens no connection.
func newUpstream(c config.Upstream, before *upstream, log *slog.Logger) (*upstream, error) {
	settings, files, err := clientTLS(&c.TLS)
	if err != nil {
		return nil, err
	}
	c.Requests = 0 // counted by places, for which no connection has to change
	if before.serves(c, files) {
		return before, nil
	}
	u := &upstream{settings: c, files: files, scheme: c.URL.Scheme, host: c.URL.Host}
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	dial := dialer.DialContext
	if socket := c.URL.Socket(); socket != "" {
		u.scheme, u.host = "http", "localhost" // which is not looked up
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
		Proxy:                 nil, // the environment does not divert partners' requests
		DialContext:           dial,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: c.Timeout,
		TLSClientConfig:       settings,
		Protocols:             &protocols,
		HTTP2: &http.HTTP2Config{
			// How much of an answer waits here for a slow caller. That of the connection is
			// left large: many slow callers together must not stop the others on it.
			MaxReceiveBufferPerStream: 256 << 10,
			SendPingTimeout:           30 * time.Second, // as TCP does for the others
			WriteByteTimeout:          30 * time.Second,
		},
		// Bodies pass as they are, neither asked for in gzip nor inflated.
		DisableCompression: true,
		// One upstream, near by: as many idle connections as a busy sidecar has
		// requests at once, each about 8 KiB of buffers.
		MaxIdleConns:           256,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	u.transport = general
	if c.Protocol == config.HTTP1 {
		// It sends what package http1 does not: bodies that are long, slow or of unknown length.
		// Their answers may come before they have been sent, and net/http would still use such a
		// connection again if the rest is sent within 50 ms. So it uses none again. Beside 16 KiB
		// or more, or 100 ms, a new connection costs little.
		general.MaxIdleConnsPerHost = -1
		u.transport = direct(general, u, log)
	}
	return u, nil
}

// direct returns the way for most requests to u over HTTP/1.1, with the limits of general,
// which takes the others.
func direct(general *http.Transport, u *upstream, log *slog.Logger) *http1.Transport {
	t := &http1.Transport{
		Patience:         100 * time.Millisecond, // for a client that sends header and body apart, but at once
		HandshakeTimeout: general.TLSHandshakeTimeout,
		HeaderTimeout:    general.ResponseHeaderTimeout,
		HeaderBytes:      general.MaxResponseHeaderBytes,
		MaxIdle:          general.MaxIdleConns,
		IdleTimeout:      general.IdleConnTimeout,
		Others:           general,
		// A second answer comes right after the first, from the same write or the next. At 50,000
		// requests a second, 1 ms takes 50 more of the 256 connections that are kept.
		Settle: time.Millisecond,
		Unasked: func() {
			log.Warn("the upstream sends answers that nobody asked for: for a minute each connection to it serves one request", "upstream", u.settings.URL.Redacted())
		},
	}
	at := url.URL{Host: u.host}
	port := cmp.Or(at.Port(), "80")
	if u.scheme == "https" {
		port = cmp.Or(at.Port(), "443")
		t.TLS = general.TLSClientConfig.Clone()
		t.TLS.ServerName = cmp.Or(t.TLS.ServerName, at.Hostname())
	}
	address := net.JoinHostPort(at.Hostname(), port)
	t.Dial = func(ctx context.Context) (net.Conn, error) { return general.DialContext(ctx, "tcp", address) }
	return t
}

// retire drops the idle connections, and from now on each one that becomes so.
func (u *upstream) retire() {
	u.retired.Store(true)
	u.transport.CloseIdleConnections()
}

// rest is called when a request has ended.
func (u *upstream) rest() {
	if u.retired.Load() {
		u.transport.CloseIdleConnections()
	}
}

// clientTLS reads the files that c names and returns the settings that they make, and a
// sum of all they hold.
func clientTLS(c *config.UpstreamTLS) (*tls.Config, [sha256.Size]byte, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: string(c.ServerName)}
	sum := sha256.New()
	read := func(file config.Path) ([]byte, error) {
		content, err := os.ReadFile(string(file))
		// With its length before it, no two series of files have the same bytes.
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
		// Whatever authorities the upstream names: the pair was configured to be shown.
		settings.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return settings, [sha256.Size]byte(sum.Sum(nil)), nil
}

var errNoHTTP2 = errors.New("the upstream does not speak HTTP/2")

// onlyHTTP2 keeps net/http from speaking HTTP/1.1 to a server that knows no ALPN.
func onlyHTTP2(state tls.ConnectionState) error {
	if state.NegotiatedProtocol != "h2" {
		return errNoHTTP2
	}
	return nil
}

// isTLS reports whether err came of a TLS connection: a certificate that does not count, or
// whatever one side tells the other that it has against it.
func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var alert *net.OpError
	return errors.As(err, &verification) || errors.As(err, &record) || errors.Is(err, errNoHTTP2) ||
		errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error")
}
