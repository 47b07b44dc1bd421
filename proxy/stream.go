package proxy

import (
	"sync"
	"time"
)

// Defaults of the fields of [Streams]. The promise is that a stream ends within one second: 500 ms +
// 250 ms leave 250 ms for the decision.
const (
	defaultRecheckInterval    = 500 * time.Millisecond
	defaultForceCloseInterval = 250 * time.Millisecond
)

// Streams are the granted requests that still transfer a body half a second after they began. The
// current Proxy repeats the decision about each stream twice a second, and ends the stream if a new
// request would be refused. Streams without a known length also end with [Streams.End], and when a
// reload gives their API another upstream. Streams without a known length are tunnels, and bodies
// without Content-Length, such as server-sent events and gRPC.
//
// A gate needs one Streams for all its configurations. It is safe for concurrent use.
type Streams struct {
	current            func() *Proxy
	recheckInterval    time.Duration // between two decisions about a stream
	forceCloseInterval time.Duration // from the termination of a stream until the gate blocks writes to the client
	once               sync.Once
	end                chan struct{} // closed by End
}

// NewStreams returns Streams. The Proxy that current returns takes their decisions.
func NewStreams(current func() *Proxy) *Streams {
	return &Streams{
		current: current, end: make(chan struct{}),
		recheckInterval: defaultRecheckInterval, forceCloseInterval: defaultForceCloseInterval,
	}
}

// End ends all present and future streams without a known length.
func (s *Streams) End() { s.once.Do(func() { close(s.end) }) }

// draining reports whether End was called.
func (s *Streams) draining() bool {
	select {
	case <-s.end:
		return true
	default:
		return false
	}
}
