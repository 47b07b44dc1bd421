package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// An ApplicationProbe is a probe of the application behind a sidecar. The kubelet calls the pod's address,
// where an application that listens on loopback does not answer, so the admin listener takes the probe at
// /application/NAME and calls the application.
type ApplicationProbe struct {
	Name   string // CONTAINER/startup, CONTAINER/liveness or CONTAINER/readiness
	target *url.URL
}

// applicationTimeout bounds a probe. The kubelet ends a probe itself, after timeoutSeconds (1 by default),
// so the bound only holds for other callers.
const applicationTimeout = 10 * time.Second

// mostApplicationBody bounds the bytes of the response that are read. The kubelet has the same bound.
const mostApplicationBody = 10 << 10

var probeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?/(startup|liveness|readiness)$`)

// ParseApplicationProbe parses NAME=URL. The URL has the scheme http, or tcp for a probe that only connects,
// and the host is a loopback address with a port: the admin listener has no authentication, so it must not
// lead to other machines.
func ParseApplicationProbe(text string) (ApplicationProbe, error) {
	var p ApplicationProbe
	name, target, _ := strings.Cut(text, "=")
	if !probeName.MatchString(name) {
		return p, errors.New("the name must be CONTAINER/startup, CONTAINER/liveness or CONTAINER/readiness")
	}
	u, err := url.Parse(target)
	if err != nil || u.User != nil || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "tcp" {
		return p, errors.New("the URL must be http://127.0.0.1:PORT/PATH or tcp://127.0.0.1:PORT")
	}
	if u.Scheme == "tcp" && (u.Path != "" || u.RawQuery != "") {
		return p, errors.New("a URL with the scheme tcp has no path")
	}
	if at, err := netip.ParseAddrPort(u.Host); err != nil || !at.Addr().IsLoopback() || at.Addr().Zone() != "" || at.Port() == 0 {
		return p, errors.New("the host must be a loopback address with a port, such as 127.0.0.1:8080")
	}
	return ApplicationProbe{name, u}, nil
}

// ForwardProbes makes the admin listener forward probes, whose names are all different. It must be called
// before Run.
func (g *Gate) ForwardProbes(probes []ApplicationProbe) {
	g.applicationProbes = map[string]*applicationCaller{}
	for _, p := range probes {
		g.applicationProbes[p.Name] = &applicationCaller{target: p.target}
	}
}

// serveApplicationProbe serves GET /application/{container}/{probe}: the status of the application's
// response, or 503 without a response. Nothing else passes in either direction.
func (g *Gate) serveApplicationProbe(w http.ResponseWriter, r *http.Request) {
	application := g.applicationProbes[r.PathValue("container")+"/"+r.PathValue("probe")]
	if application == nil {
		http.NotFound(w, r)
		return
	}
	status, err := application.status(r.Context())
	if err != nil {
		http.Error(w, "the application does not answer", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(status)
}

// An applicationCaller calls the application for one probe. Requests that arrive while a call runs share
// its result, so that a client of the admin listener cannot open many connections to the application.
type applicationCaller struct {
	target *url.URL

	mu      sync.Mutex
	running *applicationCall // nil: no call runs
}

// An applicationCall is one call of the application. It ends when all requests that wait for it have ended:
// a call that hangs does not fail the next probe.
type applicationCall struct {
	ended   chan struct{} // closed when status and err are set
	status  int
	err     error
	cancel  context.CancelFunc
	waiting int // the number of requests that wait, guarded by applicationCaller.mu
}

// status returns the status of the application's response to the call that runs, or else to a new call.
func (a *applicationCaller) status(ctx context.Context) (int, error) {
	call := a.join(ctx)
	defer a.leave(call)
	select {
	case <-call.ended:
		return call.status, call.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (a *applicationCaller) join(ctx context.Context) *applicationCall {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), applicationTimeout)
		call := &applicationCall{ended: make(chan struct{}), cancel: cancel}
		a.running = call
		go func() {
			call.status, call.err = a.call(ctx)
			a.forget(call)
			close(call.ended)
		}()
	}
	a.running.waiting++
	return a.running
}

// leave ends a call for which no request waits any more.
func (a *applicationCaller) leave(call *applicationCall) {
	a.mu.Lock()
	defer a.mu.Unlock()
	call.waiting--
	if call.waiting > 0 {
		return
	}
	call.cancel()
	if a.running == call {
		a.running = nil
	}
}

// forget makes the next request start a new call.
func (a *applicationCaller) forget(call *applicationCall) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running == call {
		a.running = nil
	}
}

func (a *applicationCaller) call(ctx context.Context) (status int, err error) {
	if a.target.Scheme == "tcp" {
		return dialApplication(ctx, a.target)
	}
	return callApplication(ctx, a.target)
}

// callApplication returns the status of a GET request for target. It follows no redirect: the kubelet takes
// the status of a redirect for success.
func callApplication(ctx context.Context, target *url.URL) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("User-Agent", "tallygate-probe")
	// The transport has no proxy of the environment, and keeps no connection.
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: mostApplicationBody}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, _ = io.CopyN(io.Discard, response.Body, mostApplicationBody) // an error does not change the status, which is known
	if response.StatusCode < http.StatusOK || response.StatusCode > 599 {
		return 0, fmt.Errorf("status %d", response.StatusCode)
	}
	return response.StatusCode, nil
}

// dialApplication returns 200 if a connection to target can be opened.
func dialApplication(ctx context.Context, target *url.URL) (status int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", target.Host)
	if err != nil {
		return 0, err
	}
	return http.StatusOK, conn.Close()
}
