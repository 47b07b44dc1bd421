package subscriber

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/revocation"
)

// maxParts bounds the parts of a snapshot. A snapshot has at most MaxEntries entries of each of the six kinds, and
// parts with long names may have a quarter of BatchSize.
const maxParts = 4 * 6 * revocation.MaxEntries / revocation.BatchSize

var (
	errGap     = errors.New("the feed has left out revocations")
	errLate    = errors.New("the messages of the feed come too late")
	errInvalid = errors.New("invalid message")
)

// invalid returns an error of a message that is not of the feed.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errInvalid, fmt.Errorf(format, args...))
}

// A stream is one connection to a feed: it verifies the messages and applies them to known.
type stream struct {
	issuer string
	keys   *jwks.Source
	known  *knowledge
	now    func() time.Time

	asked    time.Time     // when the stream was asked for, with a monotonic clock
	issuedAt time.Time     // iat of the last heartbeat; zero before the first
	offset   time.Duration // an estimate of this machine's clock minus the issuer's clock, by the fastest heartbeat so far
	maxLag   time.Duration // the longest lag of a heartbeat
	live     bool          // a heartbeat has said that known has every revocation
	snapshot struct {
		part  int // the number of the last part; 0 outside a snapshot
		epoch string
		seq   uint64
	}
}

// The types of the JWTs in the two kinds of events. Another type is an error, so that neither an access token nor
// a message of the other kind is accepted.
var (
	setTypes   = jwks.MediaTypes(revocation.SetType)
	batchTypes = jwks.MediaTypes(revocation.BatchType)
)

// apply verifies e and applies it. propagation is the time from the revocation to its application, if e is a live
// revocation, and otherwise -1.
func (s *stream) apply(ctx context.Context, e event) (propagation time.Duration, err error) {
	switch e.name {
	case revocation.SetEvent:
		var m revocation.SecurityEvent
		if err := s.verify(ctx, e.data, setTypes, &m); err != nil {
			return -1, err
		}
		return s.applyEvent(&m)
	case revocation.BatchEvent:
		var m revocation.Batch
		if err := s.verify(ctx, e.data, batchTypes, &m); err != nil {
			return -1, err
		}
		return -1, s.applyBatch(&m)
	}
	// An event that is not understood could be a revocation.
	return -1, invalid("an event of unknown name %q", access.Truncate(e.name))
}

// verify decodes the payload of a JWT of one of types into message, if the signature is valid.
func (s *stream) verify(ctx context.Context, raw string, types []string, message any) error {
	jws, err := jwks.Parse(raw)
	if err != nil {
		return invalid("%w", err)
	}
	if _, _, err := s.keys.Verify(ctx, jws, types, s.now()); err != nil {
		return invalid("%w", err)
	}
	if err := json.Unmarshal(jws.Payload, message); err != nil {
		return invalid("the payload does not have the claims of a message") // err may quote a revoked client
	}
	return nil
}

// header has the claims that both kinds of messages have.
type header struct {
	issuer     string
	issuedAt   revocation.Seconds
	epoch      string
	after, seq uint64
}

func (s *stream) checkHeader(h header) error {
	switch {
	case h.issuer != s.issuer:
		return invalid("iss is %q, want %q", access.Truncate(h.issuer), s.issuer)
	case h.issuedAt.IsZero():
		return invalid("iat is missing")
	case h.after > h.seq:
		return invalid("after %d is above seq %d", h.after, h.seq)
	}
	if _, err := revocation.ParsePosition(revocation.Position{Epoch: h.epoch, Seq: h.seq}.String()); err != nil {
		return invalid("%w", err)
	}
	return nil
}

// applyEvent applies a single revocation.
func (s *stream) applyEvent(m *revocation.SecurityEvent) (propagation time.Duration, err error) {
	if err := s.checkHeader(header{m.Issuer, m.IssuedAt, m.Epoch, m.After, m.Seq}); err != nil {
		return -1, err
	}
	if s.snapshot.part > 0 {
		return -1, invalid("a revocation inside a snapshot")
	}
	if _, ok := m.Events[revocation.SessionRevoked]; !ok || len(m.Events) != 1 {
		return -1, invalid("the event is not session-revoked")
	}
	if err := s.known.advance(m.Epoch, m.After, m.Seq, []revocation.Entry{m.Entry}); err != nil {
		return -1, err
	}
	s.known.record(Event{m.Time.Time, m.Entry})
	if !s.live || m.Time.IsZero() {
		return -1, nil
	}
	return max(0, s.now().Sub(m.Time.Time)), nil
}

// applyBatch applies a batch. A batch without revocations says that the log ends at the gate's position.
func (s *stream) applyBatch(m *revocation.Batch) error {
	if err := s.checkHeader(header{m.Issuer, m.IssuedAt, m.Epoch, m.After, m.Seq}); err != nil {
		return err
	}
	switch {
	case len(m.Entries) > revocation.BatchSize:
		return invalid("more than %d revocations", revocation.BatchSize)
	case m.Snapshot < 0 || m.Last && m.Snapshot == 0:
		return invalid("snapshot is %d", m.Snapshot)
	}
	if m.Snapshot > 0 {
		return s.applyPart(m)
	}
	if s.snapshot.part > 0 {
		return invalid("the snapshot has no last part")
	}
	if err := s.known.advance(m.Epoch, m.After, m.Seq, m.Entries); err != nil {
		return err
	}
	if len(m.Entries) > 0 || m.After != m.Seq {
		return nil
	}
	lag, err := s.lag(m.IssuedAt.Time)
	if err != nil {
		return err
	}
	if s.known.complete(m.Epoch, m.Seq, s.now().Add(-lag)) {
		s.live = true
	}
	return nil
}

// lag returns the longest time that a heartbeat may have been under way. The issuer makes the first heartbeat after the
// request or shortly before, so the lag of the first heartbeat is the time since the request. Later heartbeats are compared
// with the fastest heartbeat of the stream, so that the difference of the clocks cancels out. A network that delays
// revocations delays heartbeats too. After a slow snapshot the first heartbeat may be too late; the next stream then begins
// at the end of the snapshot.
func (s *stream) lag(iat time.Time) (time.Duration, error) {
	// A change of this machine's clock during the stream does not count.
	passed := s.now().Sub(s.asked)
	offset := s.asked.Add(passed).Round(0).Sub(iat)
	switch {
	case iat.Before(s.issuedAt):
		return 0, invalid("iat is before the iat of the last heartbeat")
	case s.issuedAt.IsZero():
		s.offset = offset - passed
	default:
		s.offset = min(s.offset, offset)
	}
	s.issuedAt = iat
	if lag := offset - s.offset; lag <= s.maxLag {
		return lag, nil
	}
	return 0, errLate
}

// applyPart applies a part of a snapshot. The position moves at the last part.
func (s *stream) applyPart(m *revocation.Batch) error {
	snapshot := &s.snapshot
	switch {
	case m.Snapshot != snapshot.part+1 || m.After != 0:
		return invalid("part %d of a snapshot after part %d", m.Snapshot, snapshot.part)
	case m.Snapshot > maxParts:
		return invalid("a snapshot of more than %d parts", maxParts)
	case m.Snapshot > 1 && (m.Epoch != snapshot.epoch || m.Seq != snapshot.seq):
		return invalid("the parts of a snapshot have different positions")
	}
	snapshot.part, snapshot.epoch, snapshot.seq = m.Snapshot, m.Epoch, m.Seq
	if err := s.known.add(m.Entries); err != nil {
		return err
	}
	if m.Last {
		snapshot.part = 0
		s.known.jump(m.Epoch, m.Seq)
	}
	return nil
}
