package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// The load of TestReloadUnderLoad.
const (
	loadRate    = 300 // requests a second, when the machine keeps up
	loadReloads = 100
)

// An observed upstream accepts requests of one partner only.
func observed(t *testing.T, partner string, strays *atomic.Int64) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Tallygate-Partner") != partner {
			strays.Add(1)
		}
		_, _ = w.Write([]byte("ok"))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// T-CFG-03, T-CFG-06, T-DOS-09: configuration, key pair, anchors and their order change
// continuously. No request fails, each is decided and forwarded by a single configuration, and old
// configurations are freed.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	var strays atomic.Int64
	variants := [2]struct {
		upstream, partner, trust string
		pair                     *testpki.Pair
	}{
		{observed(t, "north-a", &strays), "north-a", "[northwind-ca.pem, dormant-ca.pem]", r.pairs["gate"]},
		{observed(t, "north-b", &strays), "north-b", "[dormant-ca.pem, northwind-ca.pem]", testpki.SelfSigned("second", testpki.DNS("api.example.test"))},
	}
	another := testpki.NewCA("Another Root")
	become := func(i int) {
		v := variants[i%2]
		r.replace("gate.pem", v.pair.CertPEM())
		r.replace("gate-key.pem", v.pair.KeyPEM())
		r.replace("borealis-ca.pem", [2]*testpki.Pair{r.pairs["borealis-ca"], another}[i%2].CertPEM())
		r.configure(r.upstream.url(), v.upstream, "name: northwind", "name: "+v.partner, "trust: [northwind-ca.pem]", "trust: "+v.trust,
			"    - name: dormant\n      disabled: true\n      trust: [dormant-ca.pem]\n      applications:\n        - {client_id: dormant-app, apis: [accounts]}\n", "")
	}
	become(0)
	r.environment = append(r.environment, "GOGC=100") // a collection, after which only live objects count
	r.serve()

	var sent, failed atomic.Int64
	var once sync.Once
	ticks, end := make(chan struct{}), make(chan struct{})
	var workers sync.WaitGroup
	for i := range 12 {
		visit, connections := r.visitor("northwind", "good", i%3 == 0, 0)
		workers.Go(func() {
			for range ticks {
				if i%4 == 1 { // a handshake for each of its requests
					connections.CloseIdleConnections()
				}
				v, err := visit()
				sent.Add(1)
				if err != nil || v.status != http.StatusOK {
					failed.Add(1)
					once.Do(func() { t.Errorf("a request failed: %+v, %v", v, err) })
				}
			}
		})
	}
	go func() {
		defer close(ticks)
		pace := time.NewTicker(time.Second / loadRate)
		defer pace.Stop()
		for {
			select {
			case <-end:
				return
			case <-pace.C:
				ticks <- struct{}{}
			}
		}
	}()
	start := time.Now()
	measure := func(series string) float64 {
		t.Helper()
		v, err := r.metric(series)
		r.check(err)
		return v
	}
	const heap = "go_memstats_next_gc_bytes" // twice what was alive at the last collection
	var early float64
	for i := 1; i <= loadReloads; i++ {
		become(i)
		r.check(r.process.Process.Signal(syscall.SIGHUP))
		gatetest.Eventually(t, fmt.Sprintf("reload %d", i), func() bool {
			return measure(`tallygate_config_reloads_total{result="ok"}`) >= float64(i)
		})
		gatetest.Eventually(t, "ten requests for each reload", func() bool { return sent.Load() >= int64(10*i) })
		if i == loadReloads/5 {
			early = measure(heap)
		}
	}
	took := time.Since(start)
	close(end)
	workers.Wait()
	late, goroutines := measure(heap), measure("go_goroutines")
	t.Logf("%d reloads, %d requests (%.0f a second), %d failed; next collection at %.1f MiB, then %.1f MiB; %.0f goroutines",
		loadReloads, sent.Load(), float64(sent.Load())/took.Seconds(), failed.Load(), early/(1<<20), late/(1<<20), goroutines)
	if failed.Load() > 0 || strays.Load() > 0 {
		t.Errorf("%d of %d requests failed, %d were forwarded by another configuration than decided", failed.Load(), sent.Load(), strays.Load())
	}
	if late > 1.5*early {
		t.Errorf("the heap grows: %.0f bytes, then %.0f", early, late)
	}
	if goroutines > 150 {
		t.Errorf("%.0f goroutines", goroutines)
	}
	r.check(r.stop())
}
