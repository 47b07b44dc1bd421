package config

// Profile says how the tokens of a product look. It sets the defaults of the settings in
// profileDefaults; each of them can be set on its own.
type Profile string

// The values of [Profile].
const (
	ProfileRFC9068  Profile = "rfc9068" // https://www.rfc-editor.org/rfc/rfc9068, and our own issuer
	ProfileKeycloak Profile = "keycloak"
	ProfileEntra    Profile = "entra"    // version 2.0 tokens
	ProfileEntraV1  Profile = "entra-v1" // version 1.0 tokens, also of AD FS
	ProfileOkta     Profile = "okta"
	ProfileAuth0    Profile = "auth0"
	ProfilePing     Profile = "ping"
	ProfileCognito  Profile = "cognito"
	ProfileDuende   Profile = "duende"
	ProfileCurity   Profile = "curity"
	ProfileHydra    Profile = "hydra"
)

// profileDefaults are the defaults that a profile sets.
type profileDefaults struct {
	algorithms    []Algorithm
	types         []string
	clientClaim   []ClaimName
	audienceClaim []ClaimName
	scopeClaim    ClaimName
	rolesAsScopes ClaimName
	confirmation  ConfirmationClaim
}

// The lists that several profiles share. No list names sub: a user may choose it.
var (
	clientID      = []ClaimName{"client_id"}
	clientIDOrAZP = []ClaimName{"client_id", "azp"}
	withRS256     = []Algorithm{ES256, PS256, EdDSA, RS256}
	onlyRS256     = []Algorithm{RS256}
)

// profiles has the defaults of each profile. A zero value stands for the value of rfc9068.
var profiles = map[Profile]profileDefaults{
	ProfileRFC9068: {
		algorithms: []Algorithm{ES256, PS256, EdDSA}, types: []string{"at+jwt"},
		clientClaim: clientID, audienceClaim: []ClaimName{"aud"}, scopeClaim: "scope", confirmation: CNF,
	},
	// typ JWT, unless the client has "Use at+jwt as access token header type"; client_id only in
	// tokens of service accounts.
	// https://www.keycloak.org/docs/latest/server_admin/
	ProfileKeycloak: {algorithms: withRS256, types: []string{"at+jwt", "JWT"}, clientClaim: clientIDOrAZP},
	// azp is the client, scp the delegated permissions in one string, and roles the permissions
	// of an application that calls for itself.
	// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
	ProfileEntra: {
		algorithms: onlyRS256, types: []string{"JWT"}, clientClaim: []ClaimName{"azp"}, scopeClaim: "scp", rolesAsScopes: "roles",
	},
	// appid is the client.
	// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
	ProfileEntraV1: {
		algorithms: onlyRS256, types: []string{"JWT"}, clientClaim: []ClaimName{"appid"}, scopeClaim: "scp", rolesAsScopes: "roles",
	},
	// Custom authorization servers: no typ, cid is the client, scp an array.
	// https://developer.okta.com/docs/guides/customize-authz-server/main/
	ProfileOkta: {algorithms: onlyRS256, types: []string{NoType}, clientClaim: []ClaimName{"cid"}, scopeClaim: "scp"},
	// Auth0's own token profile has typ JWT and azp, the RFC 9068 profile at+jwt and client_id.
	// https://auth0.com/docs/secure/tokens/access-tokens/access-token-profiles
	ProfileAuth0: {algorithms: withRS256, types: []string{"at+jwt", "JWT"}, clientClaim: clientIDOrAZP},
	// PingFederate: no typ by default; scope is an array unless scopes are space-delimited by choice.
	// https://apidocs.pingidentity.com/pingone/main/v1/api/src/authentication-concepts/access-tokens-and-id-tokens/token-claims/
	ProfilePing: {algorithms: withRS256, types: []string{"at+jwt", NoType}},
	// No typ and no aud; client_id stands for the audience, and scopes begin with the resource
	// server's identifier.
	// https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html
	ProfileCognito: {algorithms: onlyRS256, types: []string{NoType}, audienceClaim: []ClaimName{"aud", "client_id"}},
	// scope is an array unless EmitScopesAsSpaceDelimitedStringInJwt is set.
	// https://docs.duendesoftware.com/identityserver/apis/aspnetcore/authorization/
	ProfileDuende: {algorithms: withRS256},
	// No typ.
	// https://curity.io/docs/identity-server/profiles/token-profile/scopes-and-claims/claims-mappers
	ProfileCurity: {algorithms: withRS256, types: []string{"at+jwt", NoType}},
	// typ JWT, scp an array; claims of the consent app, cnf among them, are under ext.
	// https://www.ory.sh/docs/oauth2-oidc/jwt-access-token
	ProfileHydra: {algorithms: withRS256, types: []string{"JWT"}, scopeClaim: "scp", confirmation: ExtCNF},
}

// defaults returns the defaults of p, each of them set.
func (p Profile) defaults() profileDefaults {
	d, base := profiles[p], profiles[ProfileRFC9068]
	if d.algorithms == nil {
		d.algorithms = base.algorithms
	}
	if d.types == nil {
		d.types = base.types
	}
	if d.clientClaim == nil {
		d.clientClaim = base.clientClaim
	}
	if d.audienceClaim == nil {
		d.audienceClaim = base.audienceClaim
	}
	if d.scopeClaim == "" {
		d.scopeClaim = base.scopeClaim
	}
	if d.confirmation == "" {
		d.confirmation = base.confirmation
	}
	return d
}
