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
)

// fetched is what the next reading from the same URL needs of the last good one, and what
// a [Source] does that allows other algorithms.
type fetchedDocument struct {
	url      string
	etag     string // "" when the server sent none
	document []byte
}

// load returns the key set as it is now at its origin.
func (s *Source) load(ctx context.Context) (*Set, error) {
	var set *Set
	var err error
	origin := "of our own issuer"
	switch {
	case s.local != nil:
		document, _ := s.local()
		set, err = parse(document, s.algorithms)
	case s.settings.JWKS != "":
		origin = "in the configuration"
		set, err = parse([]byte(s.settings.JWKS), s.algorithms)
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

// open reads the key set in a file.
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
	return parse(document, s.algorithms)
}

// place returns the URL of the key set, as configured or as the server's metadata says.
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

// fetch reads the key set at u. Only an answer with status 200 that says to be JSON
// counts (RFC 7517 section 8.5), or one with 304 to a question about what was read
// before.
func (s *Source) fetch(ctx context.Context, u *url.URL) (*Set, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, errors.New("the URL makes no request") // err would quote the query
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	before := s.current.Load()
	conditional := before != nil && before.url == u.String() && before.etag != ""
	if conditional {
		request.Header.Set("If-None-Match", before.etag)
	}
	answer, err := s.remote.Send(request, authserver.MaxKeySet)
	if err != nil {
		return nil, err
	}
	if conditional && answer.Status == http.StatusNotModified {
		s.setInterval(answer.Header)
		same := *before
		return &same, nil
	}
	if answer.Status != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", answer.Status)
	}
	if answer.MediaType != "application/jwk-set+json" && answer.MediaType != "application/json" {
		return nil, fmt.Errorf("answered with content type %q", access.Truncate(answer.MediaType))
	}
	set, err := parse(answer.Body, s.algorithms)
	if err != nil {
		return nil, err
	}
	set.fetchedDocument = fetchedDocument{u.String(), answer.Header.Get("ETag"), answer.Body}
	s.setInterval(answer.Header)
	return set, nil
}

// mostReadings is how many times as often as refresh says a server may make us read. It
// must not be many: some frameworks forbid all caching of every answer, without a
// thought of key sets.
const maxSpeedUp = 5

// schedule sets the time to the next reading: as long as the answer says that it is
// fresh (RFC 9111 section 4.2.1), but from a fifth of refresh to refresh.
func (s *Source) setInterval(header http.Header) {
	every := s.settings.Refresh
	if age, ok := maxAge(header); ok {
		every = min(max(age, every/maxSpeedUp), every)
	}
	s.interval.Store(int64(every))
}

// maxAge returns the max-age of Cache-Control, RFC 9111 section 5.2.2.1.
func maxAge(header http.Header) (age time.Duration, ok bool) {
	for _, line := range header.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			if !strings.EqualFold(name, "max-age") {
				continue
			}
			// 31 bits of seconds are 68 years; what is longer is no number of use.
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			return time.Duration(seconds) * time.Second, err == nil
		}
	}
	return 0, false
}
