package config

// Profile says which product's tokens a server issues. It sets the defaults of the settings in
// profileDefaults. The file can override each default.
type Profile string

// The values of [Profile].
const (
	ProfileRFC9068  Profile = "rfc9068" // https://www.rfc-editor.org/rfc/rfc9068, and the tokens of our own issuer
	ProfileKeycloak Profile = "keycloak"
	ProfileEntra    Profile = "entra"    // version 2.0 tokens
	ProfileEntraV1  Profile = "entra-v1" // version 1.0 tokens, and the tokens of AD FS
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

// The lists that several profiles share. No list contains sub, because a user may be able to choose
// sub.
var (
	clientID      = []ClaimName{"client_id"}
	clientIDOrAZP = []ClaimName{"client_id", "azp"}
	withRS256     = []Algorithm{ES256, PS256, EdDSA, RS256}
	onlyRS256     = []Algorithm{RS256}
)

// profiles has the defaults of each profile. Where a value is zero, the default is the value of
// rfc9068.
var profiles = map[Profile]profileDefaults{
	ProfileRFC9068: {
		algorithms: []Algorithm{ES256, PS256, EdDSA}, types: []string{"at+jwt"},
		clientClaim: clientID, audienceClaim: []ClaimName{"aud"}, scopeClaim: "scope", confirmation: CNF,
	},
	// typ is JWT, unless the client has "Use at+jwt as access token header type". client_id is only
	// in tokens of service accounts.
	// https://www.keycloak.org/docs/latest/server_admin/
	ProfileKeycloak: {algorithms: withRS256, types: []string{"at+jwt", "JWT"}, clientClaim: clientIDOrAZP},
	// azp is the client. scp has the delegated permissions in one string. roles has the permissions
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
	// Tokens of custom authorization servers have no typ. cid is the client, and scp is an array.
	// https://developer.okta.com/docs/guides/customize-authz-server/main/
	ProfileOkta: {algorithms: onlyRS256, types: []string{NoType}, clientClaim: []ClaimName{"cid"}, scopeClaim: "scp"},
	// Auth0's own token profile has typ JWT and the client in azp. Its RFC 9068 profile has typ
	// at+jwt and the client in client_id.
	// https://auth0.com/docs/secure/tokens/access-tokens/access-token-profiles
	ProfileAuth0: {algorithms: withRS256, types: []string{"at+jwt", "JWT"}, clientClaim: clientIDOrAZP},
	// PingFederate sets no typ by default. scope is an array, unless PingFederate is configured to
	// delimit scopes by spaces.
	// https://apidocs.pingidentity.com/pingone/main/v1/api/src/authentication-concepts/access-tokens-and-id-tokens/token-claims/
	ProfilePing: {algorithms: withRS256, types: []string{"at+jwt", NoType}},
	// There is no typ and no aud. client_id is used as the audience, and scopes begin with the
	// identifier of the resource server.
	// https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html
	ProfileCognito: {algorithms: onlyRS256, types: []string{NoType}, audienceClaim: []ClaimName{"aud", "client_id"}},
	// scope is an array unless EmitScopesAsSpaceDelimitedStringInJwt is set.
	// https://docs.duendesoftware.com/identityserver/apis/aspnetcore/authorization/
	ProfileDuende: {algorithms: withRS256},
	// Tokens have no typ.
	// https://curity.io/docs/identity-server/profiles/token-profile/scopes-and-claims/claims-mappers
	ProfileCurity: {algorithms: withRS256, types: []string{"at+jwt", NoType}},
	// typ is JWT, and scp is an array. Claims that the consent app sets, such as cnf, are members of
	// ext.
	// https://www.ory.sh/docs/oauth2-oidc/jwt-access-token
	ProfileHydra: {algorithms: withRS256, types: []string{"JWT"}, scopeClaim: "scp", confirmation: ExtCNF},
}

// defaults returns the defaults of p. Every field of the result is set.
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
