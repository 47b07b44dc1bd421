package proxy

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
)

// A Proxy that takes another's place keeps the connections to upstreams that have not
// changed, and the key by which they verify assertions.
func TestSuccessor(t *testing.T) {
	var opened, closed atomic.Int64
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed.Add(1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	upstream.Start()
	defer upstream.Close()
	asking := func(cfg *config.Config) { cfg.APIs[0].Routes[0].Assertion = true }
	s := newSite(t, upstream.URL, t.Output(), asking)
	call := func(p *Proxy) {
		t.Helper()
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, s.request()); w.Code != http.StatusOK {
			t.Fatal(w.Code)
		}
	}
	succeed := func(p *Proxy, edit func(*config.API)) *Proxy {
		t.Helper()
		cfg := *s.cfg
		cfg.APIs = []config.API{s.cfg.APIs[0]}
		edit(&cfg.APIs[0])
		next, err := New(&cfg, p.steps, Options{Log: p.log, Metrics: p.metrics, Previous: p})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { next.Close(nil) })
		p.Close(next)
		return next
	}
	call(s.proxy)
	same := succeed(s.proxy, func(a *config.API) { a.Routes = append(a.Routes[:1:1], a.Routes[0]) })
	call(same)
	if opened.Load() != 1 || closed.Load() != 0 || same.asserter != s.proxy.asserter {
		t.Errorf("unchanged: %d connections, %d closed, the same key: %t", opened.Load(), closed.Load(), same.asserter == s.proxy.asserter)
	}
	patient := succeed(same, func(a *config.API) { a.Upstream.Timeout = time.Minute })
	call(patient)
	for deadline := time.Now().Add(10 * time.Second); closed.Load() != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("changed: %d connections, %d closed", opened.Load(), closed.Load())
		}
	}
	if opened.Load() != 2 {
		t.Errorf("changed: %d connections", opened.Load())
	}
}
