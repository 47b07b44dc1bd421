package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/cli"
)

// endpoints are the gates that receive new connections, as with kube-proxy, which learns of
// readiness late.
type endpoints struct {
	mu    sync.Mutex
	ready []*drained
}

// lag is how long after a change of /readyz the endpoints follow it.
const lag = 300 * time.Millisecond

// watch updates the endpoints with the readiness of a gate until the gate stops.
func (e *endpoints) watch(d *drained) {
	d.becomes("/readyz", http.StatusOK)
	e.mu.Lock()
	e.ready = append(e.ready, d)
	e.mu.Unlock()
	go func() {
		for {
			time.Sleep(20 * time.Millisecond)
			if status, _, err := d.admin("/readyz"); err == nil && status == http.StatusOK {
				continue
			}
			time.Sleep(lag)
			e.mu.Lock()
			defer e.mu.Unlock()
			for i, other := range e.ready {
				if other == d {
					e.ready = append(e.ready[:i:i], e.ready[i+1:]...)
				}
			}
			return
		}
	}()
}

func (e *endpoints) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	e.mu.Lock()
	d := e.ready[rand.IntN(len(e.ready))]
	e.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, d.addresses["partners"])
}

// another starts an additional gate with d's files.
func (d *drained) another() *drained {
	d.t.Helper()
	w := *d.testGate
	next := &drained{&reloading{&w, d.t}}
	w.process = nil
	next.serve()
	d.t.Cleanup(func() {
		if w.process != nil {
			_ = w.process.Process.Kill()
			<-w.exited
		}
	})
	return next
}

// T-H2-14: gates are replaced one after another under load, with SIGTERM and with drain as in
// preStop. More than 5,000 requests over HTTP/1.1 and HTTP/2, half of them with a body, all succeed
// without a retry by the test.
func TestRollingStop(t *testing.T) {
	t.Parallel()
	const (
		requests     = 5000
		replacements = 4
		workers      = 8 // half of them over HTTP/2
	)
	first := newDrained(t, 2*time.Second, 20*time.Second)
	var fleet endpoints
	fleet.watch(first)
	second := first.another()
	fleet.watch(second)

	var sent, connections atomic.Int64
	var failed sync.Map
	stop := make(chan struct{})
	var working sync.WaitGroup
	for i := range workers {
		working.Go(func() {
			h2 := i%2 == 1
			protocol := map[bool]string{false: "http/1.1", true: "h2"}[h2]
			transport := &http.Transport{TLSClientConfig: first.client("northwind", protocol), ForceAttemptHTTP2: h2,
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					connections.Add(1)
					return fleet.dial(ctx, network, address)
				}}
			defer transport.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				if err := post(transport, first.tokens["good"], n%2 == 0); err != nil {
					failed.Store(fmt.Sprintf("worker %d, request %d: %v", i, n, err), true)
				}
				time.Sleep(2 * time.Millisecond) // idle for a moment, as connections are
			}
		})
	}
	old := []*drained{first, second}
	for i := 0; i < replacements || sent.Load() < requests; i++ {
		next := old[0].another()
		fleet.watch(next)
		gone := old[0]
		old = append(old[1:], next)
		if i%2 == 1 {
			if code, words := gone.order("drain", "--pid", gone.pid(), "--address", gone.addresses["admin"], "--wait", "20s"); code != cli.ExitOK {
				t.Errorf("drain: %d %s", code, words)
			}
		}
		gone.signal(syscall.SIGTERM)
		if code := gone.ended(); code != cli.ExitOK {
			t.Errorf("replaced gate %d ended with %d\n%s", i, code, gone.log.Bytes())
		}
	}
	close(stop)
	working.Wait()
	faults := 0
	failed.Range(func(what, _ any) bool {
		faults++
		if faults < 10 {
			t.Errorf("%v", what)
		}
		return true
	})
	t.Logf("%d requests, %d failed, over %d connections", sent.Load(), faults, connections.Load())
	for _, d := range old {
		d.check(d.stop())
	}
}

// post sends a request, with or without a body, and expects it to be granted.
func post(transport *http.Transport, token string, body bool) error {
	method, content := http.MethodGet, io.Reader(nil)
	if body {
		// Not a strings.Reader itself, which net/http could rewind and send again.
		method, content = http.MethodPost, io.MultiReader(strings.NewReader("content"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "https://api.example.test/accounts/7", content)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answered with %s", answer.Status)
	}
	return nil
}
