package validate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
)

// A keySource holds the key set of one authorization server and reads it anew, on
// schedule and when an unknown key asks for it. Requests never wait for a reading.
type keySource struct {
	server     string // configured name
	settings   config.KeySet
	algorithms []config.Algorithm
	local      LocalKeySet  // our own issuer's; nil for the others
	client     *http.Client // nil unless the key set is at a URL

	current atomic.Pointer[keySet] // the last good reading; nil before the first
	version atomic.Uint64          // of the local key set that was read last
	// following is held while a local key set is read.
	following sync.Mutex
	asked     chan struct{} // holds one wish for a reading
	nextAsk   atomic.Int64  // Unix nanoseconds before which unknown keys ask in vain

	now     func() time.Time
	log     *slog.Logger
	metrics keySetMetrics
}

var (
	errUnread = errors.New("no key set has been read yet")
	errStale  = errors.New("the key set is out of date")
)

// open prepares k and reads what needs no network.
func (k *keySource) open() error {
	if k.local == nil && (k.settings.Refresh <= 0 || k.settings.CoolDown <= 0 || k.settings.MaxStale <= 0) {
		return errors.New("refresh, cool_down and max_stale of the key set must be positive")
	}
	if k.settings.URL != nil {
		client, err := newKeySetClient(k.settings)
		k.client = client
		return err
	}
	if k.local != nil {
		k.version.Store(math.MaxUint64) // none that there is
		return k.follow()
	}
	return k.read(context.Background())
}

// follow reads our own issuer's key set if it is another than the last time, so that
// a new key counts from its first token. Whoever comes while another reads waits for
// that, and an older reading never takes the place of a newer one.
func (k *keySource) follow() error {
	if _, version := k.local(); k.version.Load() == version {
		return nil
	}
	k.following.Lock()
	defer k.following.Unlock()
	document, version := k.local()
	if document == nil || k.version.Load() == version {
		return nil
	}
	if err := k.read(context.Background()); err != nil {
		return err
	}
	// What was read may be newer still; then the next request reads it once more.
	k.version.Store(version)
	return nil
}

// latest returns the last good key set, nil when there is none.
func (k *keySource) latest() *keySet {
	if k.local != nil {
		if err := k.follow(); err != nil {
			k.log.Warn("key set not read", "issuer", k.server, "err", err)
		}
	}
	return k.current.Load()
}

// usable returns the key set that counts at now, or an error when there is none
// or readings have failed for too long.
func (k *keySource) usable(now time.Time) (*keySet, error) {
	set := k.latest()
	switch {
	case set == nil:
		return nil, errUnread
	case k.stale(set, now):
		return nil, errStale
	default:
		return set, nil
	}
}

// stale reports whether set is too old to rely on.
func (k *keySource) stale(set *keySet, now time.Time) bool {
	return now.Sub(set.read) > k.settings.MaxStale
}

// ask wishes for a reading because a token names a key that is not known. It never
// waits. One wish is granted in a cool-down, whether or not the reading then
// succeeds: who sends made-up keys cannot make us read more often than that.
func (k *keySource) ask(now time.Time) {
	next := k.nextAsk.Load()
	until := now.Add(k.settings.CoolDown).UnixNano()
	if k.local != nil || now.UnixNano() < next || !k.nextAsk.CompareAndSwap(next, until) {
		k.metrics.throttled.Inc()
		return
	}
	k.metrics.refreshed.Inc()
	select {
	case k.asked <- struct{}{}:
	default: // a wish is already waiting, and its reading is still to come
	}
}

// refresh reads the key set until ctx ends: at once when there is none, then on
// schedule and when asked.
func (k *keySource) refresh(ctx context.Context) {
	var wait time.Duration
	if k.current.Load() != nil {
		wait = k.pause(0)
	}
	failures := 0
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-k.asked:
			timer.Stop()
		}
		if err := k.read(ctx); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			failures++
			k.log.WarnContext(ctx, "key set not read", "issuer", k.server, "err", err)
		}
		wait = k.pause(failures)
	}
}

// pause returns how long to wait after so many failures in a row: the refresh
// interval after none, then 1 s, 2 s, 4 s and so on up to that interval. Up to a
// tenth is taken off by chance, so that a fleet does not read in step.
func (k *keySource) pause(failures int) time.Duration {
	wait := k.settings.Refresh
	if failures > 0 {
		// 2^20 s are 12 days: further doubling is pointless and would overflow.
		wait = min(wait, time.Second<<min(failures-1, 20))
	}
	return wait - rand.N(wait/10+1) //nolint:gosec // nobody gains by guessing when a reading comes
}

// read reads the key set once and publishes it. On an error the last good one
// stays.
func (k *keySource) read(ctx context.Context) error {
	start := k.now()
	set, err := k.load(ctx)
	if err != nil {
		k.metrics.failed.Inc()
		return err
	}
	set.read = start
	k.current.Store(set)
	k.metrics.succeeded.Inc()
	k.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1e3)
	k.metrics.keys.Set(float64(len(set.keys)))
	return nil
}

// load returns the key set as it is now at its origin.
func (k *keySource) load(ctx context.Context) (*keySet, error) {
	var document []byte
	var err error
	origin := "of our own issuer"
	switch {
	case k.local != nil:
		document, _ = k.local()
	case k.settings.URL != nil:
		origin = "at " + k.settings.URL.Host
		document, err = fetchKeySet(ctx, k.client, k.settings.URL)
	default:
		origin = fmt.Sprintf("%q", k.settings.File)
		document, err = readKeySetFile(string(k.settings.File))
	}
	if err != nil {
		return nil, fmt.Errorf("reading key set %s: %w", origin, err)
	}
	set, err := parseKeySet(document, k.algorithms)
	if err != nil {
		return nil, fmt.Errorf("reading key set %s: %w", origin, err)
	}
	return set, nil
}
