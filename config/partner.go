package config

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/certname"
)

// Partners lists the organisations whose applications call.
type Partners struct {
	List []Partner `yaml:"list"`
}

// Partner is an organisation.
type Partner struct {
	Name Name `yaml:"name" schema:"required"` // unique
	// Trust lists PEM files with anchors. The certificates of this partner must chain to one of these
	// anchors, compared by key, and not through an anchor of another partner. Default: the anchors of
	// the partners' listener.
	Trust []Path `yaml:"trust" schema:"nonempty,elements"`
	// InsecureRSA1024Until allows RSA keys from 1024 to 2047 bits in the anchors in Trust and in
	// certificates that chain to them, until the end of this day. Needs Trust. Optional.
	InsecureRSA1024Until Date          `yaml:"insecure_rsa_1024_until"`
	Disabled             bool          `yaml:"disabled"`
	TraceContext         TraceContext  `yaml:"trace_context"`
	Applications         []Application `yaml:"applications"`
}

// Application is an OAuth client of a partner, with the certificate, the APIs and the token
// settings that belong to it.
type Application struct {
	ClientID       ClientID              `yaml:"client_id" schema:"required"` // unique over all partners
	Certificate    RegisteredCertificate `yaml:"certificate"`
	Authentication Authentication        `yaml:"authentication"` // the method at our own issuer; default tls_client_auth
	Keys           ClientKeys            `yaml:"keys"`           // required for self_signed_tls_client_auth, and allowed only there
	// Usages lists the extended key usages that the application's certificates may have (RFC 5280
	// section 4.2.1.12). If a certificate lists usages, one of them must be in Usages, and the same
	// applies to the authorities above the certificate. Default: client_auth. With server_auth too,
	// the gate accepts the certificates of public authorities that no longer issue certificates for
	// clients. server_auth needs registered thumbprints, self_signed_tls_client_auth, or a registered
	// name together with a trust of the partner's own.
	Usages    []CertificateUsage `yaml:"usages" schema:"nonempty"`
	APIs      []APIGrant         `yaml:"apis" schema:"required,nonempty"` // the APIs that the application may call; at least one
	RateLimit *Rate              `yaml:"rate_limit"`                      // bounds the granted requests; further requests get 429. Optional.

	// The settings below are for the tokens that our own issuer issues to the application.
	Scopes        []Scope       `yaml:"scopes"`         // the scopes that the application can be granted
	DefaultScopes []Scope       `yaml:"default_scopes"` // granted if the application requests no scope; default: all of Scopes
	Resources     []string      `yaml:"resources"`      // the resources that the application may request, RFC 8707; default: all resources of the issuer
	BoundTokens   bool          `yaml:"bound_tokens"`   // RFC 8705 section 3.4; default true
	TokenFormat   TokenFormat   `yaml:"token_format"`   // default jwt
	TokenLifetime time.Duration `yaml:"token_lifetime"` // 0 means token_lifetime of the issuer
	Claims        []StaticClaim `yaml:"claims"`         // claims that are added to each token
}

// Authentication is a client authentication method of RFC 8705 section 2.
type Authentication string

// The values of [Authentication].
const (
	// TLSClientAuth authenticates a client by a certificate that chains to an anchor of the client's
	// partner and has the registered name, RFC 8705 section 2.1.
	TLSClientAuth Authentication = "tls_client_auth"
	// SelfSignedTLSClientAuth authenticates a client by its registered certificate, even if this
	// certificate chains to no anchor, RFC 8705 section 2.2.
	SelfSignedTLSClientAuth Authentication = "self_signed_tls_client_auth"
)

// CertificateUsage is an extended key usage of a certificate, RFC 5280 section 4.2.1.12.
type CertificateUsage string

// The values of [CertificateUsage].
const (
	UsageClientAuth CertificateUsage = "client_auth"
	UsageServerAuth CertificateUsage = "server_auth"
)

// AcceptsServerAuth reports whether a may have certificates for server authentication alone.
func (a Application) AcceptsServerAuth() bool { return slices.Contains(a.Usages, UsageServerAuth) }

// MayCall reports whether a has a grant to call an API with method. Routes, scopes and bindings of the API
// bound the calls further.
func (a *Application) MayCall(api Name, method string) bool {
	return slices.ContainsFunc(a.APIs, func(g APIGrant) bool {
		return g.API == api && (len(g.Methods) == 0 || slices.Contains(g.Methods, Method(method)))
	})
}

// RegisteredCertificate says which certificates belong to an application: certificates with a name,
// or with a listed thumbprint. At most one name can be registered. If neither a name nor a thumbprint
// is registered, every certificate of the partner belongs to the application.
type RegisteredCertificate struct {
	SubjectDN   certname.DN         `yaml:"subject_dn"` // RFC 4514, compared by structure
	SANDNS      string              `yaml:"san_dns"`    // a dNSName, compared without regard to case; a wildcard matches only itself
	SANURI      certname.URI        `yaml:"san_uri"`    // a uniformResourceIdentifier, such as a SPIFFE ID; compared byte for byte
	SANIP       certname.IP         `yaml:"san_ip"`     // an iPAddress, compared in binary form
	SANEmail    certname.Email      `yaml:"san_email"`  // an rfc822Name; its domain is compared without regard to case
	Thumbprints []access.Thumbprint `yaml:"thumbprints"`
}

// ClientKeys is the source of the registered certificates of a client with
// self_signed_tls_client_auth. Exactly one of Certificates, JWKS and JWKSURI must be set (RFC 8705
// section 2.2.2).
type ClientKeys struct {
	Certificates []Path `yaml:"certificates" schema:"nonempty,elements"` // PEM files
	JWKS         string `yaml:"jwks"`                                    // a JWK Set as text; each key has its certificate in x5c
	JWKSURI      *URL   `yaml:"jwks_uri"`                                // https; fetched again when the last result lacks the certificate of a client
	Trust        []Path `yaml:"trust" schema:"nonempty,elements"`        // PEM files with anchors for the server of JWKSURI; default: the anchors of the system
}

// TokenFormat is the format of an access token.
type TokenFormat string

// The values of [TokenFormat].
const (
	JWT    TokenFormat = "jwt"    // a signed JWT, RFC 9068
	Opaque TokenFormat = "opaque" // 256 random bits, which have a meaning only to introspection
)

// StaticClaim is a claim with the same value in each token.
type StaticClaim struct {
	Name  string `yaml:"name" schema:"required,nonempty"`
	Value string `yaml:"value"`
}

// APIGrant allows an application to call an API. In the file it is the name of the API, or a mapping
// of api and methods.
type APIGrant struct {
	API     Name     `yaml:"api" schema:"required"`
	Methods []Method `yaml:"methods" schema:"nonempty"` // default: all methods of the API's routes
}

// UnmarshalText reads the short form, the name of the API.
func (g *APIGrant) UnmarshalText(text []byte) error { return g.API.UnmarshalText(text) }

// A registeredName is the text of a registered name, with the key of its setting.
type registeredName struct{ key, value string }

// names returns the names that r registers.
func (r *RegisteredCertificate) names() []registeredName {
	all := []registeredName{
		{"subject_dn", r.SubjectDN.String()},
		{"san_dns", r.SANDNS},
		{"san_uri", string(r.SANURI)},
		{"san_ip", ""},
		{"san_email", string(r.SANEmail)},
	}
	if r.SANIP.IsValid() { // IsValid, because the zero address also has a text
		all[3].value = r.SANIP.String()
	}
	return slices.DeleteFunc(all, func(n registeredName) bool { return n.value == "" })
}

// nameKeys returns the keys of the names that r registers.
func (r *RegisteredCertificate) nameKeys() []string {
	var keys []string
	for _, name := range r.names() {
		keys = append(keys, name.key)
	}
	return keys
}

// HasName reports whether r registers a name, a subject DN or a SAN.
func (r RegisteredCertificate) HasName() bool {
	return !r.SubjectDN.IsZero() || r.SANDNS != "" || r.SANURI != "" || r.SANIP.IsValid() || r.SANEmail != ""
}

// MatchesAny reports whether r registers neither a name nor a thumbprint. If so, every certificate
// that chains to an anchor of the partner belongs to the application.
func (r RegisteredCertificate) MatchesAny() bool { return !r.HasName() && len(r.Thumbprints) == 0 }

// MatchesName reports whether cert has every name that r registers (RFC 8705 section 2.1.2). A
// subject DN must equal the whole subject, compared by structure. A SAN must equal an entry of the
// same kind in the subjectAltName. Package certname defines the comparison of each kind. If r has no
// name or cert is nil, MatchesName returns false. Both the gate and the issuer match names only by
// this function.
func (r RegisteredCertificate) MatchesName(cert *x509.Certificate) bool {
	if cert == nil || !r.HasName() {
		return false
	}
	return (r.SubjectDN.IsZero() || r.SubjectDN.MatchesSubject(cert.RawSubject)) &&
		(r.SANDNS == "" || certname.HasDNSName(cert, r.SANDNS)) &&
		(r.SANURI == "" || r.SANURI.Matches(cert)) &&
		(!r.SANIP.IsValid() || r.SANIP.Matches(cert)) &&
		(r.SANEmail == "" || r.SANEmail.Matches(cert))
}

// HasThumbprint reports whether thumbprint is registered. It returns false for the zero thumbprint.
func (r RegisteredCertificate) HasThumbprint(thumbprint access.Thumbprint) bool {
	return thumbprint != access.Thumbprint{} && slices.Contains(r.Thumbprints, thumbprint)
}

// String returns the registered names and thumbprints with their keys, or "" if nothing is
// registered.
func (r *RegisteredCertificate) String() string {
	var parts []string
	for _, name := range r.names() {
		parts = append(parts, name.key+" "+name.value)
	}
	for _, t := range r.Thumbprints {
		parts = append(parts, "thumbprint "+t.String())
	}
	return strings.Join(parts, " or ")
}
