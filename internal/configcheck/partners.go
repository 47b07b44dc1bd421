package configcheck

import (
	"slices"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// partners examines the applications of all enabled partners.
func (e *examiner) partners() {
	apis := make(map[config.Name]*config.API, len(e.cfg.APIs))
	for i := range e.cfg.APIs {
		apis[e.cfg.APIs[i].Name] = &e.cfg.APIs[i]
	}
	for i := range e.cfg.Partners.List {
		p, path := &e.cfg.Partners.List[i], strictyaml.Index("partners.list", i)
		if p.Disabled {
			continue
		}
		own, foreign := e.serversOf(p)
		if own == nil && !foreign {
			e.warn(path, "no authorization server may issue tokens for this partner; add its name to the partners of a server")
		}
		for j := range p.Applications {
			at := strictyaml.Index(path+".applications", j)
			e.subjectOrder(at+".certificate.subject_dn", p, &p.Applications[j])
			if own != nil {
				e.ownTokens(at, &p.Applications[j], own, foreign, apis)
			}
		}
	}
}

// serversOf returns own, the server that is our own issuer, if that server may issue tokens for p.
// foreign says whether another server may issue tokens for p.
func (e *examiner) serversOf(p *config.Partner) (own *config.AuthorizationServer, foreign bool) {
	for i := range e.cfg.AuthorizationServers {
		s := &e.cfg.AuthorizationServers[i]
		switch {
		case !s.SpeaksFor(p.Name):
		case e.cfg.Issuer != nil && e.cfg.Issuer.Issuer == s.Issuer:
			own = s
		default:
			foreign = true
		}
	}
	return own, foreign
}

// subjectOrder warns of a registered subject whose RDNs are in the order in which openssl prints them,
// the opposite of the order in RFC 4514. It does not warn if the subject of the partner's authority has
// that order too.
func (e *examiner) subjectOrder(path string, p *config.Partner, a *config.Application) {
	dn := a.Certificate.SubjectDN
	if !dn.LeafFirst() {
		return
	}
	files := p.Trust
	if len(files) == 0 {
		files = e.cfg.Listener.ClientCertificates.Trust
	}
	for _, file := range files {
		if slices.ContainsFunc(e.authorities(file), func(c pemfile.Certificate) bool { return certname.SubjectIsLeafFirst(c.RawSubject) }) {
			return
		}
	}
	e.warn(path, "the name is probably in the order that openssl prints; RFC 4514 writes it the other way round: %s", dn.Reversed())
}

// ownTokens warns of an application of our own issuer that can get no token that the gate accepts, or
// that cannot get the scopes of its routes. foreign says that other servers may issue tokens for the
// application.
func (e *examiner) ownTokens(path string, a *config.Application, own *config.AuthorizationServer, foreign bool, apis map[config.Name]*config.API) {
	if foreign && !hasTokenSettings(a) { // the application gets its tokens from another server
		return
	}
	if a.Authentication == config.TLSClientAuth && !a.Certificate.HasName() {
		e.warn(path, "can never get a token: our own issuer authenticates it by a registered name (subject_dn or san_…), and it has no name")
		return
	}
	resources := e.resourcesOf(a)
	switch {
	case !slices.ContainsFunc(resources, func(r string) bool { return slices.Contains(own.Audiences, r) }):
		e.warn(path, "can never get a token that the gate accepts: none of its resources is among the audiences of authorization server %s", own.Name)
	case a.TokenFormat == config.Opaque && !own.TakesOpaque(), a.TokenFormat == config.JWT && !own.TakesJWT():
		e.warn(path, "can never get a token that the gate accepts: its token_format is %s, and tokens of authorization server %s are %s", a.TokenFormat, own.Name, own.Tokens)
	case !a.BoundTokens && !takesKeys(a, apis):
		e.warn(path+".bound_tokens", "false: the gate refuses tokens that are not bound, so the application can call no API")
	default:
		e.scopes(path, a, own, apis)
	}
}

// hasTokenSettings reports whether a has settings for tokens of our own issuer.
func hasTokenSettings(a *config.Application) bool {
	return a.Scopes != nil || a.DefaultScopes != nil || a.Resources != nil || a.Claims != nil || a.TokenLifetime > 0 || !a.BoundTokens || a.TokenFormat == config.Opaque
}

// resourcesOf returns the resources that a may request at our own issuer.
func (e *examiner) resourcesOf(a *config.Application) []string {
	if a.Resources != nil {
		return a.Resources
	}
	own := e.cfg.Issuer
	all := append([]string{own.Audience}, own.Resources...)
	for i := range own.ResourceServers {
		all = append(all, own.ResourceServers[i].Resources...)
	}
	return all
}

// takesKeys reports whether an API of a accepts tokens that are bound to a key alone.
func takesKeys(a *config.Application, apis map[config.Name]*config.API) bool {
	return slices.ContainsFunc(a.APIs, func(g config.APIGrant) bool {
		api := apis[g.API]
		return api != nil && (api.Binding == config.BoundToKey || api.Binding == config.BoundToEither)
	})
}

// scopes warns of grants of a that cannot be used, because our own issuer never grants a scope that the
// routes need. For a grant without methods, scopes warns only if all its routes need such a scope: an
// operator may restrict some of the routes by scopes on purpose.
func (e *examiner) scopes(path string, a *config.Application, own *config.AuthorizationServer, apis map[config.Name]*config.API) {
	if own.ScopePrefix != "" || own.RolesAsScopes != "" { // scopes in tokens have other names than the scopes of routes
		return
	}
	for i, g := range a.APIs {
		api, at := apis[g.API], strictyaml.Index(path+".apis", i)
		if api == nil {
			continue
		}
		if g.Methods == nil {
			if r, s, never := neverReached(api, a.Scopes, func(*config.Route) bool { return true }); never {
				e.warn(at, "can never get the scope %s, which %s of this API needs, and can call no other route; add it to the application's scopes", s, r.Path)
			}
		}
		for j, m := range g.Methods {
			if r, s, never := neverReached(api, a.Scopes, func(r *config.Route) bool { return slices.Contains(r.Methods, m) }); never {
				e.warn(strictyaml.Index(at+".methods", j), "can never get the scope %s, which %s %s needs; add it to the application's scopes", s, m, r.Path)
			}
		}
	}
}

// neverReached reports whether each route of api that picked selects needs a scope that is not in
// scopes. It returns the first such route and the missing scope.
func neverReached(api *config.API, scopes []config.Scope, picked func(*config.Route) bool) (route *config.Route, scope config.Scope, never bool) {
	for i := range api.Routes {
		r := &api.Routes[i]
		if !picked(r) {
			continue
		}
		missing := slices.IndexFunc(r.Scopes, func(s config.Scope) bool { return !slices.Contains(scopes, s) })
		if missing < 0 {
			return nil, "", false
		}
		if route == nil {
			route, scope = r, r.Scopes[missing]
		}
	}
	return route, scope, route != nil
}
