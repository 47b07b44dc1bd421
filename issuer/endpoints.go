package issuer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/tallygate/tallygate/config"
)

// An endpoint is one path with one method.
type endpoint struct {
	method    string
	path      string // compared with the undecoded path of the request
	bodyLimit int64  // bytes
	serve     http.HandlerFunc
}

// Paths of the endpoints. They are relative to the path of the issuer identifier.
const (
	tokenPath      = "/token"
	introspectPath = "/introspect"
	revokePath     = "/revoke"
	feedPath       = "/revocations"
	keySetPath     = "/jwks"
	operatorPath   = "/operator/" // and the name of an endpoint
	// wellKnown is inserted between the host and the path of the identifier, RFC 8414 section 3.
	wellKnown = "/.well-known/oauth-authorization-server"
	// openID is appended to the identifier (OpenID Connect Discovery section 4). It is for clients
	// that use only this metadata.
	openID = "/.well-known/openid-configuration"
)

// pathOf returns the path of an issuer identifier without its trailing slash, RFC 8414 section
// 3.1.
func pathOf(identifier string) (string, error) {
	u, err := url.Parse(identifier)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(u.EscapedPath(), "/"), nil
}

func (i *Issuer) newEndpoints(base string) []endpoint {
	return []endpoint{
		{http.MethodPost, base + tokenPath, 8 << 10, i.serveToken},
		{http.MethodPost, base + introspectPath, 20 << 10, i.serveIntrospect},
		// 16 KiB for the longest token that the gate accepts, and 4 KiB for other parameters: 20 KiB.
		{http.MethodPost, base + revokePath, 20 << 10, i.serveRevoke},
		{http.MethodGet, base + feedPath, 0, i.serveFeed},
		{http.MethodGet, base + keySetPath, 0, i.serveKeySet},
		{http.MethodGet, wellKnown + base, 0, i.serveMetadata},
		{http.MethodGet, base + openID, 0, i.serveMetadata},
	}
}

// ServeHTTP serves the endpoints and, if operators are configured, the endpoints for operators. It compares paths and
// methods exactly. Any other request gets 404
// or 405.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath()
	if name, ok := strings.CutPrefix(path, i.base+operatorPath); ok && len(i.operators) > 0 {
		i.serveOperators(w, r, name)
		return
	}
	for _, e := range i.endpoints {
		if path != e.path {
			continue
		}
		if r.Method != e.method {
			w.Header().Set("Allow", e.method)
			writeFault(w, methodNotAllowed)
			return
		}
		// The key set, the metadata and the feed of revocations are always served, because serving them is
		// cheap and gates need them during an overload too.
		if r.Method == http.MethodPost && i.overloaded != nil && i.overloaded() {
			writeFault(w, temporarilyUnavailable)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, e.bodyLimit)
		e.serve(w, r)
		return
	}
	writeFault(w, notFound)
}

// serveKeySet answers 503 rather than a key set that may lack a key that another process signs with.
func (i *Issuer) serveKeySet(w http.ResponseWriter, _ *http.Request) {
	if i.keys.Current() != nil {
		writeFault(w, temporarilyUnavailable)
		return
	}
	set, _ := i.keys.Set()
	writeJSON(w, http.StatusOK, json.RawMessage(set))
}

// endpointURLs are the URLs of the endpoints that authenticate their clients.
type endpointURLs struct {
	Token         string `json:"token_endpoint"`
	Introspection string `json:"introspection_endpoint"`
	Revocation    string `json:"revocation_endpoint"`
	Feed          string `json:"revocation_feed_endpoint"` // our own member
}

func endpointsAt(base string) endpointURLs {
	return endpointURLs{Token: base + tokenPath, Introspection: base + introspectPath, Revocation: base + revokePath, Feed: base + feedPath}
}

// metadata is the metadata of RFC 8414 section 2, with the members of RFC 8705 sections 3.3 and 5 and
// of RFC 9701 section 7. It has no scopes_supported, which would tell every caller what partners may
// do.
type metadata struct {
	Issuer string `json:"issuer"`
	endpointURLs
	KeySet string `json:"jwks_uri"`
	// ResponseTypes is empty, because there is no authorization endpoint. RFC 8414 requires the
	// member in section 2, and says in section 3.2 that empty members are omitted. The issuer
	// publishes the empty member, because some clients fail without it.
	ResponseTypes            []string     `json:"response_types_supported"`
	GrantTypes               []string     `json:"grant_types_supported"`
	TokenAuthentication      []string     `json:"token_endpoint_auth_methods_supported"`
	IntrospectAuthentication []string     `json:"introspection_endpoint_auth_methods_supported"`
	RevokeAuthentication     []string     `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectAlgorithms     []string     `json:"introspection_signing_alg_values_supported"`
	BoundTokens              bool         `json:"tls_client_certificate_bound_access_tokens"`
	MutualTLSAliases         endpointURLs `json:"mtls_endpoint_aliases"`
	ProofAlgorithms          []string     `json:"dpop_signing_alg_values_supported,omitempty"` // RFC 9449 section 5.1
}

// endpointURLs returns the URLs of the endpoints and of their aliases for mutual TLS. If there is no
// separate listener for mutual TLS, each alias is the same URL as its endpoint.
func (i *Issuer) endpointURLs() (endpoints, aliases endpointURLs) {
	endpoints = endpointsAt(strings.TrimSuffix(i.identifier, "/"))
	if alias := i.settings.MTLSAlias; alias != nil {
		return endpoints, endpointsAt("https://" + alias.URL.Host + i.base)
	}
	return endpoints, endpoints
}

// serveMetadata serves the metadata.
func (i *Issuer) serveMetadata(w http.ResponseWriter, _ *http.Request) {
	endpoints, aliases := i.endpointURLs()
	methods := []string{string(config.TLSClientAuth), string(config.SelfSignedTLSClientAuth)}
	writeJSON(w, http.StatusOK, metadata{
		Issuer:                   i.identifier,
		endpointURLs:             endpoints,
		KeySet:                   strings.TrimSuffix(i.identifier, "/") + keySetPath,
		ResponseTypes:            []string{},
		GrantTypes:               []string{clientCredentials},
		TokenAuthentication:      methods,
		IntrospectAuthentication: methods,
		RevokeAuthentication:     methods,
		IntrospectAlgorithms:     []string{string(i.settings.Signing.Algorithm)},
		BoundTokens:              true,
		MutualTLSAliases:         aliases,
		ProofAlgorithms:          i.proofs.Algorithms(),
	})
}
