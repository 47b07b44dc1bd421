package config

import (
	"net/url"
	"slices"
	"time"
)

// AuthorizationServer is one that may vouch for tokens, ours or a foreign one.
type AuthorizationServer struct {
	Name       Name        `yaml:"name"`       // in logs and metrics; unique
	Issuer     Identifier  `yaml:"issuer"`     // compared with iss, byte for byte; unique
	Audiences  []string    `yaml:"audiences"`  // a token must name at least one; at least one is needed
	Required   bool        `yaml:"required"`   // whether the gate is ready only with it; default true
	Tokens     TokenKinds  `yaml:"tokens"`     // what its tokens are; default jwt
	Algorithms []Algorithm `yaml:"algorithms"` // accepted signature algorithms; default ES256, PS256, EdDSA
	Types      []string    `yaml:"types"`      // accepted typ values, RFC 9068 section 4; default at+jwt
	// Leeway is the tolerance for the two clocks: a token counts this much longer
	// than its exp and this much earlier than its nbf. At most 5 minutes.
	Leeway     time.Duration `yaml:"leeway"`
	Connection Connection    `yaml:"connection"`
	KeySet     KeySet        `yaml:"key_set"`
	Cache      Cache         `yaml:"cache"`
	// Introspection says how the server is asked about tokens, RFC 7662. Needed for
	// opaque tokens and AlsoIntrospect, unless the server is our own issuer.
	Introspection *Introspection `yaml:"introspection"`
	// AlsoIntrospect asks the server about JWTs too, so that what it revokes counts here.
	AlsoIntrospect bool `yaml:"also_introspect"`
	// Partners names the partners whose applications the server may speak for: its tokens
	// for an application of another partner are refused. nil: every partner.
	Partners []Name `yaml:"partners"`
}

// TokenKinds is what the tokens of an authorization server are.
type TokenKinds string

// The values of [TokenKinds].
const (
	JWTOnly    TokenKinds = "jwt"    // RFC 9068, judged by the server's keys
	OpaqueOnly TokenKinds = "opaque" // told about by introspection alone
	BothKinds  TokenKinds = "both"
)

// Connection says how a foreign authorization server is spoken to: for its metadata,
// its key set and introspection.
type Connection struct {
	Trust       []Path  `yaml:"trust"`       // PEM anchors; default: the system's
	Certificate KeyPair `yaml:"certificate"` // what the gate shows there when asked. Optional.
	// InsecureLoopbackHTTP allows http to this machine, for development. What passes
	// there can be read and changed by whoever shares the machine.
	InsecureLoopbackHTTP bool `yaml:"insecure_loopback_http"`
}

// KeySet says where the public keys of an authorization server come from. With none
// of URL, File and JWKS they are those of our own issuer, where Issuer is its
// identifier, and otherwise the server's metadata (RFC 8414) says where they are.
type KeySet struct {
	URL      *URL          `yaml:"url"`       // https only
	File     Path          `yaml:"file"`      // a JWK Set, RFC 7517 section 5
	JWKS     string        `yaml:"jwks"`      // a JWK Set as text
	Refresh  time.Duration `yaml:"refresh"`   // between two readings of a URL, at most
	CoolDown time.Duration `yaml:"cool_down"` // the least time between two readings that unknown keys ask for
	MaxStale time.Duration `yaml:"max_stale"` // how long the last good keys serve while readings fail
}

// Cache bounds the verified tokens that are remembered for one authorization
// server. What is remembered is what a token says, never whether it may pass.
type Cache struct {
	Entries int `yaml:"entries"` // 0 turns the cache off
}

// Introspection is how an authorization server is asked about tokens, RFC 7662.
type Introspection struct {
	Endpoint       *URL                        `yaml:"endpoint"`  // https only; default: the server's metadata says it
	ClientID       ClientID                    `yaml:"client_id"` // the gate's own at that server
	Authentication IntrospectionAuthentication `yaml:"authentication"`
	Signed         bool                        `yaml:"signed"`      // ask for signed answers, RFC 9701, and take no others
	Timeout        time.Duration               `yaml:"timeout"`     // of one call, and of the wait for its turn; default 2s
	Concurrency    int                         `yaml:"concurrency"` // calls under way at once; default 64
	Cache          IntrospectionCache          `yaml:"cache"`
}

// IntrospectionAuthentication says how the gate authenticates at the introspection
// endpoint. Secrets stand in files of their own, which are read for each call: a new one
// counts at once, whatever fault keeps a reload from being taken.
type IntrospectionAuthentication struct {
	Method     IntrospectionMethod `yaml:"method"`      // default tls_client_auth
	SecretFile Path                `yaml:"secret_file"` // for client_secret_basic and client_secret_post
	KeyFile    Path                `yaml:"key_file"`    // for private_key_jwt: a PEM private key
	KeyID      string              `yaml:"key_id"`      // for private_key_jwt: kid of the assertion. Optional.
	TokenFile  Path                `yaml:"token_file"`  // for bearer
}

// IntrospectionMethod is a client authentication method.
type IntrospectionMethod string

// The values of [IntrospectionMethod].
const (
	MethodTLS           IntrospectionMethod = "tls_client_auth"     // RFC 8705 section 2.1, by the connection's certificate
	MethodSecretBasic   IntrospectionMethod = "client_secret_basic" // RFC 6749 section 2.3.1
	MethodSecretPost    IntrospectionMethod = "client_secret_post"  // RFC 6749 section 2.3.1
	MethodPrivateKeyJWT IntrospectionMethod = "private_key_jwt"     // RFC 7523 section 2.2
	MethodBearer        IntrospectionMethod = "bearer"              // RFC 7662 section 2.1, an access token for the endpoint
)

// IntrospectionCache bounds what is remembered of the answers. Like [Cache], it holds
// what the server said of a token, never whether that may pass.
type IntrospectionCache struct {
	Entries         int           `yaml:"entries"`          // of active tokens; 0 turns the cache off
	MaxAge          time.Duration `yaml:"max_age"`          // of an active token, or until its exp; 0 asks for every request
	InactiveEntries int           `yaml:"inactive_entries"` // of inactive tokens; 0 remembers none
	InactiveMaxAge  time.Duration `yaml:"inactive_max_age"` // of an inactive token
	StaleOnError    time.Duration `yaml:"stale_on_error"`   // how much longer an active token counts while the server fails; default 0
}

// TakesJWT reports whether the server's JWTs are judged by its keys.
func (s *AuthorizationServer) TakesJWT() bool { return s.Tokens == JWTOnly || s.Tokens == BothKinds }

// TakesOpaque reports whether the server is asked about tokens that are no JWTs.
func (s *AuthorizationServer) TakesOpaque() bool {
	return s.Tokens == OpaqueOnly || s.Tokens == BothKinds
}

// SpeaksFor reports whether the server's tokens may name applications of that partner.
func (s *AuthorizationServer) SpeaksFor(partner Name) bool {
	return s.Partners == nil || slices.Contains(s.Partners, partner)
}

// Unlimited returns the names of the foreign authorization servers that may speak for every
// partner although other servers exist: what such a server says of a partner's application
// counts as if the partner's own server had said it.
func (c *Config) Unlimited() []Name {
	if len(c.AuthorizationServers) < 2 {
		return nil
	}
	var names []Name
	for i := range c.AuthorizationServers {
		s := &c.AuthorizationServers[i]
		if own := c.Issuer != nil && c.Issuer.Issuer == s.Issuer; s.Partners == nil && !own {
			names = append(names, s.Name)
		}
	}
	return names
}

// NeedsKeys reports whether anything of the server is verified by its keys.
func (s *AuthorizationServer) NeedsKeys() bool {
	return s.TakesJWT() || s.Introspection != nil && s.Introspection.Signed
}

// Named reports whether the configuration says where the key set is.
func (s *KeySet) Named() bool { return s.URL != nil || s.File != "" || s.JWKS != "" }

// Secure reports whether u may be spoken to: over https, or on this machine where that
// is allowed.
func (c *Connection) Secure(u *url.URL) bool {
	return u.Scheme == "https" || c.InsecureLoopbackHTTP && isLoopbackHTTP(u)
}

// hint returns the end of a message about u, which may not be spoken to.
func (c *Connection) hint(u *url.URL) string {
	if isLoopbackHTTP(u) {
		return "; connection.insecure_loopback_http: true allows http to this machine"
	}
	return ""
}
