package feed

import (
	"context"
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/revocation"
)

// A Subscription is a request for a stream.
type Subscription struct {
	ClientID, Address string
	// Position is where the subscriber has stopped reading; the zero Position: it has read nothing.
	Position revocation.Position
	// Recheck returns an error when the subscriber has lost the right to read.
	Recheck func() error
}

var errEvicted = errors.New("the limit of subscribers is reached, and the client has more streams than others")

// comment keeps a stream alive. Subscribers ignore it.
var comment = []byte(":\n\n")

// A stream is the state of one subscriber.
type stream struct {
	feed    *Feed
	control *http.ResponseController
	w       http.ResponseWriter
	Subscription

	snapshot    *snapshot // nil: none is being read
	part        int       // the next part of snapshot
	ahead       time.Time // when the feed began to wait for its log to reach Position; zero: it does not wait
	issued      time.Time // the latest iat of a batch in the stream, which must not go backwards
	heartbeat   *batch    // the last heartbeat sent
	heartbeatAt time.Time
	rechecked   time.Time
	wroteAt     time.Time
	evicted     chan struct{} // closed when the stream must make room

	events, batches, snapshots int // sent messages
}

// A streamEnd says why a stream has ended.
type streamEnd struct {
	cause string // a label of the metric, or byClient
	err   error
}

// Serve answers a request with a stream, and returns nil after its end. With an error, it has written nothing. The
// caller has authenticated the subscriber.
func (f *Feed) Serve(w http.ResponseWriter, r *http.Request, s Subscription) error {
	began := time.Now()
	st := &stream{feed: f, control: http.NewResponseController(w), w: w, Subscription: s, rechecked: began, evicted: make(chan struct{})}
	if err := f.enter(st); err != nil {
		return err
	}
	defer f.leave(st)
	if n := f.sampled(&f.opened, &s); n > 0 {
		f.options.Log.InfoContext(r.Context(), "revocation stream opened", "client_id", s.ClientID, "remote", s.Address, "count", n, "position", s.Position.String())
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	end := st.write(comment)
	if end == nil {
		end = st.run(r.Context())
	}
	if st.snapshot != nil {
		f.closeSnapshot(st.snapshot)
	}
	if end.cause != byClient {
		f.metrics.dropped.WithLabelValues(end.cause).Inc()
	}
	if n := f.sampled(&f.closed, &s); n > 0 {
		f.options.Log.InfoContext(r.Context(), "revocation stream ended", "client_id", s.ClientID, "remote", s.Address, "count", n, "cause", end.cause, "error", end.err.Error(),
			"position", st.Position.String(), "duration_ms", time.Since(began).Milliseconds(), "events", st.events, "batches", st.batches, "snapshots", st.snapshots)
	}
	return nil
}

// run sends messages until the stream ends.
func (s *stream) run(ctx context.Context) *streamEnd {
	tick := time.NewTicker(s.feed.options.KeepAlive)
	defer tick.Stop()
	for {
		texts, changed, end := s.next()
		if end != nil {
			return end
		}
		if len(texts) > 0 {
			if end := s.send(texts); end != nil {
				return end
			}
			continue
		}
		select {
		case <-changed:
			continue
		case <-tick.C:
			if time.Since(s.wroteAt) >= s.feed.options.KeepAlive/2 {
				if end := s.send([][]byte{comment}); end != nil {
					return end
				}
			}
		case <-s.feed.ended:
			return &streamEnd{byEnd, ErrEnded}
		case <-s.evicted:
			return &streamEnd{byLimit, errEvicted}
		case <-ctx.Done():
			return &streamEnd{byClient, ctx.Err()}
		}
	}
}

// send sends texts, unless the subscriber has lost the right to read.
func (s *stream) send(texts [][]byte) *streamEnd {
	select {
	case <-s.feed.ended:
		return &streamEnd{byEnd, ErrEnded}
	case <-s.evicted:
		return &streamEnd{byLimit, errEvicted}
	default:
	}
	if now := time.Now(); now.Sub(s.rechecked) >= s.feed.options.Recheck {
		s.rechecked = now
		if err := s.Recheck(); err != nil {
			return &streamEnd{byRecheck, err}
		}
	}
	return s.write(texts...)
}

// write writes texts within WriteTimeout.
func (s *stream) write(texts ...[]byte) *streamEnd {
	began := time.Now()
	s.wroteAt = began
	// Over HTTP/2 the deadline ends the stream even if nothing is written. The next write, at the latest after KeepAlive,
	// moves it.
	err := s.control.SetWriteDeadline(began.Add(s.feed.options.WriteTimeout))
	for _, text := range texts {
		if err == nil {
			_, err = s.w.Write(text)
		}
	}
	if err == nil {
		err = s.control.Flush()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded), time.Since(began) >= s.feed.options.WriteTimeout:
		return &streamEnd{bySlowness, err}
	}
	return &streamEnd{byClient, err}
}

// sampled counts a stream and returns how many streams a log line must stand for, or 0 for no line. Streams of one
// subscriber in short succession, and streams of many subscribers, share a line.
func (f *Feed) sampled(lines *logsample.Samplers, s *Subscription) int {
	return lines.AddFor("stream", s.ClientID, s.Address, time.Now())
}
