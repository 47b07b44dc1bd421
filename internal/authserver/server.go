// Package authserver is how a foreign authorization server is reached: where its
// endpoints are, by its metadata (RFC 8414, OpenID Connect Discovery), and how it is
// spoken to, over TLS with the configured anchors and certificate. In goes its
// configuration, out come bounded answers; what they mean is for others to judge.
package authserver

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
)

const (
	// FetchTimeout bounds the reading of a document, from the connection to the last
	// byte. What was read before serves meanwhile.
	FetchTimeout = 5 * time.Second
	// MaxKeySet bounds a key set in bytes. A hundred RSA keys of 2048 bits fit, each 2.5 KB
	// with a certificate.
	MaxKeySet = 256 << 10
	// MaxIntrospection bounds an introspection answer in bytes: eight times the longest
	// access token that is taken. Sixty-four such answers at once, the default, and what
	// becomes of them while they are read, four times as much, are 40 MiB.
	MaxIntrospection = 128 << 10
	// maxMetadata bounds metadata in bytes. Servers publish 2 to 20 KB.
	maxMetadata = 64 << 10
	// maxRedirects is how many redirects a reading follows, all within one origin.
	maxRedirects = 3
)

// Options are what a [Server] needs beside its configuration.
type Options struct {
	Log     *slog.Logger // must be set
	Metrics *Metrics     // must be set
	Now     func() time.Time
	// Previous is the Server that the new one may take the place of; nil for none.
	Previous *Server
}

// A Server is a foreign authorization server. It shares no connection with other
// servers, asks no proxy, and sends nothing but over https, or to this machine where
// the configuration says insecure. It is safe for concurrent use.
type Server struct {
	name           string
	issuer         string
	settings       config.AuthorizationServer
	anchors        anchors
	certificateSum [sha256.Size]byte // stands for the certificate that was shown first
	allowsURL      func(*url.URL) bool
	mutualTLS      bool // a client certificate is shown
	client         *http.Client
	log            *slog.Logger
	metrics        serverMetrics
	now            func() time.Time
	metadata       atomic.Pointer[Metadata] // nil before the first reading
	onChange       atomic.Pointer[func()]   // is told of metadata that was read and is new
}

// New returns the server that settings describes: the previous one, and with it its
// connections, where that is no other, and otherwise one that goes on with the metadata
// that the previous one has read, where it follows that one. It reads the anchors and the
// certificate, so that a broken one stops the start, and sends nothing.
func New(settings config.AuthorizationServer, options Options) (*Server, error) {
	connection := settings.Connection
	trusted, err := readAnchors(connection.Trust)
	if err != nil {
		return nil, err
	}
	s := &Server{
		name: string(settings.Name), issuer: string(settings.Issuer), settings: settings, anchors: trusted,
		allowsURL: connection.Secure, mutualTLS: connection.Certificate != (config.KeyPair{}),
		log: options.Log, metrics: options.Metrics.forServer(string(settings.Name)), now: options.Now,
	}
	pair := &clientCertificate{files: connection.Certificate}
	if s.mutualTLS {
		if err := pair.load(); err != nil {
			return nil, err
		}
	}
	s.certificateSum = pair.sum()
	before := options.Previous
	if before != nil && before.sameAs(s) {
		return before, nil
	} else if before != nil && s.CanReuse(before) && s.canReuseMetadata(before) {
		s.metadata.Store(before.metadata.Load())
	}
	s.client = newHTTPClient(settings, trusted, pair)
	if told := before != nil && before.settings.Connection.InsecureLoopbackHTTP; connection.InsecureLoopbackHTTP && !told {
		s.log.Warn("insecure: plain http to this machine is allowed for an authorization server", "issuer", s.name)
	}
	return s, nil
}

// is reports whether s and other are one, by their settings and the files that these name.
// With another certificate to show it is another: on connections that are open, the server
// goes by the one of before.
func (s *Server) sameAs(other *Server) bool {
	return s.anchors.includes(other.anchors) && other.anchors.includes(s.anchors) && s.certificateSum == other.certificateSum &&
		s.name == other.name && s.issuer == other.issuer &&
		reflect.DeepEqual(s.settings.Connection, other.settings.Connection) && maxIdleConnections(s.settings) == maxIdleConnections(other.settings) &&
		s.settings.NeedsKeys() == other.settings.NeedsKeys() && (s.settings.Introspection == nil) == (other.settings.Introspection == nil)
}

// Follows reports whether what before has read is as good as if s had: it comes from the
// same issuer, and whoever could vouch for it then can do so now.
func (s *Server) CanReuse(before *Server) bool {
	return s.issuer == before.issuer && s.anchors.includes(before.anchors) &&
		(s.settings.Connection.InsecureLoopbackHTTP || !before.settings.Connection.InsecureLoopbackHTTP)
}

// canUse reports whether before read all of the metadata that s needs, and as s would:
// which endpoint counts depends on whether a certificate is shown.
func (s *Server) canReuseMetadata(before *Server) bool {
	return (before.settings.NeedsKeys() || !s.settings.NeedsKeys()) &&
		(s.settings.Introspection == nil || before.settings.Introspection != nil && s.mutualTLS == before.mutualTLS)
}

// newHTTPClient returns what speaks to the server that settings describes, and shows pair
// where there is one.
func newHTTPClient(settings config.AuthorizationServer, trusted anchors, pair *clientCertificate) *http.Client {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted.pool}
	if pair.lastGood.Load() != nil {
		tlsConfig.GetClientCertificate = pair.getCertificate
	}
	return &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			Proxy:                  nil, // also not from the environment
			DialContext:            (&net.Dialer{Timeout: FetchTimeout}).DialContext,
			TLSClientConfig:        tlsConfig,
			MaxIdleConnsPerHost:    maxIdleConnections(settings),
			IdleConnTimeout:        90 * time.Second,
			TLSHandshakeTimeout:    FetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // net/http would ask for it, and inflate the answer
		},
	}
}

// idle returns how many connections are kept open: one for each call that introspection
// makes at once; minutes lie between two readings.
func maxIdleConnections(settings config.AuthorizationServer) int {
	if settings.Introspection == nil {
		return 1
	}
	return settings.Introspection.Concurrency
}

// Close drops idle connections.
func (s *Server) Close() { s.client.CloseIdleConnections() }

// withinOrigin follows a redirect of a reading where it stays with the server that
// was asked. Any other comes back as it is, and its status is not 200. What was posted
// is never sent on.
func checkRedirect(next *http.Request, before []*http.Request) error {
	first := before[0]
	same := next.URL.Scheme == first.URL.Scheme && strings.EqualFold(next.URL.Host, first.URL.Host)
	if first.Method != http.MethodGet || !same || len(before) > maxRedirects {
		return http.ErrUseLastResponse
	}
	return nil
}

// An Answer is one whole answer.
type Response struct {
	Status    int
	Header    http.Header
	MediaType string // of Content-Type, without parameters, in lower case; "" when there is none
	Body      []byte
}

var (
	errNotHTTPS = errors.New("only https is spoken")
	// ErrTooLarge says that the answer has more bytes than it may.
	ErrTooLarge = errors.New("answered with too much")
	// ErrEncoded says that the answer is compressed, which nobody asked for.
	ErrEncoded = errors.New("answered with a content encoding")
)

// Send sends request, whose context bounds all of it, and reads the answer. It is an error
// that the answer has more than most bytes (ErrTooLarge), or a content encoding
// (ErrEncoded): a few compressed bytes become as many as their sender likes. Errors do not
// quote the URL, whose query may be a secret; a [*net.OpError] whose Op is "dial" says that
// nothing was sent.
func (s *Server) Send(request *http.Request, most int64) (*Response, error) {
	if !s.allowsURL(request.URL) {
		return nil, errNotHTTPS
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer func() { _ = response.Body.Close() }()
	if len(response.Header.Values("Content-Encoding")) > 0 {
		return nil, ErrEncoded
	}
	if response.ContentLength > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, most)
	}
	// A media type with a malformed parameter is one all the same, but not for us.
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	return &Response{response.StatusCode, response.Header, mediaType, body}, nil
}

// withoutURL returns the cause of a client's error, which itself quotes the URL.
func withoutURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		return outer.Err
	}
	return err
}
