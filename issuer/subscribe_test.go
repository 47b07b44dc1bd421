package issuer_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/internal/testpostgres"
	"github.com/tallygate/tallygate/issuer"
	"github.com/tallygate/tallygate/revocation"
)

var sidecar = northCA.Leaf("orders-gate", testpki.DNS("orders-gate.internal"))

// withFeed returns an edit that adds a client that may subscribe.
func withFeed(cfg *config.Config) {
	cfg.Issuer.ResourceServers = append(cfg.Issuer.ResourceServers, config.ResourceServer{
		ClientID: "orders-gate", Authentication: config.TLSClientAuth, Resources: []string{audience}, Revocations: true,
		Certificate: config.RegisteredCertificate{SANDNS: "orders-gate.internal"},
	})
}

func newFeedHarness(t *testing.T, edits ...func(*config.Config)) *harness {
	t.Helper()
	s := newHarness(t, "", append(edits, withFeed)...)
	s.serve()
	return s
}

// probe opens a stream, closes it and returns the status.
func (s *harness) probe() int {
	s.t.Helper()
	c := s.client(sidecar)
	defer c.CloseIdleConnections()
	response, err := c.Get(s.url + feedPath)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// A message is a server-sent event.
type message struct {
	name, id string
	batch    revocation.Batch
	set      revocation.SecurityEvent
}

// A subscription is an open stream.
type subscription struct {
	s        *harness
	response *http.Response
	messages chan message // closed at the end of the stream
	close    func()
}

const feedPath = "/revocations?client_id=orders-gate"

// subscribe opens a stream and checks its header.
func (s *harness) subscribe(lastEventID string, edits ...func(*tls.Config)) *subscription {
	s.t.Helper()
	c := s.client(sidecar)
	c.Timeout = 0
	for _, edit := range edits {
		edit(c.Transport.(*http.Transport).TLSClientConfig)
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
	}
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", s.url+feedPath, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if lastEventID != "" {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	response, err := c.Do(r) //nolint:bodyclose // subscription.close closes it
	if err != nil {
		s.t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" || response.Header.Get("Cache-Control") != "no-store" {
		s.t.Fatalf("GET %s: got %d %v, want 200, text/event-stream and no-store", feedPath, response.StatusCode, response.Header)
	}
	f := &subscription{s, response, make(chan message), nil}
	done := make(chan struct{})
	f.close = func() { cancel(); response.Body.Close(); <-done }
	s.t.Cleanup(f.close)
	go func() {
		defer close(done)
		defer close(f.messages)
		f.read(ctx)
	}()
	return f
}

// read sends the messages of the stream until its end, each after its signature was verified.
func (f *subscription) read(ctx context.Context) {
	lines := bufio.NewReader(f.response.Body)
	var m message
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			m.name = value
		case "id":
			m.id = value
		case "data":
			var content any = &m.batch
			typ := "tallygate-revocations+jwt"
			if m.name == "set" {
				content, typ = &m.set, "secevent+jwt"
			}
			decodeExactly(f.s.t, string(f.s.verified(value, typ)), content)
		case "":
			if m.name != "" {
				select {
				case f.messages <- m:
				case <-ctx.Done():
					return
				}
			}
			m = message{}
		}
	}
}

// next returns the next message.
func (f *subscription) next() message {
	f.s.t.Helper()
	select {
	case m, ok := <-f.messages:
		if !ok {
			f.s.t.Fatal("the stream has ended, want a message")
		}
		return m
	case <-time.After(20 * time.Second):
		f.s.t.Fatal("no message in 20 s")
	}
	return message{}
}

// skipTo returns the next message that wanted accepts.
func (f *subscription) skipTo(wanted func(message) bool) message {
	f.s.t.Helper()
	for {
		if m := f.next(); wanted(m) {
			return m
		}
	}
}

// ends checks that the stream ends.
func (f *subscription) ends(why string) {
	f.s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case _, ok := <-f.messages:
			if !ok {
				return
			}
		case <-deadline:
			f.s.t.Fatalf("the stream goes on for 20 s %s, want its end", why)
		}
	}
}

func isSet(m message) bool { return m.name == "set" }

// isHead accepts a batch that says that nothing is stored behind it.
func isHead(m message) bool {
	return m.name == "batch" && m.batch.Snapshot == 0 && m.batch.After == m.batch.Seq && len(m.batch.Entries) == 0
}

// snapshotOf returns the entries of a snapshot, and the last part.
func (f *subscription) snapshotOf() (entries []revocation.Entry, last message) {
	f.s.t.Helper()
	for part := 1; ; part++ {
		m := f.next()
		if m.name != "batch" || m.batch.Snapshot != part || m.batch.After != 0 {
			f.s.t.Fatalf("got %+v, want part %d of a snapshot", m, part)
		}
		entries = append(entries, m.batch.Entries...)
		if m.batch.Last {
			return entries, m
		}
		if m.id != "" {
			f.s.t.Errorf("part %d has the id %q, want none before the last part", part, m.id)
		}
	}
}

// revokeNow revokes what request names.
func (s *harness) revokeNow(request issuer.RevocationRequest) {
	s.t.Helper()
	if _, err := s.issuer.Revoke(request); err != nil {
		s.t.Fatal(err)
	}
}

// metricValue returns the value of a gauge without labels.
func (s *harness) metricValue(name string) float64 {
	s.t.Helper()
	families, err := s.metrics.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	s.t.Fatalf("there is no metric %s", name)
	return 0
}

func over11(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }

// A new subscriber gets a snapshot, then a heartbeat, and then each revocation as a Security Event Token, over both
// versions of HTTP. Each signature verifies with the published key set.
func TestFeed(t *testing.T) {
	for name, edits := range map[string][]func(*tls.Config){"HTTP/2": nil, "HTTP/1.1": {over11}} {
		t.Run(name, func(t *testing.T) {
			s := newFeedHarness(t)
			s.revokeNow(issuer.RevocationRequest{Application: "northwind-ledger"})
			f := s.subscribe("", edits...)
			if f.response.Proto[:len("HTTP/2")] != name[:len("HTTP/2")] {
				t.Fatalf("the response came over %s, want %s", f.response.Proto, name)
			}
			entries, last := f.snapshotOf()
			if len(entries) != 1 || entries[0].Kind != revocation.Application || entries[0].Subject != "northwind-ledger" {
				t.Errorf("the snapshot has %+v, want the application", entries)
			}
			head := f.skipTo(isHead)
			if head.id != last.id || head.batch.Issuer != s.identifier {
				t.Errorf("got the batch %+v after the snapshot with id %s, want the same id and iss %s", head, last.id, s.identifier)
			}

			thumbprint := access.ThumbprintOf(ledger.Cert).String()
			s.revokeNow(issuer.RevocationRequest{Thumbprint: thumbprint})
			m := f.skipTo(isSet)
			got := m.set
			if got.Entry.Kind != revocation.Certificate || got.Entry.Subject != thumbprint || got.After != head.batch.Seq || got.Seq <= got.After ||
				got.Epoch != head.batch.Epoch || got.Issuer != s.identifier || got.ID != m.id {
				t.Errorf("got the token %+v behind %s, want the certificate", got, head.id)
			}
			if _, ok := got.Events[revocation.SessionRevoked]; !ok || len(got.Events) != 1 || got.Subject.Format != "opaque" || got.Subject.ID != "x5t#S256:"+thumbprint {
				t.Errorf("got events %v and sub_id %v, want session-revoked of the certificate", got.Events, got.Subject)
			}
			if age := time.Since(got.Time.Time); age < -time.Minute || age > time.Minute {
				t.Errorf("toe is %s ago, want now", age)
			}
			if head := f.skipTo(isHead); head.id != m.id {
				t.Errorf("the heartbeat has the id %s, want %s", head.id, m.id)
			}
			status := s.issuer.RevocationStatus()
			if events := status.Feed.Events; status.Unknown != nil || status.Feed.Subscribers != 1 || status.Feed.Position.String() != m.id || len(events) != 2 || events[0].Entry.Subject != thumbprint {
				t.Errorf("RevocationStatus() = %+v, want 1 subscriber at %s and 2 events, the certificate first", status, m.id)
			}
		})
	}
}

// A subscriber that connects again gets only the revocations that it missed: few revocations one by one, many as a
// batch.
func TestFeedDelta(t *testing.T) {
	s := newFeedHarness(t)
	f := s.subscribe("")
	f.snapshotOf()
	at := f.skipTo(isHead).id
	f.close()
	for _, missed := range []int{0, 1, 3, 40} {
		for range missed {
			s.revokeNow(issuer.RevocationRequest{Token: s.token().Token})
		}
		want, _ := revocation.ParsePosition(at)
		f := s.subscribe(at)
		got := 0
		for {
			m := f.next()
			switch after := want.Seq; {
			case isSet(m):
				got++
				want.Seq = m.set.Seq
				if m.set.After != after {
					t.Errorf("a token begins behind %d, want %d", m.set.After, after)
				}
			case m.batch.Snapshot != 0 || m.batch.After != after:
				t.Errorf("got %+v, want a batch behind %d", m, after)
			default:
				got += len(m.batch.Entries)
				want.Seq = m.batch.Seq
			}
			at = m.id
			if isHead(m) {
				break
			}
		}
		if got != missed {
			t.Errorf("got %d revocations, want the %d missed", got, missed)
		}
		f.close()
	}
}

// A subscriber whose position is not in the log gets a snapshot, and a header that is not a position is refused.
func TestFeedLastEventID(t *testing.T) {
	s := newFeedHarness(t)
	s.revokeNow(issuer.RevocationRequest{Application: "northwind-ledger"})
	f := s.subscribe("")
	f.snapshotOf()
	position, err := revocation.ParsePosition(f.skipTo(isHead).id)
	if err != nil {
		t.Fatal(err)
	}
	f.close()
	for _, forged := range []string{
		"other:" + "1", "0:0", strings.ToLower(position.Epoch) + "x:1",
		revocation.Position{Epoch: position.Epoch, Seq: position.Seq + 1_000_000}.String(), // ahead of the issuer
	} {
		f := s.subscribe(forged)
		entries, last := f.snapshotOf()
		if len(entries) != 1 || last.id != position.String() {
			t.Errorf("Last-Event-ID %q: got a snapshot with %v up to %s, want one entry up to %s", forged, entries, last.id, position)
		}
		f.close()
	}
	for _, values := range [][]string{{"x"}, {"a:b"}, {":1"}, {"a:-1"}, {""}, {position.String(), position.String()}} {
		s.refused(s.send(sidecar, "GET", feedPath, http.Header{"Last-Event-Id": values}, ""), "invalid_request")
	}
}

// Only a client with revocations: true and its certificate may subscribe.
func TestFeedRefusals(t *testing.T) {
	s := newFeedHarness(t)
	for _, tt := range []struct {
		name, path string
		pair       *testpki.Pair
		want       string
	}{
		{"resource server without revocations", "/revocations?client_id=accounts-api", accounts, "not_subscriber"},
		{"application", "/revocations?client_id=northwind-ledger", ledger, "not_subscriber"},
		{"certificate of another client", feedPath, accounts, "invalid_client"},
		{"certificate of another authority", feedPath, imposterCA.Leaf("orders-gate", testpki.DNS("orders-gate.internal")), "invalid_client"},
		{"no certificate", feedPath, nil, "invalid_client"},
		{"unknown client", "/revocations?client_id=unknown", sidecar, "invalid_client"},
		{"no client_id", "/revocations", sidecar, "invalid_request"},
		{"client_id twice", feedPath + "&client_id=orders-gate", sidecar, "invalid_request"},
		{"further parameter", feedPath + "&after=1", sidecar, "invalid_request"},
		{"client secret", feedPath + "&client_secret=x", sidecar, "invalid_request"},
	} {
		s.run(tt.name, func(*testing.T) { s.refused(s.send(tt.pair, "GET", tt.path, nil, ""), tt.want) })
	}
	s.refused(s.send(sidecar, "POST", feedPath, form.Clone(), ""), "method_not_allowed")
}

// A stream ends when its subscriber may not subscribe any more: its certificate is revoked, or a reload removes the client
// or its right.
func TestFeedRecheck(t *testing.T) {
	t.Run("certificate revoked", func(t *testing.T) {
		s := newFeedHarness(t)
		f := s.subscribe("")
		f.snapshotOf()
		s.revokeNow(issuer.RevocationRequest{Thumbprint: access.ThumbprintOf(sidecar.Cert).String()})
		f.ends("after the certificate was revoked")
		s.refused(s.send(sidecar, "GET", feedPath, nil, ""), "invalid_client")
	})
	for name, edit := range map[string]func(*config.ResourceServer){
		"right removed":       func(r *config.ResourceServer) { r.Revocations = false },
		"certificate changed": func(r *config.ResourceServer) { r.Certificate.SANDNS = "other.internal" },
		"client renamed":      func(r *config.ResourceServer) { r.ClientID = "other-gate" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newFeedHarness(t)
			f := s.subscribe("")
			f.snapshotOf()
			cfg := *s.configured
			own := *cfg.Issuer
			cfg.Issuer = &own
			own.ResourceServers = slices.Clone(own.ResourceServers)
			edit(&own.ResourceServers[len(own.ResourceServers)-1])
			s.reload(&cfg)
			f.ends("after the reload")
		})
	}
}

// reload replaces the issuer by an issuer for cfg that shares its state.
func (s *harness) reload(cfg *config.Config) {
	s.t.Helper()
	s.options.Lease = s.pool.Lease()
	next, err := issuer.New(cfg, s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.latest.Store(next)
}

// A stream continues during a rotation of the signing key, and messages that were signed before are signed again by
// a published key.
func TestFeedRotation(t *testing.T) {
	s := newFeedHarness(t, func(cfg *config.Config) {
		cfg.Issuer.Signing = config.Signing{Algorithm: config.ES256, Rotate: 24 * time.Hour}
	})
	f := s.subscribe("")
	f.snapshotOf()
	at := f.skipTo(isHead).id
	s.revokeNow(issuer.RevocationRequest{Application: "northwind-ledger"})
	f.skipTo(isSet)
	before := s.keySet()
	if _, err := s.issuer.RotateKeys(); err != nil {
		t.Fatal(err)
	}
	if s.keySet() == before {
		t.Fatal("the key set has not changed")
	}
	s.revokeNow(issuer.RevocationRequest{Application: "southridge-payroll"})
	if got := f.skipTo(isSet).set.Entry.Subject; got != "southridge-payroll" {
		t.Errorf("after the rotation got the revocation of %s, want southridge-payroll", got)
	}
	again := s.subscribe(at)
	for _, want := range []string{"northwind-ledger", "southridge-payroll"} {
		if got := again.skipTo(isSet).set.Entry.Subject; got != want {
			t.Errorf("after the rotation a new stream has %s, want %s", got, want)
		}
	}
}

// While the database is away, an open stream gets no batch, and a new stream is refused.
func TestFeedWithoutDatabase(t *testing.T) {
	server := testpostgres.Start(t)
	s := newFeedHarness(t, onDatabase(t, server))
	f := s.subscribe("")
	f.snapshotOf()
	f.skipTo(isHead)
	server.Stop()
	stopped := time.Now()
	within(t, "a new stream is refused", func() bool {
		select {
		case m := <-f.messages:
			if age := time.Since(stopped); m.name == "" || age > revocation.HeartbeatInterval+time.Second {
				t.Fatalf("got %+v from the open stream %s after the database was stopped, want silence", m, age)
			}
		case <-time.After(50 * time.Millisecond):
		}
		return s.probe() == 503
	})
	if got := s.metricValue("tallygate_issuer_revocations_current"); got != 0 || s.issuer.RevocationStatus().Unknown == nil {
		t.Errorf("tallygate_issuer_revocations_current is %v and the status has no error, want 0 and an error", got)
	}
	server.Restart()
	f.skipTo(isHead)
	if got := s.metricValue("tallygate_issuer_revocations_current"); got != 1 {
		t.Errorf("with the database tallygate_issuer_revocations_current is %v, want 1", got)
	}
}

// The streams end when the process stops, and a new stream is refused.
func TestFeedEnd(t *testing.T) {
	s := newFeedHarness(t)
	f := s.subscribe("")
	f.snapshotOf()
	s.issuer.EndStreams()
	f.ends("after EndStreams")
	s.refused(s.send(sidecar, "GET", feedPath, nil, ""), "temporarily_unavailable")
	var line map[string]any
	for text := range strings.SplitSeq(s.logged(), "\n") {
		if strings.Contains(text, "revocation stream ended") {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if line["cause"] != "stopping" || line["client_id"] != "orders-gate" || line["snapshots"] != 1.0 {
		t.Errorf("the log line of the end is %v, want cause stopping and one snapshot", line)
	}
}

// logged returns the log.
func (s *harness) logged() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// The answer to a revocation says how many gates have a stream open at this issuer, over mutual TLS and on the socket.
func TestRevocationStreams(t *testing.T) {
	s := newFeedHarness(t, withOperators)
	answers := func() (all []string) {
		w := httptest.NewRecorder()
		s.issuer.ServeOperator(w, httptest.NewRequest("POST", "/revocations", strings.NewReader(`{"application":"northwind-ledger"}`)))
		for _, body := range []string{s.operate(anna, `{"application":"northwind-ledger"}`).body, w.Body.String()} {
			var response issuer.RevocationResponse
			if err := json.Unmarshal([]byte(body), &response); err != nil || response.Streams == nil {
				t.Fatalf("got the answer %s, want one with streams", body)
			}
			all = append(all, strconv.Itoa(*response.Streams))
		}
		return all
	}
	if got := answers(); !slices.Equal(got, []string{"0", "0"}) {
		t.Errorf("without gates: got streams %q, want 0", got)
	}
	first := s.subscribe("")
	first.skipTo(isHead)
	second := s.subscribe("")
	second.skipTo(isHead)
	go func() {
		for range first.messages { //nolint:revive // the stream must not wait for the test
		}
	}()
	go func() {
		for range second.messages { //nolint:revive // the stream must not wait for the test
		}
	}()
	if got := answers(); !slices.Equal(got, []string{"2", "2"}) {
		t.Errorf("with two gates: got streams %q, want 2", got)
	}
	response, err := s.issuer.Revoke(issuer.RevocationRequest{Partner: "northwind"})
	if err != nil || response.Streams != nil {
		t.Errorf("Revoke in the process of a command returned %+v, %v; want no streams", response, err)
	}

	without := newHarness(t, "", withOperators)
	if a := without.operate(anna, `{"application":"northwind-ledger"}`); strings.Contains(a.body, "streams") {
		t.Errorf("without gates that may subscribe: got the answer %s, want no streams", a.body)
	}
}
