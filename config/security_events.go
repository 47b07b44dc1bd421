package config

import (
	"time"

	"github.com/tallygate/tallygate/access"
)

// SecurityEvents configures the revocations that another authorization server sends as Security Event
// Tokens (RFC 8417), verified with the server's key set. The tokens are polled, pushed or both.
type SecurityEvents struct {
	Audience string              `yaml:"audience" schema:"required,nonempty"` // the name of this receiver: aud of a Security Event Token must have this name
	Poll     *SecurityEventsPoll `yaml:"poll"`                                // Optional, like Push; at least one is required.
	Push     *SecurityEventsPush `yaml:"push"`                                // needs our own issuer in the same process, on whose listener the tokens arrive
	// State is a separate folder for the received revocations. It is required without our own issuer. With
	// it, the issuer's state has the revocations.
	State Path `yaml:"state"`
	// MaxStaleness is how long the server's tokens are accepted after the beginning of the last poll that
	// succeeded.
	MaxStaleness time.Duration        `yaml:"max_staleness"`
	WhenStale    WhenRevocationsStale `yaml:"when_stale"` // what happens to the server's tokens after MaxStaleness; default refuse
}

// SecurityEventsPoll configures the polls of one stream, RFC 8936.
type SecurityEventsPoll struct {
	Endpoint       *URL               `yaml:"endpoint" schema:"required"` // https only
	Authentication PollAuthentication `yaml:"authentication"`
	Interval       time.Duration      `yaml:"interval"` // the time between two polls; default 5s
	// LongPoll is the longest time for which the server may wait for an event before it answers. 0 asks
	// for an answer at once.
	LongPoll time.Duration `yaml:"long_poll"`
}

// PollAuthentication says how the gate authenticates at the poll endpoint. The file of a secret is read
// for each poll, so a new secret is used at once.
type PollAuthentication struct {
	Method     PollMethod `yaml:"method"`      // default tls_client_auth
	ClientID   ClientID   `yaml:"client_id"`   // for client_secret_basic
	SecretFile Path       `yaml:"secret_file"` // for client_secret_basic
	TokenFile  Path       `yaml:"token_file"`  // for bearer
}

// PollMethod is an authentication method of polls. The other methods of introspection need a body that
// is a form, and the body of a poll is JSON.
type PollMethod string

// The values of [PollMethod].
const (
	PollTLS         PollMethod = "tls_client_auth"     // the certificate is in the TLS connection
	PollSecretBasic PollMethod = "client_secret_basic" // RFC 6749 section 2.3.1
	PollBearer      PollMethod = "bearer"              // an access token for the endpoint, RFC 6750
)

// UnmarshalText reads an authentication method of polls.
func (m *PollMethod) UnmarshalText(text []byte) error {
	return oneOf(m, text, PollTLS, PollSecretBasic, PollBearer)
}

// SecurityEventsPush configures the endpoint at our own issuer's listener at which Security Event Tokens
// arrive, RFC 8935.
type SecurityEventsPush struct {
	Path string `yaml:"path" schema:"required,nonempty"` // begins with /security-events/; unique
	// AuthorizationFile has the value of the Authorization header that the server sends, such as "Bearer"
	// and a token. It is read for each request. At least one of AuthorizationFile and Thumbprints is
	// required; with both, a request needs both.
	AuthorizationFile Path                `yaml:"authorization_file"`
	Thumbprints       []access.Thumbprint `yaml:"thumbprints" schema:"nonempty"` // the server's client certificates (x5t#S256)
}

// WhenRevocationsStale says what happens to tokens while it is unknown whether they are revoked.
type WhenRevocationsStale string

// The values of [WhenRevocationsStale].
const (
	RefuseRevocationsStale     WhenRevocationsStale = "refuse"     // 503 revocations_stale
	IntrospectRevocationsStale WhenRevocationsStale = "introspect" // each request introspects its token
	ContinueRevocationsStale   WhenRevocationsStale = "continue"   // the last known revocations are used
)

// UnmarshalText reads what happens to tokens.
func (w *WhenRevocationsStale) UnmarshalText(text []byte) error {
	return oneOf(w, text, RefuseRevocationsStale, IntrospectRevocationsStale, ContinueRevocationsStale)
}

func defaultSecurityEvents() SecurityEvents {
	return SecurityEvents{MaxStaleness: time.Minute, WhenStale: RefuseRevocationsStale}
}

func defaultSecurityEventsPoll() SecurityEventsPoll {
	return SecurityEventsPoll{Authentication: PollAuthentication{Method: PollTLS}, Interval: 5 * time.Second}
}

// Polls reports whether the gate polls the server for Security Event Tokens.
func (s *AuthorizationServer) Polls() bool {
	return s.SecurityEvents != nil && s.SecurityEvents.Poll != nil
}

// SecurityEventsPath is the beginning of the paths at which Security Event Tokens arrive.
const SecurityEventsPath = "/security-events/"
