// Package issuer is the minimal authorization server: in comes a form from a
// client that authenticates by its certificate (RFC 8705 section 2.1), out goes an
// access token (RFC 9068) that works with that certificate alone. It also revokes
// tokens (RFC 7009) and publishes its key set and metadata (RFC 8414).
//
// It shares nothing with package validate but the words of package access, so that
// a bug in one cannot vouch for the other. Revocations are held in memory and end
// with the process.
package issuer

import (
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// Options is what an [Issuer] needs beside its configuration. All but Now must be
// set.
type Options struct {
	// Anchors lists the trust anchors of each partner, by its configured name. A
	// partner that is absent has none, and its applications get no tokens.
	Anchors map[config.Name][]access.AnchorKey
	// Certificate yields the client certificate of a request, judged at this
	// moment. Its errors wrap *access.Denial.
	Certificate func(*http.Request) (*access.Certificate, error)
	Log         *slog.Logger
	Metrics     prometheus.Registerer
	Now         func() time.Time // nil: time.Now
}

// An Issuer serves the endpoints of the authorization server. It is safe for
// concurrent use and starts no goroutine.
type Issuer struct {
	identifier  string // RFC 8414 section 2, byte for byte as configured
	audience    string
	lifetime    time.Duration
	key         *signingKey
	metadata    []byte
	endpoints   []endpoint
	clients     map[string]*client // by client_id
	revoked     *revocations
	certificate func(*http.Request) (*access.Certificate, error)
	log         *slog.Logger
	metrics     *metrics
	now         func() time.Time
}

// New returns the authorization server that cfg.Issuer, which is not nil,
// describes. It reads the signing key; its errors name the file.
func New(cfg *config.Config, options Options) (*Issuer, error) {
	key, err := readSigningKey(string(cfg.Issuer.SigningKey), options.Log)
	if err != nil {
		return nil, err
	}
	i := &Issuer{
		identifier:  string(cfg.Issuer.Issuer),
		audience:    cfg.Issuer.Audience,
		lifetime:    cfg.Issuer.TokenLifetime,
		key:         key,
		clients:     clientsOf(cfg.Partners.List, options.Anchors),
		revoked:     newRevocations(),
		certificate: options.Certificate,
		log:         options.Log,
		now:         options.Now,
	}
	if i.now == nil {
		i.now = time.Now
	}
	if i.metadata, err = metadataOf(i.identifier); err != nil {
		return nil, err
	}
	if i.endpoints, err = i.endpointsOf(i.identifier); err != nil {
		return nil, err
	}
	if i.metrics, err = newMetrics(options.Metrics); err != nil {
		return nil, err
	}
	return i, nil
}

// KeySet returns the JWK Set (RFC 7517 section 5) with the public key of every
// token that the issuer signs. The caller owns it.
func (i *Issuer) KeySet() []byte { return slices.Clone(i.key.set) }

// Revoked reports whether the token with this jti has been revoked: from the
// moment at which the revocation is answered until the token counts nowhere. It
// costs a hash and a map access, without allocation, and is safe for concurrent
// use.
func (i *Issuer) Revoked(tokenID string) bool { return i.revoked.contains(tokenID) }

// An endpoint is one path with its one method.
type endpoint struct {
	method    string
	path      string // compared with the request's path as it was sent
	bodyLimit int64  // bytes
	serve     http.HandlerFunc
}

// Paths under the issuer identifier's own.
const (
	tokenPath  = "/token"
	revokePath = "/revoke"
	keySetPath = "/jwks"
	// wellKnown goes between host and path of the identifier, RFC 8414 section 3.
	wellKnown = "/.well-known/oauth-authorization-server"
)

func (i *Issuer) endpointsOf(identifier string) ([]endpoint, error) {
	u, err := url.Parse(identifier)
	if err != nil {
		return nil, err
	}
	base := strings.TrimSuffix(u.EscapedPath(), "/") // RFC 8414 section 3.1
	return []endpoint{
		{http.MethodPost, base + tokenPath, 8 << 10, i.serveToken},
		// The longest token that the gate takes, 16 KiB, and 4 KiB for the rest.
		{http.MethodPost, base + revokePath, 20 << 10, i.serveRevoke},
		{http.MethodGet, base + keySetPath, 0, i.serveKeySet},
		{http.MethodGet, wellKnown + base, 0, i.serveMetadata},
	}, nil
}

// ServeHTTP answers a request to one of the endpoints. Paths and methods are
// compared exactly; anything else is answered with 404 or 405.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	for _, e := range i.endpoints {
		if path != e.path {
			continue
		}
		if r.Method != e.method {
			w.Header().Set("Allow", e.method)
			writeFault(w, methodNotAllowed)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, e.bodyLimit)
		e.serve(w, r)
		return
	}
	writeFault(w, notFound)
}
