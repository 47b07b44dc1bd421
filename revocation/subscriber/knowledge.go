package subscriber

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/revocation"
)

// knowledge has the revocations of an issuer that a process knows, and when they were complete. It survives a change of
// the settings. It is safe for concurrent use.
type knowledge struct {
	set *revocation.Set

	mu       sync.Mutex
	position revocation.Position // the set has every revocation up to here; zero: nothing is known
	changes  uint64              // counts the changes of set and position
	recent   []Event             // the newest last

	// completeAt is when the set was last known to be complete, with a monotonic clock; nil: never, or the set lacks a revocation.
	completeAt atomic.Pointer[time.Time]
	// loaded is when completeAt was read from a file; nil: completeAt is from a stream. A stream may know more than the file.
	loaded atomic.Pointer[time.Time]
	// synced is true from the first time at which the set was known to be complete.
	synced atomic.Bool
	full   atomic.Bool // the set had no room for a revocation, and may still lack the revocation
}

func newKnowledge() *knowledge { return &knowledge{set: revocation.NewSet()} }

// add adds entries to the set. If the set has no room, the set is no longer known to be complete.
func (k *knowledge) add(entries []revocation.Entry) error {
	for _, e := range entries {
		if err := k.set.Add(e); err != nil {
			k.full.Store(true)
			k.completeAt.Store(nil)
			return err
		}
	}
	k.mu.Lock()
	k.changes += uint64(len(entries))
	k.mu.Unlock()
	return nil
}

// advance adds the entries of a message that follows after, and moves the position to seq. It returns errGap if a
// revocation between the position and after is missing.
func (k *knowledge) advance(epoch string, after, seq uint64, entries []revocation.Entry) error {
	at := k.readPosition()
	if epoch != at.Epoch || after > at.Seq {
		return errGap
	}
	if err := k.add(entries); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.position.Epoch == epoch && seq > k.position.Seq {
		k.position.Seq = seq
		k.changes++
	}
	return nil
}

// jump moves the position to the end of a snapshot. After a restore of the database from a backup, the log is shorter and
// the snapshot ends before the position. The set keeps the revocations that the log has lost.
func (k *knowledge) jump(epoch string, seq uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.position = revocation.Position{Epoch: epoch, Seq: seq}
	k.changes++
}

// record adds an event to the last events.
func (k *knowledge) record(e Event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.recent) == mostRecent {
		k.recent = slices.Delete(k.recent, 0, 1)
	}
	k.recent = append(k.recent, e)
}

// lastEvents returns the last events, the newest first.
func (k *knowledge) lastEvents() []Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	events := slices.Clone(k.recent)
	slices.Reverse(events)
	return events
}

// complete records that the log ended at seq at the time now. It returns false if seq is not the position:
// an issuer whose log ends before the position has not read it completely.
func (k *knowledge) complete(epoch string, seq uint64, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if (k.position != revocation.Position{Epoch: epoch, Seq: seq}) {
		return false
	}
	k.full.Store(false)
	k.completeAt.Store(&now)
	k.loaded.Store(nil)
	k.synced.Store(true)
	return true
}

// restore sets the position after the entries of a file have been added.
func (k *knowledge) restore(position revocation.Position) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.position = position
}

// readPosition returns the position up to which the log was read.
func (k *knowledge) readPosition() revocation.Position {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.position
}

// count returns the number of changes.
func (k *knowledge) count() uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.changes
}

// forget makes the next stream begin with a snapshot. The set stays.
func (k *knowledge) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.position = revocation.Position{}
}

// lastComplete returns when the set was last known to be complete, or the zero time.
func (k *knowledge) lastComplete() time.Time {
	if completeAt := k.completeAt.Load(); completeAt != nil {
		return *completeAt
	}
	return time.Time{}
}

// isFresh reports whether the set was known to be complete less than limit before now. A time after now counts as
// unknown.
func (k *knowledge) isFresh(now time.Time, limit time.Duration) bool {
	completeAt := k.completeAt.Load()
	if completeAt == nil {
		return false
	}
	age := now.Sub(*completeAt)
	return age >= 0 && age < limit
}

// isOnlyLoaded reports whether completeAt was read from a file less than limit before now.
func (k *knowledge) isOnlyLoaded(now time.Time, limit time.Duration) bool {
	loaded := k.loaded.Load()
	return loaded != nil && now.Sub(*loaded) < limit
}
