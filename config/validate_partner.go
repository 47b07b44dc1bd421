package config

import (
	"slices"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

func (k *checker) partners() {
	list := k.config.Partners.List
	names := make(map[Name]string, len(list))
	grants := grants{offered: k.offers(), complete: k.apisKnown()}
	for _, a := range k.config.APIs {
		grants.names = append(grants.names, string(a.Name))
	}
	taken := newRegistry()
	for i := range list {
		p, path := &list[i], strictyaml.Index("partners.list", i)
		k.name(path+".name", p.Name)
		unique(k, names, path+".name", "the name", p.Name)
		anchored := k.trust(path, p)
		for j := range p.Applications {
			k.application(strictyaml.Index(path+".applications", j), p.Name, &p.Applications[j], anchored, len(p.Trust) > 0 || k.undecoded(path+".trust"), taken, &grants)
		}
	}
}

// trust checks that p's applications can have a trusted certificate. It reports whether such a
// certificate can chain to an anchor.
func (k *checker) trust(path string, p *Partner) bool {
	clients := &k.config.Listener.ClientCertificates
	own := path + ".trust"
	k.files(own, p.Trust)
	anchored := len(p.Trust) > 0 || len(clients.Trust) > 0 || k.undecoded(own) || k.undecoded("listener.client_certificates.trust")
	switch {
	case p.Trust != nil && len(p.Trust) == 0:
		k.fault(own, "an empty list trusts nothing; leave it out for the listener's anchors")
	case !anchored && !clients.SelfSigned && !k.undecoded("listener.client_certificates.self_signed"):
		k.fault(own, "is required: listener.client_certificates has neither trust nor self_signed, so this partner could use no certificate")
	}
	if !p.InsecureRSA1024Until.IsZero() && len(p.Trust) == 0 && !k.undecoded(own) {
		k.fault(path+".insecure_rsa_1024_until", "needs trust of the partner's own: the listener's anchors are shared with other partners")
	}
	return anchored
}

func (k *checker) application(path string, partner Name, a *Application, anchored, own bool, taken *registry, grants *grants) {
	k.require(path+".client_id", a.ClientID != "")
	unique(k, k.clients, path+".client_id", "the client_id", a.ClientID)
	k.certificate(path+".certificate", &a.Certificate, anchored, taken)
	if !anchored && a.Certificate.MatchesAny() && a.Authentication == TLSClientAuth {
		k.soleServer(path, partner)
	}
	k.authentication(path, a, anchored)
	k.usages(path, a, own)
	k.tokens(path, a)
	k.some(path+".apis", len(a.APIs), "an empty list allows nothing")
	apis := make([]Name, len(a.APIs))
	for i := range a.APIs {
		apis[i] = a.APIs[i].API
		k.grant(strictyaml.Index(path+".apis", i), &a.APIs[i], grants)
	}
	distinct(k, path+".apis", apis)
	if a.RateLimit != nil {
		k.rate(path+".rate_limit", *a.RateLimit)
	}
}

// usages checks the extended key usages of a's certificates. Every operator of a web site has a
// certificate for server authentication, so the configuration must say which of these certificates
// belong to a. own says that the partner has anchors of its own.
func (k *checker) usages(path string, a *Application, own bool) {
	at := path + ".usages"
	distinct(k, at, a.Usages)
	switch known := k.decodedFully(at) && k.decodedFully(path+".certificate") && k.decodedFully(path+".authentication"); {
	case a.Usages == nil || !known:
	case !slices.Contains(a.Usages, UsageClientAuth):
		k.fault(at, "must list client_auth: a certificate that may be used for clients is always accepted")
	case !a.AcceptsServerAuth() || a.Authentication == SelfSignedTLSClientAuth:
	case a.Certificate.MatchesAny():
		k.fault(at, "server_auth needs a registered certificate: every certificate for a server, of any authority that the partner trusts, would be accepted; register thumbprints, or a name and trust of the partner's own")
	case a.Certificate.HasName() && !own:
		k.fault(at, "server_auth with a name needs trust of the partner's own: the listener's anchors are shared with other partners; register thumbprints alone, or name the partner's anchors")
	}
}

// soleServer checks the application at path, which has neither an anchor nor a registered
// certificate. So only the binding of its token identifies its certificate. If several foreign
// authorization servers may issue tokens to the application, each of them could bind a token to any
// certificate. soleServer records a fault if one of these servers has no list of partners.
func (k *checker) soleServer(path string, partner Name) {
	if !k.decodedFully("authorization_servers") || !k.decodedFully(path+".certificate") {
		return
	}
	servers, anyPartner := 0, false
	for i := range k.config.AuthorizationServers {
		if s := &k.config.AuthorizationServers[i]; s.SpeaksFor(partner) && !k.mayBeOwnIssuer(s.Issuer) {
			servers++
			anyPartner = anyPartner || s.Partners == nil
		}
	}
	if servers > 1 && anyPartner {
		k.fault(path, "any of %d authorization servers could bind tokens for this application to any certificate, since it has neither an anchor nor a registered certificate; register thumbprints, or name each server's partners", servers)
	}
}

// certificate checks that r says which certificates belong to the application, and that no other
// application has registered the same name or thumbprint.
func (k *checker) certificate(path string, r *RegisteredCertificate, anchored bool, taken *registry) {
	pinned := len(r.Thumbprints) > 0
	switch {
	case r.HasName() && !pinned && !anchored:
		k.fault(path, "a name needs certificates that chain to an anchor, and this partner has no anchor; list thumbprints")
	case !r.HasName() && !pinned && k.isSet(path) && k.decodedFully(path):
		// A template has probably left a value empty that should restrict the certificates.
		k.fault(path, "registers nothing; leave it out to accept every certificate of the partner")
	}
	k.names(path, r, taken)
}

// authentication checks that a can authenticate at our own issuer by its method. It skips an
// application without settings for our issuer's tokens, because such an application gets its tokens
// from another server.
func (k *checker) authentication(path string, a *Application, anchored bool) {
	k.require(path+".authentication", a.Authentication != "")
	if a.Authentication == SelfSignedTLSClientAuth {
		k.selfSigned(path, &a.Certificate, &a.Keys)
		return
	}
	k.noKeys(path+".keys", &a.Keys)
	if k.config.Issuer == nil || !k.asksForTokens(path) {
		return
	}
	certificate := path + ".certificate"
	switch {
	case !a.Certificate.HasName() && k.decodedFully(certificate):
		k.fault(certificate, "%s", needsName)
	case !anchored && len(a.Certificate.Thumbprints) > 0: // if there are no thumbprints, the method certificate has already recorded the fault
		k.fault(certificate, "tls_client_auth at our own issuer needs a certificate that chains to an anchor, and this partner has no anchor")
	}
}

// asksForTokens reports whether the application at path has a setting for tokens of our own
// issuer.
func (k *checker) asksForTokens(path string) bool {
	settings := []string{"authentication", "scopes", "default_scopes", "resources", "bound_tokens", "token_format", "token_lifetime", "claims"}
	return slices.ContainsFunc(settings, func(key string) bool { return k.isSet(strictyaml.Key(path, key)) })
}

// grants has the APIs and methods that applications can be granted.
type grants struct {
	names    []string
	offered  map[Name][]Method
	complete bool // the name of every API could be decoded
}

// grant checks that g names a configured API, and only methods that routes of the API have.
func (k *checker) grant(path string, g *APIGrant, grants *grants) {
	if g.API == "" {
		k.require(path+".api", false)
		return
	}
	offered, ok := grants.offered[g.API]
	if !ok {
		if grants.complete {
			k.fault(path, "there is no API %q%s", g.API, strictyaml.DidYouMean(string(g.API), grants.names))
		}
		return
	}
	notEmpty(k, path+".methods", g.Methods, "allows nothing; leave it out for all that the API offers")
	distinct(k, path+".methods", g.Methods)
	for i, m := range g.Methods {
		if m != "" && !slices.Contains(offered, m) && k.routesKnown(g.API) {
			k.fault(strictyaml.Index(path+".methods", i), "no route of %q offers %s", g.API, m)
		}
	}
}
