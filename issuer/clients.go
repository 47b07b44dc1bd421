package issuer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/feed"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

// A client can authenticate at the endpoints. It is an application of a partner, or a resource server
// that introspects tokens.
type client struct {
	id           string
	partner      string // "" for a resource server
	disabled     bool   // the partner of the client is disabled
	method       config.Authentication
	certificate  config.RegisteredCertificate
	anchors      []access.AnchorKey   // the anchors of the partner, or of the resource server
	serverAuth   bool                 // the client may have a certificate for server authentication alone
	certificates *registeredcerts.Set // nil unless the method is self_signed_tls_client_auth
	rate         *rate.Limiter

	application *application // nil for a resource server
	audiences   []string     // the audiences whose tokens a resource server may introspect

	subscriptions *rate.Limiter // bounds the subscriptions to the feed of revocations; nil: the client may not subscribe
}

// An application has the scopes and resources that a client may request, and the defaults.
type application struct {
	scopes    []string // all scopes that the client may request
	defaults  []string // the scopes that are granted when the request names no scope
	resources []string // the resources that the client may request; the first is the default
	bound     bool
	opaque    bool
	lifetime  time.Duration
	claims    map[string]any
}

// unknownClient is used for every client_id that is not registered, so that requests with it take the
// same steps as requests with a wrong certificate.
var unknownClient client

// newClients returns, by client_id, the resource servers and the applications that can authenticate.
// Its errors name the client.
func newClients(cfg *config.Config, options *Options) (map[string]*client, error) {
	clients := make(map[string]*client)
	var faults []error
	add := func(c *client, keys config.ClientKeys) {
		switch c.method {
		case config.TLSClientAuth:
		case config.SelfSignedTLSClientAuth:
			var err error
			if c.certificates, err = registeredcerts.New(keys, c.certificate.Thumbprints, registeredcerts.Options{
				Log: options.Log.With("client_id", c.id), Now: options.Now, Client: c.id, Lease: options.Lease,
			}); err != nil {
				faults = append(faults, fmt.Errorf("client %s: %w", c.id, err))
			}
		default:
			return
		}
		per := cfg.Issuer.Limits.PerClient
		c.rate = rate.NewLimiter(rate.Limit(per.RequestsPerSecond), per.Burst)
		clients[c.id] = c
	}
	for i := range cfg.Partners.List {
		p := &cfg.Partners.List[i]
		for j := range p.Applications {
			a := &p.Applications[j]
			add(&client{
				id: string(a.ClientID), partner: string(p.Name), disabled: p.Disabled, method: a.Authentication,
				certificate: a.Certificate, anchors: options.Anchors[p.Name], application: newApplication(cfg.Issuer, a), serverAuth: a.AcceptsServerAuth(),
			}, a.Keys)
		}
	}
	for i := range cfg.Issuer.ResourceServers {
		s := &cfg.Issuer.ResourceServers[i]
		c := &client{
			id: string(s.ClientID), method: s.Authentication, certificate: s.Certificate,
			anchors: options.ResourceServerAnchors[s.ClientID], audiences: s.Resources,
		}
		if s.Revocations {
			per := cfg.Issuer.Limits.PerClient
			c.subscriptions = rate.NewLimiter(rate.Limit(per.RequestsPerSecond), max(per.Burst, feed.MaxSubscribers))
		}
		add(c, s.Keys)
	}
	return clients, errors.Join(faults...)
}

func newApplication(settings *config.Issuer, a *config.Application) *application {
	out := &application{
		scopes: toStrings(a.Scopes), defaults: toStrings(a.DefaultScopes), resources: allowedResources(settings, a),
		bound: a.BoundTokens, opaque: a.TokenFormat == config.Opaque, lifetime: settings.TokenLifetime,
	}
	if a.DefaultScopes == nil {
		out.defaults = out.scopes
	}
	if a.TokenLifetime > 0 {
		out.lifetime = a.TokenLifetime
	}
	if len(a.Claims) > 0 {
		out.claims = make(map[string]any, len(a.Claims))
	}
	for _, c := range a.Claims {
		out.claims[c.Name] = c.Value
	}
	return out
}

// allowedResources returns the resources that a may request. The first is the default: the issuer's
// audience, if a may request it (RFC 9068 section 3).
func allowedResources(settings *config.Issuer, a *config.Application) []string {
	allowed := a.Resources
	if allowed == nil {
		allowed = append([]string{settings.Audience}, settings.Resources...)
		for i := range settings.ResourceServers {
			allowed = append(allowed, settings.ResourceServers[i].Resources...)
		}
	}
	if slices.Contains(allowed, settings.Audience) {
		allowed = append([]string{settings.Audience}, allowed...)
	}
	var unique []string
	for _, r := range allowed {
		if !slices.Contains(unique, r) {
			unique = append(unique, r)
		}
	}
	return unique
}

func toStrings[T ~string](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}
