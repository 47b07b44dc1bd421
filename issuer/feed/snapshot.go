package feed

import (
	"time"

	"github.com/tallygate/tallygate/revocation"
)

// snapshotIdle is how long a snapshot without readers stays in memory.
const snapshotIdle = 30 * time.Second

// A snapshot has every revocation up to a number, as signed parts. It is made once for all subscribers that need it, and
// replaced when it is too old for the ring. The streams of its readers then end soon, so that at most two snapshots have
// readers.
type snapshot struct {
	epoch   string
	seq     uint64
	issued  time.Time
	version uint64 // of the keys
	ready   chan struct{}
	parts   [][]byte // set before ready is closed
	err     error    // set before ready is closed

	readers int       // guarded by Feed.mu
	used    time.Time // when the last reader left; guarded by Feed.mu
}

// openSnapshot returns the snapshot for a new reader, which must call closeSnapshot. If first is true, the caller must start
// build in a goroutine of its own, so that the reader gets comments meanwhile. The caller holds f.mu.
func (f *Feed) openSnapshot() (s *snapshot, first bool) {
	version := f.options.KeyVersion()
	s = f.snapshot
	if s == nil || s.version != version || f.ring.outdates(s.seq) {
		s, first = &snapshot{epoch: f.ring.epoch, seq: f.ring.head, issued: f.issuedAt(), version: version, ready: make(chan struct{})}, true
		f.snapshot = s
	}
	s.readers++
	return s, first
}

func (f *Feed) closeSnapshot(s *snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.readers--
	s.used = time.Now()
}

// dropSnapshot frees the memory of a snapshot without readers. The caller holds f.mu.
func (f *Feed) dropSnapshot() {
	if s := f.snapshot; s != nil && s.readers == 0 && (time.Since(s.used) > snapshotIdle || f.ring.outdates(s.seq)) {
		f.snapshot = nil
	}
}

// build makes the parts of s. The set has every revocation up to s.seq, and perhaps later revocations, which are sent
// again as events.
func (f *Feed) build(s *snapshot) {
	defer close(s.ready)
	f.metrics.snapshots.Inc()
	claims := revocation.Batch{Issuer: f.options.Issuer, IssuedAt: revocation.Seconds{Time: s.issued}, Epoch: s.epoch, Seq: s.seq}
	size := 0
	end := func(last bool) bool {
		claims.Snapshot, claims.Last = claims.Snapshot+1, last
		var id revocation.Position
		if last {
			id = revocation.Position{Epoch: s.epoch, Seq: s.seq}
		}
		var text []byte
		text, s.err = f.sign(revocation.BatchEvent, revocation.BatchType, id, claims)
		s.parts = append(s.parts, text)
		claims.Entries, size = claims.Entries[:0], 0
		return s.err == nil
	}
	f.options.Set.Each(func(e revocation.Entry) bool {
		size += entrySize(&e)
		if n := len(claims.Entries); n == revocation.BatchSize || n > 0 && size > maxContent {
			if !end(false) {
				return false
			}
			size = entrySize(&e)
		}
		claims.Entries = append(claims.Entries, e)
		return true
	})
	if s.err == nil {
		end(true)
	}
	if s.err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.snapshot == s {
			f.snapshot = nil // the next reader tries again
		}
	}
}
