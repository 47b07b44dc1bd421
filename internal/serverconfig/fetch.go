package serverconfig

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/reuse"
)

// maxPastedIssuer bounds the issuer in a command that the user may paste.
const maxPastedIssuer = 200

// A UsageError reports invalid options.
type UsageError struct{ err error }

func (e *UsageError) Error() string { return e.err.Error() }

// metadata holds the members of an authorization server's metadata that the proposal needs (RFC 8414
// section 2, RFC 8705 sections 3.3 and 5, RFC 9449 section 5.1). A member of another type than its RFC
// says is ignored.
type metadata struct {
	Issuer        string         `json:"issuer"`
	KeySet        jsontext.Value `json:"jwks_uri"`
	Introspection jsontext.Value `json:"introspection_endpoint"`
	Bound         jsontext.Value `json:"tls_client_certificate_bound_access_tokens"`
	Aliases       jsontext.Value `json:"mtls_endpoint_aliases"`
	DPoP          jsontext.Value `json:"dpop_signing_alg_values_supported"`
}

// A fetcher sends the requests of one proposal. The requests have the bounds of the gate's own
// requests.
type fetcher struct {
	server *authserver.Server
	lease  *reuse.Lease
	ca     string
}

func newFetcher(ca string) (*fetcher, error) {
	var settings config.AuthorizationServer
	if ca != "" {
		settings.Connection.Trust = []config.Path{config.Path(ca)}
	}
	lease := new(reuse.Pool).Lease()
	server, err := authserver.New(settings, authserver.Options{
		Log: slog.New(slog.DiscardHandler), Metrics: authserver.NewMetrics(nil), Now: time.Now, Lease: lease,
	})
	if err != nil {
		lease.Release()
		return nil, err
	}
	return &fetcher{server, lease, ca}, nil
}

// get sends a GET of u and returns the body of a response with status 200.
func (f *fetcher) get(ctx context.Context, u *url.URL, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, authserver.FetchTimeout)
	defer cancel()
	request, err := fetch.NewRequest(ctx, u, "application/json, application/jwk-set+json", "")
	if err != nil {
		return nil, err
	}
	response, err := f.server.Send(request, limit)
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &unknown) && f.ca == "":
		return nil, fmt.Errorf("calling %s: the system does not trust the authority of the server's certificate; name it with --ca: %w", u.Host, err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("calling %s: no response within the time limit (--timeout, and %s for each document)", u.Host, authserver.FetchTimeout)
	case err != nil:
		return nil, fmt.Errorf("calling %s: %w", u.Host, err)
	case response.Status != http.StatusOK:
		return nil, &statusError{u.Host, u.EscapedPath(), response.Status}
	}
	return response.Body, nil
}

// A statusError reports a response with another status than 200.
type statusError struct {
	host, path string
	status     int
}

func (e *statusError) Error() string {
	return fmt.Sprintf("calling %s: %s answers with status %d", e.host, e.path, e.status)
}

// metadata fetches the metadata of a server. text is the server's issuer identifier or the URL of its
// metadata.
func (f *fetcher) metadata(ctx context.Context, text string) (*metadata, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(text, "#") {
		return nil, &UsageError{errors.New("the URL must be https with a host, without user, query and fragment")}
	}
	locations, isIssuer := authserver.MetadataURLs(u), true
	if strings.Contains(u.Path+"/", authserver.OAuthPath+"/") || strings.Contains(u.Path+"/", authserver.OpenIDPath+"/") {
		locations, isIssuer = []*url.URL{u}, false
	}
	var failed []error
	for _, location := range locations {
		document, err := f.get(ctx, location, authserver.MaxMetadata)
		var status *statusError
		if errors.As(err, &status) {
			failed = append(failed, err)
			continue
		} else if err != nil { // a server that cannot be reached would not respond at another path either
			return nil, err
		}
		m, err := readMetadata(document)
		if err != nil {
			return nil, fmt.Errorf("reading metadata at %s%s: %w", location.Host, location.EscapedPath(), err)
		}
		if isIssuer && m.Issuer != text || !isIssuer && !publishes(m.Issuer, location) {
			return nil, fmt.Errorf("the metadata names issuer %q, which must be the requested URL byte for byte (RFC 8414 section 3.3); if that is the server, run %s",
				access.Truncate(m.Issuer), commandFor(m.Issuer))
		}
		return m, nil
	}
	return nil, errors.Join(failed...)
}

// commandFor returns the command that proposes the configuration for issuer. A server chooses the text
// of issuer, and a user may paste the command into a shell, which expands $(...) even between double
// quotes. The command therefore contains issuer only if a shell leaves every character of issuer
// unchanged.
func commandFor(issuer string) string {
	if len(issuer) > maxPastedIssuer || !plain.MatchString(issuer) {
		return "tallygate configure-server with that issuer"
	}
	return "tallygate configure-server " + issuer
}

func readMetadata(document []byte) (*metadata, error) {
	if err := jsonlimit.Check(document); err != nil {
		return nil, err
	}
	var m metadata
	if json.Unmarshal(document, &m) != nil {
		return nil, errors.New("not a JSON object with an issuer")
	}
	return &m, nil
}

// publishes reports whether location is a URL at which the metadata of issuer may be.
func publishes(issuer string, location *url.URL) bool {
	u, err := url.Parse(issuer)
	return err == nil && slices.ContainsFunc(authserver.MetadataURLs(u), func(other *url.URL) bool { return other.String() == location.String() })
}

// endpoint returns the URL in a member of the metadata, or nil if the value is not an https URL.
func endpoint(member jsontext.Value) *url.URL {
	var text string
	if json.Unmarshal(member, &text) != nil {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil
	}
	return u
}
