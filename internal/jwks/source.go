package jwks

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
)

// Local returns the key set of our own issuer as it is at this moment (a JWK Set,
// JSON), nil when it has none yet, and a number that changes with it. It is called on
// every request, by many goroutines at once.
type Local func() (document []byte, version uint64)

// Options are what a [Source] needs beside its configuration.
type Options struct {
	// Local gives the key set of our own issuer; nil for every other server.
	Local Local
	// Remote is the server that a key set is fetched from; nil where none is.
	Remote  *authserver.Server
	Log     *slog.Logger // must be set
	Metrics *Metrics     // must be set
	Now     func() time.Time
	// Previous is the Source that the new one may take the place of; nil for none.
	Previous *Source
}

// A Source holds the key set of one authorization server and reads it anew, on
// schedule and when an unknown key asks for it. It is safe for concurrent use.
type Source struct {
	server     string // configured name
	settings   config.KeySet
	algorithms []config.Algorithm
	local      Local
	remote     *authserver.Server
	timeout    time.Duration // of one reading from a URL

	current atomic.Pointer[Set]     // the last good reading; nil before the first
	told    atomic.Pointer[leftOut] // the keys that were left out when that was logged last
	version atomic.Uint64           // of the local key set that was read last
	every   atomic.Int64            // nanoseconds between two readings
	// following is held while a local key set is read.
	following sync.Mutex
	wishes    wishes

	now     func() time.Time
	log     *slog.Logger
	metrics sourceMetrics
}

var (
	errUnread = errors.New("no key set has been read yet")
	errStale  = errors.New("the key set is out of date")
)

// New returns the key set of the server that settings describes: the previous one where
// that is no other, and otherwise one that has the keys of the previous one, where they
// are still to be read at the same place and whoever vouched for them may. It reads what
// needs no network, so that a broken file stops the start, and reads it never again; a key
// set at a URL is first read by [Source.Run].
func New(settings config.AuthorizationServer, options Options) (*Source, error) {
	s := &Source{
		server:     string(settings.Name),
		settings:   settings.KeySet,
		algorithms: settings.Algorithms,
		local:      options.Local,
		remote:     options.Remote,
		timeout:    authserver.FetchTimeout,
		wishes:     wishes{coolDown: settings.KeySet.CoolDown, asked: make(chan struct{}, 1)},
		now:        options.Now,
		log:        options.Log,
		metrics:    options.Metrics.of(string(settings.Name)),
	}
	s.every.Store(int64(s.settings.Refresh))
	if s.settings.Refresh <= 0 || s.settings.CoolDown <= 0 || s.settings.MaxStale <= 0 {
		return nil, errors.New("refresh, cool_down and max_stale of the key set must be positive")
	}
	if !s.fetched() {
		s.settings.MaxStale = math.MaxInt64 // it cannot be out of reach
	}
	if before := options.Previous; before != nil {
		s.told.Store(before.told.Load())
	}
	switch before := options.Previous; {
	case s.local != nil:
		s.version.Store(math.MaxUint64) // none that there is
		return s, s.follow()
	case !s.fetched():
		return s, s.read(context.Background())
	case s.remote == nil:
		return nil, errors.New("no key set: none is configured, and it is not our own issuer")
	case before != nil && before.is(s):
		return before, nil
	case before != nil:
		s.inherit(before)
	}
	return s, nil
}

// is reports whether s and other, which is fetched, are one. Only what is fetched is worth
// keeping: the rest is read at once.
func (s *Source) is(other *Source) bool {
	return s.fetched() && s.remote == other.remote && reflect.DeepEqual(s.settings, other.settings) &&
		slices.Equal(s.algorithms, other.algorithms)
}

// inherit takes over the last good key set of before, as old as it is, if s would read it
// from the same place over a connection that is as good.
func (s *Source) inherit(before *Source) {
	set := before.current.Load()
	samePlace := reflect.DeepEqual(s.settings.URL, before.settings.URL)
	if !before.fetched() || !samePlace || set == nil || !s.remote.Follows(before.remote) {
		return
	}
	if own, err := parse(set.document, s.algorithms); err == nil { // otherwise none is left that counts
		own.read, own.fetched = set.read, set.fetched
		s.current.Store(own)
	}
}

// fetched reports whether the key set comes from a URL: it is not that of our own issuer,
// does not stand in the configuration, nor in a file, which is as good as that.
func (s *Source) fetched() bool {
	return s.local == nil && s.settings.JWKS == "" && s.settings.File == ""
}

// follow reads our own issuer's key set if it is another than the last time, so that
// a new key counts from its first token. Whoever comes while another reads waits for
// that, and an older reading never takes the place of a newer one.
func (s *Source) follow() error {
	if _, version := s.local(); s.version.Load() == version {
		return nil
	}
	s.following.Lock()
	defer s.following.Unlock()
	document, version := s.local()
	if document == nil || s.version.Load() == version {
		return nil
	}
	if err := s.read(context.Background()); err != nil {
		return err
	}
	// What was read may be newer still; then the next request reads it once more.
	s.version.Store(version)
	return nil
}

// Latest returns the last good key set, nil when there is none.
func (s *Source) Latest() *Set {
	if s.local != nil {
		if err := s.follow(); err != nil {
			s.log.Warn("key set not read", "issuer", s.server, "err", err)
		}
	}
	return s.current.Load()
}

// Usable returns the key set that counts at now, or an error when there is none
// or readings have failed for too long.
func (s *Source) Usable(now time.Time) (*Set, error) {
	set := s.Latest()
	if set == nil {
		return nil, errUnread
	}
	if now.Sub(set.read) > s.settings.MaxStale {
		return nil, errStale
	}
	return set, nil
}

// Run reads the key set until ctx ends: at once when there is none, then on schedule
// and when asked. Of one that needs no reading it returns at once.
func (s *Source) Run(ctx context.Context) {
	if !s.fetched() {
		return
	}
	s.remote.OnChange(s.wishes.wake)
	s.wishes.serve(true)
	defer s.wishes.serve(false)
	var wait time.Duration
	if set := s.current.Load(); set != nil { // of the Source before this, or a Run before
		wait = max(0, authserver.Pause(time.Duration(s.every.Load()), 0)-s.now().Sub(set.read))
	}
	for failures := 0; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-s.wishes.asked:
			timer.Stop()
		}
		running := s.wishes.begin()
		err := s.read(ctx)
		if err != nil && ctx.Err() != nil { // broken off
			return
		}
		s.wishes.end(running, err)
		switch {
		case err == nil:
			failures = 0
		case errors.Is(err, authserver.ErrUnread):
			// The server's metadata is on its way, and wakes us.
		default:
			failures++
			s.log.WarnContext(ctx, "key set not read", "issuer", s.server, "err", err)
		}
		wait = authserver.Pause(time.Duration(s.every.Load()), failures)
	}
}

// Read reads once what Run would read, and publishes it. On an error the last good key
// set stays.
func (s *Source) Read(ctx context.Context) error {
	if !s.fetched() {
		return nil
	}
	return s.read(ctx)
}

func (s *Source) read(ctx context.Context) error {
	start := s.now()
	set, err := s.load(ctx)
	if err != nil {
		// Where nothing was read, since it is not known yet where the keys are, nothing failed.
		if !errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, authserver.ErrUnread) {
			s.metrics.failed.Inc()
		}
		return err
	}
	set.read = start
	s.tell(ctx, set)
	s.current.Store(set)
	s.metrics.succeeded.Inc()
	s.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1e3)
	s.metrics.keys.Set(float64(len(set.keys)))
	return nil
}
