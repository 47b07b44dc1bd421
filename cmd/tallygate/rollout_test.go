package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/kubelettest"
)

// A crew is a number of workers. Each worker sends requests to the Service of a cluster over connections that
// it keeps.
type crew struct {
	*cluster
	credentials atomic.Pointer[credentials] // the credentials for new requests
	stop        chan struct{}
	working     sync.WaitGroup

	sent   atomic.Int64
	mu     sync.Mutex
	using  []*credentials // the credentials of the last request, by worker
	faults []string
}

// begin starts workers. Half of them use HTTP/2, half of the requests have a body that net/http cannot send
// again, and some take 300 ms.
func (c *cluster) begin(workers int) *crew {
	w := &crew{cluster: c, stop: make(chan struct{}), using: make([]*credentials, workers)}
	w.credentials.Store(c.before)
	for i := range workers {
		w.working.Go(func() { w.work(i) })
	}
	return w
}

func (w *crew) work(worker int) {
	var transport *http.Transport
	var who *credentials
	for n := 0; ; n++ {
		select {
		case <-w.stop:
			transport.CloseIdleConnections()
			return
		case <-time.After(20 * time.Millisecond):
		}
		if wanted := w.credentials.Load(); wanted != who {
			if transport != nil {
				transport.CloseIdleConnections()
			}
			who, transport = wanted, w.transport(wanted, worker%2 == 1)
			w.mu.Lock()
			w.using[worker] = who
			w.mu.Unlock()
		}
		w.sent.Add(1)
		if err := w.send(transport, who, n); err != nil {
			w.mu.Lock()
			w.faults = append(w.faults, fmt.Sprintf("worker %d, request %d: %v", worker, n, err))
			w.mu.Unlock()
		}
	}
}

func (w *crew) send(transport *http.Transport, who *credentials, n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	method, path, body := http.MethodGet, "7", io.Reader(nil)
	if n%2 == 0 {
		method, body = http.MethodPost, io.MultiReader(strings.NewReader("content"))
	}
	if n%32 == 0 {
		path = "slow"
	}
	request, err := http.NewRequestWithContext(ctx, method, "https://api.example.test/accounts/"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+who.token)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("answered with %s: %s", answer.Status, text)
	}
	return err
}

// all reports whether every worker uses the credentials.
func (w *crew) all(who *credentials) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, using := range w.using {
		if using != who {
			return false
		}
	}
	return true
}

// end stops the workers and returns the failures.
func (w *crew) end() []string {
	close(w.stop)
	w.working.Wait()
	return w.faults
}

// asks sends a request to a pod, with the credentials and on a new connection. It returns the status and the serial
// number of the gate's certificate, or 0.
func (c *cluster) asks(pod *kubelettest.Pod, who *credentials) (status int, serial string) {
	transport := c.transport(who, false)
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", pod.IP+":8443")
	}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://api.example.test/accounts/7", nil)
	c.check(err)
	request.Header.Set("Authorization", "Bearer "+who.token)
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return 0, ""
	}
	_ = answer.Body.Close()
	return answer.StatusCode, answer.TLS.PeerCertificates[0].SerialNumber.String()
}

// everywhere waits until every pod that gets new connections answers a request of the credentials with the status,
// and has the certificate.
func (c *cluster) everywhere(who *credentials, status int, serial string) {
	c.t.Helper()
	gatetest.EventuallyEqual(c.t, "pods that know of the change", true, func() bool {
		for _, pod := range c.Endpoints.Pods() {
			if got, its := c.asks(pod, who); got != status || its != serial {
				return false
			}
		}
		return true
	})
}

// TestRollouts rolls out an API with the gate as its native sidecar 20 times under load. The probes, hooks and times
// are those of the chart's example, and then those of the manifest that inject makes: a pod that is deleted gets new
// connections for 2 s more, and its API ends at SIGTERM. Meanwhile the gate's certificate and the partner's anchors
// are renewed by their Secret and ConfigMap. No request fails, and no container is killed.
func TestRollouts(t *testing.T) {
	t.Parallel()
	rendered := renderSidecar(t)
	t.Run("chart", func(t *testing.T) {
		t.Parallel()
		newCluster(t, rendered).rollOut(20, 5000)
	})
	t.Run("inject", func(t *testing.T) {
		t.Parallel()
		newCluster(t, rendered, injectSidecar(t)).rollOut(8, 1000)
	})
}

// rollOut replaces the pod and renews all certificates, while clients send requests. The arguments are the number
// of rollouts and the least number of requests.
func (c *cluster) rollOut(rollouts int, requests int64) {
	t := c.t
	old := c.run()
	gatetest.EventuallyEqual(t, "endpoints", 1, func() int { return len(c.Endpoints.Pods()) })
	w := c.begin(16)
	var deleting sync.WaitGroup
	var pods []*kubelettest.Pod
	for i := range rollouts {
		gatetest.Eventually(t, "requests between two rollouts", func() bool { return w.sent.Load() > requests*int64(i)/int64(rollouts) })
		next := c.run()
		gone := old
		pods, old = append(pods, gone), next
		deleting.Go(func() { c.Delete(gone) })
		switch i {
		case 2: // both anchors are trusted, and the gate has a new certificate
			c.check(c.Apply("ConfigMap/northwind-ca", map[string][]byte{"ca.crt": append(c.oldCA.CertPEM(), c.newCA.CertPEM()...)}))
			c.check(c.Apply("Secret/accounts-tls", tlsSecret(c.next)))
			c.everywhere(c.after, http.StatusOK, c.next.Cert.SerialNumber.String())
			w.credentials.Store(c.after)
			gatetest.EventuallyEqual(t, "all workers have the new certificate", true, func() bool { return w.all(c.after) })
		case 5: // only the new anchor is trusted
			c.check(c.Apply("ConfigMap/northwind-ca", map[string][]byte{"ca.crt": c.newCA.CertPEM()}))
			c.everywhere(c.before, http.StatusUnauthorized, c.next.Cert.SerialNumber.String())
		}
	}
	deleting.Wait()
	faults := w.end()
	for _, pod := range pods {
		if events := pod.Events(); len(events) > 0 {
			t.Errorf("a pod: %q\n%s", events, pod.Log())
		}
	}
	t.Logf("%d requests, %d failed, %d pods", w.sent.Load(), len(faults), len(pods)+1)
	if len(faults) > 0 {
		t.Errorf("got %d failed requests, want none; the first are %s", len(faults), strings.Join(faults[:min(len(faults), 8)], "\n"))
	}
	if w.sent.Load() < requests {
		t.Errorf("got %d requests, want %d", w.sent.Load(), requests)
	}
}

// The drill detects a missing hook: without the API's hook, requests fail.
func TestRolloutWithoutHook(t *testing.T) {
	t.Parallel()
	hook, none := []byte("preStop: {sleep: {seconds: 10}}"), []byte("preStop: {sleep: {seconds: 0}}")
	rendered := renderSidecar(t)
	if !bytes.Contains(rendered, hook) {
		t.Fatalf("the manifest does not hold %q:\n%s", hook, rendered)
	}
	c := newCluster(t, bytes.ReplaceAll(rendered, hook, none))
	old := c.run()
	gatetest.EventuallyEqual(t, "endpoints", 1, func() int { return len(c.Endpoints.Pods()) })
	w := c.begin(4)
	c.run()
	c.Delete(old)
	if faults := w.end(); !strings.Contains(strings.Join(faults, ""), "upstream_unreachable") {
		t.Errorf("got %d failed requests, want some with upstream_unreachable: %q", len(faults), faults)
	}
}
