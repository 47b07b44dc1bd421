package config

import (
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
)

// Application is an OAuth client of a partner.
type Application struct {
	ClientID       ClientID              `yaml:"client_id"` // unique over all partners
	Certificate    RegisteredCertificate `yaml:"certificate"`
	Authentication Authentication        `yaml:"authentication"` // at our own issuer; default tls_client_auth
	Keys           ClientKeys            `yaml:"keys"`           // for self_signed_tls_client_auth, and only for it
	APIs           []APIGrant            `yaml:"apis"`           // what it may call; empty means nothing
	RateLimit      *Rate                 `yaml:"rate_limit"`     // of its granted requests; more are answered with 429. Optional.

	// What our own issuer gives it.
	Scopes        []Scope       `yaml:"scopes"`         // what it may be granted at most
	DefaultScopes []Scope       `yaml:"default_scopes"` // granted when it asks for none; default: all of Scopes
	Resources     []string      `yaml:"resources"`      // what it may ask a token for, RFC 8707; default: all that the issuer knows
	BoundTokens   bool          `yaml:"bound_tokens"`   // RFC 8705 section 3.4; default true
	TokenFormat   TokenFormat   `yaml:"token_format"`   // default jwt
	TokenLifetime time.Duration `yaml:"token_lifetime"` // 0: the issuer's
	Claims        []StaticClaim `yaml:"claims"`         // added to each of its tokens
}

// Authentication is a client authentication method of RFC 8705 section 2.
type Authentication string

// The values of [Authentication].
const (
	// TLSClientAuth authenticates a client by a certificate that chains to its
	// partner's anchors and carries the registered name, RFC 8705 section 2.1.
	TLSClientAuth Authentication = "tls_client_auth"
	// SelfSignedTLSClientAuth authenticates a client by a certificate that is
	// registered itself, whatever it chains to, RFC 8705 section 2.2.
	SelfSignedTLSClientAuth Authentication = "self_signed_tls_client_auth"
)

// RegisteredCertificate says which certificates are an application's: those that
// carry one name, or those with listed thumbprints. At most one name; with none
// and no thumbprints, every certificate of the partner is.
type RegisteredCertificate struct {
	SubjectDN   certname.DN         `yaml:"subject_dn"` // RFC 4514, compared by structure
	SANDNS      string              `yaml:"san_dns"`    // a dNSName, compared without regard to case; never expanded
	SANURI      certname.URI        `yaml:"san_uri"`    // a uniformResourceIdentifier, such as a SPIFFE ID; compared byte for byte
	SANIP       certname.IP         `yaml:"san_ip"`     // an iPAddress, compared in binary form
	SANEmail    certname.Email      `yaml:"san_email"`  // an rfc822Name, its domain compared without regard to case
	Thumbprints []access.Thumbprint `yaml:"thumbprints"`
}

// ClientKeys says where the registered certificates of a self-signed client come
// from: exactly one of the three (RFC 8705 section 2.2.2).
type ClientKeys struct {
	Certificates []Path `yaml:"certificates"` // PEM files
	JWKS         string `yaml:"jwks"`         // a JWK Set as text, each key with its certificate in x5c
	JWKSURI      *URL   `yaml:"jwks_uri"`     // https; read again when a certificate is not in it
	Trust        []Path `yaml:"trust"`        // PEM anchors for JWKSURI; default: the system's
}

// TokenFormat is what an access token looks like.
type TokenFormat string

// The values of [TokenFormat].
const (
	JWT    TokenFormat = "jwt"    // RFC 9068
	Opaque TokenFormat = "opaque" // 256 bits of chance, told about by introspection alone
)

// StaticClaim is a claim that is the same in each token.
type StaticClaim struct {
	Name  string `yaml:"name"`
	Value string `yaml:"value"`
}

// APIGrant lets an application call an API. In the file it is the API's name, or
// a mapping of api and methods.
type APIGrant struct {
	API     Name     `yaml:"api"`
	Methods []Method `yaml:"methods"` // default: all that the API's routes offer
}

// UnmarshalText reads the short form, the name of the API.
func (g *APIGrant) UnmarshalText(text []byte) error { return g.API.UnmarshalText(text) }
