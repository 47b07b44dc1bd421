package config

import "time"

// Issuer is our own authorization server, in the process of the gate.
type Issuer struct {
	Issuer      Identifier        `yaml:"issuer"`      // its identifier, RFC 8414 section 2: https, no query, no fragment
	Address     Address           `yaml:"address"`     // its listener, with mutual TLS unless there is an alias
	MTLSAlias   *MTLSAlias        `yaml:"mtls_alias"`  // Optional.
	Certificate IssuerCertificate `yaml:"certificate"` // default: the listener's
	State       Path              `yaml:"state"`       // a separate folder for revocations, opaque tokens and keys
	Signing     Signing           `yaml:"signing"`

	Audience         string        `yaml:"audience"`           // the default resource, aud of a token without a requested resource
	Resources        []string      `yaml:"resources"`          // further resources that clients may request, RFC 8707
	TokenLifetime    time.Duration `yaml:"token_lifetime"`     // the lifetime of tokens of applications without their own token_lifetime
	MaxTokenLifetime time.Duration `yaml:"max_token_lifetime"` // the longest lifetime of any token; at most 24 hours
	RequireBound     bool          `yaml:"require_bound"`      // forbids bound_tokens: false

	ResourceServers []ResourceServer `yaml:"resource_servers"` // the clients that may introspect tokens
	Governance      Governance       `yaml:"governance"`
	Limits          IssuerLimits     `yaml:"limits"`
}

// IssuerCertificate is the certificate of the issuer's listeners. Default: the certificate of the
// partners' listener.
type IssuerCertificate struct {
	Files KeyPair `yaml:"files"`
}

// MTLSAlias moves the endpoints at which clients authenticate to a separate listener, RFC 8705
// section 5. The issuer's own listener then never requests a client certificate.
type MTLSAlias struct {
	URL     *URL    `yaml:"url"`     // the URL of Address for clients: https, only scheme and host
	Address Address `yaml:"address"` // its mutual-TLS listener
}

// Signing says which keys sign the tokens.
type Signing struct {
	Algorithm Algorithm     `yaml:"algorithm"` // ES256, PS256, RS256 or EdDSA
	Rotate    time.Duration `yaml:"rotate"`    // how long a generated key signs
	// Files are PEM private keys that replace generated keys: the first signs, the others are only
	// published. A change of one file reloads all of them or none, also while a fault in the
	// configuration blocks other reloads.
	Files []Path `yaml:"files"`
}

// ResourceServer is a client that may introspect the tokens that have one of its Resources as
// audience.
type ResourceServer struct {
	ClientID       ClientID              `yaml:"client_id"` // unique, also among applications
	Trust          []Path                `yaml:"trust"`     // PEM files with anchors; default: the listener's
	Certificate    RegisteredCertificate `yaml:"certificate"`
	Authentication Authentication        `yaml:"authentication"` // default tls_client_auth
	Keys           ClientKeys            `yaml:"keys"`           // for self_signed_tls_client_auth
	Resources      []string              `yaml:"resources"`      // the audiences of this resource server; at least one
}

// Governance has rules in CEL on the tokens that the issuer grants. The rules are applied level by
// level, in this order, and in the order of each list.
type Governance struct {
	Workspace   []WorkspaceRule   `yaml:"workspace"`   // every token request
	Application []ApplicationRule `yaml:"application"` // the token requests of one application
	Scope       []ScopeRule       `yaml:"scope"`       // each request for one scope
	Claims      []ClaimRule       `yaml:"claims"`      // claims that are added to a token
}

// WorkspaceRule applies to every token request. Exactly one of Refuse and Lifetime.
type WorkspaceRule struct {
	Name     Name          `yaml:"name"`     // in the log; unique over all levels
	When     string        `yaml:"when"`     // a CEL expression that is true or false
	Refuse   string        `yaml:"refuse"`   // refuse the request; the text is for the log
	Lifetime time.Duration `yaml:"lifetime"` // bound the lifetime of the token
}

// ApplicationRule applies to the token requests of one application. Exactly one of
// Refuse and Lifetime.
type ApplicationRule struct {
	Name     Name          `yaml:"name"`
	ClientID ClientID      `yaml:"client_id"`
	When     string        `yaml:"when"`
	Refuse   string        `yaml:"refuse"`
	Lifetime time.Duration `yaml:"lifetime"`
}

// ScopeRule applies to a scope that would be granted. Exactly one of Refuse, Drop and Lifetime is set.
type ScopeRule struct {
	Name     Name          `yaml:"name"`
	Scope    Scope         `yaml:"scope"`
	When     string        `yaml:"when"`
	Refuse   string        `yaml:"refuse"` // refuse the request
	Drop     bool          `yaml:"drop"`   // grant the request without the scope
	Lifetime time.Duration `yaml:"lifetime"`
}

// ClaimRule adds one claim to a token.
type ClaimRule struct {
	Name  Name   `yaml:"name"`
	Claim string `yaml:"claim"` // not a claim that the issuer sets itself
	When  string `yaml:"when"`  // default: always
	Value string `yaml:"value"` // a CEL expression: a string, a number, a boolean, or a list or map of these
}

// IssuerLimits bounds the requests to the issuer's endpoints. Further requests get 429.
type IssuerLimits struct {
	PerClient  Rate `yaml:"per_client"`  // for each authenticated client
	PerAddress Rate `yaml:"per_address"` // for each source address, checked first
}

// Rate is a token bucket.
type Rate struct {
	RequestsPerSecond int `yaml:"requests_per_second"` // refill
	Burst             int `yaml:"burst"`               // size
}
