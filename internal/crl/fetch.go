package crl

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/fetch"
	"github.com/tallygate/tallygate/internal/refresh"
)

// firstRetry is the delay after a first failed fetch. It doubles with each further failure, up to the
// interval.
const firstRetry = 5 * time.Second

// newClient returns the client that fetches lists. Lists are signed, so http URLs are safe. A redirect may
// change the path and upgrade to https, but not change the host.
func newClient() *http.Client {
	transport := fetch.NewTransport(nil)
	transport.TLSHandshakeTimeout, transport.ResponseHeaderTimeout = 10*time.Second, 30*time.Second
	transport.DisableKeepAlives = true // the next fetch is minutes away
	return &http.Client{
		Transport: transport,
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

// Run refreshes the lists at URLs until ctx ends. The first fetch of a list is at once if no fetch has
// been tried. Later fetches follow the interval, and are sooner after failures.
func (c *Checker) Run(ctx context.Context) {
	c.metrics.export(c)
	var loops sync.WaitGroup
	for _, s := range c.sources {
		if s.URL != nil {
			loops.Go(func() { c.refreshLoop(ctx, s) })
		}
	}
	loops.Wait()
}

// refreshLoop refreshes the lists of s until ctx ends.
func (c *Checker) refreshLoop(ctx context.Context, s *source) {
	first, failures := c.nextFetch(s)
	refresh.Loop{Backoff: c.schedule, Failures: failures, Fetch: func(ctx context.Context) error {
		err := c.fetch(ctx, s)
		c.metrics.export(c)
		if err != nil && ctx.Err() == nil {
			c.log.WarnContext(ctx, "revocation list not read", "list", s.String(), "error", err)
		}
		return err
	}}.Run(ctx, first)
}

func (c *Checker) schedule() refresh.Backoff {
	return refresh.Backoff{Interval: c.interval, First: firstRetry, Max: c.interval}
}

// nextFetch returns the time until the next fetch of s and the number of failures in a row before it.
func (c *Checker) nextFetch(s *source) (due time.Duration, failures int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried.IsZero() {
		return 0, 0
	}
	return c.schedule().Remaining(s.failures, time.Since(s.tried)), s.failures
}

// FetchAdded fetches the lists at URLs that the previous Checker did not have. It is called before Run. A URL
// whose lists all have foreign issuers is not an error (see dropForeign); Run tries it again.
func (c *Checker) FetchAdded(ctx context.Context) error {
	faults := make([]error, len(c.added))
	var fetches sync.WaitGroup
	for i, s := range c.added {
		fetches.Go(func() {
			err := c.fetch(ctx, s)
			switch {
			case errors.Is(err, errForeign) && !c.acceptUnknown:
				c.log.WarnContext(ctx, "revocation list ignored", "list", s.String(), "error", err)
			case err != nil:
				faults[i] = fmt.Errorf("reading revocation list %q: %w", s.String(), err)
			}
		})
	}
	fetches.Wait()
	return errors.Join(faults...)
}

// fetch fetches the lists of s once and puts them in force. On an error the previous lists stay in force.
func (c *Checker) fetch(ctx context.Context, s *source) error {
	lists, etag, err := c.get(ctx, s)
	if ctx.Err() != nil && err != nil {
		return err // the caller canceled the fetch; the server has not failed
	}
	s.mu.Lock()
	s.tried = time.Now()
	if err != nil {
		s.failures++
	} else {
		s.failures, s.etag = 0, etag
		s.current.Store(indexOf(lists))
	}
	s.mu.Unlock()
	c.metrics.countFetch(s, err)
	return err
}

// get requests the lists of s. It takes at most fetchTimeout, plus the time that a large list waits for
// other large lists. Calls for one source must not be concurrent.
func (c *Checker) get(ctx context.Context, s *source) ([]*list, string, error) {
	known := s.lists()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timeout := time.AfterFunc(fetchTimeout, func() { cancel(errSlow) })
	defer timeout.Stop()
	request, err := fetch.NewRequest(ctx, &s.URL.URL, "", s.etag)
	if err != nil {
		return nil, "", err
	}
	response, err := newClient().Do(request)
	if err != nil {
		return nil, "", s.redactURL(timeoutError(ctx, err))
	}
	defer func() { _ = response.Body.Close() }()
	switch {
	case response.StatusCode == http.StatusNotModified && known != nil:
		return known, s.etag, nil
	case response.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("the server responded with status %d", response.StatusCode)
	}
	data, release, err := readList(ctx, response, s.maxSize(), timeout)
	if err != nil {
		return nil, "", s.redactURL(timeoutError(ctx, err))
	}
	defer release()
	lists, err := c.parse(data, known)
	if len(lists) > 0 {
		lists, err = c.dropForeign(s, lists, s, err)
	}
	if err == nil {
		err = rejectRollback(lists, known)
	}
	return lists, response.Header.Get("ETag"), err
}

// redactURL returns an error of net/http without the URL, whose query must not be logged, and with
// a bounded part of the server's text.
func (s *source) redactURL(err error) error {
	text := fetch.WithoutURL(err).Error()
	if s.URL.RawQuery != "" {
		text = strings.ReplaceAll(text, s.URL.RawQuery, "...")
	}
	return errors.New(access.Truncate(strconv.Quote(text)))
}
