package config

import (
	"slices"
	"strings"
	"time"

	"github.com/tallygate/tallygate/internal/certname"
	"github.com/tallygate/tallygate/internal/strictyaml"
)

// reservedClaims are those that the issuer sets itself, and of those registered for JWTs
// and for introspection the ones that would say who acts or whether the token counts.
var reservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "cnf", "typ",
	"act", "may_act", // RFC 8693 section 4
	"username", "sub_id", "azp", // the last is who the token was issued to, in OpenID Connect
	"active", "token_type", "token_introspection", // RFC 7662 section 2.2, RFC 9701 section 5
	"exi", "at_use_nbr", "status", // lifetime, number of uses, entry in a Token Status List
}

// tokens checks what our own issuer gives the application at path.
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
	if a.TokenLifetime != 0 { // 0: the issuer's
		k.inRange(path+".token_lifetime", a.TokenLifetime, time.Second, k.longestToken())
	}
	if own.RequireBound && !a.BoundTokens && !k.undecoded("issuer.require_bound") {
		k.fault(path+".bound_tokens", "must not be false: issuer.require_bound%s is true", k.line("issuer.require_bound"))
	}
	if a.Resources != nil && len(a.Resources) == 0 {
		k.fault(path+".resources", "an empty list allows nothing; leave it out for all that the issuer knows")
	}
	k.knownResources(path+".resources", a.Resources)
}

// knownResources checks that what list names is something tokens may be asked for.
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
			k.fault(strictyaml.Index(path, i), "is none of issuer.audience, issuer.resources and the resources of issuer.resource_servers%s", strictyaml.DidYouMean(r, known))
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
	// Some readers of JSON take no notice of case.
	if slices.ContainsFunc(reservedClaims, func(c string) bool { return strings.EqualFold(c, name) }) {
		k.fault(path, "%q is reserved: the issuer sets it itself, or nobody does", name)
	}
}

// isResource reports whether s is a resource indicator, RFC 8707 section 2: an absolute
// URI without fragment.
func isResource(s string) bool {
	var u certname.URI
	return u.UnmarshalText([]byte(s)) == nil && !strings.Contains(s, "#")
}

// texts returns list as plain text.
func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
