package jwks

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/refresh"
	"github.com/tallygate/tallygate/internal/reuse"
)

// LocalKeySet returns the current key set of our own issuer (a JWK Set in JSON), or nil before the
// issuer has a key. version changes whenever the key set changes. It is called on every request and
// must be safe for concurrent use.
type LocalKeySet func() (document []byte, version uint64)

// Options are the inputs of [New] besides the settings of the server.
type Options struct {
	// Local returns the key set of our own issuer; nil for other servers.
	Local LocalKeySet
	// Remote is the server to fetch the key set from; nil for a key set without a URL.
	Remote  *authserver.Server
	Log     *slog.Logger // required
	Metrics *Metrics     // required
	Now     func() time.Time
	// Lease holds the source. It is required.
	Lease *reuse.Lease
}

// A Source holds the key set of one authorization server. It refreshes the key set on schedule,
// and when a token names an unknown key. It is safe for concurrent use.
type Source struct {
	server     string // the name of the server in the configuration
	settings   config.KeySet
	algorithms []config.Algorithm
	tenant     string // the tenant of Entra; "" for other servers
	local      LocalKeySet
	remote     *authserver.Server
	timeout    time.Duration // the timeout of a fetch

	current      atomic.Pointer[Set]     // the last good key set; nil before the first fetch or read
	failed       atomic.Pointer[failure] // the last fetch or read, if it failed
	logged       atomic.Pointer[leftOut] // keys that the last log line listed as left out
	localVersion atomic.Uint64           // version of the local key set in current
	interval     atomic.Int64            // time between two fetches in nanoseconds
	// reloadingLocal is held while a local key set is read.
	reloadingLocal sync.Mutex
	requests       refreshRequests
	task           refresh.Task // runs Run

	now     func() time.Time
	log     *slog.Logger
	metrics sourceMetrics
}

var (
	errNoKeySet = errors.New("the key set has not been fetched yet")
	errStale    = errors.New("the key set is out of date")
)

// New returns the key set of the server that settings describes. While nothing that New reads has
// changed, all leases share one Source for a fetched key set. After a change the new Source takes over
// the key set of the previous Source, if it may reuse that key set. New itself reads key sets from
// files, from the configuration and from our own issuer, which is cheap, and returns an error if a key
// set is broken. [Source.Run] fetches key sets from URLs.
func New(settings config.AuthorizationServer, options Options) (*Source, error) {
	s := &Source{
		server:     string(settings.Name),
		settings:   settings.KeySet,
		algorithms: settings.Algorithms,
		tenant:     settings.Tenant(),
		local:      options.Local,
		remote:     options.Remote,
		timeout:    authserver.FetchTimeout,
		requests:   refreshRequests{coolDown: settings.KeySet.CoolDown, signal: make(chan struct{}, 1)},
		now:        options.Now,
		log:        options.Log,
		metrics:    options.Metrics.forServer(options.Lease, string(settings.Name)),
	}
	s.interval.Store(int64(s.settings.Refresh))
	if s.settings.Refresh <= 0 || s.settings.CoolDown <= 0 || s.settings.MaxStale <= 0 {
		return nil, errors.New("refresh, cool_down and max_stale of the key set must be positive")
	}
	if !s.isFetched() {
		s.settings.MaxStale = math.MaxInt64 // a local key set never becomes stale
	}
	if s.isFetched() && s.remote == nil {
		return nil, errors.New("no key set is configured, and the server is not our own issuer")
	}
	return reuse.Acquire(options.Lease, s.server, s.Key(), s.open, (*Source).close)
}

// Key returns a value that changes when the settings of s change, or nil if the key set is not fetched.
// A caller that makes an object from s includes this value in the key of the object (see
// [reuse.Acquire]).
func (s *Source) Key() any {
	if !s.isFetched() {
		return nil
	}
	return []any{s.remote.Key(), s.settings, s.algorithms, s.tenant}
}

// open returns s with its first key set, if the key set is available without a fetch. previous may be
// nil.
func (s *Source) open(previous *Source) (*Source, error) {
	if previous != nil {
		s.logged.Store(previous.logged.Load())
	}
	switch {
	case s.local != nil:
		s.localVersion.Store(math.MaxUint64) // a value that no version of a local key set has
		return s, s.reloadLocal()
	case !s.isFetched():
		return s, s.refresh(context.Background())
	case previous != nil:
		s.inherit(previous)
	}
	return s, nil
}

// Start keeps the key set fresh in the background until no lease holds s.
func (s *Source) Start() { s.task.Start(s.Run) }

func (s *Source) close() { s.task.Stop() }

// inherit takes over the key set of previous with its age, if s has the same URL for the key set and
// trusts the server's connections at least as previous does.
func (s *Source) inherit(previous *Source) {
	set := previous.current.Load()
	sameURL := reflect.DeepEqual(s.settings.URL, previous.settings.URL)
	if !previous.isFetched() || !sameURL || set == nil || !s.remote.CanReuse(previous.remote) {
		return
	}
	if own, err := parse(set.document, s.algorithms, s.tenant); err == nil { // an error means that no key fits the algorithms of s
		own.fetchedAt, own.fetchedDocument = set.fetchedAt, set.fetchedDocument
		s.current.Store(own)
	}
}

// isFetched reports whether the key set comes from a URL. Other key sets come from our own issuer, the
// configuration or a file.
func (s *Source) isFetched() bool {
	return s.local == nil && s.settings.JWKS == "" && s.settings.File == ""
}

// reloadLocal reads the key set of our own issuer if its version has changed, so that the gate knows a
// new key before the first token arrives that the key signs. Concurrent callers wait for the caller
// that reads, so an older key set never replaces a newer key set.
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
	// refresh called s.local again and may have read a newer key set than version. The next request
	// then finds another version and reads the key set again.
	s.localVersion.Store(version)
	return nil
}

// Latest returns the last good key set, or nil if there has been no good key set yet.
func (s *Source) Latest() *Set {
	if s.local != nil {
		if err := s.reloadLocal(); err != nil {
			s.log.Warn("local key set not read", "issuer", s.server, "error", err)
		}
	}
	return s.current.Load()
}

// Usable returns the key set to use at now. It returns an error if there is no key set, or if the last
// successful fetch was longer ago than max_stale.
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

// Run refreshes the key set until ctx ends. The first fetch is at once if no key set has been fetched.
// Later fetches follow the schedule, and also come when a token names an unknown key. For a key set
// that is not fetched, Run returns at once.
func (s *Source) Run(ctx context.Context) {
	if !s.isFetched() {
		return
	}
	s.remote.OnChange(s.requests.wake)
	s.requests.setRunning(true)
	defer s.requests.setRunning(false)
	var first time.Duration
	if set := s.current.Load(); set != nil { // the set is inherited, or an earlier Run has fetched it
		first = s.schedule().Remaining(0, s.now().Sub(set.fetchedAt))
	}
	loop := refresh.Loop{Fetch: s.answerRequests, Backoff: s.schedule, Wake: s.requests.signal}
	loop.Run(ctx, first)
}

func (s *Source) schedule() refresh.Backoff { return refresh.Every(time.Duration(s.interval.Load())) }

// answerRequests refreshes the key set and wakes the requests that wait for a refresh. Missing metadata
// is not a failure, because new metadata wakes Run.
func (s *Source) answerRequests(ctx context.Context) error {
	current := s.requests.start()
	err := s.refresh(ctx)
	if err != nil && ctx.Err() != nil { // the fetch failed only because ctx was canceled
		return err
	}
	s.requests.done(current, err)
	if errors.Is(err, authserver.ErrNoMetadata) {
		return nil
	}
	if err != nil {
		s.log.WarnContext(ctx, "key set not fetched", "issuer", s.server, "error", err)
	}
	return err
}

// Refresh fetches the key set once. After an error the last good key set stays in use. Refresh does
// nothing for a key set that is not fetched.
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
		// A canceled fetch is not a failure. A fetch without a known URL is not a failure either.
		if !errors.Is(ctx.Err(), context.Canceled) && !errors.Is(err, authserver.ErrNoMetadata) {
			s.metrics.failed.Inc()
			s.failed.Store(&failure{start, err})
		}
		return err
	}
	set.fetchedAt = start
	s.logLeftOut(ctx, set)
	s.current.Store(set)
	s.failed.Store(nil)
	s.metrics.succeeded.Inc()
	s.metrics.lastSuccess.Set(float64(start.UnixMilli()) / 1e3)
	s.metrics.keys.Set(float64(len(set.keys)))
	return nil
}
