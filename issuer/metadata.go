package issuer

import (
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// endpointURLs are the endpoints that authenticate their clients.
type endpointURLs struct {
	Token         string `json:"token_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
}

func endpointsAt(base string) endpointURLs {
	return endpointURLs{Token: base + tokenPath, Introspection: base + introspectPath, Revocation: base + revokePath}
}

// metadata is the metadata of RFC 8414 section 2 with RFC 8705 sections 3.3 and 5 and RFC 9701
// section 7. It has no scopes_supported, which would tell every caller what partners may do.
type metadata struct {
	Issuer string `json:"issuer"`
	endpointURLs
	KeySet string `json:"jwks_uri"`
	// ResponseTypes is empty, because there is no authorization endpoint. RFC 8414 requires the
	// member in section 2 and omits empty members in section 3.2. It is published, because clients
	// fail without it.
	ResponseTypes            []string     `json:"response_types_supported"`
	GrantTypes               []string     `json:"grant_types_supported"`
	TokenAuthentication      []string     `json:"token_endpoint_auth_methods_supported"`
	IntrospectAuthentication []string     `json:"introspection_endpoint_auth_methods_supported"`
	RevokeAuthentication     []string     `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectAlgorithms     []string     `json:"introspection_signing_alg_values_supported"`
	BoundTokens              bool         `json:"tls_client_certificate_bound_access_tokens"`
	MutualTLSAliases         endpointURLs `json:"mtls_endpoint_aliases"`
}

// serveMetadata is the metadata endpoint. Without a separate listener for mutual TLS, the
// endpoints are their own aliases.
func (i *Issuer) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	base := strings.TrimSuffix(i.identifier, "/")
	endpoints := endpointsAt(base)
	aliases := endpoints
	if alias := i.settings.MTLSAlias; alias != nil {
		aliases = endpointsAt("https://" + alias.URL.Host + i.base)
	}
	methods := []string{string(config.TLSClientAuth), string(config.SelfSignedTLSClientAuth)}
	writeJSON(w, http.StatusOK, metadata{
		Issuer:                   i.identifier,
		endpointURLs:             endpoints,
		KeySet:                   base + keySetPath,
		ResponseTypes:            []string{},
		GrantTypes:               []string{clientCredentials},
		TokenAuthentication:      methods,
		IntrospectAuthentication: methods,
		RevokeAuthentication:     methods,
		IntrospectAlgorithms:     []string{string(i.settings.Signing.Algorithm)},
		BoundTokens:              true,
		MutualTLSAliases:         aliases,
	})
}
