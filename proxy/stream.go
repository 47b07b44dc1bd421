package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// reviewEvery is how often the decision about a stream is taken again.
	recheckInterval = 500 * time.Millisecond
	// insistEvery is how long a stream that is to end may take to heed. With the time of a
	// review it makes less than a second.
	forceCloseInterval = 250 * time.Millisecond
)

// What ends streams beside the reasons of [access.Reason].
const (
	stopping        = "stopping"         // the gate stops
	upstreamChanged = "upstream_changed" // the same request would now go to another upstream
)

// Streams are the requests that may outlive the reason for which they were granted: those
// whose messages are still under way half a second later. The decision about each is taken
// again twice a second, by the Proxy of that moment, and ends it when it would not be
// granted anew. Of those that have no end of their own, which are tunnels and messages that
// say no length, such as server-sent events and gRPC, two things more make an end: see
// [Streams.End], and a configuration by which they would go elsewhere. One serves a gate
// for all its life; it is safe for concurrent use.
type Streams struct {
	current func() *Proxy
	running atomic.Int64
	once    sync.Once
	end     chan struct{} // closed when all are to end
}

// NewStreams returns streams that are decided about by what current returns.
func NewStreams(current func() *Proxy) *Streams {
	return &Streams{current: current, end: make(chan struct{})}
}

// End ends all streams that have no end of their own, and those that are still to come.
func (s *Streams) End() { s.once.Do(func() { close(s.end) }) }

// ending reports whether End was called.
func (s *Streams) draining() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}

// Wait returns nil when no stream runs, or ctx's error when that ends before.
func (s *Streams) Wait(ctx context.Context) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for s.running.Load() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}
