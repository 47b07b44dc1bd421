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
	"github.com/tallygate/tallygate/internal/refresh"
)

// Local returns the key set of our own issuer as it is at this moment (a JWK Set,
// JSON), nil when it has none yet, and a number that changes with it. It is called on
// every request, by many goroutines at once.
type LocalKeySet func() (document []byte, version uint64)

// Options are what a [Source] needs beside its configuration.
type Options struct {
	// Local gives the key set of our own issuer; nil for every other server.
	Local LocalKeySet
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
	local      LocalKeySet
	remote     *authserver.Server
	timeout    time.Duration // of one reading from a URL

	current      atomic.Pointer[Set]     // the last good reading; nil before the first
	logged       atomic.Pointer[leftOut] // the keys that were left out when that was logged last
	localVersion atomic.Uint64           // of the local key set that was read last
	interval     atomic.Int64            // nanoseconds between two readings
	// following is held while a local key set is read.
	reloadingLocal sync.Mutex
	requests       refreshRequests

	now     func() time.Time
	log     *slog.Logger
	metrics sourceMetrics
}

var (
	errNoKeySet = errors.New("no key set has been read yet")
	errStale    = errors.New("the key set is out of date")
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
		requests:   refreshRequests{coolDown: settings.KeySet.CoolDown, signal: make(chan struct{}, 1)},
		now:        options.Now,
		log:        options.Log,
		metrics:    options.Metrics.forServer(string(settings.Name)),
	}
	s.interval.Store(int64(s.settings.Refresh))
	if s.settings.Refresh <= 0 || s.settings.CoolDown <= 0 || s.settings.MaxStale <= 0 {
		return nil, errors.New("refresh, cool_down and max_stale of the key set must be positive")
	}
	if !s.isFetched() {
		s.settings.MaxStale = math.MaxInt64 // it cannot be out of reach
	}
	if before := options.Previous; before != nil {
		s.logged.Store(before.logged.Load())
	}
	switch before := options.Previous; {
	case s.local != nil:
		s.localVersion.Store(math.MaxUint64) // none that there is
		return s, s.reloadLocal()
	case !s.isFetched():
		return s, s.refresh(context.Background())
	case s.remote == nil:
		return nil, errors.New("no key set: none is configured, and it is not our own issuer")
	case before != nil && before.sameAs(s):
		return before, nil
	case before != nil:
		s.inherit(before)
	}
	return s, nil
}

// is reports whether s and other, which is fetched, are one. Only what is fetched is worth
// keeping: the rest is read at once.
func (s *Source) sameAs(other *Source) bool {
	return s.isFetched() && s.remote == other.remote && reflect.DeepEqual(s.settings, other.settings) &&
		slices.Equal(s.algorithms, other.algorithms)
}

// inherit takes over the last good key set of before, as old as it is, if s would read it
// from the same place over a connection that is as good.
func (s *Source) inherit(before *Source) {
	set := before.current.Load()
	samePlace := reflect.DeepEqual(s.settings.URL, before.settings.URL)
	if !before.isFetched() || !samePlace || set == nil || !s.remote.CanReuse(before.remote) {
		return
	}
	if own, err := parse(set.document, s.algorithms); err == nil { // otherwise none is left that counts
		own.fetchedAt, own.fetchedDocument = set.fetchedAt, set.fetchedDocument
		s.current.Store(own)
	}
}

// fetched reports whether the key set comes from a URL: it is not that of our own issuer,
// does not stand in the configuration, nor in a file, which is as good as that.
func (s *Source) isFetched() bool {
	return s.local == nil && s.settings.JWKS == "" && s.settings.File == ""
}

// follow reads our own issuer's key set if it is another than the last time, so that
// a new key counts from its first token. Whoever comes while another reads waits for
// that, and an older reading never takes the place of a newer one.
func (s *Source) reloadLocal() error {
	if _, version := s.local(); s.localVersion.Load() == version {
		return nil
	}
	s.reloadingLocal.Lock()
	defer s.reloadingLocal.Unlock()
	document, version := s.local()
	if document == nil || s.localVersion.Load() == version {
		return nil
	}
	if err := s.refresh(context.Background()); err != nil {
		return err
	}
	// What was read may be newer still; then the next request reads it once more.
	s.localVersion.Store(version)
	return nil
}

// Latest returns the last good key set, nil when there is none.
func (s *Source) Latest() *Set {
	if s.local != nil {
		if err := s.reloadLocal(); err != nil {
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
		return nil, errNoKeySet
	}
	if now.Sub(set.fetchedAt) > s.settings.MaxStale {
		return nil, errStale
	}
	return set, nil
}

// Run reads the key set until ctx ends: at once when there is none, then on schedule
// and when asked. Of one that needs no reading it returns at once.
func (s *Source) Run(ctx context.Context) {
	if !s.isFetched() {
		return
	}
	s.remote.OnChange(s.requests.wake)
	s.requests.setRunning(true)
	defer s.requests.setRunning(false)
	var first time.Duration
	if set := s.current.Load(); set != nil { // inherited, or fetched by an earlier Run
		first = s.schedule().Remaining(s.now().Sub(set.fetchedAt))
	}
	loop := refresh.Loop{Fetch: s.answerRequests, Backoff: s.schedule, Wake: s.requests.signal}
	loop.Run(ctx, first)
}

func (s *Source) schedule() refresh.Backoff { return refresh.Every(time.Duration(s.interval.Load())) }

// answerRequests refreshes the key set and ends the wait of the requests for a refresh. It is
// not an error that the server's metadata has not been fetched yet: new metadata wakes Run.
func (s *Source) answerRequests(ctx context.Context) error {
	current := s.requests.start()
	err := s.refresh(ctx)
	if err != nil && ctx.Err() != nil { // canceled
		return err
	}
	s.requests.done(current, err)
	if errors.Is(err, authserver.ErrNoMetadata) {
		return nil
	}
	if err != nil {
		s.log.WarnContext(ctx, "key set not read", "issuer", s.server, "err", err)
	}
	return err
}

// Read reads once what Run would read, and publishes it. On an error the last good key
// set stays.
func (s *Source) Refresh(ctx context.Context) error {
	if !s.isFetched() {
		return nil
	}
	return s.refresh(ctx)
}

func (s *Source) refresh(ctx context.Context) error {
	start := s.now()
	set, err := s.load(ctx)
	if err != nil {
		// Where nothing was read, since it is not known yet where the keys are, nothing failed.
		if !errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, authserver.ErrNoMetadata) {
			s.metrics.failed.Inc()
		}
		return err
	}
	set.fetchedAt = start
	s.logLeftOut(ctx, set)
	s.current.Store(set)
	s.metrics.succeeded.Inc()
	s.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1e3)
	s.metrics.keys.Set(float64(len(set.keys)))
	return nil
}
