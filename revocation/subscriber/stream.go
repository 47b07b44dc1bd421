package subscriber

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/refresh"
	"github.com/tallygate/tallygate/revocation"
)

// timing has the times of streams, which tests shorten.
type timing struct {
	silence time.Duration                    // the time without a byte after which a connection counts as lost
	answer  time.Duration                    // bounds the time from the start of a connection to the header of the response
	restart time.Duration                    // how long the set of a restarted process waits for a stream
	steady  time.Duration                    // a stream that lasts so long ends the count of failures in a row
	pause   func(failures int) time.Duration // the time before the next connection
}

func defaultTiming() timing {
	return timing{silence: 3 * revocation.HeartbeatInterval, answer: 15 * time.Second, restart: 3 * time.Second, steady: 30 * time.Second, pause: pause}
}

// keysInterval is the time between two checks for a key set before the first stream.
const keysInterval = 50 * time.Millisecond

// reconnect is the schedule of connections after failures. With the jitter of pause, the 2,000 sidecars of an issuer that
// ends connect again within 1.1 s.
var reconnect = refresh.Backoff{Interval: 15 * time.Second, First: time.Second, Max: 15 * time.Second}

// pause returns the time before the next connection: a tenth of the delay, and a random part of the delay, so that the gates of a
// fleet do not connect at the same moment.
func pause(failures int) time.Duration {
	delay := reconnect.Delay(failures)
	return delay/10 + rand.N(delay) //nolint:gosec // the time of a connection is not a secret
}

// wait returns after the time d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// run keeps a stream open until ctx ends. It uses the feeds in turn, and begins with a random feed, so that a fleet
// spreads over all feeds.
func (s *Subscriber) run(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := s.keys.Usable(s.now()); err == nil {
			break
		}
		wait(ctx, keysInterval)
	}
	failures, gaps := 0, 0
	for feed := rand.IntN(len(s.feeds)); ctx.Err() == nil; feed = (feed + 1) % len(s.feeds) { //nolint:gosec // which feed is first is not a secret
		began, before := s.now(), s.known.readPosition()
		err := s.follow(ctx, s.feeds[feed])
		if ctx.Err() != nil {
			s.disconnected(nil)
			return
		}
		s.disconnected(err)
		if failures++; s.now().Sub(began) >= s.timing.steady {
			failures = 1
		}
		// After a second gap at the same position, only a snapshot brings the missing revocations.
		if gaps++; !errors.Is(err, errGap) || s.known.readPosition() != before {
			gaps = 0
		} else if gaps > 1 {
			s.known.forget()
		}
		wait(ctx, s.timing.pause(failures))
	}
}

var (
	errSilent  = errors.New("the issuer sends nothing")
	errNoBatch = errors.New("the issuer does not say whether there are more revocations")
	errEnded   = errors.New("the issuer has ended the stream")
	errAnswer  = errors.New("the issuer does not answer with a stream of events")
)

// follow opens a stream and applies its messages until the stream fails or ctx ends.
func (s *Subscriber) follow(ctx context.Context, feed *url.URL) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.mu.Lock()
	s.status.Feed = feed.Host
	s.mu.Unlock()
	dead := time.AfterFunc(s.timing.answer, func() { cancel(errSilent) })
	defer dead.Stop()
	asked := s.now()
	response, err := s.connect(ctx, feed)
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	dead.Reset(s.timing.silence)
	s.connected(feed)
	// An issuer that has lost its database sends comments only. Another issuer may know more.
	unheard := time.AfterFunc(s.settings.MaxStaleness/2, func() {
		if len(s.feeds) > 1 {
			cancel(errNoBatch)
		}
	})
	defer unheard.Stop()
	stream := &stream{issuer: s.issuer, keys: s.keys, known: s.known, now: s.now, asked: asked, maxLag: s.settings.MaxStaleness / 2}
	events := newEventReader(&watchedReader{response.Body, func() { dead.Reset(s.timing.silence) }}, s.now)
	for {
		e, err := events.next()
		if errors.Is(err, io.EOF) {
			err = errEnded
		}
		if err != nil {
			return cause(ctx, err)
		}
		propagation, err := stream.apply(ctx, e)
		s.metrics.count(resultOf(err), propagation)
		if err != nil {
			return cause(ctx, err)
		}
		if e.name == revocation.BatchEvent {
			unheard.Reset(s.settings.MaxStaleness / 2)
		}
	}
}

// cause returns why ctx has ended, or err.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// resultOf returns the result of a message for the metrics.
func resultOf(err error) string {
	switch {
	case err == nil:
		return applied
	case errors.Is(err, errGap):
		return gap
	case errors.Is(err, revocation.ErrFull):
		return full
	}
	return invalidResult
}

// A watchedReader calls read after each read of at least a byte.
type watchedReader struct {
	io.Reader
	read func()
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.read()
	}
	return n, err
}

// connect sends the request and checks the header of the response.
func (s *Subscriber) connect(ctx context.Context, feed *url.URL) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, feed.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Cache-Control", "no-store")
	if at := s.known.readPosition(); at.Epoch != "" {
		request.Header.Set("Last-Event-ID", at.String())
	}
	response, err := s.server.Stream(request)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode != http.StatusOK:
		err = fmt.Errorf("%w: status %d", errAnswer, response.StatusCode)
	case media != "text/event-stream":
		err = fmt.Errorf("%w: content type %q", errAnswer, access.Truncate(media))
	case len(response.Header.Values("Content-Encoding")) > 0:
		err = fmt.Errorf("%w: it has a content encoding", errAnswer)
	default:
		return response, nil
	}
	_ = response.Body.Close()
	return nil, err
}

func (s *Subscriber) connected(feed *url.URL) {
	now := s.now()
	s.mu.Lock()
	s.status.Connected, s.status.Since = true, now
	s.mu.Unlock()
	if n := s.samples.Add("connected", now); n > 0 {
		s.log.Info("stream of revocations is open", "feed", feed.Host, "suppressed", n-1)
	}
}

// disconnected records the end of a stream, or that no stream was opened. err is nil if the gate itself ended the stream.
func (s *Subscriber) disconnected(err error) {
	now := s.now()
	s.mu.Lock()
	if s.status.Connected || s.status.Since.IsZero() {
		s.status.Since = now
	}
	s.status.Connected = false
	if err != nil {
		s.status.Failure = err
	}
	feed := s.status.Feed
	s.mu.Unlock()
	if err == nil {
		return
	}
	if n := s.samples.Add("lost", now); n > 0 {
		s.log.Warn("no stream of revocations", "feed", feed, "suppressed", n-1, "error", err)
	}
}
