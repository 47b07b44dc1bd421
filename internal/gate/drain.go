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

// A drain is the way of a gate out of service: first it is not ready, then it closes connections
// after responses, then it closes its listeners.
type drain struct {
	draining           chan struct{} // closed when draining begins
	closeAfterResponse atomic.Bool   // each response closes its connection (GOAWAY over HTTP/2)
	delayElapsed       atomic.Bool   // drain.delay is over
	listenersClosing   chan struct{} // closed when no new connection is accepted
}

// ErrInterrupted is the cause of a context that SIGINT ends.
var ErrInterrupted = errors.New("interrupted")

// finish waits for the end of ctx and then stops the gate: /readyz fails, drain.delay passes except
// after ErrInterrupted, the listeners close, and running requests may end. A request to drain does
// the same up to the end of the delay, and the gate still serves. broken ends when a listener
// fails; the other listeners stop too. stopACME is called before a listener closes.
func (g *Gate) finish(ctx, broken context.Context, stopACME func()) error {
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
	stopACME()
	return g.shutdown(g.current.Load().cfg.Drain.Timeout)
}

// begin begins to drain, and returns a channel that is closed after drain.delay. In the second half
// of the delay, responses close their connections. By then load balancers know that the gate is not
// ready, and clients connect elsewhere. Earlier they would come back, and each return costs a
// handshake. Closing an idle connection instead could lose a request on its way.
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

// drained returns nil when the gate can stop without cutting off a request.
func (g *Gate) drained() error {
	if !g.isDraining() {
		return errors.New("serving")
	}
	if !g.delayElapsed.Load() {
		return errDraining
	}
	if n := g.load.Partners.Load() + g.load.Issuer.Load(); n > 0 {
		return fmt.Errorf("%w: %d concurrent requests", errDraining, n)
	}
	return nil
}

// endConnections returns a handler that calls h and, while the gate drains, closes the connection
// after the response.
func (g *Gate) endConnections(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.closeAfterResponse.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// shutdown stops all servers at the same time, except the admin server, which stops last so that
// probes and a final scrape see the stop. A request that is cut off is an error. Streams and
// tunnels may have no end of their own; they end after half of timeout, when only long transfers
// are left.
func (g *Gate) shutdown(timeout time.Duration) error {
	close(g.listenersClosing)
	g.closeAfterResponse.Store(true) // after SIGINT, no delay sets closeAfterResponse
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
	tunnels := g.streams.Wait(ctx) // net/http does not track hijacked connections
	if tunnels != nil {
		tunnels = fmt.Errorf("tunnels: %w", tunnels)
	}
	cut[last] = g.servers[last].Shutdown(ctx, call)
	if err := errors.Join(append(cut, tunnels)...); err != nil {
		return fmt.Errorf("requests were cut off after %s: %w", timeout, err)
	}
	return nil
}
