package config

import "slices"

// Defaults returns the settings of a server for which only the profile p is configured. Profile,
// Algorithms, Types and the claims are set in the result.
func (p Profile) Defaults() AuthorizationServer {
	d := p.defaults()
	return AuthorizationServer{
		Profile: p, Algorithms: slices.Clone(d.algorithms), Types: slices.Clone(d.types), ClientClaim: slices.Clone(d.clientClaim), SubjectClaim: "sub",
		AudienceClaim: slices.Clone(d.audienceClaim), ScopeClaim: d.scopeClaim, RolesAsScopes: d.rolesAsScopes, ConfirmationClaim: d.confirmation,
	}
}

// Algorithms returns every algorithm that can be configured.
func Algorithms() []Algorithm {
	return []Algorithm{ES256, ES384, ES512, PS256, PS384, PS512, EdDSA, Ed25519, RS256, RS384, RS512}
}
