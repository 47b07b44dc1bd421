package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/tokenclient"
)

// All metrics of a gate with an issuer follow Prometheus' conventions.
func TestMetricNames(t *testing.T) {
	problems, err := testutil.GatherAndLint(unopenedGate(t).registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("GatherAndLint returned %v, %v, want no problem", problems, err)
	}
}

// A gate with an expired certificate is not ready, because other gates may have a valid one.
func TestReadyWithinTheCertificatesTime(t *testing.T) {
	s := unopenedGate(t).current.Load()
	leaf := s.keyPairs[PartnersListener].Leaf
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
			t.Errorf("%s: ready returned %v, want %v", name, got, c.want)
		}
	}
}

// If a port is taken, Run returns an error with the listener's name and leaves nothing open.
func TestRunWithoutAPort(t *testing.T) {
	g := unopenedGate(t)
	var opened []net.Listener
	taken := errors.New("address already in use")
	err := g.Run(t.Context(), func(name, _ string) (net.Listener, error) {
		if name == AdminListener {
			return nil, taken
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		opened = append(opened, l)
		return l, err
	})
	if !errors.Is(err, taken) || err.Error() != "listening for admin: address already in use" {
		t.Errorf("Run returned %v", err)
	}
	for _, l := range opened {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept returned %v, want a closed listener", err)
		}
	}
}

// If a listener fails, Run ends with an error and stops the other listeners.
func TestRunEndsWhenAListenerBreaks(t *testing.T) {
	g := unopenedGate(t)
	var admin net.Listener
	up := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- g.Run(context.Background(), func(name, _ string) (net.Listener, error) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if name == AdminListener {
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
			t.Errorf("Run returned %v", err)
		}
	case <-time.After(testTimeout):
		t.Fatal("Run did not return, want an error of the closed listener")
	}
}

// On a stop the gate is no longer ready, finishes running requests, accepts no new connection, and
// ends without an error.
func TestStopFinishesWhatRuns(t *testing.T) {
	listeners, addresses := openListeners(t)
	g, dir := newTestGate(t, addresses)
	arrived, release := make(chan struct{}), make(chan struct{})
	api := &http.Server{ReadHeaderTimeout: testTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "whole")
	})}
	go func() { _ = api.Serve(listeners["api"]) }()
	defer func() { _ = api.Close() }()

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- g.Run(ctx, func(name, _ string) (net.Listener, error) { return listeners[name], nil })
	}()
	options := tokenclient.Options{
		Metadata: "https://" + addresses["issuer"], ClientID: "northwind-ledger", CA: filepath.Join(dir, "gate.pem"),
		Cert: filepath.Join(dir, "northwind.pem"), Key: filepath.Join(dir, "northwind-key.pem"), Timeout: testTimeout,
	}
	token, err := tokenclient.Fetch(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	client, err := tokenclient.New(options)
	if err != nil {
		t.Fatal(err)
	}
	defer client.HTTP.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, "https://"+addresses["partners"]+"/accounts/7", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token.AccessToken)
	type result struct {
		status int
		body   []byte
		err    error
	}
	answered := make(chan result, 1)
	go func() {
		answer, err := client.HTTP.Do(r)
		if err != nil {
			answered <- result{err: err}
			return
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		answered <- result{answer.StatusCode, body, err}
	}()
	<-arrived
	stop()
	gatetest.EventuallyEqual(t, "ready() after a stop", errDraining, g.ready)
	gatetest.Eventually(t, "the gate accepts no new connection after a stop", func() bool {
		conn, err := net.Dial("tcp", addresses["partners"])
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v during a request, want it to wait", err)
	default:
	}
	close(release)
	if a := <-answered; a.err != nil || a.status != http.StatusOK || string(a.body) != "whole" {
		t.Errorf("the running request got %d %q, %v, want 200 \"whole\"", a.status, a.body, a.err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v", err)
	}
}

// Every listener has limits. Issuer and admin bound the time of a whole message; the partners' handler
// bounds pauses within bodies.
func TestEveryServerHasLimits(t *testing.T) {
	for _, s := range unopenedGate(t).servers {
		l := s.Limits
		if l.HeaderTimeout == 0 || l.StallTimeout == 0 || l.IdleTimeout == 0 || l.HeaderBytes == 0 || l.HandshakeTimeout == 0 || s.Limiter.Max == 0 || s.Limiter.MaxPerAddress == 0 {
			t.Errorf("%s lacks a limit, got %+v", s.Name, l)
		}
		if h := s.Standard; h != nil && (h.ReadHeaderTimeout == 0 || h.ReadTimeout == 0 || h.WriteTimeout == 0 || h.IdleTimeout == 0 || h.MaxHeaderBytes == 0) {
			t.Errorf("%s lacks a limit, got %+v", s.Name, h)
		}
		if s.HandlerBoundsTime != (s.Name == PartnersListener) {
			t.Errorf("%s: HandlerBoundsTime is %t", s.Name, s.HandlerBoundsTime)
		}
	}
}
