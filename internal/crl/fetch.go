package crl

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallygate/tallygate/access"
)

// firstRetry is how long after a failure a list is read again; then it is twice as long, up
// to the refresh.
const firstRetry = 5 * time.Second

var errUnusable = errors.New("the URL cannot be used")

// newClient returns the client that reads lists. What it reads is signed, so http will
// do; a redirect may lead to another path, but to no other host.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // the environment does not divert what decides about partners
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			ResponseHeaderTimeout:  30 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true, // the next reading is minutes away
			DisableCompression:     true, // net/http would ask for it, and inflate the answer
		},
		CheckRedirect: func(next *http.Request, before []*http.Request) error {
			first := before[0].URL
			same := strings.EqualFold(next.URL.Host, first.Host) && (next.URL.Scheme == first.Scheme || next.URL.Scheme == "https")
			if len(before) > 3 || !same {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
}

// Run reads the lists at URLs until ctx ends: at once where that has not been done, and
// then every refresh, sooner again while it fails.
func (r *Checker) Run(ctx context.Context) {
	r.metrics.show(r)
	var loops sync.WaitGroup
	for _, s := range r.sources {
		if s.URL != nil {
			loops.Go(func() { r.refreshLoop(ctx, s) })
		}
	}
	loops.Wait()
}

// refreshLoop keeps the lists of s fresh until ctx ends.
func (r *Checker) refreshLoop(ctx context.Context, s *source) {
	for {
		wait := time.NewTimer(r.nextFetch(s))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		err := r.fetch(ctx, s)
		r.metrics.show(r)
		if err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "revocation list not read", "list", s.String(), "err", err)
		}
	}
}

// FetchAdded reads the lists at URLs that nobody has read yet. It is called before Run. A URL
// that has only lists of foreign issuers is no error: see dropForeign. It is tried again by Run.
func (r *Checker) FetchAdded(ctx context.Context) error {
	faults := make([]error, len(r.added))
	var readings sync.WaitGroup
	for i, s := range r.added {
		readings.Go(func() {
			err := r.fetch(ctx, s)
			switch {
			case errors.Is(err, errForeign) && !r.accept:
				r.log.WarnContext(ctx, "revocation list left out", "list", s.String(), "err", err)
			case err != nil:
				faults[i] = fmt.Errorf("reading revocation list %q: %w", s.String(), err)
			}
		})
	}
	readings.Wait()
	return errors.Join(faults...)
}

// Ready returns nil once the reading of every list has been tried, or when unknown statuses
// are accepted.
func (r *Checker) Ready() error {
	if r.accept {
		return nil
	}
	for _, s := range r.sources {
		if s.untried() {
			return errUnread
		}
	}
	return nil
}

// untried reports whether s is at a URL that nobody has tried to read yet.
func (s *source) untried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.URL != nil && s.tried.IsZero()
}

// nextFetch returns how long the next reading of s has time.
func (r *Checker) nextFetch(s *source) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried.IsZero() {
		return 0
	}
	pause := r.refresh
	if s.failed > 0 {
		pause = min(pause, firstRetry<<min(s.failed-1, 16))
	}
	pause += time.Duration(rand.Int64N(int64(pause)/5 + 1)) //nolint:gosec // a fleet must not come all at once; nothing depends on who guesses when
	return max(0, pause-time.Since(s.tried))
}

// fetch reads the lists of s once and makes them count. On an error the last good ones
// stay.
func (r *Checker) fetch(ctx context.Context, s *source) error {
	lists, etag, err := r.get(ctx, s)
	if ctx.Err() != nil && err != nil {
		return err // broken off, which says nothing of the list
	}
	s.mu.Lock()
	s.tried = time.Now()
	if err != nil {
		s.failed++
	} else {
		s.failed, s.etag = 0, etag
		s.current.Store(indexOf(lists))
	}
	s.mu.Unlock()
	r.metrics.read(s, err)
	return err
}

// get asks for the lists of s, which nobody else asks for at the time. It takes no longer
// than fetchTimeout, and the time that a large list waits for others.
func (r *Checker) get(ctx context.Context, s *source) ([]*list, string, error) {
	known := s.known()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	limit := time.AfterFunc(fetchTimeout, func() { end(errSlow) })
	defer limit.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL.URL.String(), nil)
	if err != nil {
		return nil, "", errUnusable
	}
	if s.etag != "" {
		request.Header.Set("If-None-Match", s.etag)
	}
	response, err := newClient().Do(request)
	if err != nil {
		return nil, "", s.redactURL(errOf(ctx, err))
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusNotModified && known != nil:
		return known, s.etag, nil
	case response.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("answered with status %d", response.StatusCode)
	}
	data, release, err := readList(ctx, response, s.most(), limit)
	if err != nil {
		return nil, "", s.redactURL(errOf(ctx, err))
	}
	defer release()
	lists, err := r.parse(data, known)
	if len(lists) > 0 {
		lists, err = r.dropForeign(s, lists, s, err)
	}
	if err == nil {
		err = rejectRollback(lists, known)
	}
	return lists, response.Header.Get("ETag"), err
}

// redactURL returns an error of net/http without the URL, whose query is not to be logged, and
// without most of what the server said.
func (s *source) redactURL(err error) error {
	var outer *url.Error
	if errors.As(err, &outer) {
		err = outer.Err
	}
	text := err.Error()
	if s.URL.RawQuery != "" {
		text = strings.ReplaceAll(text, s.URL.RawQuery, "...")
	}
	return errors.New(access.Truncate(strconv.Quote(text)))
}
