package securityevents

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/gatetest"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/revocation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type M = testpki.M

const audience = "https://gate.example"

// A transmitter is an authorization server that offers events for polls over TLS. It refuses polls without its client
// certificate.
type transmitter struct {
	*httptest.Server
	key    *testpki.Signer
	dir    string
	pool   *reuse.Pool                      // shared by the receivers; nil: each has its own
	answer atomic.Pointer[http.HandlerFunc] // replaces the answer to polls; nil: offer

	mu       sync.Mutex
	sets     map[string]string // tokens that are not acknowledged
	reported []pollRequest
}

func newTransmitter(t *testing.T) *transmitter {
	t.Helper()
	s := &transmitter{key: testpki.NewSigner("ES256", "k1"), dir: t.TempDir(), sets: make(map[string]string)}
	ca := testpki.NewCA("private CA")
	ca.Write(s.dir, "ca")
	ca.Leaf("gate").Write(s.dir, "gate")
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer := s.answer.Load(); answer != nil {
			(*answer)(w, r)
			return
		}
		s.offer(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.Leaf("localhost", testpki.IP("127.0.0.1")).TLS()},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: testpki.Pool(ca),
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// offer answers a poll as RFC 8936 section 2 says.
func (s *transmitter) offer(w http.ResponseWriter, r *http.Request) {
	var request pollRequest
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "no poll", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reported = append(s.reported, request)
	for _, id := range request.Acknowledged {
		delete(s.sets, id)
	}
	for id := range request.Errors {
		delete(s.sets, id)
	}
	sets := make(map[string]string)
	for id, raw := range s.sets {
		if len(sets) < request.MaxEvents {
			sets[id] = raw
		}
	}
	writeAnswer(w, M{"sets": sets, "moreAvailable": len(s.sets) > len(sets)})
}

func writeAnswer(w http.ResponseWriter, answer any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_ = json.NewEncoder(w).Encode(answer)
}

func (s *transmitter) add(id, raw string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets[id] = raw
}

// waiting returns the number of tokens that are not acknowledged.
func (s *transmitter) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sets)
}

// respond replaces the answer to polls. With nil the transmitter offers its tokens again.
func (s *transmitter) respond(answer http.HandlerFunc) {
	if answer == nil {
		s.answer.Store(nil)
		return
	}
	s.answer.Store(&answer)
}

// A receiver is a Receiver with the revocations that it has stored.
type receiver struct {
	*Receiver
	registry *prometheus.Registry
	clock    atomic.Int64 // how far the clock is ahead, in nanoseconds
	log      gatetest.Log

	mu      sync.Mutex
	stored  []revocation.Entry
	failing error // of the store
}

func (r *receiver) put(_ context.Context, entries []revocation.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failing == nil {
		r.stored = append(r.stored, entries...)
	}
	return r.failing
}

func (r *receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failing = err
}

func (r *receiver) entries() []revocation.Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stored
}

func (r *receiver) count(of result) int { return int(testutil.ToFloat64(r.metrics.events[of])) }

// receiver returns a receiver that polls s. Its polls are a second apart, or less after failures.
func (s *transmitter) receiver(t *testing.T, edits ...func(*config.AuthorizationServer)) *receiver {
	t.Helper()
	_, keys := gatetest.KeyFile(t, testpki.KeySet(s.key))
	settings := gatetest.AuthorizationServer(keys, func(c *config.AuthorizationServer) {
		c.Connection.Trust = []config.Path{config.Path(filepath.Join(s.dir, "ca.pem"))}
		c.Connection.Certificate = config.KeyPair{Certificate: config.Path(filepath.Join(s.dir, "gate.pem")), Key: config.Path(filepath.Join(s.dir, "gate-key.pem"))}
		c.SecurityEvents = &config.SecurityEvents{
			Audience: audience, MaxStaleness: time.Minute, WhenStale: config.RefuseRevocationsStale,
			Poll: &config.SecurityEventsPoll{
				Endpoint: gatetest.URL(t, s.URL+"/poll"), Interval: time.Second, Authentication: config.PollAuthentication{Method: config.PollTLS},
			},
		}
	})
	for _, edit := range edits {
		edit(&settings)
	}
	r := &receiver{registry: prometheus.NewRegistry()}
	now := func() time.Time { return time.Now().Add(time.Duration(r.clock.Load())) }
	log, lease := slog.New(slog.NewJSONHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})), s.pool.Lease()
	t.Cleanup(lease.Release)
	remote, err := authserver.New(settings, authserver.Options{Log: log, Metrics: authserver.NewMetrics(nil), Now: time.Now, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	source, err := jwks.New(settings, jwks.Options{Remote: remote, Log: log, Metrics: jwks.NewMetrics(nil), Now: time.Now, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	r.Receiver, err = New(settings, Options{Keys: source, Remote: remote, Store: r.put, Log: log, Metrics: NewMetrics(r.registry), Now: now, Lease: lease})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// revoked returns the claims of a token with one event of CAEP about the user alice.
func revoked(id string, edits ...M) M {
	now := time.Now().Unix()
	claims := M{
		"iss": gatetest.Issuer, "aud": audience, "jti": id, "iat": now,
		"sub_id": M{"format": "iss_sub", "iss": gatetest.Issuer, "sub": "alice"},
		"events": M{caep + "session-revoked": M{"event_timestamp": now}},
	}
	for _, edit := range edits {
		for name, value := range edit {
			if claims[name] = value; value == nil {
				delete(claims, name)
			}
		}
	}
	return claims
}

// sign returns the token with the claims.
func (s *transmitter) sign(claims M, header ...M) string {
	return s.key.Token(claims, append([]M{{"typ": "secevent+jwt"}}, header...)...)
}
