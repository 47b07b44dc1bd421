package feed

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// A ring has the recent revocations of one epoch of a log, in the order of their numbers. A reader whose position is
// at floor or later needs only the events after its position.
type ring struct {
	size   int // the least number of events that are kept, unless they exceed limit
	limit  int // bounds the bytes of the events
	epoch  string
	floor  uint64 // the number before the first event
	head   uint64 // the number up to which the log was read
	events []*event
	bytes  int // of all events since the beginning of the epoch
}

// An event is a revocation with its number in the log.
type event struct {
	message
	after, seq uint64 // as in [revocation.SecurityEvent]
	entry      revocation.Entry
	stored     time.Time
	issued     time.Time
	operator   bool // false: a client has revoked its own token
	bytes      int  // of all events of the epoch up to this event
}

var (
	errGap  = errors.New("a page of the log does not continue the page before it")
	errBack = errors.New("the log ends before a number that was read from it")
)

// take adds page to r. complete says that the head was the end of the log when the page was read. A page of another
// epoch empties r. With an error r is unchanged, except that it may have changed to the page's epoch.
func (r *ring) take(page *store.Page, now time.Time) (complete bool, err error) {
	if page.Epoch != r.epoch {
		*r = ring{size: r.size, limit: r.limit, epoch: page.Epoch}
	}
	if page.After > r.head || page.Seq < page.After {
		return false, fmt.Errorf("%w: the page begins after %d, and the log was read up to %d", errGap, page.After, r.head)
	}
	last := page.After
	for i := range page.Additions {
		a := &page.Additions[i]
		if a.Seq <= last || a.Seq > page.Seq {
			return false, fmt.Errorf("%w: the number %d comes after %d, and the page ends with %d", errGap, a.Seq, last, page.Seq)
		}
		last = a.Seq
	}
	if len(page.Additions) == 0 && page.After == page.Seq {
		if page.Seq < r.head {
			return false, fmt.Errorf("%w: it ends with %d, and was read up to %d", errBack, page.Seq, r.head)
		}
		return true, nil
	}
	for i := range page.Additions {
		r.add(&page.Additions[i], now)
	}
	r.head = max(r.head, page.Seq)
	r.trim()
	return false, nil
}

// add adds a as an event, unless a was read before, as when a log is read again after a lost connection.
func (r *ring) add(a *store.Addition, now time.Time) {
	if a.Seq <= r.head {
		return
	}
	e := &event{after: r.head, seq: a.Seq, entry: a.Entry(), stored: a.Stored, issued: now, operator: a.Client == ""}
	if e.stored.IsZero() {
		e.stored = now
	}
	r.bytes += eventSize(&e.entry)
	e.bytes = r.bytes
	r.events = append(r.events, e)
	r.head = a.Seq
}

// eventSize bounds the bytes of the signed text of e, in which the subject is twice and base64 makes 3 bytes to 4, with
// e itself. 1,000 bytes are for the other claims, the signature and the structures.
func eventSize(e *revocation.Entry) int {
	return len(e.Subject) + 2*revocation.JSONSize(e.Subject)*4/3 + 1000
}

// trim removes the oldest events when there are twice as many as must be kept, or when they exceed the limit. It then
// keeps half of the allowed events or bytes.
func (r *ring) trim() {
	drop := 0
	if len(r.events) >= 2*r.size {
		drop = len(r.events) - r.size
	}
	if len(r.events) > 0 && r.bytes-r.events[0].bytes > r.limit {
		enough := sort.Search(len(r.events), func(i int) bool { return r.bytes-r.events[i].bytes <= r.limit/2 })
		drop = max(drop, enough+1)
	}
	if drop == 0 {
		return
	}
	r.floor = r.events[drop-1].seq
	r.events = slices.Clone(r.events[drop:])
}

// eventsAfter returns the events with numbers above seq, which is at floor or later. The caller must not change them.
func (r *ring) eventsAfter(seq uint64) []*event {
	first := sort.Search(len(r.events), func(i int) bool { return r.events[i].seq > seq })
	return r.events[first:]
}

// outdates reports whether so many events were added after seq that a snapshot up to seq should not be sent to
// further readers: r would drop these events during the transfer of the snapshot.
func (r *ring) outdates(seq uint64) bool {
	if seq < r.floor {
		return true
	}
	missed := r.eventsAfter(seq)
	return len(missed) > r.size/2 || len(missed) > 0 && r.bytes-missed[0].bytes > r.limit/4
}
