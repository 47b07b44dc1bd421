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
	g.applicationProbes = map[string]*url.URL{}
	for _, p := range probes {
		g.applicationProbes[p.Name] = p.target
	}
}

// serveApplicationProbe serves GET /application/{container}/{probe}: the status of the application's
// response, or 503 without a response. Nothing else passes in either direction.
func (g *Gate) serveApplicationProbe(w http.ResponseWriter, r *http.Request) {
	target := g.applicationProbes[r.PathValue("container")+"/"+r.PathValue("probe")]
	if target == nil {
		http.NotFound(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), applicationTimeout)
	defer cancel()
	call := callApplication
	if target.Scheme == "tcp" {
		call = dialApplication
	}
	status, err := call(ctx, target)
	if err != nil {
		http.Error(w, "the application does not answer", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(status)
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
