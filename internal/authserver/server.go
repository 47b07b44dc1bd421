// Package authserver reaches other authorization servers: it finds their endpoints by metadata (RFC
// 8414, OpenID Connect Discovery) and sends requests over TLS with the configured anchors and client
// certificate. The size of responses is bounded. Other packages interpret the responses.
package authserver

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/refresh"
	"github.com/tallygate/tallygate/internal/reuse"
)

const (
	// FetchTimeout bounds a fetch, from connecting to the last byte. During a fetch the last good
	// document stays in use.
	FetchTimeout = 5 * time.Second
	// MaxKeySet bounds a key set in bytes. 256 KiB hold a hundred RSA keys of 2048 bits: each takes 2.5
	// KB with its certificate.
	MaxKeySet = 256 << 10
	// MaxIntrospection bounds an introspection response in bytes: eight times the longest
	// accepted access token. 64 concurrent responses (the default) and the memory for parsing
	// them, four times as much, take 64 × 128 KiB × 5 = 40 MiB.
	MaxIntrospection = 128 << 10
	// MaxMetadata bounds metadata in bytes. Servers publish 2 to 20 KB.
	MaxMetadata = 64 << 10
	// maxRedirects bounds the number of redirects in a fetch. Each redirect must stay within the
	// origin.
	maxRedirects = 3
)

// Options are the inputs of [New] besides the settings of the server.
type Options struct {
	Log     *slog.Logger // required
	Metrics *Metrics     // required
	Now     func() time.Time
	// Metadata says whether the gate needs the server's metadata. With true, the caller must call
	// [Server.Start].
	Metadata bool
	// Lease holds the server with its connections. It is required.
	Lease *reuse.Lease
}

// A Server is an authorization server other than our own issuer. It shares no connections with other
// servers, uses no proxy except a configured proxy, and sends only over https, or over http where an
// insecure setting allows http. It is safe for concurrent use.
type Server struct {
	name      string
	issuer    string
	settings  config.AuthorizationServer
	key       []any // all settings and file contents that New used
	anchors   anchors
	allowsURL func(*url.URL) bool
	mutualTLS bool // a client certificate is configured
	client    *http.Client
	streams   *http.Client // for responses that do not end
	log       *slog.Logger
	metrics   serverMetrics
	now       func() time.Time
	metadata  atomic.Pointer[Metadata] // nil before the first fetch
	onChange  atomic.Pointer[func()]   // called when a fetch changes the metadata
	task      refresh.Task             // runs Run
}

// New returns the server that settings describes. New reads the anchors and the certificate, returns an
// error if a file is broken, and sends no request. While the settings of a server and the content of
// its files do not change, all leases share one Server. After a change New makes another Server, which
// takes over the metadata of the previous Server if [Server.CanReuse] permits it and the metadata has
// all members that the new Server needs.
func New(settings config.AuthorizationServer, options Options) (*Server, error) {
	metrics := options.Metrics.forServer(options.Lease, string(settings.Name))
	connection := settings.Connection
	trusted, err := readAnchors(connection.Trust)
	if err != nil {
		return nil, err
	}
	s := &Server{
		name: string(settings.Name), issuer: string(settings.Issuer), settings: settings, anchors: trusted,
		allowsURL: connection.Secure, mutualTLS: connection.Certificate != (config.KeyPair{}),
		log: options.Log, metrics: metrics, now: options.Now,
	}
	pair := &clientCertificate{files: connection.Certificate}
	if s.mutualTLS {
		if err := pair.load(); err != nil {
			return nil, err
		}
	}
	// Another client certificate makes another Server, because the remote server authenticates open
	// connections by the previous certificate.
	s.key = []any{s.issuer, connection, trusted.sums, pair.sum(), maxIdleConnections(settings), settings.NeedsKeys(), settings.Introspection != nil, options.Metadata}
	return reuse.Acquire(options.Lease, s.name, s.key, func(previous *Server) (*Server, error) {
		s.client, s.streams = newHTTPClient(settings, trusted, pair), newStreamClient(settings, trusted, pair)
		if previous != nil && s.CanReuse(previous) && s.canReuseMetadata(previous) {
			s.metadata.Store(previous.metadata.Load())
		}
		if warned := previous != nil && previous.settings.Connection.InsecureLoopbackHTTP; connection.InsecureLoopbackHTTP && !warned {
			s.log.Warn("insecure: plain http to this machine is allowed for an authorization server", "issuer", s.name)
		}
		if warned := previous != nil && slices.Equal(previous.settings.Connection.InsecureHTTPHosts, connection.InsecureHTTPHosts); len(connection.InsecureHTTPHosts) > 0 && !warned {
			s.log.Warn("insecure: plain http to services of the cluster is allowed for an authorization server", "issuer", s.name, "hosts", connection.InsecureHTTPHosts)
		}
		return s, nil
	}, (*Server).close)
}

// Key returns a value that changes when the settings of s or the contents of its files change. A caller
// that makes an object from s includes this value in the key of the object (see [reuse.Acquire]).
func (s *Server) Key() any { return s.key }

// CanReuse reports whether s may use the documents that previous fetched. The issuers of s and previous
// must be the same, and s must still accept every anchor and insecure setting that previous accepted.
func (s *Server) CanReuse(previous *Server) bool {
	return s.issuer == previous.issuer && s.anchors.includes(previous.anchors) &&
		(s.settings.Connection.InsecureLoopbackHTTP || !previous.settings.Connection.InsecureLoopbackHTTP) &&
		!slices.ContainsFunc(previous.settings.Connection.InsecureHTTPHosts, func(h config.Host) bool {
			return !slices.Contains(s.settings.Connection.InsecureHTTPHosts, h)
		})
}

// Trust returns the SHA-256 of the configured anchors and of the insecure settings, by which s accepts more than https with
// a certificate of the system's anchors. Two Servers of an issuer with equal sums may share fetched documents.
func (s *Server) Trust() [sha256.Size]byte {
	var lines []string
	for sum := range s.anchors.sums {
		lines = append(lines, fmt.Sprintf("anchor %x\n", sum))
	}
	for _, host := range s.settings.Connection.InsecureHTTPHosts {
		lines = append(lines, fmt.Sprintf("host %s\n", host))
	}
	slices.Sort(lines)
	return sha256.Sum256(fmt.Appendf(nil, "%t %t %s", s.anchors.pool != nil, s.settings.Connection.InsecureLoopbackHTTP, lines))
}

// canReuseMetadata reports whether previous read all members of the metadata that s needs. Which member
// is the introspection endpoint depends on whether a client certificate is configured.
func (s *Server) canReuseMetadata(previous *Server) bool {
	return (previous.settings.NeedsKeys() || !s.settings.NeedsKeys()) &&
		(s.settings.Introspection == nil || previous.settings.Introspection != nil && s.mutualTLS == previous.mutualTLS)
}

// newHTTPClient returns the HTTP client for the server that settings describes. The client presents the
// certificate of pair, if pair has a certificate.
func newHTTPClient(settings config.AuthorizationServer, trusted anchors, pair *clientCertificate) *http.Client {
	transport := fetch.NewTransport(trusted.pool)
	transport.Proxy, transport.OnProxyConnectResponse = proxyOf(&settings.Connection), checkConnect
	transport.DialContext = (&net.Dialer{Timeout: FetchTimeout}).DialContext
	transport.MaxIdleConnsPerHost, transport.IdleConnTimeout = maxIdleConnections(settings), 90*time.Second
	if pair.lastGood.Load() != nil {
		transport.TLSClientConfig.GetClientCertificate = pair.getCertificate
	}
	return &http.Client{CheckRedirect: checkRedirect, Transport: transport}
}

// newStreamClient returns a client like newHTTPClient's, which opens a connection for each request and follows no
// redirect.
func newStreamClient(settings config.AuthorizationServer, trusted anchors, pair *clientCertificate) *http.Client {
	client := newHTTPClient(settings, trusted, pair)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	transport := client.Transport.(*http.Transport)
	transport.MaxIdleConnsPerHost, transport.ResponseHeaderTimeout = -1, 2*FetchTimeout
	return client
}

// maxIdleConnections returns the number of connections to keep open: the number of concurrent
// introspection requests, or 1 without introspection, because fetches are minutes apart.
func maxIdleConnections(settings config.AuthorizationServer) int {
	if settings.Introspection == nil {
		return 1
	}
	return settings.Introspection.Concurrency
}

// Start keeps the metadata fresh in the background until no lease holds s.
func (s *Server) Start() { s.task.Start(s.Run) }

// close stops the background work and closes idle connections.
func (s *Server) close() {
	s.task.Stop()
	s.client.CloseIdleConnections()
}

// checkRedirect follows redirects of a GET within the origin. Other redirects are returned as
// responses, whose status is not 200. A POST is never redirected.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	sameOrigin := next.URL.Scheme == first.URL.Scheme && strings.EqualFold(next.URL.Host, first.URL.Host)
	if first.Method != http.MethodGet || !sameOrigin || len(via) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

var errNotHTTPS = errors.New("only https is allowed")

// Send sends request by [fetch.Send] if its URL is allowed.
func (s *Server) Send(request *http.Request, limit int64) (*fetch.Response, error) {
	if !s.allowsURL(request.URL) {
		return nil, errNotHTTPS
	}
	return fetch.Send(s.client, request, limit)
}

// Stream sends request over a connection of its own and returns the response, whose body may have no end. The context of
// request bounds the whole exchange, and the caller must close the body. A redirect is returned as a response. Errors do
// not quote the URL and the response.
func (s *Server) Stream(request *http.Request) (*http.Response, error) {
	if !s.allowsURL(request.URL) {
		return nil, errNotHTTPS
	}
	return fetch.Open(s.streams, request)
}
