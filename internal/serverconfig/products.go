package serverconfig

import (
	"net/url"
	"slices"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// A product is a kind of authorization server with a profile.
type product struct {
	profile config.Profile
	// hosts are the hosts of issuers, with a dot in front for every name below.
	hosts []string
	// path is contained in the path of issuers.
	path string
	// claims are the claims that only tokens of this product have.
	claims []string
	// bind says, in the vendor's words, how the server comes to bind tokens to certificates.
	bind string
}

// products are compared in order, by the issuer first and then by claims.
var products = []product{
	{
		profile: config.ProfileEntraV1, hosts: []string{"sts.windows.net"},
		bind: "the client requests its token by MSAL's mTLS proof of possession (WithMtlsProofOfPossession), a private preview that Microsoft enables",
	},
	{
		profile: config.ProfileEntraV1, path: "/adfs", claims: []string{"appid"},
		bind: "AD FS does not bind access tokens to certificates",
	},
	{
		profile: config.ProfileEntra, hosts: []string{"login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn", ".ciamlogin.com"},
		bind: "the client requests its token by MSAL's mTLS proof of possession (WithMtlsProofOfPossession), a private preview that Microsoft enables",
	},
	{
		profile: config.ProfileOkta, hosts: []string{".okta.com", ".oktapreview.com", ".okta-emea.com"}, claims: []string{"cid"},
		bind: "Okta does not bind access tokens to certificates, only to DPoP keys (docs/dpop.md): \"Require Demonstrating Proof of Possession (DPoP) header in token requests\" of the application",
	},
	{
		profile: config.ProfileAuth0, hosts: []string{".auth0.com"}, claims: []string{"gty"},
		bind: "\"Require Sender Constraining\" of the application and mTLS as the method of \"Token Sender-Constraining\" of the API; this needs the Highly Regulated Identity add-on and a custom domain with mTLS",
	},
	{
		profile: config.ProfileCognito, hosts: []string{".amazonaws.com"}, claims: []string{"token_use"},
		bind: "Amazon Cognito does not bind access tokens, neither to certificates nor to DPoP keys",
	},
	{ // before Keycloak: its realms are in the path too
		profile: config.ProfilePing, path: "/am/oauth2/",
		bind: "\"Use Certificate-Bound Access Tokens\" of the client (Signing and Encryption)",
	},
	{
		profile: config.ProfileKeycloak, path: "/realms/", claims: []string{"realm_access", "resource_access"},
		bind: "\"OAuth 2.0 Mutual TLS Certificate Bound Access Tokens Enabled\" of the client (Advanced), and https-client-auth=request of Keycloak itself",
	},
	{
		profile: config.ProfileHydra, claims: []string{"ext"},
		bind: "Ory Hydra binds no tokens by itself: a token hook must add cnf with the thumbprint of the certificate that a proxy in front has verified",
	},
	{
		profile: config.ProfileCurity, path: "/oauth/v2/oauth-anonymous/", claims: []string{"delegationId"},
		bind: "the client authenticates by mutual TLS, which binds its tokens (https://curity.io/docs, Mutual TLS)",
	},
}

// bindAny is the advice about a server of no known product.
const bindAny = "at the server, set tls_client_certificate_bound_access_tokens of the client (RFC 8705 section 3.4), and request the token with the client certificate at the mutual-TLS endpoint"

// productOf returns the product of an issuer with tokens that have the claims.
func productOf(issuer string, claims []string) product {
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
		if p.profile != config.ProfileEntraV1 && slices.ContainsFunc(p.claims, func(c string) bool { return slices.Contains(claims, c) }) {
			return p
		}
	}
	return product{profile: config.ProfileRFC9068, bind: bindAny}
}

// issues reports whether an issuer has a host or a path of the product.
func (p product) issues(issuer *url.URL) bool {
	host := strings.ToLower(issuer.Hostname())
	if p.path != "" && strings.Contains(issuer.Path+"/", p.path) {
		return true
	}
	if p.profile == config.ProfileCognito && !strings.HasPrefix(host, "cognito-idp.") {
		return false
	}
	return slices.ContainsFunc(p.hosts, func(h string) bool { return host == h || strings.HasPrefix(h, ".") && strings.HasSuffix(host, h) })
}

// marks are the claims by which products are told apart.
func marks() (claims []string) {
	for _, p := range products {
		claims = append(claims, p.claims...)
	}
	return claims
}
