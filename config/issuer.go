package config

import "time"

// Issuer is our own authorization server, in the same process.
type Issuer struct {
	Issuer      Identifier        `yaml:"issuer"`      // its identifier, RFC 8414 section 2: https, no query, no fragment
	Address     Address           `yaml:"address"`     // its listener: mutual TLS, unless there is an alias
	MTLSAlias   *MTLSAlias        `yaml:"mtls_alias"`  // Optional.
	Certificate IssuerCertificate `yaml:"certificate"` // default: the listener's
	State       Path              `yaml:"state"`       // a folder of its own: revocations, opaque tokens, keys
	Signing     Signing           `yaml:"signing"`

	Audience         string        `yaml:"audience"`           // the default resource: aud of a token that is asked for none
	Resources        []string      `yaml:"resources"`          // further resources that may be asked for, RFC 8707
	TokenLifetime    time.Duration `yaml:"token_lifetime"`     // of applications that have none of their own
	MaxTokenLifetime time.Duration `yaml:"max_token_lifetime"` // of any token; at most 24 hours
	RequireBound     bool          `yaml:"require_bound"`      // no application may have unbound tokens

	ResourceServers []ResourceServer `yaml:"resource_servers"` // who may introspect tokens
	Governance      Governance       `yaml:"governance"`
	Limits          IssuerLimits     `yaml:"limits"`
}

// IssuerCertificate is what the issuer's listeners show in place of the partners'
// listener's certificate.
type IssuerCertificate struct {
	Files KeyPair `yaml:"files"`
}

// MTLSAlias moves the endpoints that clients authenticate at to a listener of their
// own, RFC 8705 section 5. The issuer's own listener then never asks for a
// certificate.
type MTLSAlias struct {
	URL     *URL    `yaml:"url"`     // where clients reach Address: https, scheme and host alone
	Address Address `yaml:"address"` // its mutual-TLS listener
}

// Signing says what signs the tokens.
type Signing struct {
	Algorithm Algorithm     `yaml:"algorithm"` // ES256, PS256, RS256 or EdDSA
	Rotate    time.Duration `yaml:"rotate"`    // how long a key of our own signs
	// Files are PEM private keys in place of keys of our own: the first signs, the
	// others are published. They are read again when they change, all of them or none, also
	// where a fault elsewhere keeps a reload from being taken.
	Files []Path `yaml:"files"`
}

// ResourceServer is one that may introspect the tokens that are meant for it.
type ResourceServer struct {
	ClientID       ClientID              `yaml:"client_id"` // unique, also among applications
	Trust          []Path                `yaml:"trust"`     // PEM anchors; default: the listener's
	Certificate    RegisteredCertificate `yaml:"certificate"`
	Authentication Authentication        `yaml:"authentication"` // default tls_client_auth
	Keys           ClientKeys            `yaml:"keys"`           // for self_signed_tls_client_auth
	Resources      []string              `yaml:"resources"`      // the audiences that it is; at least one
}

// Governance decides by expressions (CEL) what is granted. Rules are applied level
// by level, in this order, and in the order of each list.
type Governance struct {
	Workspace   []WorkspaceRule   `yaml:"workspace"`   // every token request
	Application []ApplicationRule `yaml:"application"` // those of one application
	Scope       []ScopeRule       `yaml:"scope"`       // each request for one scope
	Claims      []ClaimRule       `yaml:"claims"`      // what is added to a token
}

// WorkspaceRule applies to every token request. Exactly one of Refuse and Lifetime.
type WorkspaceRule struct {
	Name     Name          `yaml:"name"`     // in the log; unique over all levels
	When     string        `yaml:"when"`     // a CEL expression that is true or false
	Refuse   string        `yaml:"refuse"`   // refuse the request; the text is for the log
	Lifetime time.Duration `yaml:"lifetime"` // let the token live no longer than this
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

// ScopeRule applies where one scope would be granted. Exactly one of Refuse, Drop
// and Lifetime.
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
	Claim string `yaml:"claim"` // none of those that the issuer sets itself
	When  string `yaml:"when"`  // default: always
	Value string `yaml:"value"` // a CEL expression: text, number, truth value, or a list or map of them
}

// IssuerLimits bounds what the issuer's endpoints take; more is answered with 429.
type IssuerLimits struct {
	PerClient  Rate `yaml:"per_client"`  // each client that has authenticated
	PerAddress Rate `yaml:"per_address"` // each source address, before anything else is done
}

// Rate is a token bucket.
type Rate struct {
	RequestsPerSecond int `yaml:"requests_per_second"` // refill
	Burst             int `yaml:"burst"`               // size
}
