package config

import (
	"net/url"
	"strings"
	"time"
)

// Revocations says from where the gate learns what an issuer in another process has revoked: a stream of
// events, on a connection that the gate keeps open.
type Revocations struct {
	Server   Name     `yaml:"server" schema:"required"`    // the name of the issuer in authorization_servers; its key set verifies the events
	Feeds    []URL    `yaml:"feeds" schema:"nonempty"`     // https; used in turn; default: /revocations at the issuer
	ClientID ClientID `yaml:"client_id" schema:"required"` // the gate's client_id at the issuer, which it authenticates with connection.certificate (RFC 8705 section 2)
	State    Path     `yaml:"state"`                       // a folder for the last known revocations; default: a restarted gate fetches all revocations
	// MaxStaleness is how long after the last heartbeat the gate decides by the revocations that it knows.
	MaxStaleness time.Duration `yaml:"max_staleness"`
	// WhenStale says what happens to requests after MaxStaleness. ContinueRevocationsStale
	// weakens the gate, and a warning is logged.
	WhenStale WhenRevocationsStale `yaml:"when_stale"`
	// ReadyBeforeSync says that the gate is ready before it knows all revocations for the first time.
	ReadyBeforeSync bool `yaml:"ready_before_sync"`
}

// FeedPath is the path of an issuer's feed of revocations, relative to the issuer identifier.
const FeedPath = "/revocations"

// RevocationServer returns the entry of AuthorizationServers that Revocations names, or nil.
func (c *Config) RevocationServer() *AuthorizationServer {
	if c.Revocations == nil {
		return nil
	}
	for i := range c.AuthorizationServers {
		if s := &c.AuthorizationServers[i]; s.Name == c.Revocations.Server {
			return s
		}
	}
	return nil
}

// FeedURLs returns the URLs of the feeds with the gate's client_id. issuer is the identifier of the server.
func (r *Revocations) FeedURLs(issuer Identifier) []*url.URL {
	feeds := r.Feeds
	if len(feeds) == 0 {
		if u, err := url.Parse(strings.TrimSuffix(string(issuer), "/") + FeedPath); err == nil {
			feeds = []URL{{*u}}
		}
	}
	urls := make([]*url.URL, len(feeds))
	for i := range feeds {
		u := feeds[i].URL
		u.RawQuery = url.Values{"client_id": {string(r.ClientID)}}.Encode()
		urls[i] = &u
	}
	return urls
}
