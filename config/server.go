package config

import (
	"net/url"
	"slices"
	"strings"
	"time"
)

// AuthorizationServer is a server whose tokens the gate accepts: our own issuer or a foreign server.
type AuthorizationServer struct {
	Name       Name        `yaml:"name" schema:"required"`                        // in logs and metrics; unique
	Issuer     Identifier  `yaml:"issuer" schema:"required"`                      // compared with iss, byte for byte; unique
	Audiences  []string    `yaml:"audiences" schema:"required,nonempty,elements"` // the names of the gate: aud of a token must have one of the names; at least one name
	Required   bool        `yaml:"required"`                                      // the gate is ready only while it can verify the server's tokens; default true
	Tokens     TokenKinds  `yaml:"tokens"`                                        // default jwt
	Profile    Profile     `yaml:"profile"`                                       // the product whose tokens the server issues; sets the defaults of the settings up to ConfirmationClaim; default rfc9068
	Algorithms []Algorithm `yaml:"algorithms" schema:"nonempty"`                  // accepted signature algorithms; default ES256, PS256, EdDSA
	Types      []string    `yaml:"types" schema:"nonempty"`                       // accepted typ values, RFC 9068 section 4, or NoType; default at+jwt
	// ClientClaim lists the claims that can name the client. The first of them that a token has names
	// the client. A token is refused if it has two of these claims with different values. Default
	// client_id.
	ClientClaim   []ClaimName `yaml:"client_claim" schema:"nonempty"`
	SubjectClaim  ClaimName   `yaml:"subject_claim"`                    // default sub
	AudienceClaim []ClaimName `yaml:"audience_claim" schema:"nonempty"` // claims that are compared with Audiences; the first of them that a token has is used; default aud
	ScopeClaim    ClaimName   `yaml:"scope_claim"`                      // the claim with the scopes: a string, which is split at spaces, or an array; default scope
	// ScopePrefix is removed from each scope of ScopeClaim. A scope without ScopePrefix is ignored,
	// because it could equal another scope whose prefix was removed. "" changes nothing.
	ScopePrefix       string            `yaml:"scope_prefix"`
	RolesAsScopes     ClaimName         `yaml:"roles_as_scopes"`    // a claim whose values are scopes too; "" for no claim
	ConfirmationClaim ConfirmationClaim `yaml:"confirmation_claim"` // default cnf
	// Leeway is the tolerance for differing clocks: a token is accepted until Leeway after its exp,
	// and from Leeway before its nbf. At most 5 minutes.
	Leeway     time.Duration `yaml:"leeway"`
	Connection Connection    `yaml:"connection"`
	KeySet     KeySet        `yaml:"key_set"`
	Cache      Cache         `yaml:"cache"`
	// Introspection configures introspection requests, RFC 7662. It is required for opaque tokens and
	// for AlsoIntrospect, unless the server is our own issuer.
	Introspection *Introspection `yaml:"introspection"`
	// AlsoIntrospect says that the gate also introspects JWTs, so that it learns of revocations.
	AlsoIntrospect bool `yaml:"also_introspect"`
	// SecurityEvents configures revocations that the server sends or offers for polls (RFC 8417). It must
	// not be set for our own issuer.
	SecurityEvents *SecurityEvents `yaml:"security_events"`
	// Partners names the partners whose applications the server may issue tokens to. The server's
	// tokens for applications of other partners are refused. If nil, the server may issue tokens to
	// the applications of every partner.
	Partners []Name `yaml:"partners" schema:"nonempty"`
}

// TokenKinds says which kinds of tokens an authorization server issues.
type TokenKinds string

// The values of [TokenKinds].
const (
	JWTOnly    TokenKinds = "jwt"    // RFC 9068, verified with the server's keys
	OpaqueOnly TokenKinds = "opaque" // verified by introspection
	BothKinds  TokenKinds = "both"
)

// Connection configures the connections to a foreign authorization server, for its metadata, its
// key set and introspection.
type Connection struct {
	Trust       []Path  `yaml:"trust" schema:"nonempty,elements"` // PEM files with anchors; default: the anchors of the system
	Certificate KeyPair `yaml:"certificate"`                      // the gate's client certificate for the server. Optional.
	// InsecureLoopbackHTTP allows http to this machine, for development. Every user of the machine
	// can read and change messages over http.
	InsecureLoopbackHTTP bool `yaml:"insecure_loopback_http"`
	// InsecureHTTPHosts are services in the same cluster that the gate reaches over http, because the
	// TLS of clients ends at an ingress. A program that can read or change traffic in the cluster can
	// forge tokens.
	InsecureHTTPHosts []Host `yaml:"insecure_http_hosts"`
	// Proxy is an http proxy. https connections go through it by CONNECT, so TLS ends at the server
	// and not at the proxy. Default: no proxy.
	Proxy *URL `yaml:"proxy"`
	// ProxyFromEnvironment says that the gate takes the proxy from HTTPS_PROXY and NO_PROXY.
	ProxyFromEnvironment bool `yaml:"proxy_from_environment"`
}

// KeySet is the source of an authorization server's public keys. If URL, File and JWKS are not set,
// the source depends on the server: for our own issuer it is the issuer itself, and for another
// server the URL is in the server's metadata (RFC 8414).
type KeySet struct {
	URL      *URL          `yaml:"url"`       // https only
	File     Path          `yaml:"file"`      // a JWK Set, RFC 7517 section 5
	JWKS     string        `yaml:"jwks"`      // a JWK Set as text
	Refresh  time.Duration `yaml:"refresh"`   // the time between two fetches of the URL
	CoolDown time.Duration `yaml:"cool_down"` // the minimum time between two fetches because of unknown keys
	MaxStale time.Duration `yaml:"max_stale"` // how long the last keys are used while fetches fail
}

// Cache bounds the cached tokens of one authorization server. The cache holds verified facts about a
// token, and never a decision.
type Cache struct {
	Entries int `yaml:"entries" schema:"minimum=0"` // the most entries; 0 turns the cache off
}

// Introspection configures introspection requests to an authorization server, RFC 7662.
type Introspection struct {
	Endpoint       *URL                        `yaml:"endpoint"`  // https only; default: from the server's metadata
	ClientID       ClientID                    `yaml:"client_id"` // the gate's client_id at the server
	Authentication IntrospectionAuthentication `yaml:"authentication"`
	Signed         bool                        `yaml:"signed"` // request signed responses, RFC 9701, and refuse unsigned responses
	// InsecureAudienceOptional accepts a response without aud, as RFC 7662 section 2.2 allows. The
	// gate then relies on the server to report a token for another resource as inactive.
	InsecureAudienceOptional bool `yaml:"insecure_audience_optional"`
	// TextTimes says that exp, nbf and iat may also be texts of decimal digits, as some servers send
	// them.
	TextTimes   bool               `yaml:"text_times"`
	Timeout     time.Duration      `yaml:"timeout"`                        // bounds one request, and also the wait until one of the Concurrency requests ends; default 2s
	Concurrency int                `yaml:"concurrency" schema:"minimum=1"` // concurrent requests; default 64
	Cache       IntrospectionCache `yaml:"cache"`
}

// IntrospectionAuthentication says how the gate authenticates at the introspection endpoint. Each
// secret is in a separate file, which is read for each request. So a new secret is used at once, even
// while a fault in the configuration prevents reloads.
type IntrospectionAuthentication struct {
	Method     IntrospectionMethod `yaml:"method"`      // default tls_client_auth
	SecretFile Path                `yaml:"secret_file"` // for client_secret_basic and client_secret_post
	KeyFile    Path                `yaml:"key_file"`    // for private_key_jwt: a PEM private key
	KeyID      string              `yaml:"key_id"`      // for private_key_jwt: the kid of the client assertion. Optional.
	TokenFile  Path                `yaml:"token_file"`  // for bearer
}

// IntrospectionMethod is a client authentication method.
type IntrospectionMethod string

// The values of [IntrospectionMethod].
const (
	MethodTLS           IntrospectionMethod = "tls_client_auth"     // RFC 8705 section 2.1; the certificate is in the TLS connection
	MethodSecretBasic   IntrospectionMethod = "client_secret_basic" // RFC 6749 section 2.3.1
	MethodSecretPost    IntrospectionMethod = "client_secret_post"  // RFC 6749 section 2.3.1
	MethodPrivateKeyJWT IntrospectionMethod = "private_key_jwt"     // RFC 7523 section 2.2
	MethodBearer        IntrospectionMethod = "bearer"              // RFC 7662 section 2.1; an access token for the endpoint
)

// IntrospectionCache bounds the cached responses. Like [Cache], it holds facts about a token, and
// never a decision.
type IntrospectionCache struct {
	Entries         int           `yaml:"entries" schema:"minimum=0"`          // bounds the active tokens; 0 turns the cache off
	MaxAge          time.Duration `yaml:"max_age"`                             // how long an active token is cached, at most until its exp; with 0, every request introspects its token
	InactiveEntries int           `yaml:"inactive_entries" schema:"minimum=0"` // bounds the inactive tokens; 0 turns caching of inactive tokens off
	InactiveMaxAge  time.Duration `yaml:"inactive_max_age"`                    // how long an inactive token is cached
	StaleOnError    time.Duration `yaml:"stale_on_error"`                      // how much longer a cached active token is used while the server fails; default 0
}

// TakesJWT reports whether the gate accepts JWTs of the server, verified with the server's keys.
func (s *AuthorizationServer) TakesJWT() bool { return s.Tokens == JWTOnly || s.Tokens == BothKinds }

// TakesOpaque reports whether the gate introspects opaque tokens at the server.
func (s *AuthorizationServer) TakesOpaque() bool {
	return s.Tokens == OpaqueOnly || s.Tokens == BothKinds
}

// SpeaksFor reports whether the server may issue tokens to applications of the partner.
func (s *AuthorizationServer) SpeaksFor(partner Name) bool {
	return s.Partners == nil || slices.Contains(s.Partners, partner)
}

// SendsMTLSPoP reports whether clients send the server's bound tokens under the scheme mtls_pop.
// Microsoft's libraries use this scheme for tokens of Entra.
func (s *AuthorizationServer) SendsMTLSPoP() bool {
	return s.Profile == ProfileEntra || s.Profile == ProfileEntraV1
}

// Unlimited returns the names of the foreign authorization servers that may issue tokens to the
// applications of every partner although there are other servers. Such a server can issue tokens in
// place of the server that a partner uses.
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

// NeedsKeys reports whether the gate verifies tokens, introspection responses or security events with
// the server's keys.
func (s *AuthorizationServer) NeedsKeys() bool {
	return s.TakesJWT() || s.Introspection != nil && s.Introspection.Signed || s.SecurityEvents != nil
}

// Named reports whether the configuration contains the key set or says where it is.
func (s *KeySet) Named() bool { return s.URL != nil || s.File != "" || s.JWKS != "" }

// Secure reports whether the gate may connect to u: always over https, and over http only to this
// machine or to a host of the cluster, if an insecure setting allows it.
func (c *Connection) Secure(u *url.URL) bool {
	return u.Scheme == "https" || c.InsecureLoopbackHTTP && isLoopbackHTTP(u) ||
		u.Scheme == "http" && slices.Contains(c.InsecureHTTPHosts, Host(strings.ToLower(u.Hostname())))
}

// hint returns the end of an error message about u, for which [Connection.Secure] returned false.
func (c *Connection) hint(u *url.URL) string {
	if isLoopbackHTTP(u) {
		return "; connection.insecure_loopback_http: true allows http to this machine"
	}
	if u.Scheme == "http" && isServiceName(u.Hostname()) {
		return "; connection.insecure_http_hosts allows http to a service of the cluster"
	}
	return ""
}
