package proxy

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/upstream"
)

// A streamingUpstream sends endless responses: server-sent events for GET, with a Content-Length if the
// query asks for it, no response to POST before the end of the body, and a WebSocket echo.
type streamingUpstream struct {
	*httptest.Server
	begun chan struct{} // receives for each POST whose body has begun
	left  chan error    // why each request ended there
}

func newStreamingUpstream(t *testing.T) *streamingUpstream {
	s := &streamingUpstream{begun: make(chan struct{}, 64), left: make(chan error, 64)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("Upgrade") != "":
			s.left <- echo(w, r)
		case r.Method == http.MethodPost:
			_, err := io.ReadFull(r.Body, make([]byte, 1))
			s.begun <- struct{}{}
			if err == nil {
				_, err = io.Copy(io.Discard, r.Body)
			}
			s.left <- err
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			if r.URL.RawQuery == measuredQuery {
				w.Header().Set("Content-Length", "1000")
			}
			_, _ = io.WriteString(w, "data: first\n\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			s.left <- r.Context().Err()
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// An openStream is one open stream of a client.
type openStream struct {
	read func() (string, error) // to its end
	quit func()
}

const measuredQuery = "measured"

// An opener opens a stream and waits for its first part.
type opener func(t *testing.T, s *harness, up *streamingUpstream) openStream

// flows has an opener for each kind of stream.
var flows = map[string]opener{
	"events over HTTP/2":              sending(events, "h2", false),
	"events over HTTP/1.1":            sending(events, "http/1.1", false),
	"measured answer over HTTP/2":     sending(events, "h2", true),
	"measured answer over HTTP/1.1":   sending(events, "http/1.1", true),
	"upload over HTTP/2":              sending(upload, "h2", false),
	"upload over HTTP/1.1":            sending(upload, "http/1.1", false),
	"upload, measured, over HTTP/2":   sending(upload, "h2", true),
	"upload, measured, over HTTP/1.1": sending(upload, "http/1.1", true),
	"tunnel":                          openTunnel,
}

// hasEnd reports whether streams of this kind have a Content-Length.
func hasEnd(kind string) bool { return strings.Contains(kind, "measured") }

func sending(open func(t *testing.T, s *harness, up *streamingUpstream, protocol string, measured bool) openStream, protocol string, measured bool) opener {
	return func(t *testing.T, s *harness, up *streamingUpstream) openStream {
		t.Helper()
		return open(t, s, up, protocol, measured)
	}
}

// do sends one request over its own connection.
func do(t *testing.T, s *harness, address, token, protocol, method string, body io.Reader, edits ...func(*http.Request)) (*http.Response, error) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: s.clientConfig(protocol), ForceAttemptHTTP2: protocol == "h2"}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequestWithContext(t.Context(), method, "https://"+address+"/accounts/7", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "api.example.test"
	r.Header.Set("Authorization", "Bearer "+token)
	if s.proving != nil {
		r.Header.Set("Authorization", "DPoP "+token)
		r.Header.Set("DPoP", s.proving.Proof(testpki.ProofClaims(method, "https://api.example.test/accounts/7", token)))
	}
	for _, edit := range edits {
		edit(r)
	}
	return transport.RoundTrip(r)
}

func events(t *testing.T, s *harness, _ *streamingUpstream, protocol string, measured bool) openStream {
	t.Helper()
	answer, err := do(t, s, s.listen(t), s.token, protocol, http.MethodGet, nil, func(r *http.Request) { //nolint:bodyclose // quit does, or the gate
		if measured {
			r.URL.RawQuery = measuredQuery
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(answer.Body)
	if first, err := lines.ReadString('\n'); err != nil || first != "data: first\n" {
		t.Fatalf("first event = %q, %v", first, err)
	}
	return openStream{
		read: func() (string, error) {
			rest, err := io.ReadAll(lines)
			return strings.TrimSpace(string(rest)), err
		},
		quit: func() { _ = answer.Body.Close() },
	}
}

func upload(t *testing.T, s *harness, up *streamingUpstream, protocol string, measured bool) openStream {
	t.Helper()
	body, rest := io.Pipe()
	address := s.listen(t)
	t.Cleanup(func() { _ = rest.Close() })
	type end struct {
		text string
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		answer, err := do(t, s, address, s.token, protocol, http.MethodPost, body, func(r *http.Request) {
			if measured {
				r.ContentLength = 1000
			}
		})
		if err != nil {
			ended <- end{"", err}
			return
		}
		text, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		ended <- end{fmt.Sprintf("%d %s", answer.StatusCode, text), err}
	}()
	if _, err := io.WriteString(rest, "a beginning"); err != nil {
		t.Fatal(err)
	}
	<-up.begun
	return openStream{
		read: func() (string, error) { e := <-ended; return e.text, e.err },
		quit: func() { _ = rest.Close() },
	}
}

func openTunnel(t *testing.T, s *harness, _ *streamingUpstream) openStream {
	t.Helper()
	conn, received := dialWebSocket(t, s, s.listen(t), s.token)
	if got := say(t, conn, received, "hello"); got != "hello" {
		t.Fatalf("echo = %q", got)
	}
	return openStream{
		read: func() (string, error) {
			rest, err := io.ReadAll(received)
			return string(rest), err
		},
		quit: func() { _ = conn.Close() },
	}
}

// withTunnel allows WebSocket on the route.
func withTunnel(cfg *config.Config) {
	cfg.APIs[0].Routes[0].Upgrade = []config.UpgradeProtocol{config.WebSocket}
}

// expectEnd waits until f has been terminated for reason, and checks client, upstream, log and metrics.
func expectEnd(t *testing.T, s *harness, up *streamingUpstream, log *gatetest.Log, kind string, f openStream, reason string) {
	t.Helper()
	began := time.Now()
	if (reason == accesslog.Stopping || reason == accesslog.UpstreamChanged) && kind == "upload over HTTP/1.1" {
		// The client's transport waits for a body to read, as the gate's transport does.
		log.Wait(t, `"msg":"request"`)
		f.quit()
	}
	tooLong := time.AfterFunc(20*time.Second, f.quit)
	text, err := f.read()
	tooLong.Stop()
	took := time.Since(began).Round(time.Millisecond)
	t.Logf("%s: %s after %s: %q, %v", kind, reason, took, text, err)
	if took > 10*time.Second {
		t.Errorf("stream ended after %s, want at most 10s", took)
	}
	switch {
	case reason == accesslog.Stopping, reason == accesslog.UpstreamChanged, !strings.HasPrefix(kind, "upload"):
		if err == nil && kind != "tunnel" || text != "" {
			t.Errorf("client read %q, %v, want a truncated response", text, err)
		}
	case err != nil || !strings.Contains(text, `"reason":"`+reason+`"`):
		t.Errorf("client read %q, %v, want a refusal", text, err)
	}
	select {
	case err := <-up.left:
		if err == nil && kind != "tunnel" {
			t.Error("the upstream read the request to its end, want an error")
		}
	case <-time.After(10 * time.Second):
		t.Error("the request at the upstream did not end within 10s")
	}
	line := log.Wait(t, `"msg":"request"`)
	if !strings.Contains(line, `"terminated_by":"`+reason+`"`) || !strings.Contains(line, `"reason":"granted"`) || strings.Contains(line, `"failure"`) ||
		!strings.Contains(line, `"level":"WARN"`) || strings.Contains(line, s.token) {
		t.Errorf("log line = %s", line)
	}
	if n := strings.Count(log.String(), `"msg":"request"`); n != 1 {
		t.Errorf("%d log lines for one request, want 1", n)
	}
	if n := s.metric(t, fmt.Sprintf(`tallygate_streams_ended_total{reason=%q}`, reason)); n != 1 {
		t.Errorf("streams_ended_total of %s = %v, want 1", reason, n)
	}
	gatetest.EventuallyEqual(t, "granted requests in flight", 0, s.inFlight)
}

// Each change that makes a new request refused also ends a stream: the current configuration decides,
// not the configuration at the start of the stream.
func TestStreamsEndWithTheirReason(t *testing.T) {
	other := testpki.NewCA("Another Root")
	anotherAPI := func(cfg *config.Config) {
		cfg.APIs[0].Name = "renamed"
		cfg.Partners.List[0].Applications[0].APIs[0].API = "renamed"
	}
	for _, tt := range []struct {
		name, reason string
		change       func(*config.Config)
	}{
		{"partner disabled", "partner_disabled", func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true }},
		{"partner gone", "untrusted_certificate", func(cfg *config.Config) { cfg.Partners.List = nil }},
		{"application gone", "unknown_client", func(cfg *config.Config) { cfg.Partners.List[0].Applications[0].ClientID = "another" }},
		{"API taken away", "api_not_allowed", func(cfg *config.Config) { cfg.Partners.List[0].Applications[0].APIs = nil }},
		{"API gone", "misdirected", func(cfg *config.Config) { cfg.APIs = nil }},
		{"method gone", "api_not_allowed", func(cfg *config.Config) { cfg.APIs[0].Routes[0].Methods = []config.Method{"DELETE"} }},
		{"host gone", "misdirected", func(cfg *config.Config) { cfg.APIs[0].Hosts = []config.Host{"other.example.test"} }},
		{"a scope more", "insufficient_scope", func(cfg *config.Config) {
			cfg.APIs[0].Routes[0].Scopes = append(cfg.APIs[0].Routes[0].Scopes, "more")
		}},
		{"certificate not registered", "certificate_not_registered", func(cfg *config.Config) {
			cfg.Partners.List[0].Applications[0].Certificate.SANDNS = "another.example"
		}},
		{"anchor gone", "untrusted_certificate", func(cfg *config.Config) {
			file, _ := other.Write(t.TempDir(), "other")
			cfg.Partners.List[0].Trust = []config.Path{config.Path(file)}
		}},
		{"authorization server gone", "unknown_issuer", func(cfg *config.Config) { cfg.AuthorizationServers[0].Issuer = "https://other.example.test" }},
		{"another API", "api_not_allowed", anotherAPI},
		{"another partner", "api_not_allowed", func(cfg *config.Config) { cfg.Partners.List[0].Name = "renamed" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log)
			f := events(t, s, up, "h2", false)
			s.next(t, tt.change)
			expectEnd(t, s, up, log, "events", f, tt.reason)
		})
	}
}

// The revocation of a token, or of a certificate by a revocation list, ends its streams.
func TestStreamsAfterRevocation(t *testing.T) {
	for reason, revoke := range map[string]func(*harness){
		"revoked": func(s *harness) { s.revoked.Store(true) },
		"revoked_certificate": func(s *harness) {
			s.ca.WriteRevocationList(s.dir, "revoked.crl", testpki.Revoking(s.client))
			s.next(t, func(cfg *config.Config) {
				cfg.Listener.ClientCertificates.Revocation.Lists = []config.RevocationList{{File: config.Path(filepath.Join(s.dir, "revoked.crl"))}}
			})
		},
	} {
		up, log := newStreamingUpstream(t), &gatetest.Log{}
		s := newHarness(t, up.URL, log)
		f := events(t, s, up, "h2", false)
		revoke(s)
		expectEnd(t, s, up, log, "events", f, reason)
	}
}

// Each kind of stream ends, also for a reason that comes with time only, such as expired: the clock of the
// checks goes ahead.
func TestStreamsOfEachKindEnd(t *testing.T) {
	hourLater := func(_ *testing.T, s *harness) { s.ahead.Store(int64(time.Hour)) }
	for kind, open := range flows {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for name, end := range map[string]struct {
				reason string
				by     func(*testing.T, *harness)
			}{
				"reload": {"partner_disabled", func(t *testing.T, s *harness) {
					s.next(t, withTunnel, func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true })
				}},
				"expired token": {"expired", hourLater},
				"no way to decide": {"undecided", func(_ *testing.T, s *harness) {
					s.current.Store(&Proxy{log: s.log, checks: &authorize.Checks{Trust: s.trust, Validator: s.proxy.checks.Validator}})
				}},
				"expired client":    {"expired_certificate", hourLater},
				"the gate is ended": {accesslog.Stopping, func(_ *testing.T, s *harness) { s.streams.End() }},
			} {
				if hasEnd(kind) && end.reason == accesslog.Stopping {
					continue
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					up, log := newStreamingUpstream(t), &gatetest.Log{}
					s := newHarness(t, up.URL, log, withTunnel, func(cfg *config.Config) { cfg.AuthorizationServers[0].Leeway = 0 })
					soon := time.Now().Add(30 * time.Minute)
					switch end.reason {
					case "expired":
						s.token = s.mint(s.client, testpki.M{"exp": soon.Unix()})
					case "expired_certificate":
						s.client = s.ca.Leaf("ledger", testpki.Valid(time.Now().Add(-time.Hour), soon))
						s.token = s.mint(s.client, testpki.M{"exp": time.Now().Add(2 * time.Hour).Unix()})
					}
					f := open(t, s, up)
					end.by(t, s)
					expectEnd(t, s, up, log, kind, f, end.reason)
				})
			}
		})
	}
}

// A stream that is still granted goes on after rechecks and unrelated changes. The log of a stream that
// its client ends has no terminated_by.
func TestStreamsGoOn(t *testing.T) {
	for kind, open := range flows {
		if strings.HasPrefix(kind, "upload") {
			continue // a body that stalls is cut unless it is gRPC, for which there is TestGRPCStreamEnds
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			// Quiet for longer than a body may stall, and than an idle connection is kept.
			s := newHarness(t, up.URL, log, withTunnel, func(cfg *config.Config) { cfg.Listener.Limits.StallTimeout = 100 * time.Millisecond })
			f := open(t, s, up)
			s.next(t, withTunnel, func(cfg *config.Config) { cfg.APIs[0].Upstream.Timeout = time.Minute })
			select {
			case err := <-up.left:
				t.Errorf("stream ended: %v\n%s", err, log)
			case <-time.After(400 * time.Millisecond):
			}
			f.quit()
			if line := log.Wait(t, `"msg":"request"`); strings.Contains(line, "terminated_by") {
				t.Errorf("log line = %s", line)
			}
		})
	}
}

// Overload refuses new requests and ends no stream, because one client could otherwise end all streams. A
// stream that is no longer granted still ends.
func TestStreamsUnderOverload(t *testing.T) {
	for kind, open := range flows {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log, withTunnel)
			var overloaded atomic.Bool
			s.proxy.overloaded = overloaded.Load
			f := open(t, s, up)
			overloaded.Store(true)
			expectOpen(t, s, up, log)
			s.revoked.Store(true)
			expectEnd(t, s, up, log, kind, f, "revoked")
		})
	}
}

// A body with a Content-Length is transferred to its end when the gate stops and when a reload changes
// the upstream.
func TestMessagesWithAnEnd(t *testing.T) {
	for kind, open := range flows {
		if !hasEnd(kind) {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log, withTunnel)
			f := open(t, s, up)
			s.next(t, withTunnel, elsewhere)
			s.streams.End()
			expectOpen(t, s, up, log)
			s.revoked.Store(true)
			expectEnd(t, s, up, log, kind, f, "revoked")
		})
	}
}

// expectOpen expects that the stream is not ended by four rechecks.
func expectOpen(t *testing.T, s *harness, up *streamingUpstream, log *gatetest.Log) {
	t.Helper()
	select {
	case err := <-up.left:
		t.Fatalf("stream ended: %v, want it open\n%s", err, log)
	case <-time.After(4 * s.streams.recheckInterval):
	}
}

// elsewhere gives the API an upstream without a listener.
func elsewhere(cfg *config.Config) {
	cfg.APIs[0].Upstream.URL = &config.UpstreamURL{URL: url.URL{Scheme: "http", Host: "127.0.0.1:1"}}
}

// A stream without a known length ends when a reload changes the upstream or its anchors.
func TestStreamsAfterUpstreamChange(t *testing.T) {
	for kind, open := range flows {
		if hasEnd(kind) {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			up, log := newStreamingUpstream(t), &gatetest.Log{}
			s := newHarness(t, up.URL, log, withTunnel)
			f := open(t, s, up)
			s.next(t, withTunnel, elsewhere)
			expectEnd(t, s, up, log, kind, f, accesslog.UpstreamChanged)
		})
	}
	t.Run("anchors", func(t *testing.T) {
		var pool reuse.Pool
		dir := t.TempDir()
		file, _ := testpki.NewCA("One Root").Write(dir, "ca")
		settings := config.Upstream{
			URL: &config.UpstreamURL{URL: url.URL{Scheme: "https", Host: "127.0.0.1:1"}},
			TLS: config.UpstreamTLS{Trust: []config.Path{config.Path(file)}},
		}
		before, err := upstream.New(pool.Lease(), "accounts", settings, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		settings.Timeout = time.Minute
		slower, err := upstream.New(pool.Lease(), "accounts", settings, slog.New(slog.DiscardHandler))
		if err != nil || slower == before || !slower.SameDestination(before) {
			t.Errorf("SameDestination = false after a change of the timeout, want true; error %v", err)
		}
		testpki.NewCA("Another Root").Write(dir, "ca")
		if other, err := upstream.New(pool.Lease(), "accounts", settings, slog.New(slog.DiscardHandler)); err != nil || other.SameDestination(slower) {
			t.Errorf("SameDestination = true after a change of the anchors, want false; error %v", err)
		}
	})
}

// A client that reads nothing cannot keep its stream open.
func TestStreamOfAClientThatTakesNothing(t *testing.T) {
	full := make(chan struct{}, 2)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		once := sync.OnceFunc(func() { full <- struct{}{} })
		time.AfterFunc(time.Second, once)
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
	}))
	defer upstream.Close()
	for _, protocol := range []string{"h2", "http/1.1"} {
		t.Run(protocol, func(t *testing.T) {
			log := &gatetest.Log{}
			s := newHarness(t, upstream.URL, log)
			answer, err := do(t, s, s.listen(t), s.token, protocol, http.MethodGet, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = answer.Body.Close() }()
			<-full
			changed := time.Now()
			s.next(t, func(cfg *config.Config) { cfg.Partners.List[0].Disabled = true })
			line := log.Wait(t, `"msg":"request"`)
			if took := time.Since(changed); took > s.proxy.stall/2 { // after a stall timeout the write fails by itself
				t.Errorf("the stream ended after %s, want about a second", took.Round(time.Millisecond))
			}
			if !strings.Contains(line, `"terminated_by":"partner_disabled"`) {
				t.Errorf("log line = %s", line)
			}
		})
	}
}

// A stream that ends before the first recheck starts no goroutine.
func TestShortStreams(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush() // no length
		_, _ = io.WriteString(w, "whole")
	}))
	defer upstream.Close()
	log := &gatetest.Log{}
	s := newHarness(t, upstream.URL, log)
	address := s.listen(t)
	s.current.Store(nil) // a recheck would panic
	s.streams.recheckInterval = time.Minute
	for _, protocol := range []string{"h2", "http/1.1"} {
		answer, err := do(t, s, address, s.token, protocol, http.MethodGet, nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "whole" || answer.ContentLength >= 0 {
			t.Errorf("%q, %v, length %d", text, err, answer.ContentLength)
		}
		_ = answer.Body.Close()
	}
	gatetest.EventuallyEqual(t, "granted requests in flight", 0, s.inFlight)
	s.current.Store(s.proxy)
}

// A response with a Content-Length may take longer than the stall timeout, also over HTTP/2: the timeout
// applies to each part, and not to the time before the response or between its parts.
func TestSlowUpstream(t *testing.T) {
	const stallTimeout = 50 * time.Millisecond
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(3 * stallTimeout)
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Length", "5")
		_, _ = io.WriteString(w, "wh")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(3 * stallTimeout)
		_, _ = io.WriteString(w, "ole")
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard, func(cfg *config.Config) { cfg.Listener.Limits.StallTimeout = stallTimeout })
	address := s.listen(t)
	for _, protocol := range []string{"h2", "http/1.1"} {
		for method, want := range map[string]int{http.MethodGet: http.StatusOK, http.MethodPost: http.StatusNoContent} {
			answer, err := do(t, s, address, s.token, protocol, method, nil)
			if err != nil {
				t.Errorf("%s over %s: %v", method, protocol, err)
				continue
			}
			_, err = io.ReadAll(answer.Body)
			if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != want {
				t.Errorf("%s over %s: %s, %v", method, protocol, answer.Status, err)
			}
		}
	}
}

// If the gate terminates a stream at the moment when its request body ends, the refusal does not affect later
// requests on the connection, which a front proxy may send for other clients.
func TestStreamEndedAtTheEndOfItsBody(t *testing.T) {
	read := make(chan struct{}, 1)
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			read <- struct{}{}
			<-r.Context().Done()
		}
	}))
	defer upstream.Close()
	s := newHarness(t, upstream.URL, io.Discard)
	s.streams.forceCloseInterval = time.Minute // the refusal must be sent, also by a busy machine
	deciding, decide := make(chan struct{}), make(chan struct{})
	s.streams.current = func() *Proxy {
		deciding <- struct{}{}
		<-decide
		return s.proxy
	}
	conn, err := tls.Dial("tcp", s.listen(t), s.clientConfig("http/1.1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	answers := bufio.NewReader(conn)
	_, _ = fmt.Fprintf(conn, "POST /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n\r\nbod", s.token)
	<-deciding
	_, _ = io.WriteString(conn, "y")
	<-read
	s.revoked.Store(true)
	close(decide)
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %s, want 401", answer.Status)
	}
	s.revoked.Store(false)
	for range 2 {
		_, _ = fmt.Fprintf(conn, "GET /accounts/7 HTTP/1.1\r\nHost: api.example.test\r\nAuthorization: Bearer %s\r\n\r\n", s.token)
		if answer, err = http.ReadResponse(answers, nil); err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("a later request got %s, want 200", answer.Status)
		}
	}
}

// A response that has arrived completely needs no recheck; every other response has one.
func TestResponsesThatAreRechecked(t *testing.T) {
	done := make(chan struct{})
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/small":
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		case "/large":
			_, _ = io.WriteString(w, strings.Repeat("x", 100<<10))
		case "/dripping":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-done
		case "/endless":
			_, _ = io.WriteString(w, "first")
			_ = http.NewResponseController(w).Flush()
			<-done
		}
	})
	address := "http://" + serveUpstream(t, upstream, nil)
	defer close(done)
	for _, tt := range []struct {
		path     string
		protocol config.UpstreamProtocol
		reviewed bool
	}{
		{"/none", config.HTTP1, false},
		{"/small", config.HTTP1, false},
		{"/large", config.HTTP1, true},
		{"/dripping", config.HTTP1, true},
		{"/endless", config.HTTP1, true},
		{"/none", config.H2C, false},
		{"/small", config.H2C, true},
		{"/dripping", config.H2C, true},
	} {
		s := newHarness(t, address, io.Discard, func(cfg *config.Config) { cfg.APIs[0].Upstream.Protocol = tt.protocol })
		x := s.proxy.newExchange(httptest.NewRecorder(), s.request())
		x.Decision.API = "accounts"
		x.Request.RequestURI = tt.path
		answer, err := x.roundTrip(t.Context(), s.proxy.upstreams["accounts"])
		if err != nil {
			t.Fatal(err)
		}
		if (x.recheck != nil) != tt.reviewed {
			t.Errorf("%s over %s: has a recheck: %t", tt.path, tt.protocol, x.recheck != nil)
		}
		_ = answer.Body.Close()
		x.stopRecheck()
	}
}
