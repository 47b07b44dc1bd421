package issuer

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// endpointURLs are the endpoints that a client authenticates at.
type endpointURLs struct {
	Token      string `json:"token_endpoint"`
	Revocation string `json:"revocation_endpoint"`
}

// metadata is RFC 8414 section 2 with RFC 8705 sections 3.3 and 5. The scopes are
// left out: the list would tell every caller what every partner may do.
type metadata struct {
	Issuer string `json:"issuer"`
	endpointURLs
	KeySet string `json:"jwks_uri"`
	// ResponseTypes is empty, for there is no authorization endpoint. RFC 8414
	// requires the member in section 2 and wants empty ones left out in section
	// 3.2; it is published, since clients break on its absence.
	ResponseTypes        []string     `json:"response_types_supported"`
	GrantTypes           []string     `json:"grant_types_supported"`
	TokenAuthentication  []string     `json:"token_endpoint_auth_methods_supported"`
	RevokeAuthentication []string     `json:"revocation_endpoint_auth_methods_supported"`
	BoundTokens          bool         `json:"tls_client_certificate_bound_access_tokens"`
	MutualTLSAliases     endpointURLs `json:"mtls_endpoint_aliases"`
}

// metadataOf returns the metadata document of the issuer with this identifier.
// The aliases are the endpoints themselves: all of it is one mutual-TLS listener.
func metadataOf(identifier string) ([]byte, error) {
	base := strings.TrimSuffix(identifier, "/")
	endpoints := endpointURLs{Token: base + tokenPath, Revocation: base + revokePath}
	methods := []string{string(config.TLSClientAuth)}
	return json.Marshal(metadata{
		Issuer:               identifier,
		endpointURLs:         endpoints,
		KeySet:               base + keySetPath,
		ResponseTypes:        []string{},
		GrantTypes:           []string{clientCredentials},
		TokenAuthentication:  methods,
		RevokeAuthentication: methods,
		BoundTokens:          true,
		MutualTLSAliases:     endpoints,
	})
}

func (i *Issuer) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, json.RawMessage(i.metadata))
}
