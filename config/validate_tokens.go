package config

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// reservedClaims are the claims that the issuer itself sets, and registered claims of JWTs and
// introspection responses that would say who acts or whether the token is active.
var reservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "cnf", "typ",
	"act", "may_act", // RFC 8693 section 4
	"username", "sub_id", "azp", // azp is the party to which an ID token was issued (OpenID Connect)
	"active", "token_type", "token_introspection", // RFC 7662 section 2.2, RFC 9701 section 5
	"exi", "at_use_nbr", "status", // lifetime, number of uses, entry in a Token Status List
}

// tokens checks the settings at path for tokens of our own issuer.
func (k *checker) tokens(path string, a *Application) {
	distinct(k, path+".scopes", a.Scopes)
	distinct(k, path+".default_scopes", a.DefaultScopes)
	for i, s := range a.DefaultScopes {
		if s != "" && !slices.Contains(a.Scopes, s) && k.decodedFully(path+".scopes") {
			k.fault(strictyaml.Index(path+".default_scopes", i), "%s is not among the scopes of the application%s", strictyaml.Quote(string(s)), strictyaml.DidYouMean(string(s), texts(a.Scopes)))
		}
	}
	k.claims(path+".claims", a.Claims)
	own := k.config.Issuer
	if own == nil {
		return
	}
	if a.TokenLifetime != 0 { // with 0, the issuer's lifetime applies
		k.inRange(path+".token_lifetime", a.TokenLifetime, time.Second, k.longestToken())
	}
	if own.RequireBound && !a.BoundTokens && !k.undecoded("issuer.require_bound") {
		k.fault(path+".bound_tokens", "must not be false: issuer.require_bound%s is true", k.line("issuer.require_bound"))
	}
	notEmpty(k, path+".resources", a.Resources, "allows nothing; leave it out for all that the issuer knows")
	k.knownResources(path+".resources", a.Resources)
}

// knownResources checks that each element of list is a resource of our own issuer.
func (k *checker) knownResources(path string, list []string) {
	distinct(k, path, list)
	if len(list) == 0 || !k.decodedFully("issuer.audience") || !k.decodedFully("issuer.resources") || !k.decodedFully("issuer.resource_servers") {
		return
	}
	own := k.config.Issuer
	known := append([]string{own.Audience}, own.Resources...)
	for i := range own.ResourceServers {
		known = append(known, own.ResourceServers[i].Resources...)
	}
	for i, r := range list {
		if !slices.Contains(known, r) {
			k.fault(strictyaml.Index(path, i), "is not in issuer.audience, issuer.resources or the resources of issuer.resource_servers%s", strictyaml.DidYouMean(r, known))
		}
	}
}

func (k *checker) claims(path string, list []StaticClaim) {
	seen := make(map[string]string, len(list))
	for i, c := range list {
		name := strictyaml.Index(path, i) + ".name"
		k.claim(name, c.Name)
		unique(k, seen, name, "the claim", c.Name)
	}
}

// claim checks the name of a claim that the configuration adds to tokens.
func (k *checker) claim(path, name string) {
	k.require(path, name != "")
	// The comparison ignores case, because some JSON parsers ignore case.
	if slices.ContainsFunc(reservedClaims, func(c string) bool { return strings.EqualFold(c, name) }) {
		k.fault(path, "%q is reserved: only the issuer may set it", name)
	}
}

// isResource reports whether s is a resource indicator, RFC 8707 section 2: an absolute
// URI without fragment.
func isResource(s string) bool {
	var u certname.URI
	return u.UnmarshalText([]byte(s)) == nil && !strings.Contains(s, "#")
}

// texts returns list as strings.
func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// known has the names that rules can refer to.
type known struct {
	rules    map[Name]string // the path of the rule with the name
	clients  map[ClientID]bool
	scopes   map[Scope]bool
	complete bool // false if at least one application could not be decoded
}

func (k *checker) governance(g *Governance) {
	known := k.knownToRules()
	const path = "issuer.governance"
	for i, r := range g.Workspace {
		at := strictyaml.Index(path+".workspace", i)
		k.rule(at, r.Name, r.When, known)
		k.effect(at, r.Lifetime, []string{"refuse", "lifetime"}, r.Refuse != "", r.Lifetime != 0)
	}
	for i, r := range g.Application {
		at := strictyaml.Index(path+".application", i)
		k.rule(at, r.Name, r.When, known)
		k.effect(at, r.Lifetime, []string{"refuse", "lifetime"}, r.Refuse != "", r.Lifetime != 0)
		k.require(at+".client_id", r.ClientID != "")
		if r.ClientID != "" && !known.clients[r.ClientID] && known.complete {
			k.fault(at+".client_id", "there is no application %s%s", strictyaml.Quote(string(r.ClientID)), nearest(r.ClientID, known.clients))
		}
	}
	for i, r := range g.Scope {
		at := strictyaml.Index(path+".scope", i)
		k.rule(at, r.Name, r.When, known)
		k.effect(at, r.Lifetime, []string{"refuse", "drop", "lifetime"}, r.Refuse != "", r.Drop, r.Lifetime != 0)
		k.require(at+".scope", r.Scope != "")
		if r.Scope != "" && !known.scopes[r.Scope] && known.complete {
			k.fault(at+".scope", "no application has the scope %s%s", strictyaml.Quote(string(r.Scope)), nearest(r.Scope, known.scopes))
		}
	}
	for i, r := range g.Claims {
		at := strictyaml.Index(path+".claims", i)
		k.rule(at, r.Name, "true", known) // "true", because a claim rule may have no condition
		k.claim(at+".claim", r.Claim)
		k.require(at+".value", r.Value != "")
	}
}

// rule checks the settings that every rule has.
func (k *checker) rule(path string, name Name, when string, known *known) {
	k.require(path+".name", name != "")
	unique(k, known.rules, path+".name", "the name", name)
	k.require(path+".when", when != "")
}

// effect checks that the rule at path has exactly one of the effects in choices. set says for each
// effect whether the rule has it. A lifetime has the bounds of all token lifetimes.
func (k *checker) effect(path string, lifetime time.Duration, choices []string, set ...bool) {
	switch chosen := chosen(choices, set...); {
	case len(chosen) == 0 && k.decodedFully(path):
		k.fault(path, "does nothing: %s is required", orList(choices))
	case len(chosen) > 1:
		k.fault(path, "%s exclude each other", andList(chosen))
	}
	if lifetime != 0 {
		k.inRange(path+".lifetime", lifetime, time.Second, k.longestToken())
	}
}

// knownToRules collects the applications and their scopes.
func (k *checker) knownToRules() *known {
	out := &known{map[Name]string{}, map[ClientID]bool{}, map[Scope]bool{}, k.decodedFully("partners")}
	for _, p := range k.config.Partners.List {
		for _, a := range p.Applications {
			out.clients[a.ClientID] = true
			for _, s := range a.Scopes {
				out.scopes[s] = true
			}
		}
	}
	return out
}

// nearest returns the end of a message about an unknown word: the most similar word in known.
func nearest[T ~string](word T, known map[T]bool) string {
	if len(known) > strictyaml.MaxCandidates {
		return ""
	}
	return strictyaml.DidYouMean(string(word), texts(slices.Sorted(maps.Keys(known))))
}
