// Package policy decides what a client may call. From the [Target] of a request and the
// [access.Claims] of its token it makes an [access.Decision]. A [Table] holds the partners,
// applications, APIs and routes of the configuration; everything else is refused.
package policy

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
)

// A Table holds the partners' applications and the routes of all APIs. It never changes after [New]
// and is safe for concurrent use. The zero Table refuses every request.
type Table struct {
	applications map[string]*application // by client_id
	servers      map[string]*server      // authorization servers, by configured name
	hosts        map[string]*node        // root of the routes, by host
	wildcards    map[string]*node        // root of the routes of a wildcard, by the host after "*."
	callers      callers
}

// Certificates are the contents of the certificate files that the configuration names.
type Certificates struct {
	// Anchors holds the trust anchors of each partner. An absent partner has no anchors.
	Anchors map[config.Name][]access.AnchorKey
	// Registered holds the thumbprints of the certificates of each application with
	// self_signed_tls_client_auth: from thumbprints, files and inline key sets. An absent application
	// has no registered certificate.
	Registered map[config.ClientID]map[access.Thumbprint]bool
}

// New returns the Table of cfg, which must be valid. The Table keeps parts of cfg, so cfg must not
// change afterwards.
func New(cfg *config.Config, certificates Certificates) *Table {
	t := &Table{
		applications: make(map[string]*application),
		servers:      make(map[string]*server, len(cfg.AuthorizationServers)),
		hosts:        make(map[string]*node),
		wildcards:    make(map[string]*node),
		callers:      newCallers(),
	}
	for i := range cfg.AuthorizationServers {
		s := &cfg.AuthorizationServers[i]
		t.servers[string(s.Name)] = newServer(s, cfg.Issuer)
	}
	for i := range cfg.APIs {
		t.addAPI(i, &cfg.APIs[i])
	}
	for _, roots := range []map[string]*node{t.hosts, t.wildcards} {
		for _, root := range roots {
			root.overlapping = root.overlaps()
		}
	}
	for i := range cfg.Partners.List {
		t.addPartner(i, &cfg.Partners.List[i], certificates)
	}
	return t
}

func (t *Table) addAPI(index int, api *config.API) {
	for i := range api.Routes {
		route := newRoute(api, &api.Routes[i])
		route.rule = access.Rule{API: index, Route: i}
		for _, host := range api.Hosts {
			roots := t.hosts
			key, wild := strings.CutPrefix(string(host), "*.")
			if wild {
				roots = t.wildcards
			}
			if roots[key] == nil {
				roots[key] = new(node)
			}
			roots[key].spellings |= route.spellings
			roots[key].slashOptional = roots[key].slashOptional || route.slashOptional
			roots[key].depth = max(roots[key].depth, len(api.Routes[i].Path.Segments()))
			roots[key].bindings = roots[key].bindings.with(api.Binding)
			roots[key].add(api.Routes[i].Path.Segments(), api.Routes[i].Methods, route)
		}
	}
}

func (t *Table) addPartner(index int, p *config.Partner, certificates Certificates) {
	known := &partner{name: string(p.Name), disabled: p.Disabled, anchors: certificates.Anchors[p.Name]}
	t.callers.addPartner(known)
	for i := range p.Applications {
		a := &p.Applications[i]
		app := &application{
			clientID: a.ClientID,
			rule:     access.Rule{Partner: index, Application: i}, partner: known, certificate: &a.Certificate, settings: a,
			selfSigned: a.Authentication == config.SelfSignedTLSClientAuth,
			registered: certificates.Registered[a.ClientID], keysFetched: a.Keys.JWKSURI != nil,
			serverAuth: a.AcceptsServerAuth(),
		}
		t.applications[string(a.ClientID)] = app
		t.callers.addApplication(app)
	}
}

// Serves reports whether any API has host, in the form of [Target.Host].
func (t *Table) Serves(host string) bool { return t.root(host) != nil }

// root returns the root of the routes of host, or nil. A wildcard stands for one label, as in
// certificates (RFC 9525 section 6.3). It does not stand for a host that the configuration names, whose
// routes are separate.
func (t *Table) root(host string) *node {
	if named := t.hosts[host]; named != nil {
		return named
	}
	if _, parent, ok := strings.Cut(host, "."); ok {
		return t.wildcards[parent]
	}
	return nil
}

// Partner returns the configured name of the partner with the application clientID. It returns "" for
// an unknown application, and if server may not issue tokens for the partner. The name is a label for
// logs and metrics, not a decision.
func (t *Table) Partner(server, clientID string) string {
	app, from := t.applications[clientID], t.servers[server]
	if app == nil || from == nil || !from.speaksFor(app.partner.name) {
		return ""
	}
	return app.partner.name
}

// Holder returns the name of the partner like [Table.Partner], but "" unless the partner is enabled
// and cert is a certificate of the application. Every route refuses a token for which Holder returns
// "". The name is a label for cached tokens, not a decision.
func (t *Table) Holder(server, clientID string, cert *access.Certificate) string {
	name := t.Partner(server, clientID)
	if name == "" || clientID == "" {
		return ""
	}
	if app := t.applications[clientID]; app.partner.disabled || app.checkCertificate(cert, t.servers[server]) != nil {
		return ""
	}
	return name
}

// quoted returns clientID in quotes for the log, or "none" if a token names no client.
func quoted(clientID string) string {
	if clientID == "" {
		return "none"
	}
	return strconv.Quote(access.Truncate(clientID))
}

// Decide decides about a request to target with claims and the client certificate cert. It checks the
// partner first: the client must be known, the authorization server of the token must be allowed to
// issue tokens for the client's partner, the partner must be enabled, and cert must be a certificate
// of the client. Then it checks the API: a route must match, the application must have a grant for
// the API of the route and the method, the API must accept the binding of the token, and the token
// must have every scope of the route. Decide sets Partner, API, Route and Rule of the Decision, for
// the log, until a check refuses. The reason does not tell a client whether a route exists.
func (t *Table) Decide(method string, target Target, claims access.Claims, cert *access.Certificate) access.Decision {
	d := access.Decision{Server: claims.Server, ClientID: claims.ClientID, Claims: claims}
	app, from := t.applications[claims.ClientID], t.servers[claims.Server]
	if from == nil {
		return withRefusal(d, access.UnknownClient, nil)
	}
	if app == nil || claims.ClientID == "" {
		return withRefusal(d, access.UnknownClient, errUnknownClient(claims.ClientID))
	}
	if !from.speaksFor(app.partner.name) {
		return withRefusal(d, access.UnknownClient, errNotSpokenFor(claims.Server, app))
	}
	d.Partner, d.Rule = app.partner.name, app.rule
	if app.partner.disabled {
		return withRefusal(d, access.PartnerDisabled, nil)
	}
	if err := app.checkCertificate(cert, from); err != nil {
		return withRefusal(d, certificateReason(err), err)
	}
	route, err := t.route(method, target)
	if err != nil {
		return withRefusal(d, access.APINotAllowed, err)
	}
	d.API, d.Route, d.Rule.API, d.Rule.Route = route.api, route.name, route.rule.API, route.rule.Route
	if !app.settings.MayCall(config.Name(route.api), method) {
		return withRefusal(d, access.APINotAllowed, errNotGranted)
	}
	if err := checkBinding(route.binding, claims.Confirmation); err != nil {
		return withRefusal(d, access.BindingNotAccepted, err)
	}
	if !route.coveredBy(claims.Scopes) {
		d.Scopes = route.scopes
		return withRefusal(d, access.InsufficientScope, route.errScopes(claims.Scopes))
	}
	d.Reason = access.Granted
	d.Asserted, d.WebSocket, d.AnyBody = route.assertion, route.webSocket, route.anyBody
	return d
}

// Preflight returns the grant for a CORS preflight to target. It returns false if target has no route
// for OPTIONS with preflight: allow. The caller must have checked that the request is a preflight.
// The client is not known.
func (t *Table) Preflight(target Target) (access.Decision, bool) {
	route, err := t.route(http.MethodOptions, target)
	if err != nil || !route.preflight {
		return access.Decision{}, false
	}
	return access.Decision{Reason: access.Granted, Preflight: true, API: route.api, Route: route.name, Rule: route.rule}, true
}

func withRefusal(d access.Decision, reason access.Reason, err error) access.Decision {
	d.Reason, d.Err = reason, err
	return d
}
