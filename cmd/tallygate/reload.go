package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/mtls"
)

// The times of a reload.
const (
	// readEvery is how often the files are read, for what no watch has told of.
	readEvery = 10 * time.Second
	// settle is how long a change is left alone: files that belong together are rarely
	// written in one go.
	settle = 250 * time.Millisecond
	// warming is how long the keys of a server that has moved are waited for.
	warming = 2 * time.Second
	// fetching is how long new revocation lists are waited for.
	fetching = 5 * time.Second
	// ticketLife is how long one key seals tickets; the next opens them for as long again.
	ticketLife = 24 * time.Hour
)

// reloads are what is known of the files that the gate goes by, and the counts of reading
// them. One goroutine has it.
type reloads struct {
	seen      files // as they were when a reload was tried last
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

// took notes that the gate goes by what was seen last. file is the configuration.
func (r *reloads) took(file string) {
	r.succeeded.Set(1)
	r.when.SetToCurrentTime()
	r.hash.Set(r.seen[file].number())
}

// follow keeps the current state's key sets fresh, and puts another in its place when the
// files have changed, until ctx ends. Reloads are its own doing only, one after another,
// and none begins once the gate is to stop.
func (g *gate) follow(ctx context.Context) error {
	stop := g.freshen(ctx)
	defer func() {
		stop()
		g.current.Load().close(nil)
	}()
	w := newWatch(g.log)
	defer w.close()
	poll, tickets := time.NewTicker(readEvery), time.NewTicker(ticketLife)
	defer poll.Stop()
	defer tickets.Stop()
	reload := func() {
		if g.reload(ctx) {
			stop()
			stop = g.freshen(ctx)
		}
	}
	reread := func() {
		if g.reloads.seen.changed() {
			reload()
		}
	}
	var settled <-chan time.Time // nil: nothing has changed
	for !g.isDraining() {
		if w.follow(g.reloads.seen) && settled == nil {
			settled = time.After(settle)
		}
		select {
		case <-g.draining:
		case <-g.hangup:
			reload()
		case <-w.changed:
			if settled == nil {
				settled = time.After(settle)
			}
		case <-settled:
			settled = nil
			reread()
		case <-poll.C:
			reread()
		case <-tickets.C:
			g.eachListener((*mtls.Listener).Rotate)
		}
	}
	<-ctx.Done()
	return nil
}

// freshen keeps the current state's key sets and revocation lists fresh until stop is
// called.
func (g *gate) freshen(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	now := g.current.Load()
	var running sync.WaitGroup
	running.Go(func() { _ = now.validator.Run(ctx) }) // errs never
	running.Go(func() { now.trust.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// reload reads the configuration and what it names, and lets the gate go by it from the
// next request on. On any fault all stays as it was.
func (g *gate) reload(ctx context.Context) (changed bool) {
	start := time.Now()
	next, err := g.next(ctx)
	if err != nil {
		g.reloads.succeeded.Set(0)
		g.reloads.total.WithLabelValues("failed").Inc()
		g.log.ErrorContext(ctx, "configuration not reloaded, the one before goes on", "file", g.file, "faults", strings.Split(err.Error(), "\n"))
		return false
	}
	before := g.current.Load()
	warm, cancel := context.WithTimeout(ctx, warming)
	defer cancel()
	if err := next.validator.Warm(warm, before.validator); err != nil {
		g.log.WarnContext(ctx, "authorization server not reached", "err", err)
	}
	g.current.Store(next)
	if next.trust.Lacks(before.trust) {
		g.eachListener((*mtls.Listener).Forget)
	}
	g.level.Set(next.cfg.Log.Level)
	before.close(next)
	next.tellExpiries(g.instruments)
	g.reloads.took(g.file)
	g.reloads.total.WithLabelValues("ok").Inc()
	g.log.InfoContext(ctx, "configuration reloaded", "file", g.file, "apis", len(next.cfg.APIs),
		"partners", len(next.cfg.Partners.List), "took", time.Since(start).String())
	return true
}

// next returns the state that the files describe now.
func (g *gate) next(ctx context.Context) (*state, error) {
	read := contentOf(g.file) // before it is: what is written meanwhile is another content
	cfg, err := config.Load(g.file)
	if err != nil {
		g.reloads.seen[g.file] = read
		return nil, err
	}
	g.reloads.seen = see(cfg, g.file, read)
	before := g.current.Load()
	if err := before.cfg.CheckReload(cfg); err != nil {
		return nil, err
	}
	next, err := assemble(cfg, origin{instruments: g.instruments, trust: g.trust, before: before})
	if err != nil {
		return nil, err
	}
	if err := before.readLists(ctx, next); err != nil {
		next.close(before)
		g.reloads.seen[g.file] = content{} // it is nobody's fault here, and may be over the next time
		return nil, err
	}
	return next, nil
}

// readLists reads the revocation lists that are new in next, without which it would refuse
// certificates that s does not.
func (s *state) readLists(ctx context.Context, next *state) error {
	if next.trust == s.trust {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, fetching)
	defer cancel()
	return next.trust.Read(ctx)
}
