package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/fetch"
)

// A fetchedDocument is the response from which a key set was read. The next fetch from the same URL
// uses its ETag. A [Source] that accepts other algorithms reads its keys from the same document.
type fetchedDocument struct {
	url      string
	etag     string // the ETag of the response; "" when absent
	document []byte
}

// load reads the key set from our own issuer, the configuration, the file or the URL.
func (s *Source) load(ctx context.Context) (*Set, error) {
	var set *Set
	var err error
	origin := "of our own issuer"
	switch {
	case s.local != nil:
		document, _ := s.local()
		set, err = parse(document, s.algorithms, s.tenant)
	case s.settings.JWKS != "":
		origin = "in the configuration"
		set, err = parse([]byte(s.settings.JWKS), s.algorithms, s.tenant)
	case s.settings.File != "":
		origin = fmt.Sprintf("%q", s.settings.File)
		set, err = s.readFile()
	default:
		origin = "of the server"
		var u *url.URL
		if u, err = s.keySetURL(); err == nil {
			origin = "at " + u.Host
			set, err = s.fetch(ctx, u)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading key set %s: %w", origin, err)
	}
	return set, nil
}

func (s *Source) readFile() (*Set, error) {
	file, err := os.Open(string(s.settings.File))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	document, err := io.ReadAll(io.LimitReader(file, authserver.MaxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(document) > authserver.MaxKeySet {
		return nil, fmt.Errorf("larger than %d bytes", authserver.MaxKeySet)
	}
	return parse(document, s.algorithms, s.tenant)
}

// keySetURL returns the URL of the key set, from the configuration or the server's metadata.
func (s *Source) keySetURL() (*url.URL, error) {
	if s.settings.URL != nil {
		return &s.settings.URL.URL, nil
	}
	m, err := s.remote.Metadata()
	if err != nil {
		return nil, err
	}
	if m.KeySet == nil {
		return nil, errors.New("the server's metadata names no jwks_uri")
	}
	return m.KeySet, nil
}

// fetch fetches the key set at u. It accepts status 200 with any media type, because servers and object
// stores send key sets as text/plain and application/octet-stream. If the request carries the ETag of
// the current key set, fetch also accepts status 304.
func (s *Source) fetch(ctx context.Context, u *url.URL) (*Set, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	previous, etag := s.current.Load(), ""
	if previous != nil && previous.url == u.String() {
		etag = previous.etag
	}
	request, err := fetch.NewRequest(ctx, u, "application/jwk-set+json, application/json", etag)
	if err != nil {
		return nil, err
	}
	response, err := s.remote.Send(request, authserver.MaxKeySet)
	if err != nil {
		return nil, err
	}
	if etag != "" && response.Status == http.StatusNotModified {
		s.setInterval(response.Header)
		unchanged := *previous
		return &unchanged, nil
	}
	if response.Status != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", response.Status)
	}
	set, err := parse(response.Body, s.algorithms, s.tenant)
	if err != nil {
		return nil, fmt.Errorf("answered with content type %q: %w", access.Truncate(response.MediaType), err)
	}
	set.fetchedDocument = fetchedDocument{u.String(), response.Header.Get("ETag"), response.Body}
	s.setInterval(response.Header)
	return set, nil
}

// maxSpeedUp bounds the factor by which a server can shorten the interval of fetches. The factor is
// small, because some frameworks forbid caching of all responses, and so also of key sets.
const maxSpeedUp = 5

// setInterval sets the time until the next fetch: the freshness lifetime of the response (RFC
// 9111 section 4.2.1), but at least a fifth of refresh and at most refresh.
func (s *Source) setInterval(header http.Header) {
	interval := s.settings.Refresh
	if age, ok := maxAge(header); ok {
		interval = min(max(age, interval/maxSpeedUp), interval)
	}
	s.interval.Store(int64(interval))
}

// maxAge returns the max-age of Cache-Control, RFC 9111 section 5.2.2.1.
func maxAge(header http.Header) (age time.Duration, ok bool) {
	for _, line := range header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			if !strings.EqualFold(name, "max-age") {
				continue
			}
			// 31 bits of seconds are 68 years; a longer age is a mistake.
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			return time.Duration(seconds) * time.Second, err == nil
		}
	}
	return 0, false
}
