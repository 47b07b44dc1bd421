package config

import "time"

// Issuer is our own authorization server, in the process of the gate.
type Issuer struct {
	Issuer      Identifier        `yaml:"issuer" schema:"required"`  // the issuer identifier, RFC 8414 section 2: https, no query, no fragment
	Address     Address           `yaml:"address" schema:"required"` // the address of the issuer's listener, which has mutual TLS unless there is an alias
	MTLSAlias   *MTLSAlias        `yaml:"mtls_alias"`                // Optional.
	Certificate IssuerCertificate `yaml:"certificate"`               // default: the certificate of the partners' listener
	State       Path              `yaml:"state"`                     // a separate folder for revocations, opaque tokens and keys; excludes Database
	Database    *Database         `yaml:"database"`                  // the same state in PostgreSQL, for several issuers; excludes State
	Signing     Signing           `yaml:"signing"`

	Audience         string        `yaml:"audience" schema:"required,nonempty"` // the default resource: aud of a token for which the client requested no resource
	Resources        []string      `yaml:"resources" schema:"elements"`         // further resources that clients may request, RFC 8707
	TokenLifetime    time.Duration `yaml:"token_lifetime"`                      // the lifetime of tokens of applications that set no token_lifetime
	MaxTokenLifetime time.Duration `yaml:"max_token_lifetime"`                  // the longest lifetime of any token; at most 24 hours
	RequireBound     bool          `yaml:"require_bound"`                       // forbids bound_tokens: false

	ResourceServers []ResourceServer `yaml:"resource_servers"` // the clients that may introspect tokens or read the revocations
	Operators       []Operator       `yaml:"operators"`        // the clients that may revoke over mutual TLS
	Governance      Governance       `yaml:"governance"`
	Limits          IssuerLimits     `yaml:"limits"`
}

// IssuerCertificate is the certificate of the issuer's listeners. Default: the certificate of the
// partners' listener.
type IssuerCertificate struct {
	Files KeyPair `yaml:"files"`
}

// MTLSAlias moves the endpoints at which clients authenticate to a separate listener, RFC 8705
// section 5. With an alias, the listener at the issuer's Address never requests a client certificate.
type MTLSAlias struct {
	URL     *URL    `yaml:"url" schema:"required"`     // the URL of Address for clients: https, only scheme and host
	Address Address `yaml:"address" schema:"required"` // the address of the mutual-TLS listener
}

// Signing says which keys sign the tokens.
type Signing struct {
	Algorithm Algorithm     `yaml:"algorithm"` // ES256, PS256, RS256 or EdDSA
	Rotate    time.Duration `yaml:"rotate"`    // how long a generated key signs
	// Files are PEM private keys that replace generated keys. The first key signs; the other keys are
	// only published. When one file changes, all files are reloaded, or none if there is a fault.
	// This reload also works while a fault in the configuration prevents other reloads.
	Files []Path `yaml:"files" schema:"nonempty,elements"`
}

// ResourceServer is a client that may introspect tokens whose audience is one of its Resources, and may subscribe to the
// feed of revocations if Revocations is set.
type ResourceServer struct {
	ClientID       ClientID              `yaml:"client_id" schema:"required"`      // unique, also among applications
	Trust          []Path                `yaml:"trust" schema:"nonempty,elements"` // PEM files with anchors; default: the anchors of the partners' listener
	Certificate    RegisteredCertificate `yaml:"certificate"`
	Authentication Authentication        `yaml:"authentication"`                                // default tls_client_auth
	Keys           ClientKeys            `yaml:"keys"`                                          // for self_signed_tls_client_auth
	Resources      []string              `yaml:"resources" schema:"required,nonempty,elements"` // the audiences of this resource server; at least one
	Revocations    bool                  `yaml:"revocations"`                                   // the client may subscribe to the feed of revocations
}

// Governance has rules in CEL for the tokens that the issuer grants. The issuer applies the rules in
// the order of the fields, and within a field in the order of the list.
type Governance struct {
	Workspace   []WorkspaceRule   `yaml:"workspace"`   // every token request
	Application []ApplicationRule `yaml:"application"` // the token requests of one application
	Scope       []ScopeRule       `yaml:"scope"`       // each request for one scope
	Claims      []ClaimRule       `yaml:"claims"`      // claims that are added to a token
}

// WorkspaceRule applies to every token request. Exactly one of Refuse and Lifetime must be set.
type WorkspaceRule struct {
	Name     Name          `yaml:"name" schema:"required"`          // in the log; unique over all levels
	When     string        `yaml:"when" schema:"required,nonempty"` // a CEL expression that is true or false
	Refuse   string        `yaml:"refuse"`                          // refuses the request; the text is for the log
	Lifetime time.Duration `yaml:"lifetime"`                        // bounds the lifetime of the token
}

// ApplicationRule applies to the token requests of one application. Exactly one of Refuse and
// Lifetime must be set.
type ApplicationRule struct {
	Name     Name          `yaml:"name" schema:"required"`
	ClientID ClientID      `yaml:"client_id" schema:"required"`
	When     string        `yaml:"when" schema:"required,nonempty"`
	Refuse   string        `yaml:"refuse"`
	Lifetime time.Duration `yaml:"lifetime"`
}

// ScopeRule applies to a scope that would be granted. Exactly one of Refuse, Drop and Lifetime must
// be set.
type ScopeRule struct {
	Name     Name          `yaml:"name" schema:"required"`
	Scope    Scope         `yaml:"scope" schema:"required"`
	When     string        `yaml:"when" schema:"required,nonempty"`
	Refuse   string        `yaml:"refuse"` // refuses the request; the text is for the log
	Drop     bool          `yaml:"drop"`   // grants the request without the scope
	Lifetime time.Duration `yaml:"lifetime"`
}

// ClaimRule adds one claim to a token.
type ClaimRule struct {
	Name  Name   `yaml:"name" schema:"required"`
	Claim string `yaml:"claim" schema:"required,nonempty"` // must not be a claim that the issuer itself sets
	When  string `yaml:"when"`                             // default: the claim is always added
	Value string `yaml:"value" schema:"required,nonempty"` // a CEL expression: a string, a number, a boolean, or a list or map of these
}

// IssuerLimits bounds the requests to the issuer's endpoints. Further requests get 429.
type IssuerLimits struct {
	PerClient  Rate `yaml:"per_client"`  // for each authenticated client
	PerAddress Rate `yaml:"per_address"` // for each source address; checked before PerClient
}

// Rate configures a token bucket.
type Rate struct {
	RequestsPerSecond int `yaml:"requests_per_second" schema:"minimum=1"` // how fast the bucket is refilled
	Burst             int `yaml:"burst" schema:"minimum=1"`               // the size of the bucket
}
