package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/testpki"
)

// A keyServer is an authorization server. Each fetch of its key set waits for the response that the
// test sets.
type keyServer struct {
	*httptest.Server
	called  chan bool
	answers chan []byte // nil: the server is broken
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	s := &keyServer{called: make(chan bool, 100), answers: make(chan []byte, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.called <- true
		select {
		case keys := <-s.answers:
			if keys == nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(keys)
		case <-r.Context().Done():
			s.called <- false // the fetch was cancelled
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// keys returns the configuration of s with additional settings.
func (s *keyServer) keys(more string) string {
	return "key_set: {url: \"" + s.URL + "\"" + more + "}\n    connection: {insecure_loopback_http: true}"
}

// ready waits until the gate is ready.
func (r *reloading) ready() {
	r.t.Helper()
	gatetest.EventuallyEqual(r.t, "status of /readyz", http.StatusOK, func() int {
		status, _, err := r.admin("/readyz")
		r.check(err)
		return status
	})
}

// A fetch that is under way continues after a reload of other settings.
func TestReloadBreaksNoReadingOff(t *testing.T) {
	t.Parallel()
	r, s := newReloading(t), newKeyServer(t)
	const from = "key_set: {file: keys.json}"
	r.configure(from, s.keys(""))
	r.serve()
	<-s.called
	r.configure(from, s.keys(""), "disabled: true", "disabled: false")
	r.await("ok", 1)
	s.answers <- testpki.KeySet(r.signers["good"])
	r.ready()
	if n := len(s.called); n > 0 {
		t.Errorf("broken off, or begun anew: %d", n)
	}
	r.check(r.stop())
}

// While its server is down, cached keys stay valid, also if the settings of their fetch change.
// With a new key set URL there are no keys, and the reload is refused.
func TestReloadWhileAServerIsDown(t *testing.T) {
	t.Parallel()
	r, s := newReloading(t), newKeyServer(t)
	const from = "key_set: {file: keys.json}"
	r.configure(from, s.keys(""))
	r.serve()
	s.answers <- testpki.KeySet(r.signers["good"])
	r.ready()
	close(s.answers) // all further responses are invalid
	call, _ := r.visitor("northwind", "good", false, 0)
	expect := func() {
		t.Helper()
		expectVisit(t, call, http.StatusOK, "")
	}
	r.configure(from, s.keys(", max_stale: 48h, refresh: 2h"))
	r.await("ok", 1)
	expect()
	r.configure(from, strings.Replace(s.keys(""), s.URL, s.URL+"/moved", 1))
	r.await("failed", 1)
	expect()
	r.ready()
	if n := len(s.called); n < 2 {
		t.Errorf("%d calls: what is new was not asked for", n)
	}
	r.check(r.stop())
}

// Keys in a file are part of the reload: with a faulty configuration, new keys are not used.
func TestReloadOfKeysBesideAFault(t *testing.T) {
	t.Parallel()
	r := newReloading(t)
	pace := []string{"{file: keys.json}", "{file: keys.json, refresh: 1s}"}
	r.configure(pace...)
	r.serve()
	call, _ := r.visitor("northwind", "good", false, 0)
	expect := func(want int) {
		t.Helper()
		expectVisit(t, call, want, "")
	}
	expect(http.StatusOK)
	r.configure(append(pace, "apis: [accounts]", "apis: [nothing]")...)
	r.await("failed", 1)
	r.replace("keys.json", testpki.KeySet(r.signers["other"]))
	time.Sleep(3 * time.Second) // more than refresh
	expect(http.StatusOK)
	r.configure(pace...)
	r.await("ok", 1)
	expect(http.StatusUnauthorized)
	r.check(r.stop())
}
