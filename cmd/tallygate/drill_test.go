package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

const (
	// containerLimit is resources.limits.memory of the Helm chart, and collectorLimit is the part that
	// the gate sets as the limit of Go's collector: nine tenths.
	containerLimit = 512 << 20
	collectorLimit = "460MiB"

	// drillRate is the number of requests that the honest partner sends each second. It does not wait
	// for the answers to earlier requests.
	drillRate = 200
	// drillTimeout bounds each of these requests. A request takes a millisecond on an idle machine, so
	// a timeout is a fault of the gate and not of a busy machine. An attack of the short run takes
	// longer than drillTimeout.
	drillTimeout = 2 * time.Second
	// recovery is how long after the attacks all must be as before.
	recovery = 10 * time.Second
)

// One partner, with a valid certificate and valid tokens, repeats all known attacks in rotation,
// which end the gate, fill its memory, occupy its upstreams or smuggle a request, while another
// partner sends valid requests. The share of failures is asserted only where TALLYGATE_DRILL sets
// the duration, as make drill does: beside other tests a slow answer may be the machine's fault.
// TALLYGATE_DRILL=10m is the long run.
func TestOneHostilePartner(t *testing.T) {
	duration, alone := 20*time.Second, false
	if text := os.Getenv("TALLYGATE_DRILL"); text != "" {
		var err error
		alone = true
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	d := newDrill(t)
	attacks := []struct {
		name string
		run  func(context.Context)
	}{
		{"header tables that flip, by the partner", d.flipTables("borealis")},
		{"header tables that flip, by a stranger", d.flipTables("")},
		{"streams reset amid 1xx answers", d.resetStreams},
		{"trailers of 3,000 names", d.announceTrailers},
		{"large tokens", d.sendLargeTokens},
		{"large introspection answers", d.sendOpaqueTokens},
		{"silent POST streams", d.openSilentStreams},
		{"long certificate chains", d.showLongChains},
		{"bodies that are requests", d.smuggle},
	}
	honest := d.startHonest()
	slice := min(duration/time.Duration(len(attacks)), 10*time.Second)
	for began, reported := time.Now(), time.Now(); time.Since(began) < duration && !t.Failed(); {
		for _, a := range attacks {
			ctx, cancel := context.WithTimeout(t.Context(), slice)
			before := honest.failed.Load()
			a.run(ctx)
			cancel()
			if more := honest.failed.Load() - before; more > 0 {
				t.Logf("amid %s, %d honest requests failed", a.name, more)
			}
			if d.dead() {
				t.Fatalf("the gate ended amid %s:\n%s", a.name, d.lastWords())
			}
			if time.Since(reported) >= 30*time.Second {
				reported = time.Now()
				t.Logf("after %s: %s; %d hostile requests; peak memory %d MiB", time.Since(began).Round(time.Second), honest, d.sent.Load(), d.peak()>>20)
			}
		}
	}
	d.awaitRecovery()
	honest.stop()
	d.judge(honest, alone)
}

// A drill is a gate process with the limits of the Helm chart, two partners, and an upstream that
// does not read the body of a GET.
type drill struct {
	*reloading
	api     *drillAPI
	sent    atomic.Int64 // hostile requests
	sources bool         // this machine has 127.0.0.2 and further addresses
}

func newDrill(t *testing.T) *drill {
	t.Helper()
	d := &drill{reloading: newReloading(t), api: newDrillAPI(t)}
	if l, err := net.Listen("tcp", "127.0.0.2:0"); err == nil {
		d.sources = true
		_ = l.Close()
	}
	d.check(os.WriteFile(filepath.Join(d.dir, "secret.txt"), []byte("secret"), 0o600))
	d.configure(
		`url: "`+d.upstream.url()+`", timeout`, `url: "`+d.api.url()+`", timeout`,
		"methods: [GET, POST], path: \"/accounts/{id}\"", "methods: [GET, HEAD, DELETE, OPTIONS, POST], path: \"/accounts/{id}\"",
		"      disabled: true\n", "",
		"apis:\n", fmt.Sprintf(`  - name: appliance
    issuer: https://appliance.example.test
    audiences: [https://api.example.test]
    tokens: opaque
    connection: {insecure_loopback_http: true}
    introspection: {endpoint: "%s", client_id: gate, authentication: {method: client_secret_basic, secret_file: secret.txt}}
apis:
`, d.largeIntrospection(t)),
		"{level: debug, granted: all}", "{level: info, granted: sample}",
	)
	d.check(d.mint([]string{"late", "dormant", "dormant-app"}))
	d.environment = []string{"GOMEMLIMIT=" + collectorLimit, "GOMAXPROCS=2"}
	d.check(d.start(plainBinary(t), filepath.Join(d.dir, "gate.yaml")))
	return d
}

// An honest partner sends requests at a fixed rate and counts the results.
type honest struct {
	total, failed atomic.Int64
	mu            sync.Mutex
	times         []time.Duration
	first         error // the first failure
	stop          func()
}

// startHonest sends northwind's requests until stop is called, half of them over HTTP/1.1 and half
// over HTTP/2.
func (d *drill) startHonest() *honest {
	h := &honest{}
	one, _ := d.visitor("northwind", "good", false, 0)
	two, _ := d.visitor("northwind", "good", true, 0)
	visits := []func() (visit, error){one, two}
	ctx, cancel := context.WithCancel(d.t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		ticks := time.NewTicker(time.Second / drillRate)
		defer ticks.Stop()
		for i := 0; ; i++ {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				all.Go(func() { h.visit(visits[i%len(visits)]) })
			}
		}
	})
	h.stop = func() { cancel(); all.Wait() }
	d.t.Cleanup(h.stop)
	return h
}

func (h *honest) visit(ask func() (visit, error)) {
	began := time.Now()
	v, err := ask()
	took := time.Since(began)
	if err == nil && v.status != http.StatusOK {
		err = fmt.Errorf("status %d: %.200s", v.status, v.body)
	}
	if err == nil && took > drillTimeout {
		err = fmt.Errorf("answered after %s", took)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total.Add(1)
	h.times = append(h.times, took)
	if err != nil {
		h.failed.Add(1)
		if h.first == nil {
			h.first = err
		}
	}
}

func (h *honest) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	sorted := slices.Sorted(slices.Values(h.times))
	if len(sorted) == 0 {
		return "no honest request yet"
	}
	return fmt.Sprintf("%d honest requests, %d failed, median %s, 99th of 100 %s", len(sorted), h.failed.Load(),
		sorted[len(sorted)/2].Round(time.Microsecond), sorted[len(sorted)*99/100].Round(time.Microsecond))
}

// awaitRecovery checks that the gate serves a new partner on a new connection at normal speed
// within recovery.
func (d *drill) awaitRecovery() {
	d.t.Helper()
	began := time.Now()
	for {
		visit, transport := d.visitor("dormant", "late", true, 0)
		asked := time.Now()
		v, err := visit()
		took := time.Since(asked)
		transport.CloseIdleConnections()
		if err == nil && v.status == http.StatusOK && took < time.Second {
			d.t.Logf("%s after the attacks a new partner's connection is served in %s", asked.Sub(began).Round(time.Millisecond), took.Round(time.Microsecond))
			return
		}
		if time.Since(began) > recovery {
			d.t.Errorf("%s after the attacks a new partner gets %+v, %v, in %s", time.Since(began).Round(time.Second), v, err, took)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// judge checks the state after the attacks. It checks the share of failures only if the test runs
// alone on the machine.
func (d *drill) judge(h *honest, alone bool) {
	d.t.Helper()
	peak := d.peak()
	d.t.Logf("%s; the first failure: %v; %d hostile requests; peak memory %d MiB", h, h.first, d.sent.Load(), peak>>20)
	if total, failed := h.total.Load(), h.failed.Load(); total == 0 || alone && failed*1000 > total {
		d.t.Errorf("%d of %d honest requests failed, want 0.1 %% at most", failed, total)
	}
	if peak > containerLimit {
		d.t.Errorf("the gate took %d MiB, and a container has %d", peak>>20, containerLimit>>20)
	}
	if n := d.api.smuggled.Load(); n > 0 {
		d.t.Errorf("%d smuggled requests reached the upstream, such as %q", n, d.api.example.Load())
	}
	if d.dead() {
		d.t.Fatalf("the gate ended:\n%s", d.lastWords())
	}
	d.check(d.stop())
}

// dead reports whether the process has ended.
func (d *drill) dead() bool {
	select {
	case err := <-d.exited:
		d.exited <- err
		return true
	default:
		return false
	}
}

// lastWords returns the end of the log.
func (d *drill) lastWords() []byte {
	text := d.log.Bytes()
	if i := strings.LastIndex(string(text), "fatal error:"); i >= 0 {
		return text[i:min(len(text), i+4000)]
	}
	return text[max(0, len(text)-4000):]
}

// peak returns the peak resident memory of the process in bytes; 0 if the system does not report
// it.
func (d *drill) peak() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// source returns the n-th loopback address, since the number of connections is limited by address.
func (d *drill) source(n int) *net.TCPAddr {
	if !d.sources {
		return nil
	}
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}
}

// paced calls f perSecond times a second in total, on workers goroutines, until ctx ends. The rates are
// so low that a machine with two cores keeps up, and a failure is a failure of the gate.
func (d *drill) paced(ctx context.Context, workers int, perSecond float64, f func(worker int)) {
	pace := rate.NewLimiter(rate.Limit(perSecond), 1)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for pace.Wait(ctx) == nil {
				f(w)
			}
		})
	}
	all.Wait()
}
