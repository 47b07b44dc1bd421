package main

import (
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

// A shape is what an authorization server of a profile issues: a token that is made like its
// tokens, and its key set.
type shape struct {
	profile  string
	issuer   string
	audience string
	client   string
	settings string // further lines of the server's configuration
	header   testpki.M
	claims   testpki.M // without iss, the times and the confirmation
	jwk      testpki.M // further members of the signing key
	others   []testpki.M
	ext      bool // the confirmation is under ext
	subject  string
}

const (
	tenant      = "6e74172b-be56-4843-9ff4-e66a39bb12e3"
	otherTenant = "9188040d-6c67-4c5b-b112-36a304b66dad"
	ordersAPI   = "https://orders.example.test"
)

// shapes has at least one token for each profile. The members, and the order of magnitude of the
// values, come from the vendors' documentation; names and values are invented.
func shapes() []shape {
	type M = testpki.M
	return []shape{
		{
			profile: "rfc9068", issuer: "https://as.example.test", audience: ordersAPI, client: "rfc-ledger",
			header: M{"typ": "at+jwt"}, subject: "rfc-ledger",
			claims: M{"aud": ordersAPI, "sub": "rfc-ledger", "client_id": "rfc-ledger", "jti": "dbe39bf3a3ba4238a513f51d6e1691c4", "scope": "orders.read"},
		},
		{
			profile: "keycloak", issuer: "https://sso.example.test/realms/partners", audience: ordersAPI, client: "keycloak-ledger",
			header: M{"typ": "JWT"}, subject: "b1c7d3f0-5a6e-4d6c-8c3c-0e6d1b7f5a11",
			claims: M{
				"jti": "trrtcc:5c6d3c1e-8c39-49a5-8d5c-9a4f1d1a0b2c", "aud": []string{ordersAPI, "account"}, "sub": "b1c7d3f0-5a6e-4d6c-8c3c-0e6d1b7f5a11",
				"typ": "Bearer", "azp": "keycloak-ledger", "acr": "1", "realm_access": M{"roles": []string{"offline_access", "default-roles-partners"}},
				"resource_access": M{"account": M{"roles": []string{"view-profile"}}}, "scope": "orders.read profile email", "clientHost": "192.0.2.7",
				"email_verified": false, "preferred_username": "service-account-keycloak-ledger", "clientAddress": "192.0.2.7", "client_id": "keycloak-ledger",
			},
			others: []M{{"kid": "sealed", "alg": "RSA-OAEP", "use": "enc"}},
		},
		{ // a token of a user
			profile: "keycloak", issuer: "https://login.example.test/realms/staff", audience: ordersAPI, client: "keycloak-portal",
			header: M{"typ": "JWT"}, subject: "0b9e3f55-1d0c-4d4e-9a53-8a2f2f0f3c7e",
			claims: M{
				"jti": "onrtac:8f0e", "aud": ordersAPI, "sub": "0b9e3f55-1d0c-4d4e-9a53-8a2f2f0f3c7e", "typ": "Bearer", "azp": "keycloak-portal",
				"sid": "c1f0e2f7", "acr": "1", "allowed-origins": []string{"/*"}, "scope": "orders.read openid", "name": "Ada Example", "preferred_username": "ada",
			},
		},
		{
			profile: "entra", issuer: "https://login.microsoftonline.com/" + tenant + "/v2.0", audience: "5d2b6f0a-5c53-4f6a-8f6d-0c2e6a7e1b11", client: "a1b2c3d4-0000-4000-8000-00000000e2e2",
			header: M{"typ": "JWT", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg"}, subject: "f7a0c2de-9a34-4f5e-8a0e-1c6a1f7f2b22",
			claims: M{
				"aud": "5d2b6f0a-5c53-4f6a-8f6d-0c2e6a7e1b11", "aio": "k2RgYFjL+eGx8eOsfQA=", "azp": "a1b2c3d4-0000-4000-8000-00000000e2e2", "azpacr": "2",
				"oid": "f7a0c2de-9a34-4f5e-8a0e-1c6a1f7f2b22", "rh": "1.AXkA", "roles": []string{"orders.read"}, "sub": "f7a0c2de-9a34-4f5e-8a0e-1c6a1f7f2b22",
				"tid": tenant, "uti": "0Kq4cOQ-2kO8aVb5kZ0DAA", "ver": "2.0", "xms_ftd": "x",
			},
			jwk: M{"alg": nil, "cloud_instance_name": "microsoftonline.com", "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"},
		},
		{
			profile: "entra-v1", issuer: "https://sts.windows.net/" + tenant + "/", audience: "api://orders", client: "a1b2c3d4-0000-4000-8000-00000000e1e1",
			header: M{"typ": "JWT", "x5t": "nOo3ZDrODXEK1jKWhXslHR_KXEg"}, subject: "f7a0c2de-9a34-4f5e-8a0e-1c6a1f7f2b23",
			claims: M{
				"aud": "api://orders", "aio": "k2BgYPhxKf9xx2Oz", "appid": "a1b2c3d4-0000-4000-8000-00000000e1e1", "appidacr": "2", "idp": "https://sts.windows.net/" + tenant + "/",
				"idtyp": "app", "oid": "f7a0c2de-9a34-4f5e-8a0e-1c6a1f7f2b23", "rh": "0.AXk", "roles": []string{"orders.read"}, "sub": "f7a0c2de-9a34-4f5e-8a0e-1c6a1f7f2b23",
				"tid": tenant, "uti": "x", "ver": "1.0",
			},
			jwk: M{"alg": nil},
		},
		{
			profile: "okta", issuer: "https://example.okta.test/oauth2/aus9o8wzkhckw9TLa0h7", audience: "api://orders", client: "0oa1example2Okta3h7",
			header: M{"typ": nil}, subject: "0oa1example2Okta3h7",
			claims: M{
				"ver": 1, "jti": "AT.mOaVt-0-JmxzS2DbBBmiWkRj4qHkLjfW0tEjZHm0Xk", "aud": "api://orders", "cid": "0oa1example2Okta3h7",
				"scp": []string{"orders.read"}, "sub": "0oa1example2Okta3h7",
			},
		},
		{
			profile: "auth0", issuer: "https://example.eu.auth0.test/", audience: ordersAPI, client: "auth0LedgerqhXkNw2ZVtyG",
			header: M{"typ": "JWT"}, subject: "auth0LedgerqhXkNw2ZVtyG@clients",
			claims: M{"sub": "auth0LedgerqhXkNw2ZVtyG@clients", "aud": ordersAPI, "scope": "orders.read", "gty": "client-credentials", "azp": "auth0LedgerqhXkNw2ZVtyG"},
		},
		{ // by its RFC 9068 profile
			profile: "auth0", issuer: "https://example.us.auth0.test/", audience: ordersAPI, client: "auth0Rfc9068hXkNw2ZVtyG",
			header: M{"typ": "at+jwt"}, subject: "auth0Rfc9068hXkNw2ZVtyG@clients",
			claims: M{"sub": "auth0Rfc9068hXkNw2ZVtyG@clients", "aud": ordersAPI, "scope": "orders.read", "jti": "yQnBGuB4kS5BkLqBBYBQ5v", "client_id": "auth0Rfc9068hXkNw2ZVtyG"},
		},
		{
			profile: "ping", issuer: "https://federate.example.test", audience: ordersAPI, client: "ping-ledger",
			header: M{"typ": nil, "pi.atm": "1"}, subject: "",
			claims: M{"scope": []string{"orders.read"}, "client_id": "ping-ledger", "aud": ordersAPI, "jti": "kPq9Zr2W"},
		},
		{
			profile: "cognito", issuer: "https://cognito-idp.eu-central-1.amazonaws.test/eu-central-1_example", audience: "1example23456789cognito", client: "1example23456789cognito",
			settings: "    scope_prefix: orders-api/\n", header: M{"typ": nil}, subject: "1example23456789cognito",
			claims: M{
				"sub": "1example23456789cognito", "token_use": "access", "scope": "orders-api/orders.read", "auth_time": time.Now().Unix(),
				"version": 2, "jti": "8d9a1f3e-1111-4222-8333-aaaaaaaaaaaa", "client_id": "1example23456789cognito",
			},
		},
		{
			profile: "duende", issuer: "https://identity.example.test", audience: ordersAPI, client: "duende.ledger",
			header: M{"typ": "at+jwt"}, subject: "",
			claims: M{"aud": ordersAPI, "scope": []string{"orders.read"}, "client_id": "duende.ledger", "jti": "3A8B0E8B7C4D"},
		},
		{
			profile: "curity", issuer: "https://curity.example.test/oauth/v2/oauth-anonymous", audience: ordersAPI, client: "curity-ledger",
			header: M{"typ": nil, "x5t": "K8RTFLQxrcNR7x3B0RdGiQ"}, subject: "curity-ledger",
			claims: M{
				"jti": "22a0f2a6-2e02-4b9b-a5c3-1c2b5a1b3f11", "delegationId": "b6a2b1f0", "scope": "orders.read", "sub": "curity-ledger", "aud": ordersAPI,
				"purpose": "access_token", "client_id": "curity-ledger",
			},
		},
		{
			profile: "hydra", issuer: "https://hydra.example.test", audience: ordersAPI, client: "hydra-ledger",
			header: M{"typ": "JWT"}, ext: true, subject: "hydra-ledger",
			claims: M{"aud": []string{ordersAPI}, "client_id": "hydra-ledger", "jti": "b4a0a7c1", "scp": []string{"orders.read"}, "sub": "hydra-ledger"},
		},
	}
}

// idTokens has the changes that make the token of a shape like an ID token of the same server for
// the API as its audience.
var idTokens = map[string]testpki.M{
	"keycloak": {"typ": "ID", "at_hash": "77QmUPtjPfzWtF2AnpK9RQ", "scope": nil, "realm_access": nil},
	"entra":    {"nonce": "678910", "azp": "a1b2c3d4-0000-4000-8000-00000000e2e2"},
	"entra-v1": {"nonce": "678910"},
	"okta":     {"at_hash": "77QmUPtjPfzWtF2AnpK9RQ", "amr": []string{"pwd"}},
	"auth0":    {"nonce": "678910"},
	"ping":     {"nonce": "678910", "pi.sri": "x"},
	"cognito":  {"token_use": "id"},
	"curity":   {"purpose": "id", "c_hash": nil},
	"hydra":    {"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"},
}
