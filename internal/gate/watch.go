package gate

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/mtls"
)

// The timing of reloads.
const (
	// PollInterval is the time between two reads of the files, for changes that no notification
	// reports, and between two attempts of a reload that failed.
	PollInterval = 10 * time.Second
	// Debounce is how long the files must stay unchanged before a reload, because a writer of several
	// files rarely writes all of them at once.
	Debounce = 250 * time.Millisecond
	// maxDebounce bounds the wait for unchanged files. A file that is written continuously must not
	// delay the reload of all others.
	maxDebounce = 30 * time.Second
	// prefetchTimeout bounds the fetches of revocation lists and key sets from new URLs, before the
	// new state decides about requests.
	prefetchTimeout = 10 * time.Second
	// ticketLife is how long a key encrypts session tickets. For the same time after that, the key
	// still decrypts tickets.
	ticketLife = 24 * time.Hour
)

// reloads holds the file states of the last reload, and the metrics of reloads. Only one goroutine
// uses it, except outcome.
type reloads struct {
	seen    filewatch.Files // the files at the last attempt to reload
	pending filewatch.Files // the files at the last scan; nil if no change is pending
	began   time.Time       // when the first pending change was noticed
	since   time.Time       // when the files last changed to the states in pending
	moved   bool            // files changed during the last reload, which therefore kept the old state
	fault   string          // the error in the log; "" after a success, and before a reload that an operator requests
	outcome atomic.Pointer[reloadOutcome]

	succeeded prometheus.Gauge
	when      prometheus.Gauge
	hash      prometheus.Gauge
	total     *prometheus.CounterVec
}

// A reloadOutcome is the result of the reloads so far. It never changes.
type reloadOutcome struct {
	hash    string // the hash of the configuration file that is in use
	at      time.Time
	fault   string // why the last reload failed; "" if it succeeded
	faultAt time.Time
}

func newReloads(registerer prometheus.Registerer) *reloads {
	r := &reloads{
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_config_last_reload_successful",
			Help: "Whether the last reload of the configuration and the files that it names succeeded: 1 or 0.",
		}),
		when: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_config_last_reload_success_timestamp_seconds", Help: "Unix time of the last successful configuration reload.",
		}),
		hash: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_config_hash", Help: "The first 48 bits of the SHA-256 of the configuration file that was loaded last.",
		}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_config_reloads_total", Help: "Configuration reloads by result: ok or failed.",
		}, []string{"result"}),
	}
	registerer.MustRegister(r.succeeded, r.when, r.hash, r.total)
	for _, result := range []string{"ok", "failed"} {
		r.total.WithLabelValues(result)
	}
	return r
}

// recordSuccess records that the gate uses the files in seen. file is the configuration file.
func (r *reloads) recordSuccess(file string) {
	r.succeeded.Set(1)
	r.when.SetToCurrentTime()
	r.hash.Set(r.seen[file].Digest.Number())
	r.outcome.Store(&reloadOutcome{hash: r.seen[file].Digest.String(), at: time.Now()})
}

// settled reports whether a reload is due: the files have changed since the last attempt to reload, and
// they are complete now or have kept changing for maxDebounce. again reports whether settled must be
// called again after Debounce.
func (r *reloads) settled() (yes, again bool) {
	now, at := r.seen.Rescan(), time.Now()
	if !r.moved && now.Same(r.seen) {
		r.pending = nil
		return false, false
	}
	if r.pending == nil {
		r.pending, r.began, r.since = now, at, at
		return false, true
	}
	if !now.Same(r.pending) {
		r.pending, r.since = now, at
	}
	resting := at.Sub(r.since) > 0 && (!now.WrittenInPlace(r.seen) || at.Sub(r.since) >= filewatch.InPlaceQuietPeriod)
	yes = resting || at.Sub(r.began) >= maxDebounce
	return yes, !yes
}

// watchLoop keeps the current state's key sets and revocation lists fresh, and replaces the state when
// files have changed, until ctx ends. Reloads never overlap, because no other function reloads. After
// the gate has begun to close its listeners, watchLoop starts no reload.
func (g *Gate) watchLoop(ctx context.Context) error {
	stop := g.startRefresh(ctx)
	defer func() {
		stop()
		g.current.Load().Close()
	}()
	w := filewatch.New(g.log, PollInterval)
	defer w.Close()
	poll, tickets := time.NewTicker(PollInterval), time.NewTicker(ticketLife)
	defer poll.Stop()
	defer tickets.Stop()
	var look <-chan time.Time // nil: no rescan is due
	reload := func() {
		if g.reload(ctx) {
			stop()
			stop = g.startRefresh(ctx)
		}
		if g.reloads.pending != nil {
			look = time.After(Debounce)
		}
	}
	for !isClosed(g.listenersClosing) {
		if w.Follow(g.reloads.seen) && look == nil {
			look = time.After(Debounce)
		}
		select {
		case <-g.listenersClosing:
		case <-g.reloadRequests:
			g.reloads.fault = "" // empty, so that the next result is logged even if it is the same fault
			reload()
		case <-w.Changed:
			if look == nil {
				look = time.After(Debounce)
				_, _ = g.reloads.settled() // records the present states, with which the next call compares
			}
		case <-look:
			look = nil
			yes, again := g.reloads.settled()
			if again {
				look = time.After(Debounce)
			}
			if yes {
				reload()
			}
		case <-poll.C:
			switch {
			case look != nil:
			case g.reloads.fault != "" && g.reloads.seen.Rescan().Same(g.reloads.seen):
				reload() // the cause of the failure may lie outside the files
			default:
				look = time.After(0)
			}
		case <-tickets.C:
			g.eachListener((*mtls.Listener).Rotate)
		}
	}
	<-ctx.Done()
	return nil
}

// startRefresh keeps the current state's documents fresh: key sets until no state holds them, and
// revocation lists until stop is called.
func (g *Gate) startRefresh(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	now := g.current.Load()
	var running sync.WaitGroup
	now.Validator.Start() // Start's background work ends when no state holds the key sets
	now.events.start()
	if now.subscriber != nil {
		now.subscriber.Start()
	}
	running.Go(func() { now.Trust.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}
