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

// A drain is the state of a gate that leaves service. First the gate is not ready, then it closes
// connections after responses, then it closes its listeners.
type drain struct {
	draining           chan struct{} // closed when the drain begins
	closeAfterResponse atomic.Bool   // true: each response closes its connection (GOAWAY over HTTP/2)
	delayElapsed       atomic.Bool   // drain.delay is over
	listenersClosing   chan struct{} // closed when the listeners accept no more connections
}

// ErrInterrupted is the cause of a context that ended because of SIGINT.
var ErrInterrupted = errors.New("interrupted")

// finish waits for the end of ctx and then stops the gate: /readyz fails, drain.delay passes, the
// listeners close, and running requests may end. After ErrInterrupted there is no delay. If a value
// arrives in drainRequests before ctx ends, finish starts the delay at once, but the gate serves until
// ctx ends. After the delay it keeps no idle connection: a native sidecar gets SIGTERM after its API has
// ended, and until then a request on an idle connection would be answered with 502. broken ends when a
// listener fails; finish then stops the other listeners without a delay. finish calls stopACME before it
// closes the listeners.
func (g *Gate) finish(ctx, broken context.Context, stopACME func()) error {
	var waited <-chan struct{}
	select {
	case <-g.drainRequests:
		waited = g.begin(ctx)
		select {
		case <-waited:
			g.endIdle()
		case <-ctx.Done():
		case <-broken.Done():
		}
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

// begin begins to drain, and returns a channel that is closed after drain.delay. In the second half of
// the delay, responses close their connections. By then load balancers know that the gate is not ready,
// and the clients connect to other gates. If responses closed connections earlier, clients would
// connect to this gate again, and each new connection costs a handshake. Idle connections stay open,
// because a request may already be on its way.
func (g *Gate) begin(ctx context.Context) (waited <-chan struct{}) {
	delay := g.current.Load().cfg.Drain.Delay
	g.log.InfoContext(ctx, "draining", "delay", delay.String())
	close(g.draining)
	time.AfterFunc(delay/2, func() {
		g.closeAfterResponse.Store(true)
		g.endRevocationStreams()
	})
	over := make(chan struct{})
	time.AfterFunc(delay, func() {
		g.delayElapsed.Store(true)
		close(over)
	})
	return over
}

// endRevocationStreams ends the streams of revocations, so that their subscribers move to another issuer.
func (g *Gate) endRevocationStreams() {
	if own := g.current.Load().Issuer; own != nil {
		own.EndStreams()
	}
}

// endIdle ends the idle connections of all servers but the admin server, the last.
func (g *Gate) endIdle() {
	for _, s := range g.servers[:len(g.servers)-1] {
		s.EndIdle()
	}
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

// endConnections returns a handler that calls h. In the second half of the drain delay and later, it
// also closes the connection after each response.
func (g *Gate) endConnections(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.closeAfterResponse.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// shutdown stops all servers at the same time, except the admin server, which stops last so that probes
// and a final scrape of the metrics see the stop. shutdown returns an error if it cuts off a request.
// Streams and tunnels may never end, so shutdown ends them after half of timeout; the rest of timeout
// is for long transfers.
func (g *Gate) shutdown(timeout time.Duration) error {
	close(g.listenersClosing)
	g.closeAfterResponse.Store(true) // not yet true if there was no drain delay, as after SIGINT
	g.endRevocationStreams()
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
	g.current.Load().tracer.Close() // before the last scrape of the metrics, which count the spans
	cut[last] = g.servers[last].Shutdown(ctx, call)
	if err := errors.Join(cut...); err != nil {
		return fmt.Errorf("requests were cut off after %s: %w", timeout, err)
	}
	return nil
}
