package feed

import (
	"errors"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

const (
	// fewEvents is the largest number of missing events that a subscriber gets one by one. More events are sent as a
	// batch, of which the subscriber checks one signature.
	fewEvents = 8
	// manyEvents is the number of events that are sent at once while there may be no batches.
	manyEvents = 64
)

var errBehind = errors.New("the subscriber is too slow for the events that are kept")

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
