package validate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
	"github.com/tallygate/tallygate/validate/dpop"
)

// A server is an authorization server whose tokens are accepted. Its keys and its cache are never
// used for tokens of another server.
type server struct {
	name           string
	issuer         string
	audiences      []string
	types          []string // media types, in the form of jwks.MediaTypes
	mapping        *facts.Mapping
	leeway         time.Duration
	required       bool
	acceptsJWT     bool // JWTs are verified with the server's keys
	alsoIntrospect bool // JWTs are verified and then also introspected
	settings       config.AuthorizationServer

	mtlsPoP bool          // the server's tokens may come under the scheme mtls_pop
	dpop    *dpop.Checker // nil if tokens that are bound to a key are refused

	remote        *authserver.Server // nil if no document is fetched
	needsMetadata bool
	keys          *jwks.Source // nil if no signature is verified
	cache         *cache.Cache[*cachedToken]
	client        *introspect.Client // nil without introspection over the network
	introspector  introspector       // the field client, or our own issuer; nil without introspection
}

// A cachedToken has the claims of a verified JWT and the fingerprint of the key that verified the
// JWT.
type cachedToken struct {
	claims access.Unchecked
	key    jwks.Fingerprint
}

// cachedTokenBytes is the size of a cachedToken without its claims.
const cachedTokenBytes = len(jwks.Fingerprint{})

// An introspector returns the claims of opaque tokens: from a server over the network, or from
// our own issuer. It is safe for concurrent use.
type introspector interface {
	// Lookup returns the cached response about an active token, or nil. It does not wait.
	Lookup(q introspect.Query) *introspect.Response
	// Introspect returns the response about an active token that came with cert, and caches it for
	// owner. Every error wraps an [access.Denial]: Inactive, WrongType or MalformedToken for a refused
	// token, RateLimited or IssuerUnavailable if the token cannot be checked.
	Introspect(ctx context.Context, q introspect.Query, cert *access.Certificate, owner introspect.Owner, call *Call) (*introspect.Response, error)
}

// ready returns nil if the server's tokens can be checked now.
func (s *server) ready(now time.Time) error {
	if s.keys != nil {
		if _, err := s.keys.Usable(now); err != nil {
			return err
		}
	}
	if s.client != nil {
		return s.client.Ready()
	}
	return nil
}

// A jwt is a parsed JWT. Its signature is not verified.
type jwt struct {
	*jwks.JWS
	claims facts.Members
	issuer string // the claim iss; "" when absent
}

func parse(raw string) (*jwt, error) {
	jws, err := jwks.Parse(raw)
	if err != nil {
		return nil, err
	}
	t := &jwt{JWS: jws}
	if err := json.Unmarshal(jws.Payload, &t.claims); err != nil {
		return nil, access.Denyf(access.MalformedToken, "reading payload: %w", err)
	}
	if t.claims.Issuer != nil {
		issuer, ok := t.claims.Issuer.Text()
		if !ok {
			return nil, access.Denyf(access.MalformedToken, "iss is not a string")
		}
		t.issuer = issuer
	}
	return t, nil
}

// verify checks the type and the signature of t and returns its claims.
func (s *server) verify(val *validation, t *jwt) (*cachedToken, error) {
	_, key, err := s.keys.Verify(val.ctx, t.JWS, s.types, val.started)
	if err != nil {
		return nil, err
	}
	if err := s.checkUse(t); err != nil {
		return nil, err
	}
	claims, err := s.mapping.Read(s.name, &t.claims, t.Payload)
	if err != nil {
		return nil, err
	}
	if err := errNoExpiry(t, claims.ClientID); err != nil {
		return nil, err
	}
	return &cachedToken{claims: claims, key: key}, nil
}

// errIssuer returns the denial of a token that no configured authorization server has issued.
func errIssuer(t *jwt) error {
	return &access.Denial{Reason: access.UnknownIssuer, Err: &access.Mismatch{
		Name: "iss", Want: "a configured authorization server", Got: quoted(t.issuer),
	}}
}

// errNoExpiry returns the denial of a token without exp (RFC 9068 section 2.2), and nil for a token
// with exp.
func errNoExpiry(t *jwt, clientID string) error {
	if t.claims.Expires != nil {
		return nil
	}
	return &access.Denial{Reason: access.MalformedToken, ClientID: clientID, Err: errors.New("claim exp is missing")}
}

// A localIntrospector asks our own issuer in this process. It caches nothing, because the issuer
// answers at once and its revocations must take effect at once.
type localIntrospector struct {
	server     string
	introspect func(raw string) (access.Unchecked, bool, error)
	now        func() time.Time
}

// Lookup returns nil, because no responses are cached.
func (o *localIntrospector) Lookup(introspect.Query) *introspect.Response { return nil }

// Introspect asks the issuer.
func (o *localIntrospector) Introspect(_ context.Context, q introspect.Query, _ *access.Certificate, _ introspect.Owner, _ *Call) (*introspect.Response, error) {
	requestedAt := o.now()
	claims, active, err := o.introspect(q.Token)
	switch {
	case err != nil:
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: fmt.Errorf("asking our own issuer: %w", err)}
	case !active:
		return nil, access.Denyf(access.Inactive, "according to %s", o.server)
	}
	claims.Server = o.server
	return &introspect.Response{Claims: claims, RequestedAt: requestedAt}, nil
}
