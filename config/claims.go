package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/internal/strictyaml"
)

// ClaimName is the name of a claim at the top level of a token, compared exactly: at most 128
// characters of printable ASCII without spaces. A dot in it is part of the name.
type ClaimName string

// ConfirmationClaim says where a token has its confirmation (RFC 7800 section 3.1).
type ConfirmationClaim string

// The values of [ConfirmationClaim].
const (
	CNF    ConfirmationClaim = "cnf"
	ExtCNF ConfirmationClaim = "ext.cnf" // the member cnf of the claim ext; a cnf at the top level is read too
)

// NoType is the value in [AuthorizationServer.Types] that accepts tokens without typ.
const NoType = "absent"

const maxClaimName = 128

// UnmarshalText reads the name of a claim.
func (c *ClaimName) UnmarshalText(text []byte) error {
	if len(text) == 0 || len(text) > maxClaimName || !isPrintable(text) {
		return errors.New("the name of a claim is 1 to 128 printable ASCII characters without spaces")
	}
	*c = ClaimName(text)
	return nil
}

// UnmarshalText reads where tokens have their confirmation: cnf or ext.cnf.
func (c *ConfirmationClaim) UnmarshalText(text []byte) error {
	return oneOf(c, text, CNF, ExtCNF)
}

// UnmarshalText reads the name of a profile.
func (p *Profile) UnmarshalText(text []byte) error {
	return oneOf(p, text, ProfileRFC9068, ProfileKeycloak, ProfileEntra, ProfileEntraV1, ProfileOkta, ProfileAuth0,
		ProfilePing, ProfileCognito, ProfileDuende, ProfileCurity, ProfileHydra)
}

// applyProfiles completes each authorization server: a setting that the file does not set gets the
// default of the server's profile.
func (c *Config) applyProfiles() {
	for i := range c.AuthorizationServers {
		s, path := &c.AuthorizationServers[i], strictyaml.Index("authorization_servers", i)
		d := s.Profile.defaults()
		unset := func(key string) bool { return !c.source.Has(strictyaml.Key(path, key)) }
		if unset("algorithms") {
			s.Algorithms = slices.Clone(d.algorithms)
		}
		if unset("types") {
			s.Types = slices.Clone(d.types)
		}
		if unset("client_claim") {
			s.ClientClaim = slices.Clone(d.clientClaim)
		}
		if unset("audience_claim") {
			s.AudienceClaim = slices.Clone(d.audienceClaim)
		}
		if unset("scope_claim") {
			s.ScopeClaim = d.scopeClaim
		}
		if unset("roles_as_scopes") {
			s.RolesAsScopes = d.rolesAsScopes
		}
		if unset("confirmation_claim") {
			s.ConfirmationClaim = d.confirmation
		}
	}
}

// NamesClientByClientID reports whether client_id alone names the client of a token.
func (s *AuthorizationServer) NamesClientByClientID() bool {
	return len(s.ClientClaim) == 0 || len(s.ClientClaim) == 1 && s.ClientClaim[0] == "client_id"
}

// Tenant returns the GUID of the Entra tenant whose tokens the server issues. It returns "" for AD FS
// and for a server with another profile.
func (s *AuthorizationServer) Tenant() string {
	u, err := url.Parse(string(s.Issuer))
	if err != nil || s.Profile != ProfileEntra && s.Profile != ProfileEntraV1 {
		return ""
	}
	tenant, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	if !guid.MatchString(tenant) {
		return ""
	}
	return tenant
}
