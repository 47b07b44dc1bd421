package config

import (
	"slices"
	"strings"
)

// registry is what applications of all partners must not share. Each maps a value
// to the path where it stood first.
type registry struct {
	clients     map[ClientID]string
	subjects    map[string]string // DNs in their one spelling
	sans        map[string]string // in lower case
	thumbprints map[Thumbprint]string
}

func (k *checker) partners() {
	list := k.config.Partners.List
	names := make(map[Name]string, len(list))
	grants := grants{offered: k.offers(), complete: k.apisKnown()}
	for _, a := range k.config.APIs {
		grants.names = append(grants.names, string(a.Name))
	}
	taken := registry{map[ClientID]string{}, map[string]string{}, map[string]string{}, map[Thumbprint]string{}}
	for i := range list {
		p, path := &list[i], element("partners.list", i)
		k.name(path+".name", p.Name)
		unique(k, names, path+".name", "the name", p.Name)
		anchored := k.trust(path, p)
		for j := range p.Applications {
			k.application(element(path+".applications", j), &p.Applications[j], anchored, &taken, &grants)
		}
	}
}

// trust checks that some certificate can speak for p, and reports whether it can by
// chaining to an anchor.
func (k *checker) trust(path string, p *Partner) bool {
	clients := &k.config.Listener.ClientCertificates
	own := path + ".trust"
	k.files(own, p.Trust)
	anchored := len(p.Trust) > 0 || len(clients.Trust) > 0 || k.unknown(own) || k.unknown("listener.client_certificates.trust")
	switch {
	case p.Trust != nil && len(p.Trust) == 0:
		k.fault(own, "an empty list trusts nothing; leave it out for the listener's anchors")
	case !anchored && !clients.SelfSigned && !k.unknown("listener.client_certificates.self_signed"):
		k.fault(own, "is required: listener.client_certificates has neither trust nor self_signed, so no certificate could speak for this partner")
	}
	return anchored
}

func (k *checker) application(path string, a *Application, anchored bool, taken *registry, grants *grants) {
	k.require(path+".client_id", a.ClientID != "")
	unique(k, taken.clients, path+".client_id", "the client_id", a.ClientID)
	k.certificate(path+".certificate", &a.Certificate, anchored, taken)
	k.require(path+".authentication", a.Authentication != "")
	distinct(k, path+".scopes", a.Scopes)
	if len(a.APIs) == 0 {
		k.fault(path+".apis", "at least one is required: an empty list allows nothing")
	}
	apis := make([]Name, len(a.APIs))
	for i := range a.APIs {
		apis[i] = a.APIs[i].API
		k.grant(element(path+".apis", i), &a.APIs[i], grants)
	}
	distinct(k, path+".apis", apis)
}

// certificate checks that r says which certificates are the application's, and that
// no other application has one of them: a certificate is one application's.
func (k *checker) certificate(path string, r *RegisteredCertificate, anchored bool, taken *registry) {
	pinned := len(r.Thumbprints) > 0
	switch {
	case !r.SubjectDN.IsZero() && r.SANDNS != "":
		k.fault(path, "subject_dn and san_dns exclude each other")
	case r.Names() && !pinned && !anchored:
		k.fault(path, "a name counts only for certificates that chain to an anchor, and this partner has none; list thumbprints")
	case !r.Names() && !pinned && k.written(path):
		// Somebody meant to narrow this down: a template left it empty.
		k.fault(path, "registers nothing; leave it out to take every certificate of the partner")
	}
	if r.SANDNS != "" && !isDNSName(strings.TrimPrefix(r.SANDNS, "*.")) {
		k.fault(path+".san_dns", "is not a DNS name")
	}
	unique(k, taken.subjects, path+".subject_dn", "the name", r.SubjectDN.String())
	unique(k, taken.sans, path+".san_dns", "the name", strings.ToLower(r.SANDNS))
	for i, t := range r.Thumbprints {
		unique(k, taken.thumbprints, element(path+".thumbprints", i), "the thumbprint", t)
	}
}

// written reports whether the file has something at path, and all of it could be
// decoded.
func (k *checker) written(path string) bool {
	_, ok := k.config.source.root.find(path)
	return ok && !k.unknown(path+".subject_dn") && !k.unknown(path+".san_dns") && !k.unknown(path+".thumbprints")
}

// grants is what applications may be allowed to call.
type grants struct {
	names    []string
	offered  map[Name][]Method
	complete bool // no API's name is missing
}

// grant checks that g names an API, and of its methods some that it offers.
func (k *checker) grant(path string, g *APIGrant, grants *grants) {
	if g.API == "" {
		k.require(path+".api", false)
		return
	}
	offered, ok := grants.offered[g.API]
	if !ok {
		if grants.complete {
			k.fault(path, "there is no API %q%s", g.API, didYouMean(string(g.API), grants.names))
		}
		return
	}
	if g.Methods != nil && len(g.Methods) == 0 {
		k.fault(path+".methods", "an empty list allows nothing; leave it out for all that the API offers")
	}
	distinct(k, path+".methods", g.Methods)
	for i, m := range g.Methods {
		if m != "" && !slices.Contains(offered, m) && k.routesKnown(g.API) {
			k.fault(element(path+".methods", i), "no route of %q offers %s", g.API, m)
		}
	}
}
