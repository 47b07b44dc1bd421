package feed

import (
	"time"

	"github.com/tallygate/tallygate/revocation"
)

// Status is the state of a Feed at one moment, for operators.
type Status struct {
	Position    revocation.Position // up to which the log was read
	Subscribers int                 // open streams
	Events      []Event             // the last revocations since the start of the process, the newest first
}

// An Event is a revocation in the log.
type Event struct {
	Stored time.Time
	Entry  revocation.Entry
}

// mostRecent is the number of events in a [Status].
const mostRecent = 20

// Status returns the state of f.
func (f *Feed) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := Status{Position: revocation.Position{Epoch: f.ring.epoch, Seq: f.ring.head}, Subscribers: f.streams.open}
	for i := len(f.ring.events) - 1; i >= 0 && len(s.Events) < mostRecent; i-- {
		s.Events = append(s.Events, Event{f.ring.events[i].stored, f.ring.events[i].entry})
	}
	return s
}
