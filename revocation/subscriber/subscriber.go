// Package subscriber follows the feed of revocations of an issuer in another process. It keeps the set of
// revocations as of the last message of the feed, and the age of this message.
package subscriber

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/internal/refresh"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/revocation"
)

// Options are the inputs of [New] besides the settings. All are required.
type Options struct {
	Server  *authserver.Server // the issuer, to which the stream is opened
	Keys    *jwks.Source       // the keys that verify the messages
	Log     *slog.Logger
	Metrics *Metrics
	Now     func() time.Time
	Lease   *reuse.Lease // holds the Subscriber
}

// A Subscriber keeps a stream to an issuer open, and has the revocations that the stream has brought. It is
// safe for concurrent use.
type Subscriber struct {
	issuer   string
	settings config.Revocations
	feeds    []*url.URL
	server   *authserver.Server
	keys     *jwks.Source
	pinned   map[jwks.Fingerprint]bool // the keys that the configuration has; nil: they are fetched
	source   string                    // as sourceOf returns it
	known    *knowledge
	folder   *folder // nil: nothing is kept on disk
	log      *slog.Logger
	samples  logsample.Samplers
	metrics  *Metrics
	now      func() time.Time
	timing   timing
	streams  refresh.Task // runs the streams
	upkeep   refresh.Task // watches the age of the set, removes old entries and writes the file

	mu     sync.Mutex
	status Status // the fields about the stream
}

// ErrStale means that a Subscriber does not know whether its set is complete.
var ErrStale = errors.New("the revocations are out of date")

var errSettings = errors.New("revocations: the server has no connection or no key set")

// New returns the Subscriber for the feed that cfg.Revocations describes. New reads the state file and sends no request. A state
// file that cannot be used is logged, and is no error, because the feed has its revocations too. While the settings and the
// contents of their files do not change, all leases share one Subscriber. After a change New makes another Subscriber, which
// takes over the set of the previous Subscriber if the settings still trust the issuer that sent it.
func New(cfg *config.Config, options Options) (*Subscriber, error) {
	server := cfg.RevocationServer()
	if server == nil || options.Server == nil || options.Keys == nil {
		return nil, errSettings
	}
	s := &Subscriber{
		issuer: string(server.Issuer), settings: *cfg.Revocations, feeds: cfg.Revocations.FeedURLs(server.Issuer),
		server: options.Server, keys: options.Keys, log: options.Log, metrics: options.Metrics, now: options.Now,
		timing: defaultTiming(),
	}
	options.Metrics.hold(options.Lease)
	if path := string(s.settings.State); path != "" {
		s.folder, _ = reuse.Acquire(options.Lease, path, true, func(*folder) (*folder, error) { return &folder{path: path}, nil }, (*folder).close)
	}
	keys := options.Keys.Key()
	if keys == nil { // the keys are in a file or in the configuration
		s.pinned = options.Keys.Latest().Fingerprints()
		keys = s.pinned
	}
	s.source = sourceOf(s.issuer, s.server, s.pinned)
	key := []any{s.settings, s.issuer, server.Algorithms, options.Server.Key(), keys}
	// The name is the same for each server, so that a reload that renames the server keeps the set.
	return reuse.Acquire(options.Lease, "feed", key, s.open, (*Subscriber).close)
}

// open returns s with the knowledge of previous or of the state file.
func (s *Subscriber) open(previous *Subscriber) (*Subscriber, error) {
	if previous != nil && s.canReuse(previous) {
		s.known = previous.known
		return s, nil
	}
	s.known = newKnowledge()
	if s.folder == nil {
		return s, nil
	}
	if err := s.folder.load(s.known, s.source, s.now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("file of revocations not used; all revocations are fetched", "file", s.folder.file(), "error", err)
	}
	return s, nil
}

// canReuse reports whether s may use what previous knows: s still accepts every anchor and key that previous accepted. An
// attacker who had an anchor or key that s no longer accepts may have sent a position that leaves out revocations.
func (s *Subscriber) canReuse(previous *Subscriber) bool {
	if (s.pinned == nil) != (previous.pinned == nil) {
		return false
	}
	for key := range previous.pinned {
		if !s.pinned[key] {
			return false
		}
	}
	return previous.issuer == s.issuer && s.server.CanReuse(previous.server)
}

// sourceOf returns the text that says, in the state file, from whom the revocations are: the issuer, and the anchors and keys
// that were accepted. The file does not tell whether an anchor was added or removed, so it is used only if they are the same.
func sourceOf(issuer string, server *authserver.Server, pinned map[jwks.Fingerprint]bool) string {
	trust := server.Trust()
	for _, key := range slices.SortedFunc(maps.Keys(pinned), func(a, b jwks.Fingerprint) int { return bytes.Compare(a[:], b[:]) }) {
		trust = sha256.Sum256(append(trust[:], key[:]...))
	}
	return fmt.Sprintf("%s %x", issuer, trust)
}

// Start follows the feed in the background until no lease holds s.
func (s *Subscriber) Start() {
	s.metrics.started(s)
	s.save(true) // before the first message: the file must not say when the set was complete, because a killed process does not write later revocations
	s.streams.Start(s.run)
	s.upkeep.Start(s.maintain)
}

// close stops the background work and writes the state file.
func (s *Subscriber) close() {
	s.streams.Stop()
	s.upkeep.Stop()
	s.metrics.ended(s)
}

// Set returns the revocations. The result is always the same Set, which grows.
func (s *Subscriber) Set() *revocation.Set { return s.known.set }

// Synced reports whether the set has once been complete in the life of the process, as [Subscriber.Current] counts it. A
// process that has not synced is not ready.
func (s *Subscriber) Synced() bool {
	if !s.known.synced.Load() && s.Current() == nil {
		s.known.synced.Store(true)
	}
	return s.known.synced.Load()
}

// Current returns nil while the set is complete, as far as can be known: the issuer has said so less than max_staleness
// ago. Otherwise the error wraps [ErrStale] and says since when. The time in the state file counts only if no stream begins
// within 3 s of the start: the file may lack the latest revocations, which a stream brings. Current is called for every
// request; it takes no lock, and does not allocate while the set is complete.
func (s *Subscriber) Current() error {
	now := s.now()
	onlyLoaded := s.known.isOnlyLoaded(now, s.timing.restart)
	if !onlyLoaded && s.known.isFresh(now, s.settings.MaxStaleness) {
		return nil
	}
	switch completeAt := s.known.lastComplete(); {
	case onlyLoaded:
		return fmt.Errorf("%w: they are from a file, and no stream has begun yet", ErrStale)
	case s.known.full.Load():
		return fmt.Errorf("%w: %w", ErrStale, revocation.ErrFull)
	case completeAt.IsZero():
		return fmt.Errorf("%w: they have not been fetched yet", ErrStale)
	default:
		return fmt.Errorf("%w: the issuer was last heard at %s", ErrStale, completeAt.UTC().Format(time.RFC3339))
	}
}

// Status is the state of a Subscriber at one moment, for operators.
type Status struct {
	Feed      string              // host of the feed in use or last tried; "" before the first try
	Connected bool                // the feed has answered and the stream is open
	Since     time.Time           // when Connected changed; zero before the first try
	Failure   error               // why the last stream ended or was not opened; nil before the first failure
	Position  revocation.Position // of the last message
	LastSync  time.Time           // when the set was last known to be complete; zero: never
	Stale     error               // what [Subscriber.Current] returns
	Full      bool                // the set had no room for a revocation
	Events    []Event             // the last revocations that came one by one, the newest first
}

// An Event is a revocation that the feed has brought.
type Event struct {
	Time  time.Time // when the issuer stored it
	Entry revocation.Entry
}

// mostRecent is the number of the last events that are kept for operators.
const mostRecent = 20

// Status returns the state of s.
func (s *Subscriber) Status() Status {
	s.mu.Lock()
	status := s.status
	s.mu.Unlock()
	status.Position, status.LastSync = s.known.readPosition(), s.known.lastComplete()
	status.Stale, status.Full, status.Events = s.Current(), s.known.full.Load(), s.known.lastEvents()
	return status
}

const (
	// watchInterval is the time between two checks of the age of the set, for the log and the file.
	watchInterval = time.Second
	// sweepInterval is the time between two removals of entries whose time has passed.
	sweepInterval = time.Minute
)

// maintain logs when the set becomes stale or fresh, removes old entries, and writes the state file, until ctx ends. At
// the end it writes the file once more.
func (s *Subscriber) maintain(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	stale, began, start, swept := false, s.now(), time.Now(), time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			s.save(true)
			return
		case <-tick.C:
		}
		// Until the set has been complete once, the gate is not ready, and readiness says why.
		if err := s.Current(); s.Synced() && (err != nil) != stale {
			stale = err != nil
			s.logStale(err)
		}
		// A step of the clock removes no entry: if the clock is set back later, the entry would be missing.
		if passed := time.Since(start); passed-swept >= sweepInterval {
			swept = passed
			s.known.set.Sweep(began.Add(passed))
		}
		s.save(false)
	}
}

func (s *Subscriber) logStale(err error) {
	if err == nil {
		s.log.Info("revocations are up to date again")
		return
	}
	s.log.Error("revocations are out of date", "when_stale", string(s.settings.WhenStale), "error", err)
}

// save writes the state file if it is due. See [folder.due] for atOnce.
func (s *Subscriber) save(atOnce bool) {
	if s.folder == nil || !s.folder.due(s.known, s.source, s.now(), atOnce) {
		return
	}
	if err := s.folder.save(s.known, s.source, s.now()); err != nil {
		if n := s.samples.Add("file", s.now()); n > 0 {
			s.log.Warn("file of revocations not written", "file", s.folder.file(), "error", err)
		}
	}
}
