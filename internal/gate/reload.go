package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/mtls"
)

// reload builds a state from the files as they are now, and uses it for all later requests. The
// steps are read, validate, build, prefetch, swap and release. After an error in any step before the
// swap, the current state stays in use. tallygate_config_reloads_total changes last, so that a reader
// that sees the new count finds the log line and the other metrics of the same reload.
func (g *Gate) reload(ctx context.Context) (changed bool) {
	start := time.Now()
	g.reloads.pending, g.reloads.moved = nil, false
	next, err := g.next(ctx)
	if err != nil {
		g.recordFailure(ctx, err)
		return false
	}
	previous := g.swap(next)
	previous.release()
	next.exportExpiry(g.telemetry)
	next.warnInsecure(g.log)
	g.bypass.restart()
	g.reloads.fault = ""
	g.reloads.recordSuccess(g.file)
	attributes := append(g.configAttributes(next.cfg), slog.Float64("duration_ms", float64(time.Since(start).Microseconds())/1000))
	g.log.LogAttrs(ctx, slog.LevelInfo, "configuration reloaded", attributes...)
	g.reloads.total.WithLabelValues("ok").Inc()
	return true
}

// recordFailure logs and counts a failed reload, unless the previous reload failed for the same reason.
func (g *Gate) recordFailure(ctx context.Context, err error) {
	r := g.reloads
	if errors.Is(err, errFilesChanging) {
		g.log.InfoContext(ctx, "configuration not reloaded yet, files are changing", "file", g.file)
		r.pending, r.moved = r.seen.Rescan(), true
		return
	}
	r.succeeded.Set(0)
	if r.fault != err.Error() {
		g.log.ErrorContext(ctx, "configuration not reloaded, the previous configuration stays active", "file", g.file, "faults", strings.Split(err.Error(), "\n"))
		r.total.WithLabelValues("failed").Inc()
	}
	failed := *r.outcome.Load()
	failed.fault, failed.faultAt = err.Error(), time.Now()
	r.outcome.Store(&failed)
	r.fault = err.Error()
}

// next builds the state from the present content of the files.
func (g *Gate) next(ctx context.Context) (*state, error) {
	cfg, err := g.read()
	if err != nil {
		return nil, err
	}
	if err := g.validate(cfg); err != nil {
		return nil, err
	}
	next, err := g.build(cfg)
	if err != nil {
		return nil, err
	}
	if err = g.prefetch(ctx, next); err == nil {
		err = g.checkUnchanged()
	}
	if err != nil {
		next.release()
		return nil, err
	}
	return next, nil
}

// read reads the configuration, and remembers the contents of all files that it names.
func (g *Gate) read() (*config.Config, error) {
	r := g.reloads
	own := filewatch.Stat(g.file) // taken first, so that a write during the read counts as a later change
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
	return cfg, nil
}

// validate refuses changes that need a restart. [config.Load] has found every other fault of cfg.
func (g *Gate) validate(cfg *config.Config) error { return g.current.Load().cfg.CheckReload(cfg) }

// build loads the files that cfg names. The next state shares all unchanged parts with the current
// state.
func (g *Gate) build(cfg *config.Config) (*state, error) {
	return buildState(cfg, buildOptions{
		telemetry: g.telemetry, pool: &g.pool, trust: g.trust, issuer: func() *issuer.Issuer { return g.current.Load().Issuer }, streams: g.streams, acme: g.acme, closing: g.closeAfterResponse.Load,
	})
}

// prefetch fetches the documents without which next would refuse requests that the current state
// grants: key sets of servers whose URLs have changed, new revocation lists, and the first revocations of a feed.
func (g *Gate) prefetch(ctx context.Context, next *state) error {
	ctx, cancel := context.WithTimeout(ctx, prefetchTimeout)
	defer cancel()
	current := g.current.Load()
	var noLists error
	if next.Trust != current.Trust {
		noLists = next.Trust.Prefetch(ctx)
	}
	if err := errors.Join(noLists, next.Validator.Prefetch(ctx, current.Validator)); err != nil {
		return err
	}
	return errors.Join(next.events.prefetch(ctx, current.events), next.syncFeed(ctx, current))
}

// errFilesChanging is returned if a file changed during a reload, because the new state may mix old and
// new files.
var errFilesChanging = errors.New("files changed during the reload")

func (g *Gate) checkUnchanged() error {
	if !g.reloads.seen.Rescan().Same(g.reloads.seen) {
		return errFilesChanging
	}
	return nil
}

// swap makes next the state for all later requests. It returns the previous state, or nil at the start.
// If next may refuse a client certificate that the previous state accepts, no TLS session from before
// the swap is resumed.
func (g *Gate) swap(next *state) (previous *state) {
	previous = g.current.Swap(next)
	g.level.Set(next.cfg.Log.Level.Level())
	if g.acme != nil {
		g.acme.Configure(next.cfg.Listener.Certificate.ACME, next.directory)
	}
	if previous != nil && next.Trust.RemovesTrust(previous.Trust) {
		g.eachListener((*mtls.Listener).InvalidateTickets)
	}
	return previous
}
