package feed

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/httpserver"
	"github.com/tallygate/tallygate/internal/testpki"
	"github.com/tallygate/tallygate/issuer/store"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/revocation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testTimeout = 20 * time.Second

var ca = testpki.NewCA("feed")

// A harness is a Feed on a real TLS socket of the gate's own HTTP server, with a log in memory.
type harness struct {
	*Feed
	t       testing.TB
	set     *revocation.Set
	key     *ecdsa.PrivateKey
	address string
	version atomic.Uint64
	refused atomic.Bool // Recheck refuses

	mu   sync.Mutex
	head store.Page // the next page begins where it ends
}

func newHarness(t testing.TB, edits ...func(*Options)) *harness {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, set: revocation.NewSet(), key: key, head: store.Page{Epoch: "one"}}
	options := Options{
		Issuer: "https://issuer.example", Set: h.set, Complete: func() error { return nil }, KeyVersion: h.version.Load,
		Sign: func(typ string, claims jwt.Claims) (string, error) {
			token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
			token.Header["typ"] = typ
			return token.SignedString(key)
		},
		Log: slog.New(slog.DiscardHandler), Metrics: prometheus.NewRegistry(),
		Heartbeat: time.Millisecond, KeepAlive: 50 * time.Millisecond, CatchUp: 100 * time.Millisecond, Recheck: time.Nanosecond,
	}
	for _, edit := range edits {
		edit(&options)
	}
	if h.Feed, err = New(options); err != nil {
		t.Fatal(err)
	}
	h.serve()
	return h
}

// serve serves the feed with timeouts that are much shorter than a stream.
func (h *harness) serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.address = l.Addr().String()
	settings := &tls.Config{Certificates: []tls.Certificate{ca.Leaf("as", testpki.IP("127.0.0.1")).TLS()}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	server := &httpserver.Server{
		Name:    "issuer",
		Limiter: &httpserver.ConnLimiter{Max: 5000, MaxPerAddress: 5000, Refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "refused"}, []string{"limit"})},
		TLS:     mtls.NewListener(func() *tls.Config { return settings }, nil),
		Handler: http.HandlerFunc(h.ServeHTTP),
		Limits: config.Limits{
			HeaderBytes: 32 << 10, HandshakeTimeout: testTimeout, HeaderTimeout: 500 * time.Millisecond, StallTimeout: 500 * time.Millisecond, IdleTimeout: 500 * time.Millisecond,
		},
		RefuseMalformed: func(http.ResponseWriter, *http.Request, http1.Error) {}, HandshakeFailed: func(net.Addr, error) {},
		Panicked:  func(_ net.Addr, p *httpserver.PanicError) { h.t.Error(p, p.Stack) },
		ErrorLog:  log.New(io.Discard, "", 0),
		LowMemory: func() bool { return false },
	}
	server.Listen(l)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve() }()
	h.t.Cleanup(func() {
		h.End()
		ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
		defer cancel()
		if err := server.Shutdown(ctx, 0); err != nil {
			h.t.Error(err)
		}
		<-ended
	})
}

func (h *harness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	position, _ := revocation.ParsePosition(r.Header.Get("Last-Event-ID"))
	err := h.Serve(w, r, Subscription{ClientID: cmp.Or(r.URL.Query().Get("client_id"), "gate"), Address: "192.0.2.1", Position: position, Recheck: func() error {
		if h.refused.Load() {
			return io.ErrUnexpectedEOF
		}
		return nil
	}})
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func tokenEntry(n uint64) revocation.Entry {
	sum := sha256.Sum256([]byte(fmt.Sprint("jti", n)))
	return revocation.Entry{Kind: revocation.Token, Subject: string(sum[:]), Until: time.Unix(4e9, 0)}
}

// add stores n revocations in one page, and then publishes an empty page.
func (h *harness) add(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	page := store.Page{Epoch: h.head.Epoch, After: h.head.Seq, Seq: h.head.Seq + uint64(n)}
	for i := range n {
		seq := page.After + uint64(i) + 1
		e := tokenEntry(seq)
		if err := h.set.Add(e); err != nil {
			h.t.Error(err)
		}
		page.Additions = append(page.Additions, store.Addition{Seq: seq, Stored: time.Now(), Revocation: store.Revocation{Kind: e.Kind, Subject: e.Subject, Until: e.Until}})
	}
	h.head.Seq = page.Seq
	if n > 0 {
		h.Publish(page)
	}
	h.Publish(store.Page{Epoch: page.Epoch, After: page.Seq, Seq: page.Seq})
}

// poll publishes empty pages until the end of the test.
func (h *harness) poll() {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				h.add(0)
			}
		}
	}()
	h.t.Cleanup(func() { close(stop); <-done })
}

// open opens a stream over HTTP/2 or HTTP/1.1.
func (h *harness) open(lastEventID string, over2 bool) *bufio.Reader {
	h.t.Helper()
	return h.openAs("", lastEventID, over2)
}

func (h *harness) openAs(clientID, lastEventID string, over2 bool) *bufio.Reader {
	h.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: testpki.Pool(ca)}, ForceAttemptHTTP2: over2, ReadBufferSize: 4 << 10}
	r, err := http.NewRequestWithContext(h.t.Context(), "GET", "https://"+h.address+"?client_id="+clientID, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Last-Event-ID", lastEventID)
	response, err := transport.RoundTrip(r)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { response.Body.Close(); transport.CloseIdleConnections() })
	if response.StatusCode != 200 || response.ProtoMajor == 2 != over2 {
		h.t.Fatalf("got %s over %s, want 200 and HTTP/2: %t", response.Status, response.Proto, over2)
	}
	return bufio.NewReader(response.Body)
}

// A received message has the claims that both kinds of messages have.
type received struct {
	Name     string
	ID       string
	Epoch    string
	After    uint64
	Seq      uint64
	Snapshot int
	Last     bool
	IssuedAt float64            `json:"iat"`
	Entry    *revocation.Entry  `json:"entry"`
	Entries  []revocation.Entry `json:"entries"`
}

func (m *received) isHead() bool {
	return m.Entry == nil && m.Snapshot == 0 && len(m.Entries) == 0 && m.After == m.Seq
}

// decode decodes the text of an event, whose signature must verify.
func (h *harness) decode(lines []string) received {
	h.t.Helper()
	var m received
	for _, line := range lines {
		switch name, value, _ := strings.Cut(line, ": "); name {
		case "event":
			m.Name = value
		case "id":
			m.ID = value
		case "data":
			parts := strings.Split(value, ".")
			signature, _ := jwt.NewParser().DecodeSegment(parts[2])
			if err := jwt.SigningMethodES256.Verify(parts[0]+"."+parts[1], signature, &h.key.PublicKey); err != nil {
				h.t.Error(err)
			}
			claims, _ := jwt.NewParser().DecodeSegment(parts[1])
			if err := json.Unmarshal(claims, &m); err != nil {
				h.t.Error(err)
			}
		}
	}
	return m
}

// next reads the next message, and passes over comments.
func (h *harness) next(stream *bufio.Reader) (received, error) {
	var lines []string
	for {
		line, err := stream.ReadString('\n')
		if err != nil {
			return received{}, err
		}
		if line = strings.TrimSuffix(line, "\n"); line != "" && line != ":" {
			lines = append(lines, line)
		} else if line == "" && len(lines) > 0 {
			return h.decode(lines), nil
		}
	}
}

// dropped returns the number of streams that were ended for a cause.
func (h *harness) dropped(cause string) int {
	return int(testutil.ToFloat64(h.metrics.dropped.WithLabelValues(cause)))
}

// within waits until holds returns true.
func (h *harness) within(what string, holds func() bool) {
	h.t.Helper()
	for began := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > testTimeout {
			h.t.Fatalf("%s: not after %s", what, testTimeout)
		}
	}
}

func splitLines(text []byte) []string { return strings.Split(string(text), "\n") }
