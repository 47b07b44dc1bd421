package proxy

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/upstream"
)

// withBorealis adds a second partner and returns the key pair of its client.
func withBorealis(t *testing.T) (edit func(*config.Config), client *testpki.Pair) {
	t.Helper()
	ca := testpki.NewCA("Borealis Root")
	file, _ := ca.Write(t.TempDir(), "borealis-ca")
	return func(cfg *config.Config) {
		application := cfg.Partners.List[0].Applications[0]
		application.ClientID = "borealis-sync"
		cfg.Partners.List = append(cfg.Partners.List, config.Partner{
			Name: "borealis", Trust: []config.Path{config.Path(file)}, Applications: []config.Application{application},
		})
	}, ca.Leaf("sync")
}

// workers is an upstream with a fixed number of workers, each of which serves one connection at a time.
type workers struct {
	net.Listener
	free chan struct{} // has an element for each that is taken
}

func (w *workers) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &worker{Conn: c, of: w}, nil
}

// A worker is a connection that is served once a worker is free.
type worker struct {
	net.Conn
	of    *workers
	taken sync.Once
	left  sync.Once
}

func (w *worker) Read(p []byte) (int, error) {
	w.taken.Do(func() { w.of.free <- struct{}{} })
	return w.Conn.Read(p)
}

func (w *worker) Close() error {
	w.taken.Do(func() { w.left.Do(func() {}) }) // the request was never served
	w.left.Do(func() { <-w.of.free })
	return w.Conn.Close()
}

// busy starts an upstream with most workers and returns it with its URL. A worker reads the body and
// responds.
func busy(t *testing.T, most int) (*workers, string) {
	t.Helper()
	w := &workers{free: make(chan struct{}, most)}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "served")
	}))
	w.Listener = server.Listener
	server.Listener = w
	server.Start()
	t.Cleanup(server.Close)
	return w, server.URL
}

// T-ADD-05: 60 streams of one partner that announce a body and send none take no worker of the
// upstream, and the stall timeout ends them. Requests of another partner succeed meanwhile.
func TestBodyThatNeverBegins(t *testing.T) {
	if testing.Short() {
		t.Skip("not with -short")
	}
	t.Parallel()
	up, url := busy(t, 50)
	withOther, other := withBorealis(t)
	s := newHarness(t, url, io.Discard, withOther, func(cfg *config.Config) {
		cfg.Listener.Limits.StallTimeout = 5 * time.Second
		cfg.APIs[0].Upstream.Timeout = 2 * time.Second
		cfg.APIs[0].Upstream.Requests = 1000 // the partner's share is more than 60
	})
	s.proxy.upstreams["accounts"].RoundTripper.(*upstream.Client).Settle = 0 // a connection is used again at once
	address := s.listen(t)
	var streams errgroup.Group
	var timedOut atomic.Int64
	for range 4 { // 15 streams on each connection
		transport := &http.Transport{TLSClientConfig: s.clientConfig("h2"), ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		for range 15 {
			body, rest := io.Pipe()
			defer func() { _ = rest.Close() }()
			streams.Go(func() error {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/accounts/7", body)
				if err != nil {
					return err
				}
				r.Host = "api.example.test"
				r.Header.Set("Authorization", "Bearer "+s.token)
				answer, err := transport.RoundTrip(r)
				if err != nil {
					return err
				}
				text, _ := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				if answer.StatusCode != http.StatusRequestTimeout || !strings.Contains(string(text), `"reason":"client_stalled"`) {
					return errors.New(answer.Status + " " + string(text))
				}
				timedOut.Add(1)
				return nil
			})
		}
	}
	gatetest.EventuallyEqual(t, "granted requests in flight", 60, s.inFlight)
	token := s.mint(other, testpki.M{"client_id": "borealis-sync", "sub": "borealis-sync"})
	settings := s.clientConfig("http/1.1")
	settings.Certificates = append(settings.Certificates[:0:0], other.TLS())
	transport := &http.Transport{TLSClientConfig: settings}
	defer transport.CloseIdleConnections()
	for range 100 {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/accounts/7", strings.NewReader("hello"))
		r.Host = "api.example.test"
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK { // 504, were no worker free
			t.Fatalf("the other partner got %d %s, want 200", answer.StatusCode, text)
		}
		if n := len(up.free); n > 12 { // idle connections of the other partner
			t.Fatalf("%d workers in use, want 0", n)
		}
	}
	if err := streams.Wait(); err != nil || timedOut.Load() != 60 {
		t.Errorf("%d streams got 408, want 60: %v", timedOut.Load(), err)
	}
}

// A partner with slow bodies uses no more than its share of an upstream's workers, and another partner
// is served.
func TestAPILimits(t *testing.T) {
	up, url := busy(t, 8)
	withOther, other := withBorealis(t)
	s := newHarness(t, url, io.Discard, withOther, func(cfg *config.Config) { cfg.APIs[0].Upstream.Requests = 8 })
	s.proxy.upstreams["accounts"].RoundTripper.(*upstream.Client).Settle = 0 // each idle connection holds one of the 8 workers
	address := s.listen(t)
	transport := &http.Transport{TLSClientConfig: s.clientConfig("h2"), ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	send := func(transport *http.Transport, token string, body io.Reader) (int, string) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/accounts/7", body)
		r.Host = "api.example.test"
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := transport.RoundTrip(r)
		if err != nil {
			return 0, err.Error()
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		return answer.StatusCode, string(text)
	}
	var trickles sync.WaitGroup
	defer trickles.Wait() // after all bodies have been closed
	for range 4 {
		body, rest := io.Pipe()
		trickles.Go(func() { send(transport, s.token, body) })
		_, _ = io.WriteString(rest, "a beginning")
		defer func() { _ = rest.Close() }()
	}
	gatetest.EventuallyEqual(t, "workers in use", 4, func() int { return len(up.free) })
	if code, text := send(transport, s.token, strings.NewReader("hello")); code != http.StatusServiceUnavailable || !strings.Contains(text, `"reason":"overloaded"`) {
		t.Errorf("request beyond the partner's share got %d %s, want 503 overloaded", code, text)
	}
	settings := s.clientConfig("http/1.1")
	settings.Certificates = append(settings.Certificates[:0:0], other.TLS())
	others := &http.Transport{TLSClientConfig: settings}
	defer others.CloseIdleConnections()
	for range 10 {
		if code, text := send(others, s.mint(other, testpki.M{"client_id": "borealis-sync", "sub": "borealis-sync"}), strings.NewReader("hello")); code != http.StatusOK {
			t.Fatalf("the other partner got %d %s, want 200", code, text)
		}
	}
}

// The body of a gRPC request to an HTTP/2 upstream may pause. The body of a request with a similar
// Content-Type, or to an HTTP/1.1 upstream, may not.
func TestMayPause(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc; charset=utf-8": true,
		"application/grpc-web": false, "application/grpcx": false, "application/json": false, "": false,
	} {
		h := http.Header{"Content-Type": {kind}}
		for protocol, isHTTP2 := range map[config.UpstreamProtocol]bool{config.HTTP1: false, config.H2: true, config.H2C: true} {
			if got := mayPause(h, protocol); got != (want && isHTTP2) {
				t.Errorf("mayPause(%q, %s) = %v, want %v", kind, protocol, got, want && isHTTP2)
			}
		}
	}
}

// A body that is too large within its first bytes is refused before the upstream gets a part of the request.
func TestBodyTooLargeAtOnce(t *testing.T) {
	var requests atomic.Int64
	up := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer up.Close()
	s := newHarness(t, up.URL, io.Discard, func(cfg *config.Config) { cfg.Listener.Limits.BodyBytes = 1000 })
	address := s.listen(t)
	for _, protocol := range []string{"http/1.1", "h2"} {
		transport := &http.Transport{TLSClientConfig: s.clientConfig(protocol), ForceAttemptHTTP2: protocol == "h2"}
		defer transport.CloseIdleConnections()
		body := struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 3000))} // a body of unknown length
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/accounts/7", body)
		r.Host = "api.example.test"
		r.Header.Set("Authorization", "Bearer "+s.token)
		answer, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge || requests.Load() != 0 {
			t.Errorf("%s: got %d and %d requests at the upstream, want 413 and none", protocol, answer.StatusCode, requests.Load())
		}
	}
}
