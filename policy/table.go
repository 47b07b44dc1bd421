// Package policy judges what a caller may do: a request's [Target] and the
// [access.Claims] of its token go in, an [access.Decision] comes out. Partners,
// applications, APIs and routes are looked up in a [Table] made from the
// configuration; whatever it does not name is refused.
package policy

import (
	"fmt"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A Table holds the partners' applications and the routes of all APIs. It is never
// changed after [New] and is safe for concurrent use. The zero Table refuses all.
type Table struct {
	applications map[string]*application // by client_id
	servers      map[string]*server      // authorization servers, by configured name
	hosts        map[string]*node        // root of a host's routes
	wildcards    map[string]*node        // the same, by what comes after "*."
}

// Certificates are what New needs to know of certificates beside the configuration.
type Certificates struct {
	// Anchors holds the trust anchors of each partner; a partner that is absent has none.
	Anchors map[config.Name][]access.AnchorKey
	// Registered holds, of each application with self_signed_tls_client_auth, the
	// thumbprints of the certificates that its configuration registers, files and inline key
	// sets included. Of an application that is absent, none is.
	Registered map[config.ClientID]map[access.Thumbprint]bool
}

// New returns the table of cfg, which must be valid and must not change afterwards: the
// table keeps parts of it.
func New(cfg *config.Config, certificates Certificates) *Table {
	t := &Table{
		applications: make(map[string]*application),
		servers:      make(map[string]*server, len(cfg.AuthorizationServers)),
		hosts:        make(map[string]*node),
		wildcards:    make(map[string]*node),
	}
	for i := range cfg.AuthorizationServers {
		s := &cfg.AuthorizationServers[i]
		t.servers[string(s.Name)] = newServer(s, cfg.Issuer)
	}
	for i := range cfg.APIs {
		t.addAPI(&cfg.APIs[i])
	}
	for i := range cfg.Partners.List {
		t.addPartner(&cfg.Partners.List[i], certificates)
	}
	return t
}

func (t *Table) addAPI(api *config.API) {
	for i := range api.Routes {
		route := newRoute(string(api.Name), &api.Routes[i])
		for _, host := range api.Hosts {
			roots := t.hosts
			key, wild := strings.CutPrefix(string(host), "*.")
			if wild {
				roots = t.wildcards
			}
			if roots[key] == nil {
				roots[key] = new(node)
			}
			roots[key].add(api.Routes[i].Path.Segments(), api.Routes[i].Methods, route)
		}
	}
}

func (t *Table) addPartner(p *config.Partner, certificates Certificates) {
	known := &partner{name: string(p.Name), disabled: p.Disabled, anchors: certificates.Anchors[p.Name]}
	for i := range p.Applications {
		a := &p.Applications[i]
		t.applications[string(a.ClientID)] = &application{
			partner: known, certificate: &a.Certificate, grants: a.APIs,
			selfSigned: a.Authentication == config.SelfSignedTLSClientAuth,
			registered: certificates.Registered[a.ClientID], fetched: a.Keys.JWKSURI != nil,
		}
	}
}

// Serves reports whether an API is served under host, written as [Target.Host] is.
func (t *Table) Serves(host string) bool { return t.root(host) != nil }

// root returns the root of a host's routes, nil when there are none. A wildcard stands for
// one label (RFC 9525 section 6.3 reads those of certificates so), and for no host that is
// named: whoever names one means it to be apart.
func (t *Table) root(host string) *node {
	if named := t.hosts[host]; named != nil {
		return named
	}
	if _, parent, ok := strings.Cut(host, "."); ok {
		return t.wildcards[parent]
	}
	return nil
}

// Partner returns the configured name of the partner whose application clientID is, as the
// authorization server of that name may say, or "" when there is none: a label for logs and
// metrics, and no verdict.
func (t *Table) Partner(server, clientID string) string {
	app, from := t.applications[clientID], t.servers[server]
	if app == nil || from == nil || !from.speaksFor(app.partner.name) {
		return ""
	}
	return app.partner.name
}

// Holder is Partner where the partner is enabled and cert is one of the application's
// certificates, and "" otherwise: a token for which it is "" is refused at every route. It
// is a label for what is remembered of tokens, and no verdict.
func (t *Table) Holder(server, clientID string, cert *access.Certificate) string {
	name := t.Partner(server, clientID)
	if name == "" || clientID == "" {
		return ""
	}
	if app := t.applications[clientID]; app.partner.disabled || app.admit(cert, t.servers[server]) != nil {
		return ""
	}
	return name
}

// Decide judges a call by the caller that claims name, over the connection of cert.
// First the partner: the client must be known, the authorization server that vouches for
// the token must be one that may speak for the client's partner, the partner must be
// enabled, and cert one of the client's certificates. Then the API: a route must match, the
// application must have been granted its API and the method, and the token must have every
// scope of the route. Partner, API and Route are filled as far as the checks came, for the
// log; a caller is not told whether a route is unknown or not granted.
func (t *Table) Decide(method string, target Target, claims access.Claims, cert *access.Certificate) access.Decision {
	d := access.Decision{Server: claims.Server, ClientID: claims.ClientID, Claims: claims}
	app, from := t.applications[claims.ClientID], t.servers[claims.Server]
	if app == nil || claims.ClientID == "" || from == nil {
		return refuse(d, access.UnknownClient, nil)
	}
	if !from.speaksFor(app.partner.name) {
		return refuse(d, access.UnknownClient, &access.Mismatch{
			Name: "partner", Want: "a partner that authorization server " + claims.Server + " may speak for", Got: app.partner.name,
		})
	}
	d.Partner = app.partner.name
	if app.partner.disabled {
		return refuse(d, access.PartnerDisabled, nil)
	}
	if err := app.admit(cert, from); err != nil {
		return refuse(d, access.CertificateNotRegistered, err)
	}
	route, err := t.route(method, target)
	if err != nil {
		return refuse(d, access.APINotAllowed, err)
	}
	d.API, d.Route = route.api, route.name
	if !app.granted(route.api, method) {
		return refuse(d, access.APINotAllowed, errNotGranted)
	}
	if !route.covered(claims.Scopes) {
		d.Scopes = route.scopes
		return refuse(d, access.InsufficientScope, &access.Mismatch{
			Name: "scope", Want: strings.Join(route.scopes, " "), Got: access.Truncate(fmt.Sprintf("%q", claims.Scopes)),
		})
	}
	d.Reason = access.Granted
	d.Asserted, d.WebSocket, d.AnyBody = route.asserted, route.webSocket, route.anyBody
	return d
}

func refuse(d access.Decision, reason access.Reason, err error) access.Decision {
	d.Reason, d.Err = reason, err
	return d
}
