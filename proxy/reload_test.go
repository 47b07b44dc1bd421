package proxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/upstream"
)

// replace makes the Proxy for cfg and releases what only the Proxy before needed.
func (s *harness) replace(t *testing.T, cfg *config.Config) *Proxy {
	t.Helper()
	lease := s.pool.Lease()
	next, err := New(cfg, s.proxy.checks, Options{Log: s.proxy.log, Metrics: s.metrics, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	s.lease.Release()
	s.lease = lease
	t.Cleanup(lease.Release)
	return next
}

// The Proxy of the next configuration keeps the connections to unchanged upstreams and the key of
// assertions.
func TestReloadKeepsConnections(t *testing.T) {
	var opened, closed atomic.Int64
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	api.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed.Add(1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	api.Start()
	defer api.Close()
	asking := func(cfg *config.Config) { cfg.APIs[0].Routes[0].Assertion = true }
	s := newHarness(t, api.URL, t.Output(), asking)
	s.proxy.upstreams["accounts"].RoundTripper.(*upstream.Client).Settle = 0 // a connection is used again at once
	call := func(p *Proxy) {
		t.Helper()
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, s.request()); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
	succeed := func(edit func(*config.API)) *Proxy {
		t.Helper()
		cfg := *s.cfg
		cfg.APIs = []config.API{s.cfg.APIs[0]}
		edit(&cfg.APIs[0])
		return s.replace(t, &cfg)
	}
	call(s.proxy)
	same := succeed(func(a *config.API) { a.Routes = append(a.Routes[:1:1], a.Routes[0]) })
	call(same)
	if opened.Load() != 1 || closed.Load() != 0 || same.signer != s.proxy.signer {
		t.Errorf("unchanged upstream: %d connections, %d closed, same key %t, want 1, 0, true", opened.Load(), closed.Load(), same.signer == s.proxy.signer)
	}
	patient := succeed(func(a *config.API) { a.Upstream.Timeout = time.Minute })
	call(patient)
	gatetest.EventuallyEqual(t, "closed connections to the changed upstream", 1, closed.Load)
	if opened.Load() != 2 {
		t.Errorf("changed upstream: %d connections, want 2", opened.Load())
	}
}

// Requests in progress at a reload are served to their end by the previous Proxy. Their connections to
// the replaced upstream are then closed.
func TestReloadDuringRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	var open atomic.Int64
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = w.Write([]byte("whole"))
	}))
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	upstream.Start()
	defer upstream.Close()
	s := newHarness(t, upstream.URL, t.Output())
	answered := make(chan *httptest.ResponseRecorder, 2)
	begin := func() {
		go func() {
			w := httptest.NewRecorder()
			s.proxy.ServeHTTP(w, s.request())
			answered <- w
		}()
		<-arrived
	}
	begin()
	cfg := *s.cfg
	cfg.APIs = []config.API{s.cfg.APIs[0]}
	cfg.APIs[0].Upstream.Timeout = time.Minute
	s.replace(t, &cfg)
	begin()
	if n := open.Load(); n != 2 {
		t.Fatalf("%d connections open for two requests, want 2", n)
	}
	close(release)
	for range 2 {
		if w := <-answered; w.Code != http.StatusOK || w.Body.String() != "whole" {
			t.Errorf("got %d %q, want 200 \"whole\"", w.Code, w.Body)
		}
	}
	gatetest.EventuallyEqual(t, "open connections to the replaced upstream", 0, open.Load)
}

// A reload removes the certificate metric of a removed partner.
func TestReloadRemovesPartner(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, t.Output())
	s.proxy.ServeHTTP(httptest.NewRecorder(), s.request())
	if n, err := testutil.GatherAndCount(s.registry, "tallygate_client_certificate_not_after_timestamp_seconds"); err != nil || n != 1 {
		t.Fatalf("%d certificate metrics, error %v, want 1", n, err)
	}
	for _, c := range []struct {
		partners []config.Partner
		want     int
	}{{s.cfg.Partners.List, 1}, {nil, 0}} {
		cfg := *s.cfg
		cfg.Partners.List = c.partners
		s.replace(t, &cfg)
		if n, err := testutil.GatherAndCount(s.registry, "tallygate_client_certificate_not_after_timestamp_seconds"); err != nil || n != c.want {
			t.Errorf("%d certificate metrics, error %v, want %d", n, err, c.want)
		}
	}
}
