package validate

import (
	"context"
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
)

// A server is an authorization server whose tokens are taken. Its keys, its cache and
// what it is asked are its own: no other server's token is ever verified with them.
type server struct {
	name           string
	issuer         string
	audiences      []string
	types          []string // as jwks.MediaTypes returns them
	leeway         time.Duration
	required       bool
	acceptsJWT     bool // JWTs are judged by its keys
	alsoIntrospect bool // and it is asked about them
	settings       config.AuthorizationServer

	remote        *authserver.Server // nil where nothing is fetched
	needsMetadata bool               // its metadata is needed
	keys          *jwks.Source       // nil where nothing is verified
	cache         *cache.Cache[*cachedToken]
	client        *introspect.Client // nil where it is not asked over the network
	introspector  introspector       // client, or our own issuer; nil where it is not asked
}

// A fact is what a verified JWT says, and which key vouched for it.
type cachedToken struct {
	claims access.Unchecked
	key    jwks.Fingerprint
}

// factBytes is what a fact takes beside its token.
const cachedTokenBytes = len(jwks.Fingerprint{})

// A resolver finds out what a token says by asking who made it: a server over the
// network, or our own issuer. It is safe for concurrent use.
type introspector interface {
	// Recall returns what is known of an active token without waiting, nil for nothing.
	Lookup(raw string, sum facts.Sum) *access.Unchecked
	// Introspect asks about a token that came with cert, and remembers the answer in the
	// share of its owner. Every error wraps an [access.Denial]: Inactive, WrongType or
	// MalformedToken when the token is turned down, RateLimited or IssuerUnavailable when
	// there is no telling.
	Introspect(ctx context.Context, raw string, sum facts.Sum, cert *access.Certificate, owner introspect.Owner) (*access.Unchecked, error)
}

// ready returns nil while the server's tokens can be judged.
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

// A jwt is a token that looks like one, taken apart. Nothing in it is verified.
type jwt struct {
	*jwks.JWS
	claims facts.Members
	issuer string // iss; "" when it is missing
}

// parse takes raw apart.
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
			return nil, access.Denyf(access.MalformedToken, "iss is no string")
		}
		t.issuer = issuer
	}
	return t, nil
}

// verify checks that t is of an accepted type and signed by a key of s, and returns what it
// says.
func (s *server) verify(q *validation, t *jwt) (*cachedToken, error) {
	_, key, err := s.keys.Verify(q.ctx, t.JWS, s.types, q.now)
	if err != nil {
		return nil, err
	}
	says, err := t.claims.Read(s.name)
	if err != nil {
		return nil, err
	}
	if t.claims.Expires == nil { // RFC 9068 section 2.2
		return nil, &access.Denial{Reason: access.MalformedToken, ClientID: says.ClientID, Err: fmt.Errorf("claim exp is missing")}
	}
	return &cachedToken{claims: says, key: key}, nil
}

// ownTokens asks our own issuer, in this process. Nothing is remembered: it knows at
// once, and what it revokes counts at once.
type localIntrospector struct {
	server     string
	introspect func(raw string) (access.Unchecked, bool, error)
}

// Recall knows nothing.
func (o *localIntrospector) Lookup(string, facts.Sum) *access.Unchecked { return nil }

// Introspect asks the issuer.
func (o *localIntrospector) Introspect(_ context.Context, raw string, _ facts.Sum, _ *access.Certificate, _ introspect.Owner) (*access.Unchecked, error) {
	says, active, err := o.introspect(raw)
	switch {
	case err != nil:
		return nil, &access.Denial{Reason: access.IssuerUnavailable, Err: fmt.Errorf("asking our own issuer: %w", err)}
	case !active:
		return nil, access.Denyf(access.Inactive, "says %s", o.server)
	}
	says.Server = o.server
	return &says, nil
}
