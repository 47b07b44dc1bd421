package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/mtls"
)

// The times of a reload.
const (
	// PollInterval is how often the files are read, for what no watch has told of, and how
	// often a reload that failed is tried again.
	PollInterval = 10 * time.Second
	// Debounce is how long the files must have been the same: those that belong together are
	// rarely written in one go.
	Debounce = 250 * time.Millisecond
	// maxDebounce is how long files may go on changing before they are taken as they are: a
	// file that is written to all the time must not keep all others from counting.
	maxDebounce = 30 * time.Second
	// prefetchTimeout is how long what is new at a URL is waited for: keys of a server that has
	// moved, revocation lists.
	prefetchTimeout = 10 * time.Second
	// ticketLife is how long one key seals tickets; the next opens them for as long again.
	ticketLife = 24 * time.Hour
)

// reloads are what is known of the files that the gate goes by, and the counts of reading
// them. One goroutine has it.
type reloads struct {
	seen    filewatch.Files // as they were when a reload was tried last
	pending filewatch.Files // as they are now, until they have settled; nil: as seen
	began   time.Time       // when they were first seen to be others
	since   time.Time       // when they were first seen to be as pending
	moved   bool            // the last reload saw the files change, and took nothing
	fault   string          // of the last reload; "": it succeeded

	succeeded prometheus.Gauge
	when      prometheus.Gauge
	hash      prometheus.Gauge
	total     *prometheus.CounterVec
}

func newReloads(registerer prometheus.Registerer) *reloads {
	r := &reloads{
		succeeded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_config_last_reload_successful",
			Help: "Whether the configuration and the files that it names were taken when they were read last: 1 or 0.",
		}),
		when: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_config_last_reload_success_timestamp_seconds", Help: "When they were taken last.",
		}),
		hash: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "tallygate_config_hash", Help: "A number that stands for the content of the configuration file that was taken last.",
		}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_config_reloads_total", Help: "Reloads of the configuration and the files that it names, by result: ok or failed.",
		}, []string{"result"}),
	}
	registerer.MustRegister(r.succeeded, r.when, r.hash, r.total)
	for _, result := range []string{"ok", "failed"} {
		r.total.WithLabelValues(result)
	}
	return r
}

// recordSuccess notes that the gate goes by what was seen last. file is the configuration.
func (r *reloads) recordSuccess(file string) {
	r.succeeded.Set(1)
	r.when.SetToCurrentTime()
	r.hash.Set(r.seen[file].Digest.Number())
}

// settled reports whether the files have changed since a reload was tried, and are at rest,
// or will not be. again is whether another look is due.
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

// watchLoop keeps the current state's key sets and lists fresh, and puts another in its place
// when the files have changed, until ctx ends. Reloads are its own doing only, one after
// another, and none begins once the gate is to stop.
func (g *Gate) watchLoop(ctx context.Context) error {
	stop := g.startRefresh(ctx)
	defer func() {
		stop()
		g.current.Load().Close(nil)
	}()
	w := filewatch.New(g.log, PollInterval)
	defer w.Close()
	poll, tickets := time.NewTicker(PollInterval), time.NewTicker(ticketLife)
	defer poll.Stop()
	defer tickets.Stop()
	var look <-chan time.Time // nil: no look is due
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
			g.reloads.fault = "" // whoever asks is to be told
			reload()
		case <-w.Changed:
			if look == nil {
				look = time.After(Debounce)
				_, _ = g.reloads.settled() // to compare with what is there then
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
				reload() // the fault may not have been the files'
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

// startRefresh keeps the current state's key sets fresh until it is closed, and its revocation
// lists until stop is called.
func (g *Gate) startRefresh(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	now := g.current.Load()
	var running sync.WaitGroup
	now.Validator.Start() // until it is closed
	running.Go(func() { now.Trust.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// reload reads the configuration and the files that it names, and puts the new state in
// force from the next request on. On any fault the old state stays. tallygate_config_reloads_total
// moves last: whoever waits for it finds the log line and the other metrics of that reload.
func (g *Gate) reload(ctx context.Context) (changed bool) {
	start, r := time.Now(), g.reloads
	r.pending, r.moved = nil, false
	next, err := g.buildNext(ctx)
	switch {
	case errors.Is(err, errFilesChanging):
		g.log.InfoContext(ctx, "configuration not reloaded yet, its files are changing", "file", g.file)
		r.pending, r.moved = r.seen.Rescan(), true
		return false
	case err != nil:
		r.succeeded.Set(0)
		if r.fault != err.Error() { // otherwise it has been logged and counted
			g.log.ErrorContext(ctx, "configuration not reloaded, the one before goes on", "file", g.file, "faults", strings.Split(err.Error(), "\n"))
			r.total.WithLabelValues("failed").Inc()
		}
		r.fault = err.Error()
		return false
	}
	before := g.swap(next)
	if next.Trust.Lacks(before.Trust) {
		g.eachListener((*mtls.Listener).Forget)
	}
	g.level.Set(next.cfg.Log.Level.Level())
	before.Close(next)
	next.exportExpiry(g.telemetry)
	r.fault = ""
	r.recordSuccess(g.file)
	g.log.InfoContext(ctx, "configuration reloaded", "file", g.file, "apis", len(next.cfg.APIs),
		"partners", len(next.cfg.Partners.List), "took", time.Since(start).String())
	r.total.WithLabelValues("ok").Inc()
	return true
}

// errFilesChanging says that a file changed while the files were read, so that some may be those of
// before and some those of after.
var errFilesChanging = errors.New("the files changed while they were read")

// buildNext returns the state that the files describe now.
func (g *Gate) buildNext(ctx context.Context) (*state, error) {
	r := g.reloads
	own := filewatch.Stat(g.file) // before it is read: what is written meanwhile is another content
	if before := r.seen[g.file]; own.Digest != before.Digest && own.InPlace(before) && !own.EndsWithNewline {
		return nil, fmt.Errorf("%s: %w", g.file, filewatch.ErrPossiblyTruncated)
	}
	cfg, err := config.Load(g.file)
	if err != nil {
		r.seen = r.seen.Rescan()
		r.seen[g.file] = own
		return nil, err
	}
	r.seen = filewatch.Take(cfg.Files(), g.file, own)
	before := g.current.Load()
	if err := before.cfg.CheckReload(cfg); err != nil {
		return nil, err
	}
	next, err := buildState(cfg, buildOptions{telemetry: g.telemetry, trust: g.trust, streams: g.streams, acme: g.acme, previous: before, parting: g.closeAfterResponse.Load})
	if err != nil {
		return nil, err
	}
	if err = before.prepare(ctx, next); err == nil && !r.seen.Rescan().Same(r.seen) {
		err = errFilesChanging
	}
	if err != nil {
		next.Close(before)
		return nil, err
	}
	return next, nil
}

// prepare reads what next needs for judging what s could judge: the keys of servers that have
// moved, and the revocation lists that are new, without which next would refuse what s grants.
func (s *state) prepare(ctx context.Context, next *state) error {
	ctx, cancel := context.WithTimeout(ctx, prefetchTimeout)
	defer cancel()
	var noLists error
	if next.Trust != s.Trust {
		noLists = next.Trust.Read(ctx)
	}
	return errors.Join(noLists, next.Validator.Prefetch(ctx, s.Validator))
}
