package issuer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
)

// A client is whoever may authenticate: an application of a partner, or a resource
// server that introspects tokens.
type client struct {
	id          string
	partner     string // of an application; "" for a resource server
	disabled    bool   // its partner is
	method      config.Authentication
	certificate config.RegisteredCertificate
	anchors     []access.AnchorKey   // its partner's, or its own
	keys        *registeredcerts.Set // nil unless the method is self_signed_tls_client_auth
	rate        *rate.Limiter

	application *application // nil for a resource server
	audiences   []string     // the resources that a resource server is
}

// An application is what a client may be given.
type application struct {
	scopes    []string // at most
	defaults  []string // when it asks for none
	resources []string // that it may ask for; the first is what it gets when it asks for none
	bound     bool
	opaque    bool
	lifetime  time.Duration
	claims    map[string]any
}

// stranger stands in for every client that does not exist, so that such a request
// takes the same way as one with the wrong certificate.
var stranger client

// clientsOf returns the clients by client_id: the applications that can authenticate,
// and the resource servers. Its errors name the client.
func clientsOf(cfg *config.Config, options *Options) (map[string]*client, error) {
	clients := make(map[string]*client)
	var faults []error
	add := func(c *client, keys config.ClientKeys) {
		switch c.method {
		case config.TLSClientAuth:
		case config.SelfSignedTLSClientAuth:
			var err error
			if c.keys, err = registeredcerts.New(keys, c.certificate.Thumbprints, registeredcerts.Options{
				Log: options.Log.With("client_id", c.id), Now: options.Now, Previous: options.Previous.keysOf(c.id),
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
				certificate: a.Certificate, anchors: options.Anchors[p.Name], application: applicationOf(cfg.Issuer, a),
			}, a.Keys)
		}
	}
	for i := range cfg.Issuer.ResourceServers {
		s := &cfg.Issuer.ResourceServers[i]
		add(&client{
			id: string(s.ClientID), method: s.Authentication, certificate: s.Certificate,
			anchors: options.ResourceServerAnchors[s.ClientID], audiences: s.Resources,
		}, s.Keys)
	}
	return clients, errors.Join(faults...)
}

// keysOf returns the registered certificates of a client, nil for none.
func (i *Issuer) keysOf(id string) *registeredcerts.Set {
	if i == nil || i.clients[id] == nil {
		return nil
	}
	return i.clients[id].keys
}

func applicationOf(own *config.Issuer, a *config.Application) *application {
	out := &application{
		scopes: texts(a.Scopes), defaults: texts(a.DefaultScopes), resources: resourcesOf(own, a),
		bound: a.BoundTokens, opaque: a.TokenFormat == config.Opaque, lifetime: own.TokenLifetime,
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

// resourcesOf returns what a may ask a token for, the default first: the issuer's
// audience where a may ask for that (RFC 9068 section 3).
func resourcesOf(own *config.Issuer, a *config.Application) []string {
	allowed := a.Resources
	if allowed == nil {
		allowed = append([]string{own.Audience}, own.Resources...)
		for i := range own.ResourceServers {
			allowed = append(allowed, own.ResourceServers[i].Resources...)
		}
	}
	if slices.Contains(allowed, own.Audience) {
		allowed = append([]string{own.Audience}, allowed...)
	}
	var once []string
	for _, r := range allowed {
		if !slices.Contains(once, r) {
			once = append(once, r)
		}
	}
	return once
}

func texts[T ~string](list []T) []string {
	var out []string
	for _, v := range list {
		out = append(out, string(v))
	}
	return out
}
