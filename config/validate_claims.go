package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// otherMeanings are the claims that have a fixed meaning in every token, so they cannot name a
// client, a subject or a scope.
var otherMeanings = []ClaimName{"iss", "aud", "exp", "nbf", "iat", "jti", "cnf", "act", "may_act", "active", "token_type", "typ", "nonce"}

// tokenClaims checks the claim settings of the server at path.
func (k *checker) tokenClaims(path string, s *AuthorizationServer) {
	own := k.isOwnIssuer(s.Issuer)
	k.claimNames(path+".client_claim", s.ClientClaim, otherMeanings)
	k.claimNames(path+".audience_claim", s.AudienceClaim, slices.DeleteFunc(slices.Clone(otherMeanings), func(c ClaimName) bool { return c == "aud" }))
	for _, one := range []struct {
		key  string
		name ClaimName
	}{{"subject_claim", s.SubjectClaim}, {"scope_claim", s.ScopeClaim}, {"roles_as_scopes", s.RolesAsScopes}} {
		if slices.Contains(otherMeanings, one.name) {
			k.fault(path+"."+one.key, "%q has a meaning of its own in every token; name another claim", one.name)
		}
	}
	if len(s.ClientClaim) > 1 && slices.Contains(s.ClientClaim, "sub") {
		k.fault(path+".client_claim", "sub must be the only claim: in a token that lacks the others, a user whose sub equals a client_id would be taken for that client (RFC 9068 section 5)")
	}
	if s.RolesAsScopes != "" && s.RolesAsScopes == s.ScopeClaim {
		k.fault(path+".roles_as_scopes", "is scope_claim already, whose values are scopes in any case; leave it out")
	}
	if strings.ContainsAny(s.ScopePrefix, " \"\\") || !isPrintable([]byte(s.ScopePrefix)) {
		k.fault(path+".scope_prefix", "must be printable ASCII without spaces, quotation marks and backslashes (RFC 6749 section 3.3)")
	}
	for _, key := range []string{"profile", "client_claim", "subject_claim", "audience_claim", "scope_claim", "scope_prefix", "roles_as_scopes", "confirmation_claim"} {
		if own && k.isSet(path+"."+key) && (key != "profile" || s.Profile != ProfileRFC9068) {
			k.fault(path+"."+key, "must not be set for our own issuer: its tokens follow RFC 9068")
		}
	}
	k.oneTenant(path, s)
}

// claimNames checks a list of claims that the gate tries in order.
func (k *checker) claimNames(path string, list, refused []ClaimName) {
	if len(list) == 0 && k.isSet(path) {
		k.fault(path, "at least one is required: an empty list finds nothing in any token")
	}
	distinct(k, path, list)
	for i, name := range list {
		if slices.Contains(refused, name) {
			k.fault(strictyaml.Index(path, i), "%q has a meaning of its own in every token; name another claim", name)
		}
	}
}

// guid is a tenant identifier of Entra.
var guid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// oneTenant checks that the issuer names a single tenant. The keys of Entra sign the tokens of all
// tenants, and the metadata for several tenants has an issuer with the template {tenantid}. Tokens of
// other tenants are refused only because iss is compared with the issuer of a single tenant.
func (k *checker) oneTenant(path string, s *AuthorizationServer) {
	if strings.ContainsAny(string(s.Issuer), "{}*") {
		k.fault(path+".issuer", "must be one issuer: a template or wildcard would accept tokens of every tenant")
		return
	}
	u, err := url.Parse(string(s.Issuer))
	if err != nil || s.Issuer == "" || s.Profile != ProfileEntra && s.Profile != ProfileEntraV1 {
		return
	}
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	rest = strings.TrimSuffix(rest, "/") // the issuers of Azure AD B2C end with a slash
	switch {
	case tenant == "adfs" && s.Profile == ProfileEntraV1: // AD FS has no tenants; the path of its issuer begins with adfs
	case !guid.MatchString(tenant):
		k.fault(path+".issuer", "must name one tenant by its GUID, as the token's iss does; common, organizations and consumers stand for many tenants")
	case s.Profile == ProfileEntra && rest != "v2.0":
		k.fault(path+".issuer", "tokens of version 2.0 have an issuer that ends in /v2.0; version 1.0 (https://sts.windows.net/…/) is profile: entra-v1")
	case s.Profile == ProfileEntraV1 && rest == "v2.0":
		k.fault(path+".issuer", "tokens of version 1.0 have the issuer https://sts.windows.net/…/; version 2.0 is profile: entra")
	}
}

// namespaced checks that s lists its partners if there are several servers and s does not name
// clients by client_id alone. Without such a list, the azp or sub of a token of s could equal the
// client_id of another server's client.
func (k *checker) namespaced(path string, s *AuthorizationServer) {
	if len(k.config.AuthorizationServers) > 1 && !s.NamesClientByClientID() && s.Partners == nil && !k.undecoded(path+".partners") {
		k.fault(path, "partners is required: client_claim is not client_id alone, and without partners the server could name the clients of other servers")
	}
}
