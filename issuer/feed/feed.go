// Package feed publishes an issuer's log of revocations to gates in other processes, as a stream of signed
// server-sent events. Package revocation has the messages. All subscribers share one ring of recent events, each of which
// is signed once, and one snapshot for subscribers whose position is before the ring.
package feed

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/revocation"
)

// MaxSubscribers is the default of [Options.MaxSubscribers].
const MaxSubscribers = 4000

// Options configures a [Feed]. A field must be set unless its comment has a default.
type Options struct {
	Issuer     string                                              // the issuer identifier, iss of all messages
	Sign       func(typ string, claims jwt.Claims) (string, error) // signs by the active key
	KeyVersion func() uint64                                       // changes when the published keys change
	Set        *revocation.Set                                     // has every revocation of a page before the page is published
	Complete   func() error                                        // returns an error while Set lacks a revocation of a published page
	Log        *slog.Logger
	Metrics    prometheus.Registerer
	Now        func() time.Time // the time in messages; default: time.Now

	// MaxSubscribers bounds the memory: a subscriber takes some 60 KiB, 4,000 take 240 MB. Default: [MaxSubscribers].
	MaxSubscribers int
	// Ring is the least number of recent events that are kept: 16,384 of some 1.5 KB are 24 MB, and twice as many
	// before the oldest are removed. Default: 16,384.
	Ring int
	// RingBytes bounds the events that are kept, because a subject at another authorization server can make an event 17 KB
	// long: 32,768 of them would be 560 MB. Default: 96 MiB, which are 32,768 events of 3 KB.
	RingBytes int
	// Heartbeat is the least time between two heartbeats. The log is read each second, so the longest time is
	// [revocation.HeartbeatInterval]. Default: 900 ms.
	Heartbeat time.Duration
	// KeepAlive is the time after which a comment is sent if nothing else was sent, at the latest after one and a half
	// KeepAlive. Gates close a connection after three heartbeat intervals, 6 s, without a byte. Default: 2 s.
	KeepAlive time.Duration
	// WriteTimeout bounds the sending of an event, and must be above KeepAlive. Default: 20 s.
	WriteTimeout time.Duration
	// CatchUp is how long a subscriber that has read further than this issuer waits for the issuer. Default: 3 s.
	CatchUp time.Duration
	// Recheck is the least time between two calls of [Subscription.Recheck]. Default: 500 ms.
	Recheck time.Duration
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&o.MaxSubscribers, MaxSubscribers}, {&o.Ring, 1 << 14}, {&o.RingBytes, 96 << 20}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Heartbeat, 900 * time.Millisecond}, {&o.KeepAlive, 2 * time.Second}, {&o.WriteTimeout, 20 * time.Second},
		{&o.CatchUp, 3 * time.Second}, {&o.Recheck, 500 * time.Millisecond},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// A Feed sends the log of revocations to its subscribers. It is safe for concurrent use, except that one goroutine at a
// time may call [Feed.Publish].
type Feed struct {
	options        Options
	metrics        *metrics
	opened, closed logsample.Samplers // of log lines
	ended          chan struct{}      // closed by End
	endOnce        sync.Once

	mu         sync.Mutex
	streams    streams
	ring       ring
	completeAt time.Time     // the last time at which the log was known to be read up to its head
	issued     time.Time     // the latest iat
	heartbeat  *batch        // the heartbeat for subscribers at the head; nil: the log was never read completely
	batches    []*batch      // the latest batches for subscribers that are behind
	snapshot   *snapshot     // nil: no subscriber needs it
	changed    chan struct{} // closed and replaced when subscribers may have something to do
	faulty     bool          // the last page was refused
}

// New returns a Feed without subscribers, and registers its metrics.
func New(options Options) (*Feed, error) {
	options.setDefaults()
	f := &Feed{
		options: options, ended: make(chan struct{}), changed: make(chan struct{}), ring: ring{size: options.Ring, limit: options.RingBytes}, streams: newStreams(options.MaxSubscribers),
	}
	var err error
	f.metrics, err = newMetrics(options.Metrics, f)
	return f, err
}

// Publish adds a page of the log. The pages must come in their order, and each after the set has its revocations.
// Publish signs nothing and waits for no subscriber.
//
// A page that does not continue the page before it is refused and logged. From then on subscribers get neither
// heartbeat nor batch, until a page continues the published pages: subscribers must not take their sets for complete.
func (f *Feed) Publish(page store.Page) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if page.Epoch != f.ring.epoch {
		f.completeAt, f.heartbeat, f.batches, f.snapshot = time.Time{}, nil, nil, nil
	}
	before := f.ring.head
	complete, err := f.ring.take(&page, f.issuedAt())
	if err != nil {
		f.completeAt, f.heartbeat = time.Time{}, nil
		if !f.faulty {
			f.options.Log.Error("revocations not published to gates", "error", err, "epoch", page.Epoch)
		}
		f.faulty = true
		return
	}
	f.faulty = false
	if complete {
		f.completeAt = time.Now()
		f.heartbeat = f.newBatch(f.ring.head, f.ring.head, nil)
	}
	if f.ring.head != before {
		f.batches = nil // they end before the head
	}
	f.dropSnapshot()
	f.wake()
}

// wake makes all streams look for messages. The caller holds f.mu.
func (f *Feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// clockStep is the largest step back of the clock that does not lower iat: messages keep the latest iat until the clock
// has reached it again.
const clockStep = 5 * time.Second

// issuedAt returns the iat for a message that is made now. iat goes backwards only after a large step of the clock, because
// subscribers then connect again. The caller holds f.mu.
func (f *Feed) issuedAt() time.Time {
	if now := f.options.Now(); now.After(f.issued) || f.issued.Sub(now) > clockStep {
		f.issued = now
	}
	return f.issued
}

// fresh reports whether the log was read up to its head within the last heartbeat interval and is in the set, so that a
// batch may be sent. The caller holds f.mu.
func (f *Feed) fresh() bool {
	return !f.completeAt.IsZero() && time.Since(f.completeAt) < revocation.HeartbeatInterval && f.options.Complete() == nil
}

var (
	// ErrFull means that there are too many subscribers.
	ErrFull = errors.New("the limit of subscribers is reached")
	// ErrEnded means that the feed has ended, because the process stops.
	ErrEnded = errors.New("the feed has ended")
)

// End ends all streams soon. No stream begins afterwards.
func (f *Feed) End() { f.endOnce.Do(func() { close(f.ended) }) }
