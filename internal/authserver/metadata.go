package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/refresh"
)

// metadataInterval is the time between two fetches of the metadata. A server changes its endpoints once
// in years, and the gate uses the new endpoints after at most this time.
const metadataInterval = time.Hour

// The well-known paths of metadata. OAuthPath is inserted between the host and the path of the issuer
// identifier (RFC 8414 section 3). OpenIDPath is appended to the path of the issuer identifier (OpenID
// Connect Discovery section 4), or is inserted like OAuthPath (RFC 8414 section 5).
const (
	OAuthPath  = "/.well-known/oauth-authorization-server"
	OpenIDPath = "/.well-known/openid-configuration"
)

// Metadata holds the endpoints that the gate needs from an authorization server's metadata, RFC
// 8414 section 2.
type Metadata struct {
	KeySet        *url.URL // jwks_uri; nil when absent or not needed
	Introspection *url.URL // introspection_endpoint; nil when absent or not needed

	fetchedAt time.Time
}

// ErrNoMetadata is returned before the metadata has been fetched.
var ErrNoMetadata = errors.New("the metadata has not been fetched yet")

// Metadata returns the result of the last successful fetch, or [ErrNoMetadata]. It sends no
// request.
func (s *Server) Metadata() (*Metadata, error) {
	if m := s.metadata.Load(); m != nil {
		return m, nil
	}
	return nil, ErrNoMetadata
}

// OnChange sets the function that is called after a fetch that changes the metadata. It replaces
// an earlier function. f must return at once.
func (s *Server) OnChange(f func()) { s.onChange.Store(&f) }

// Run refreshes the metadata until ctx ends. The first fetch is at once if the metadata has never been
// fetched. Later fetches are an hour apart, and sooner after failures.
func (s *Server) Run(ctx context.Context) {
	schedule := refresh.Every(metadataInterval)
	var first time.Duration
	if m := s.metadata.Load(); m != nil {
		first = schedule.Remaining(0, s.now().Sub(m.fetchedAt))
	}
	loop := refresh.Loop{Fetch: s.refreshAndLog, Backoff: func() refresh.Backoff { return schedule }}
	loop.Run(ctx, first)
}

func (s *Server) refreshAndLog(ctx context.Context) error {
	err := s.Refresh(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "metadata not fetched", "issuer", s.name, "error", err)
	}
	return err
}

// Refresh fetches the metadata once, from the locations of both standards in order. After an error the
// last good metadata stays in use. If the server cannot be reached at the first location, Refresh does
// not try the other locations.
func (s *Server) Refresh(ctx context.Context) error {
	start := s.now()
	m, err := s.fetchMetadata(ctx)
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // a canceled fetch is not a failure
			s.metrics.failed.Inc()
		}
		return fmt.Errorf("fetching metadata of %q: %w", s.issuer, err)
	}
	m.fetchedAt = start
	s.metrics.succeeded.Inc()
	s.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1e3)
	if previous := s.metadata.Swap(m); previous == nil || !previous.equal(m) {
		if onChange := s.onChange.Load(); onChange != nil {
			(*onChange)()
		}
	}
	return nil
}

func (m *Metadata) equal(other *Metadata) bool {
	same := func(a, b *url.URL) bool {
		return a == b || a != nil && b != nil && a.String() == b.String()
	}
	return same(m.KeySet, other.KeySet) && same(m.Introspection, other.Introspection)
}

func (s *Server) fetchMetadata(ctx context.Context) (*Metadata, error) {
	ctx, cancel := context.WithTimeout(ctx, FetchTimeout)
	defer cancel()
	issuer, err := url.Parse(s.issuer)
	if err != nil {
		return nil, errors.New("the issuer identifier is not a URL")
	}
	var errs []error
	for _, location := range MetadataURLs(issuer) {
		response, err := s.fetch(ctx, location)
		if err != nil { // the server cannot be reached, so another path would not help
			return nil, errors.Join(append(errs, err)...)
		}
		m, err := s.parse(response)
		if err == nil {
			return m, nil
		}
		errs = append(errs, fmt.Errorf("at %s: %w", location.Path, err))
	}
	return nil, errors.Join(errs...)
}

// MetadataURLs returns the URLs at which the metadata of an issuer may be, in the order in which
// they are tried.
func MetadataURLs(issuer *url.URL) []*url.URL {
	appended := *issuer
	appended.Path = strings.TrimSuffix(issuer.Path, "/") + OpenIDPath
	appended.RawPath = ""
	if issuer.RawPath != "" {
		appended.RawPath = strings.TrimSuffix(issuer.RawPath, "/") + OpenIDPath
	}
	locations := []*url.URL{InsertWellKnown(issuer, OAuthPath), &appended}
	if inserted := InsertWellKnown(issuer, OpenIDPath); inserted.String() != appended.String() {
		locations = append(locations, inserted)
	}
	return locations
}

// InsertWellKnown returns u with wellKnown inserted between host and path (RFC 8414 section 3.1). A
// slash at the end of the path is removed.
func InsertWellKnown(u *url.URL, wellKnown string) *url.URL {
	location := *u
	location.Path = wellKnown + strings.TrimSuffix(u.Path, "/")
	location.RawPath = ""
	if u.RawPath != "" {
		location.RawPath = wellKnown + strings.TrimSuffix(u.RawPath, "/")
	}
	return &location
}

func (s *Server) fetch(ctx context.Context, u *url.URL) (*fetch.Response, error) {
	request, err := fetch.NewRequest(ctx, u, "application/json", "")
	if err != nil {
		return nil, err
	}
	return s.Send(request, MaxMetadata)
}

// metadataDocument is the published metadata, RFC 8414 section 2 and RFC 8705 section 5.
type metadataDocument struct {
	Issuer        string `json:"issuer"`
	KeySet        string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
	Aliases       struct {
		Introspection string `json:"introspection_endpoint"`
	} `json:"mtls_endpoint_aliases"`
}

// parse reads the metadata in response. The issuer member must equal the requested issuer (RFC 8414
// section 3.3). Duplicate members are an error. Endpoints that the gate does not need may have any
// value.
func (s *Server) parse(response *fetch.Response) (_ *Metadata, err error) {
	if response.Status != http.StatusOK { // RFC 8414 section 3.2
		return nil, fmt.Errorf("answered with status %d", response.Status)
	}
	if response.MediaType != "application/json" {
		return nil, fmt.Errorf("answered with content type %q", access.Truncate(response.MediaType))
	}
	if err := jsonlimit.Check(response.Body); err != nil {
		return nil, err
	}
	var d metadataDocument
	if json.Unmarshal(response.Body, &d) != nil {
		return nil, errors.New("the response is not metadata in JSON")
	}
	if d.Issuer != s.issuer {
		return nil, fmt.Errorf("the metadata names issuer %q (RFC 8414 section 3.3)", access.Truncate(d.Issuer))
	}
	if s.mutualTLS && d.Aliases.Introspection != "" { // RFC 8705 section 5
		d.Introspection = d.Aliases.Introspection
	}
	m := &Metadata{}
	if s.settings.NeedsKeys() {
		if m.KeySet, err = s.endpoint("jwks_uri", d.KeySet); err != nil {
			return nil, err
		}
	}
	if s.settings.Introspection != nil {
		m.Introspection, err = s.endpoint("introspection_endpoint", d.Introspection)
	}
	return m, err
}

// endpoint parses the URL in text, the value of member. It returns nil if the member is absent.
func (s *Server) endpoint(member, text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !s.allowsURL(u) {
		return nil, fmt.Errorf("%s is not an https URL with a host and without user and fragment", member)
	}
	return u, nil
}
