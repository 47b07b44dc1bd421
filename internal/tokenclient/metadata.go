package tokenclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// MaxResponse bounds a response of an authorization server: 1 MiB, although metadata and tokens have
// only a few KiB.
const MaxResponse = 1 << 20

// metadataURL is the URL of an authorization server's metadata.
type metadataURL struct {
	*url.URL
	issuer string // the requested issuer identifier; "" if the caller named a metadata URL
}

// parseMetadataURL parses an issuer identifier or a metadata URL. A URL whose path is under
// /.well-known/ is a metadata URL.
func parseMetadataURL(s string) (metadataURL, error) {
	u, err := parseHTTPS(s)
	if err != nil {
		return metadataURL{}, err
	}
	if u.RawQuery != "" || u.ForceQuery {
		return metadataURL{}, errors.New("an issuer identifier has no query (RFC 8414 section 2)")
	}
	path := u.EscapedPath() + "/"
	if strings.HasPrefix(path, authserver.OAuthPath+"/") || strings.HasPrefix(path, authserver.OpenIDPath+"/") || strings.HasSuffix(path, authserver.OpenIDPath+"/") {
		return metadataURL{URL: u}, nil
	}
	return metadataURL{URL: authserver.InsertWellKnown(u, authserver.OAuthPath), issuer: s}, nil
}

// names reports whether m is the metadata URL of issuer (RFC 8414 section 3.3). If the caller named
// an issuer, the identifiers must be equal byte for byte.
func (m metadataURL) names(issuer string) bool {
	if m.issuer != "" {
		return issuer == m.issuer
	}
	u, err := parseHTTPS(issuer)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(authserver.MetadataURLs(u), func(place *url.URL) bool { return place.String() == m.String() })
}

func parseHTTPS(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Contains(s, "#") {
		return nil, errors.New("must be an https URL with a host, without user and fragment")
	}
	return u, nil
}

// A Client talks to an authorization server with mutual TLS.
type Client struct {
	HTTP  *http.Client
	flags Options
}

// New returns a Client with the certificate and the authorities that f names. Its errors name the file.
func New(f Options) (*Client, error) {
	pair, err := pemfile.ReadKeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("reading client certificate and key: %w", err)
	}
	var roots *x509.CertPool // nil: the system's roots
	if f.CA != "" {
		if roots, err = pemfile.ReadPool([]string{f.CA}); err != nil {
			return nil, fmt.Errorf("reading authorities: %w", err)
		}
	}
	return &Client{flags: f, HTTP: &http.Client{
		Transport: &http.Transport{
			// No proxy from the environment is used: a proxy must not see to which server the client
			// authenticates, and must not choose the server.
			Proxy: nil,
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12,
				RootCAs:    roots,
				// With Certificates, crypto/tls would silently omit the certificate if the server's
				// list of acceptable authorities lacks the issuer of the certificate.
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// discover returns the token endpoint from the metadata at place. If the metadata has an endpoint for
// mutual TLS (RFC 8705 section 5), discover returns this endpoint.
func (c *Client) discover(ctx context.Context, place metadataURL) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place.String(), nil)
	if err != nil {
		return nil, err
	}
	status, body, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK { // RFC 8414 section 3.2
		return nil, fmt.Errorf("calling %s: status %d", shown(req.URL), status)
	}
	var metadata struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
		Aliases       struct {
			TokenEndpoint string `json:"token_endpoint"`
		} `json:"mtls_endpoint_aliases"`
	}
	if err := decode(req.URL, body, &metadata); err != nil {
		return nil, err
	}
	if !place.names(metadata.Issuer) {
		return nil, fmt.Errorf("calling %s: the metadata names issuer %q, not the requested issuer (RFC 8414 section 3.3)",
			shown(req.URL), metadata.Issuer)
	}
	named := metadata.TokenEndpoint
	if metadata.Aliases.TokenEndpoint != "" {
		named = metadata.Aliases.TokenEndpoint
	}
	endpoint, err := parseHTTPS(named)
	if err != nil {
		return nil, fmt.Errorf("calling %s: the token endpoint %w", shown(req.URL), err)
	}
	return endpoint, nil
}

// Do sends req and returns the status and the whole body of the response, which has up to [MaxResponse] bytes.
func (c *Client) Do(req *http.Request) (status int, body []byte, err error) {
	req.Header.Set("Accept", "application/json")
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return 0, nil, c.explain(req.URL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return 0, nil, fmt.Errorf("calling %s: the server redirects, and redirects are not followed", shown(req.URL))
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, MaxResponse+1))
	if err != nil {
		return 0, nil, c.explain(req.URL, err)
	}
	if len(body) > MaxResponse {
		return 0, nil, fmt.Errorf("calling %s: the response is larger than %d bytes", shown(req.URL), MaxResponse)
	}
	return resp.StatusCode, body, nil
}

// explain describes why a request to u failed.
func (c *Client) explain(u *url.URL, err error) error {
	err = fetch.WithoutURL(err)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("calling %s: no response within %s (--timeout)", shown(u), c.flags.Timeout)
	case errors.As(err, &unknown) && c.flags.CA == "":
		return fmt.Errorf("calling %s: the system does not trust the authority of the server's certificate; name it with --ca: %w", shown(u), err)
	case errors.As(err, &unknown):
		return fmt.Errorf("calling %s: the server's certificate chains to no authority in %q (--ca): %w", shown(u), c.flags.CA, err)
	}
	return fmt.Errorf("calling %s: %w", shown(u), err)
}

// decode decodes body, a response of u. Duplicate members are an error, and names are case sensitive.
// The error does not quote the response, which may hold a token.
func decode(u *url.URL, body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("calling %s: the response is not the expected JSON object", shown(u))
	}
	return nil
}

// shown returns u without its query, for errors.
func shown(u *url.URL) string {
	bare := *u
	bare.RawQuery, bare.ForceQuery = "", false
	return bare.String()
}
