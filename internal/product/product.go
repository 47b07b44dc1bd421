// Package product guesses the product of an authorization server from its issuer and its tokens. Only
// texts for operators depend on the guess. No decision about a request depends on it.
package product

import (
	"net/url"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// A Product is an authorization server product, such as Keycloak, with its profile.
type Product struct {
	Profile config.Profile // "" if the product is not known
	Bind    string         // the setting that makes the server bind tokens to certificates, in the vendor's words

	hosts []string                 // hosts of issuers; a name with a dot in front stands for all its subdomains
	path  string                   // a part of the paths of issuers
	marks func(claims Claims) bool // reports whether a token has the claims that only this product's tokens have; nil: there are no such claims
}

// Claims are the claims of a token that [Names] has and that are not null. The value of a claim is its
// string, or "" for a claim of another type.
type Claims map[string]string

func (c Claims) has(name string) bool {
	_, ok := c[name]
	return ok
}

// PingATM is the member of a JWT's header in which PingFederate names its access token manager. Guess
// treats this member as a claim.
const PingATM = "pi.atm"

// Names are the names of the claims by which Guess distinguishes products.
var Names = []string{"acr", "appid", "aud", "azp", "cid", "client_id", "delegationId", "ext", "gty", "realm_access", "resource_access", "scp", "tid", "token_use", "ver"}

const bindEntra = "the client requests its token by MSAL's mTLS proof of possession (WithMtlsProofOfPossession), a private preview that Microsoft enables"

// products is searched in order, first by the issuer and then by the claims.
var products = []Product{
	{
		Profile: config.ProfileEntraV1, hosts: []string{"sts.windows.net"},
		marks: func(c Claims) bool { return c.has("tid") && c["ver"] == "1.0" },
		Bind:  bindEntra,
	},
	{
		Profile: config.ProfileEntraV1, path: "/adfs",
		marks: func(c Claims) bool { return c.has("appid") },
		Bind:  "AD FS does not bind access tokens to certificates",
	},
	{
		Profile: config.ProfileEntra, hosts: []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", ".ciamlogin.com"},
		marks: func(c Claims) bool { return c.has("tid") && c["ver"] == "2.0" },
		Bind:  bindEntra,
	},
	{
		Profile: config.ProfileOkta, hosts: []string{".okta.com", ".oktapreview.com", ".okta-emea.com"},
		marks: func(c Claims) bool { return c.has("cid") },
		Bind:  "Okta does not bind access tokens to certificates, only to DPoP keys (docs/dpop.md): \"Require Demonstrating Proof of Possession (DPoP) header in token requests\" of the application",
	},
	{
		Profile: config.ProfileAuth0, hosts: []string{".auth0.com"},
		marks: func(c Claims) bool { return c.has("gty") },
		Bind:  "\"Require Sender Constraining\" of the application and mTLS as the method of \"Token Sender-Constraining\" of the API; this needs the Highly Regulated Identity add-on and a custom domain with mTLS",
	},
	{
		Profile: config.ProfileCognito, hosts: []string{".amazonaws.com"},
		marks: func(c Claims) bool { return c["token_use"] == "access" && !c.has("aud") },
		Bind:  "Amazon Cognito does not bind access tokens, neither to certificates nor to DPoP keys",
	},
	{ // before Keycloak, because these paths have realms too
		Profile: config.ProfilePing, path: "/am/oauth2/",
		marks: func(c Claims) bool { return c.has(PingATM) },
		Bind:  "\"Use Certificate-Bound Access Tokens\" of the client (Signing and Encryption)",
	},
	{
		Profile: config.ProfileKeycloak, path: "/realms/",
		marks: func(c Claims) bool {
			return c.has("realm_access") || c.has("resource_access") || c.has("azp") && c.has("acr")
		},
		Bind: "\"OAuth 2.0 Mutual TLS Certificate Bound Access Tokens Enabled\" of the client (Advanced), and https-client-auth=request of Keycloak itself",
	},
	{
		Profile: config.ProfileHydra,
		marks:   func(c Claims) bool { return c.has("ext") || c.has("scp") && c.has("client_id") },
		Bind:    "Ory Hydra binds no tokens by itself: a token hook must add cnf with the thumbprint of the certificate that a proxy in front has verified",
	},
	{
		Profile: config.ProfileCurity, path: "/oauth/v2/oauth-anonymous/",
		marks: func(c Claims) bool { return c.has("delegationId") },
		Bind:  "the client authenticates by mutual TLS, which binds its tokens (https://curity.io/docs, Mutual TLS)",
	},
}

// bindAny is the advice for a server whose product is not known.
const bindAny = "at the server, set tls_client_certificate_bound_access_tokens of the client (RFC 8705 section 3.4), and request the token with the client certificate at the mutual-TLS endpoint"

// Guess returns the product of an issuer whose tokens have the claims. The Profile of an unknown product
// is "", and its Bind is advice for any server.
func Guess(issuer string, claims Claims) Product {
	u, err := url.Parse(issuer)
	if err != nil {
		u = &url.URL{}
	}
	for _, p := range products {
		if p.issues(u) {
			return p
		}
	}
	for _, p := range products {
		if p.marks != nil && p.marks(claims) {
			return p
		}
	}
	return Product{Bind: bindAny}
}

// issues reports whether the host or the path of issuer belongs to the product.
func (p Product) issues(issuer *url.URL) bool {
	host := strings.ToLower(issuer.Hostname())
	if p.path != "" && strings.Contains(issuer.Path+"/", p.path) {
		return true
	}
	if p.Profile == config.ProfileCognito && !strings.HasPrefix(host, "cognito-idp.") {
		return false
	}
	return slices.ContainsFunc(p.hosts, func(h string) bool { return host == h || strings.HasPrefix(h, ".") && strings.HasSuffix(host, h) })
}
