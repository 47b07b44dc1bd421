package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A drain is a gate's way out of service: it says that it is not ready, goes on for a
// while, and then lets its connections go.
type drain struct {
	begun   chan struct{} // closed when it has
	parting atomic.Bool   // each answer ends its connection (GOAWAY over HTTP/2)
	waited  atomic.Bool   // the delay is over
	leaving chan struct{} // closed when nothing new is taken any more
}

// errInterrupted is why a context ends when a person at a terminal wants it to.
var errInterrupted = errors.New("interrupted")

// finish waits for the end of ctx and brings the gate to its own: readiness goes first,
// the delay passes unless a person waits, and then nothing new is taken and what runs may
// finish. An order to drain does all but the end beforehand, and the gate still serves
// whoever comes. When broken ends, a listener has, and the others go too. ease is called
// before any of them is closed.
func (g *gate) finish(ctx, broken context.Context, ease func()) error {
	var waited <-chan struct{}
	select {
	case <-g.orders:
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
		close(g.begun)
	}
	if broken.Err() == nil && !errors.Is(context.Cause(ctx), errInterrupted) {
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
func (g *gate) begin(ctx context.Context) (waited <-chan struct{}) {
	delay := g.current.Load().cfg.Drain.Delay
	g.log.InfoContext(ctx, "draining", "delay", delay.String())
	close(g.begun)
	time.AfterFunc(delay/2, func() { g.parting.Store(true) })
	over := make(chan struct{})
	time.AfterFunc(delay, func() {
		g.waited.Store(true)
		close(over)
	})
	return over
}

func (d *drain) isDraining() bool { return isClosed(d.begun) }

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
func (g *gate) drained() error {
	if !g.isDraining() {
		return errors.New("serving")
	}
	if !g.waited.Load() {
		return errDraining
	}
	if n := g.load.partners.Load() + g.load.issuer.Load(); n > 0 {
		return fmt.Errorf("%w: %d requests in hand", errDraining, n)
	}
	return nil
}

// endConnections lets each answer of h end its connection when that is due.
func (g *gate) endConnections(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.parting.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// shutdown stops every server, all at once but the admin's, which goes last so that
// probes and a final scrape see the stop. A request that is cut is an error, but for
// streams and tunnels, which may have no end of their own: they have half the time, and
// what only says no length is over by then.
func (g *gate) shutdown(timeout time.Duration) error {
	close(g.leaving)
	g.parting.Store(true) // a person does not wait for it
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ending := time.AfterFunc(timeout/2, g.streams.End)
	defer ending.Stop()
	call := min(lastCall, timeout/4)
	last := len(g.servers) - 1
	cut := make([]error, len(g.servers))
	var stopping sync.WaitGroup
	for i, s := range g.servers[:last] {
		stopping.Go(func() { cut[i] = s.shutdown(ctx, call) })
	}
	stopping.Wait()
	tunnels := g.streams.Wait(ctx) // of which net/http knows nothing any more
	if tunnels != nil {
		tunnels = fmt.Errorf("tunnels: %w", tunnels)
	}
	cut[last] = g.servers[last].shutdown(ctx, call)
	if err := errors.Join(append(cut, tunnels)...); err != nil {
		return fmt.Errorf("requests were cut after %s: %w", timeout, err)
	}
	return nil
}

// shutdown takes no more connections, and ends those that are there when their requests are
// done. Once it has begun to, net/http drops every request that it reads, without an answer;
// so those that are on their way, behind a handshake above all, have their last call before.
func (s *server) shutdown(ctx context.Context, call time.Duration) error {
	_ = s.listener.Close()
	for until := time.Now().Add(call); s.inHand != nil && s.door.count() > 0 && time.Now().Before(until); {
		time.Sleep(5 * time.Millisecond)
	}
	err := s.shutdownServers(ctx)
	if s.lane != nil {
		err = errors.Join(err, s.lane.Wait(ctx))
	}
	if err == nil {
		return nil
	}
	// It also waits for connections on which nothing was asked yet.
	cut := s.inHand != nil && s.inHand.Load() > 0
	_ = s.http.Close()
	if s.http2 != nil {
		_ = s.http2.Close()
	}
	if s.lane != nil {
		s.lane.Abort()
	}
	if !cut {
		return nil
	}
	return fmt.Errorf("stopping %s: %w", s.name, err)
}

// shutdownServers lets both servers end their connections at the same time.
func (s *server) shutdownServers(ctx context.Context) error {
	var over2 error
	var ending sync.WaitGroup
	if s.http2 != nil {
		ending.Go(func() { over2 = s.http2.Shutdown(ctx) })
	}
	over1 := s.http.Shutdown(ctx)
	ending.Wait()
	return errors.Join(over1, over2)
}
