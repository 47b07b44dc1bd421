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
	"github.com/tallygate/tallygate/internal/jsonlimit"
	"github.com/tallygate/tallygate/internal/refresh"
)

// metadataLifetime is how long metadata counts before it is read again. Endpoints move
// once in years; what moves within this time is found by nobody until then.
const metadataInterval = time.Hour

// Where metadata is: RFC 8414 section 3 puts the one between host and path of the
// issuer identifier; OpenID Connect Discovery section 4 puts the other behind it,
// and RFC 8414 section 5 allows it between as well.
const (
	OAuthPath  = "/.well-known/oauth-authorization-server"
	OpenIDPath = "/.well-known/openid-configuration"
)

// Metadata is what an authorization server publishes of itself, RFC 8414 section 2, as
// far as it counts here.
type Metadata struct {
	KeySet        *url.URL // jwks_uri; nil when it names none, or none is needed
	Introspection *url.URL // introspection_endpoint; nil when it names none, or none is needed

	fetchedAt time.Time
}

// ErrUnread is why nothing is known of a server whose metadata has not been read yet.
var ErrNoMetadata = errors.New("its metadata has not been read yet")

// Metadata returns what was read last. It asks nobody. The error is [ErrUnread].
func (s *Server) Metadata() (*Metadata, error) {
	if m := s.metadata.Load(); m != nil {
		return m, nil
	}
	return nil, ErrNoMetadata
}

// OnChange makes Run call f, which must return at once, and no other than f, when it has
// read metadata that says something new.
func (s *Server) OnChange(f func()) { s.onChange.Store(&f) }

// Run refreshes the metadata until ctx ends: at once if it has never been fetched, then every
// hour, and sooner after failures.
func (s *Server) Run(ctx context.Context) {
	schedule := refresh.Every(metadataInterval)
	var first time.Duration
	if m := s.metadata.Load(); m != nil {
		first = schedule.Remaining(s.now().Sub(m.fetchedAt))
	}
	loop := refresh.Loop{Fetch: s.refreshAndLog, Backoff: func() refresh.Backoff { return schedule }}
	loop.Run(ctx, first)
}

func (s *Server) refreshAndLog(ctx context.Context) error {
	err := s.Refresh(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "metadata not read", "issuer", s.name, "err", err)
	}
	return err
}

// Read reads the metadata once. On an error the last good one stays. It tries the
// places of both standards in turn, but of a server that cannot be reached only one.
func (s *Server) Refresh(ctx context.Context) error {
	start := s.now()
	m, err := s.fetchMetadata(ctx)
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // otherwise it was broken off
			s.metrics.failed.Inc()
		}
		return fmt.Errorf("reading metadata of %q: %w", s.issuer, err)
	}
	m.fetchedAt = start
	s.metrics.succeeded.Inc()
	s.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1e3)
	if before := s.metadata.Swap(m); before == nil || !before.equal(m) {
		if changed := s.onChange.Load(); changed != nil {
			(*changed)()
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
		return nil, errors.New("the issuer identifier is no URL")
	}
	var faults []error
	for _, place := range MetadataURLs(issuer) {
		answer, err := s.fetch(ctx, place)
		if err != nil { // no better at another path
			return nil, errors.Join(append(faults, err)...)
		}
		m, err := s.parse(answer)
		if err == nil {
			return m, nil
		}
		faults = append(faults, fmt.Errorf("at %s: %w", place.Path, err))
	}
	return nil, errors.Join(faults...)
}

// Places returns the URLs at which the metadata of an issuer identifier may be, in the
// order in which they are tried.
func MetadataURLs(issuer *url.URL) []*url.URL {
	behind := *issuer
	behind.Path = strings.TrimSuffix(issuer.Path, "/") + OpenIDPath
	behind.RawPath = ""
	if issuer.RawPath != "" {
		behind.RawPath = strings.TrimSuffix(issuer.RawPath, "/") + OpenIDPath
	}
	places := []*url.URL{InsertWellKnown(issuer, OAuthPath), &behind}
	if between := InsertWellKnown(issuer, OpenIDPath); between.String() != behind.String() {
		places = append(places, between)
	}
	return places
}

// InsertWellKnown returns u with wellKnown between host and path, from which a slash
// at the end is removed, RFC 8414 section 3.1.
func InsertWellKnown(u *url.URL, wellKnown string) *url.URL {
	place := *u
	place.Path = wellKnown + strings.TrimSuffix(u.Path, "/")
	place.RawPath = ""
	if u.RawPath != "" {
		place.RawPath = wellKnown + strings.TrimSuffix(u.RawPath, "/")
	}
	return &place
}

func (s *Server) fetch(ctx context.Context, u *url.URL) (*Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("the issuer identifier makes no request")
	}
	request.Header.Set("Accept", "application/json")
	return s.Send(request, maxMetadata)
}

// document is the metadata as it is published, RFC 8414 section 2 and RFC 8705
// section 5.
type metadataDocument struct {
	Issuer        string `json:"issuer"`
	KeySet        string `json:"jwks_uri"`
	Introspection string `json:"introspection_endpoint"`
	Aliases       struct {
		Introspection string `json:"introspection_endpoint"`
	} `json:"mtls_endpoint_aliases"`
}

// parse returns what answer says. The issuer in it must be the one asked for, character
// by character, RFC 8414 section 3.3. Members of one name twice are an error. An endpoint
// that is not needed may be whatever it is.
func (s *Server) parse(answer *Response) (_ *Metadata, err error) {
	if answer.Status != http.StatusOK { // RFC 8414 section 3.2
		return nil, fmt.Errorf("answered with status %d", answer.Status)
	}
	if answer.MediaType != "application/json" {
		return nil, fmt.Errorf("answered with content type %q", access.Truncate(answer.MediaType))
	}
	if err := jsonlimit.Check(answer.Body); err != nil {
		return nil, err
	}
	var d metadataDocument
	if json.Unmarshal(answer.Body, &d) != nil {
		return nil, errors.New("the answer is no metadata in JSON")
	}
	if d.Issuer != s.issuer {
		return nil, fmt.Errorf("the metadata is that of issuer %q (RFC 8414 section 3.3)", access.Truncate(d.Issuer))
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

// endpoint returns the URL that a member names, nil for none.
func (s *Server) endpoint(member, text string) (*url.URL, error) {
	if text == "" {
		return nil, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || !s.allowsURL(u) {
		return nil, fmt.Errorf("%s is no https URL with a host, without user and fragment", member)
	}
	return u, nil
}
