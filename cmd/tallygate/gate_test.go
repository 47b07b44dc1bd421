package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// demoGate makes the demo's gate, on whatever ports are free.
func demoGate(t *testing.T) *gate {
	t.Helper()
	d := &demo{dir: t.TempDir(), addresses: map[string]string{
		"partners": "127.0.0.1:1", "issuer": "127.0.0.1:2", "admin": "127.0.0.1:3", "api": "127.0.0.1:4",
	}, out: newStage(io.Discard)}
	if err := makeDemoPKI(d.dir); err != nil {
		t.Fatal(err)
	}
	g, closeLog, err := d.assemble()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeLog)
	return g
}

// All metrics of a whole gate, issuer included, keep to Prometheus' conventions.
func TestMetricNames(t *testing.T) {
	problems, err := testutil.GatherAndLint(demoGate(t).registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("the linter says %v, %v", problems, err)
	}
}

// A gate whose certificate no client would take is not ready, for others may be.
func TestReadyWithinTheCertificatesTime(t *testing.T) {
	s := demoGate(t).current.Load()
	leaf := s.pairs[partnersListener].Leaf
	for name, c := range map[string]struct {
		now  time.Time
		want error
	}{
		"before":  {leaf.NotBefore.Add(-time.Second), errExpired},
		"first":   {leaf.NotBefore, nil},
		"last":    {leaf.NotAfter, nil},
		"expired": {leaf.NotAfter.Add(time.Second), errExpired},
	} {
		if got := s.ready(c.now); !errors.Is(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A port that is taken ends the start, names the listener and leaves nothing open.
func TestRunWithoutAPort(t *testing.T) {
	g := demoGate(t)
	var opened []net.Listener
	taken := errors.New("address already in use")
	err := g.run(t.Context(), func(name, _ string) (net.Listener, error) {
		if name == adminListener {
			return nil, taken
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		opened = append(opened, l)
		return l, err
	})
	if !errors.Is(err, taken) || err.Error() != "listening for admin: address already in use" {
		t.Errorf("run says %v", err)
	}
	for _, l := range opened {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a listener is still open: %v", err)
		}
	}
}

// A listener that breaks ends the gate with an error, and does not leave the rest
// serving half of it.
func TestRunEndsWhenAListenerBreaks(t *testing.T) {
	g := demoGate(t)
	var admin net.Listener
	up := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- g.run(context.Background(), func(name, _ string) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if name == adminListener {
				admin = l
				close(up)
			}
			return l, err
		})
	}()
	<-up
	_ = admin.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("run says %v", err)
		}
	case <-time.After(patience):
		t.Fatal("run goes on")
	}
}

// Asked to stop, the gate first says that it is not ready, then finishes what runs,
// takes nothing new, and ends without an error.
func TestStopFinishesWhatRuns(t *testing.T) {
	listeners, addresses, err := demoListeners()
	if err != nil {
		t.Fatal(err)
	}
	d := &demo{dir: t.TempDir(), addresses: addresses, out: newStage(io.Discard)}
	if err := makeDemoPKI(d.dir); err != nil {
		t.Fatal(err)
	}
	g, closeLog, err := d.assemble()
	if err != nil {
		t.Fatal(err)
	}
	defer closeLog()
	arrived, release := make(chan struct{}), make(chan struct{})
	api := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "whole")
	})}
	go func() { _ = api.Serve(listeners["api"]) }()
	defer func() { _ = api.Close() }()

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- g.run(ctx, func(name, _ string) (net.Listener, error) { return listeners[name], nil })
	}()
	visitor := &tour{demo: d, clients: map[string]*tokenClient{}}
	defer visitor.close()
	if err := visitor.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := visitor.client("northwind")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodGet, "https://"+addresses["partners"]+"/accounts/7", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+visitor.ledger)
	type result struct {
		status int
		body   []byte
		err    error
	}
	answered := make(chan result, 1)
	go func() {
		status, _, body, err := exchangeWith(client, r)
		answered <- result{status, body, err}
	}()
	<-arrived
	stop()
	for deadline := time.Now().Add(patience); g.ready() == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the gate is still ready")
		}
	}
	for {
		conn, err := net.Dial("tcp", addresses["partners"])
		if err != nil {
			break // nothing new is taken
		}
		_ = conn.Close()
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-ended:
		t.Fatalf("the gate ended with a request running: %v", err)
	default:
	}
	close(release)
	if a := <-answered; a.err != nil || a.status != http.StatusOK || string(a.body) != "whole" {
		t.Errorf("the running request got %d %q, %v", a.status, a.body, a.err)
	}
	if err := <-ended; err != nil {
		t.Errorf("run says %v", err)
	}
}

// No listener waits for ever. The issuer's and the admin's read and write a whole
// message in a bounded time; partners' bodies are bounded by the handler, as they move.
func TestEveryServerHasLimits(t *testing.T) {
	for _, s := range demoGate(t).servers {
		if (s.tls == nil) != (s.http2 == nil) {
			t.Errorf("%s has TLS: %v, HTTP/2: %v", s.name, s.tls != nil, s.http2 != nil)
		}
		h := s.http
		if h2 := s.http2; h2 != nil && (h2.ReadHeaderTimeout != h.ReadHeaderTimeout || h2.ReadTimeout != h.ReadTimeout || h2.WriteTimeout != h.WriteTimeout ||
			h2.IdleTimeout != h.IdleTimeout || h2.MaxHeaderBytes == 0 || h2.ErrorLog != h.ErrorLog || h2.HTTP2.MaxConcurrentStreams == 0 || h2.HTTP2.MaxReadFrameSize == 0) {
			t.Errorf("%s lacks a limit over HTTP/2: %+v", s.name, h2)
		}
		if h.ReadHeaderTimeout == 0 || h.IdleTimeout == 0 || h.MaxHeaderBytes == 0 || s.door.most == 0 || s.door.mostEach == 0 || s.tls != nil && s.handshake == 0 {
			t.Errorf("%s lacks a limit: %+v", s.name, h)
		}
		if whole := h.ReadTimeout > 0 && h.WriteTimeout > 0; whole != (s.name != partnersListener) {
			t.Errorf("%s reads within %s and writes within %s", s.name, h.ReadTimeout, h.WriteTimeout)
		}
	}
}
