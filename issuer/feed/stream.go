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

const (
	// fewEvents is the largest number of missing events that a subscriber gets one by one. More events are sent as a
	// batch, of which the subscriber checks one signature.
	fewEvents = 8
	// manyEvents is the number of events that are sent at once while there may be no batches.
	manyEvents = 64
)

var (
	errBehind  = errors.New("the subscriber is too slow for the events that are kept")
	errEvicted = errors.New("the limit of subscribers is reached, and the client has more streams than others")
)

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

// next returns the next messages for s, or, without messages, a channel that is closed when there may be messages.
func (s *stream) next() (texts [][]byte, changed <-chan struct{}, end *streamEnd) {
	f := s.feed
	f.mu.Lock()
	changed = f.changed
	if s.snapshot != nil {
		return s.nextPart()
	}
	events, b, snapshot, first := s.choose()
	epoch := f.ring.epoch
	f.mu.Unlock()
	var err error
	switch {
	case snapshot != nil:
		if first {
			go f.build(snapshot)
		}
		if snapshot.issued.Before(s.issued) {
			f.closeSnapshot(snapshot)
			return nil, nil, &streamEnd{byRing, errBehind}
		}
		s.snapshot, s.part, s.issued = snapshot, 0, snapshot.issued
		s.snapshots++
		return nil, snapshot.ready, nil
	case b != nil:
		var text []byte
		text, err = f.batchText(b)
		texts = append(texts, text)
		s.Position.Seq, s.issued = b.seq, b.claims.IssuedAt.Time
		s.batches++
	default:
		for _, e := range events {
			var text []byte
			if text, err = f.securityEvent(epoch, e); err != nil {
				break
			}
			texts = append(texts, text)
			s.Position.Seq = e.seq
			s.events++
		}
	}
	if err != nil {
		return nil, nil, &streamEnd{byFault, err}
	}
	return texts, changed, nil
}

// choose returns what s needs next: events, or a batch, or a snapshot, or nothing. s.feed.mu is held.
func (s *stream) choose() (events []*event, b *batch, snapshot *snapshot, first bool) {
	f := s.feed
	fresh := f.fresh()
	r := &f.ring
	lost := s.Position.Epoch != r.epoch || s.Position.Seq < r.floor
	if !lost && s.Position.Seq > r.head {
		// Another issuer that shares the log has read further than this issuer, which follows within a second.
		if s.ahead.IsZero() {
			s.ahead = time.Now()
		}
		lost = time.Since(s.ahead) >= f.options.CatchUp
		if !lost {
			return nil, nil, nil, false
		}
	}
	s.ahead = time.Time{}
	if lost {
		if !fresh {
			return nil, nil, nil, false
		}
		snapshot, first = f.openSnapshot()
		return nil, nil, snapshot, first
	}
	events = r.eventsAfter(s.Position.Seq)
	switch {
	case len(events) > fewEvents && fresh, len(events) == 0 && s.Position.Seq < r.head && fresh:
		return nil, f.catchUp(s.Position.Seq), nil, false
	case len(events) > 0:
		return events[:min(len(events), manyEvents)], nil, nil, false
	case f.heartbeat != nil && fresh && f.heartbeat.seq == s.Position.Seq && f.heartbeat != s.heartbeat && time.Since(s.heartbeatAt) >= f.options.Heartbeat:
		if f.heartbeat.claims.IssuedAt.Before(s.issued) { // the heartbeat is older than the snapshot that s has read
			f.heartbeat = f.newBatch(f.ring.head, f.ring.head, nil)
		}
		s.heartbeat, s.heartbeatAt = f.heartbeat, time.Now()
		return nil, f.heartbeat, nil, false
	}
	return nil, nil, nil, false
}

// nextPart returns the next part of the snapshot. s.feed.mu is held, and released.
func (s *stream) nextPart() (texts [][]byte, changed <-chan struct{}, end *streamEnd) {
	f, snapshot := s.feed, s.snapshot
	passed := snapshot.epoch != f.ring.epoch || snapshot.seq < f.ring.floor
	fresh, changed := f.fresh(), f.changed
	f.mu.Unlock()
	select {
	case <-snapshot.ready:
	default:
		return nil, snapshot.ready, nil
	}
	switch {
	case snapshot.err != nil:
		return nil, nil, &streamEnd{byFault, snapshot.err}
	case passed:
		return nil, nil, &streamEnd{byRing, errBehind}
	case !fresh:
		return nil, changed, nil
	case s.part < len(snapshot.parts):
		s.part++
		s.batches++
		return snapshot.parts[s.part-1 : s.part], nil, nil
	}
	s.Position = revocation.Position{Epoch: snapshot.epoch, Seq: snapshot.seq}
	s.snapshot = nil
	f.closeSnapshot(snapshot)
	return s.next()
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
