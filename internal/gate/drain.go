package gate

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/internal/httpserver"
)

// A drain is a gate's way out of service: it says that it is not ready, goes on for a
// while, and then lets its connections go.
type drain struct {
	draining           chan struct{} // closed when it has
	closeAfterResponse atomic.Bool   // each answer ends its connection (GOAWAY over HTTP/2)
	delayElapsed       atomic.Bool   // the delay is over
	listenersClosing   chan struct{} // closed when nothing new is taken any more
}

// ErrInterrupted is why a context ends when a person at a terminal wants it to.
var ErrInterrupted = errors.New("interrupted")

// finish waits for the end of ctx and brings the gate to its own: readiness goes first,
// the delay passes unless a person waits, and then nothing new is taken and what runs may
// finish. An order to drain does all but the end beforehand, and the gate still serves
// whoever comes. When broken ends, a listener has, and the others go too. ease is called
// before any of them is closed.
func (g *Gate) finish(ctx, broken context.Context, ease func()) error {
	var waited <-chan struct{}
	select {
	case <-g.drainRequests:
		waited = g.begin(ctx)
		select {
		case <-ctx.Done():
			g.log.InfoContext(ctx, "stopping")
		case <-broken.Done():
		}
	case <-ctx.Done():
		g.log.InfoContext(ctx, "stopping")
		waited = g.begin(ctx)
	case <-broken.Done():
		close(g.draining)
	}
	if broken.Err() == nil && !errors.Is(context.Cause(ctx), ErrInterrupted) {
		select {
		case <-waited:
		case <-broken.Done():
		}
	}
	ease()
	return g.shutdown(g.current.Load().cfg.Drain.Timeout)
}

// begin begins to drain, and returns what is closed when the delay is over. In the second
// half answers end their connections: by then whoever sends traffic should know, and the
// connections go elsewhere; sooner they would come back here, at the price of a handshake
// each. Connections that are closed while idle may lose a request that is on its way.
func (g *Gate) begin(ctx context.Context) (waited <-chan struct{}) {
	delay := g.current.Load().cfg.Drain.Delay
	g.log.InfoContext(ctx, "draining", "delay", delay.String())
	close(g.draining)
	time.AfterFunc(delay/2, func() { g.closeAfterResponse.Store(true) })
	over := make(chan struct{})
	time.AfterFunc(delay, func() {
		g.delayElapsed.Store(true)
		close(over)
	})
	return over
}

func (d *drain) isDraining() bool { return isClosed(d.draining) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

var errDraining = errors.New("draining")

// drained returns nil when the gate could end without cutting anything off.
func (g *Gate) drained() error {
	if !g.isDraining() {
		return errors.New("serving")
	}
	if !g.delayElapsed.Load() {
		return errDraining
	}
	if n := g.load.Partners.Load() + g.load.Issuer.Load(); n > 0 {
		return fmt.Errorf("%w: %d requests in hand", errDraining, n)
	}
	return nil
}

// endConnections lets each answer of h end its connection when that is due.
func (g *Gate) endConnections(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.closeAfterResponse.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// shutdown stops every server, all at once but the admin's, which goes last so that
// probes and a final scrape see the stop. A request that is cut is an error, but for
// streams and tunnels, which may have no end of their own: they have half the time, and
// what only says no length is over by then.
func (g *Gate) shutdown(timeout time.Duration) error {
	close(g.listenersClosing)
	g.closeAfterResponse.Store(true) // a person does not wait for it
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ending := time.AfterFunc(timeout/2, g.streams.End)
	defer ending.Stop()
	call := min(httpserver.ShutdownGrace, timeout/4)
	last := len(g.servers) - 1
	cut := make([]error, len(g.servers))
	var stopping sync.WaitGroup
	for i, s := range g.servers[:last] {
		stopping.Go(func() { cut[i] = s.Shutdown(ctx, call) })
	}
	stopping.Wait()
	tunnels := g.streams.Wait(ctx) // of which net/http knows nothing any more
	if tunnels != nil {
		tunnels = fmt.Errorf("tunnels: %w", tunnels)
	}
	cut[last] = g.servers[last].Shutdown(ctx, call)
	if err := errors.Join(append(cut, tunnels)...); err != nil {
		return fmt.Errorf("requests were cut after %s: %w", timeout, err)
	}
	return nil
}
