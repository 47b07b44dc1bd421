package gate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/filewatch"
	"github.com/tallygate/tallygate/mtls"
)

// reload builds a state from the files as they are now, and the next request is decided by the new
// state. The steps are read, validate, build, prefetch, swap and release. An error in any step before
// the swap leaves the current state as it was.
// tallygate_config_reloads_total changes last: a reader that sees the new count finds the log line and
// the other metrics of the same reload.
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
	g.reloads.fault = ""
	g.reloads.recordSuccess(g.file)
	g.log.InfoContext(ctx, "configuration reloaded", "file", g.file, "apis", len(next.cfg.APIs),
		"partners", len(next.cfg.Partners.List), "took", time.Since(start).String())
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
	r.fault = err.Error()
}

// next returns the state that the files describe now.
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
	own := filewatch.Stat(g.file) // taken before the file is read: a later write then counts as a change
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

// build loads what cfg names. The next state shares with the current state what has not changed.
func (g *Gate) build(cfg *config.Config) (*state, error) {
	return buildState(cfg, buildOptions{
		telemetry: g.telemetry, pool: &g.pool, trust: g.trust, streams: g.streams, acme: g.acme, closing: g.closeAfterResponse.Load,
	})
}

// prefetch fetches what next needs to decide about the callers that the current state knows: key sets
// of servers that have moved, and new revocation lists. Without these, next would refuse requests that
// the current state grants.
func (g *Gate) prefetch(ctx context.Context, next *state) error {
	ctx, cancel := context.WithTimeout(ctx, prefetchTimeout)
	defer cancel()
	current := g.current.Load()
	var noLists error
	if next.Trust != current.Trust {
		noLists = next.Trust.Prefetch(ctx)
	}
	return errors.Join(noLists, next.Validator.Prefetch(ctx, current.Validator))
}

// errFilesChanging is returned if a file changed during a reload, so that the new state may mix old
// and new files.
var errFilesChanging = errors.New("files changed during the reload")

func (g *Gate) checkUnchanged() error {
	if !g.reloads.seen.Rescan().Same(g.reloads.seen) {
		return errFilesChanging
	}
	return nil
}

// swap makes next decide about requests from the next request on, and returns the previous state, nil at
// the start. If next trusts less, no session of before is resumed.
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
