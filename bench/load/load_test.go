package load

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tallygate/tallygate/internal/testpki"
)

const (
	forgetful = "forgetful" // the name of a server that issues no tickets
	body      = "hello"
	stall     = 400 * time.Millisecond // the pause in requests with the token "slow"
)

// An api is a server with mutual TLS that counts its requests.
type api struct {
	*httptest.Server
	mutex      sync.Mutex
	tokens     map[string]int // by Authorization
	certified  map[string]int // requests, by the certificate's name and the protocol
	handshakes atomic.Int32
	resumed    atomic.Int32
}

// drive runs a job against a new api and returns the result.
func drive(t *testing.T, job Job) (*api, Result, error) {
	t.Helper()
	ca := testpki.NewCA("Partners")
	servers := testpki.NewCA("Servers")
	a := &api{tokens: map[string]int{}, certified: map[string]int{}}
	a.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if in.Header.Get("Authorization") == "Bearer slow" {
			time.Sleep(stall)
		}
		sent, _ := io.Copy(io.Discard, in.Body)
		a.mutex.Lock()
		defer a.mutex.Unlock()
		a.tokens[in.Header.Get("Authorization")]++
		a.certified[in.TLS.PeerCertificates[0].Subject.CommonName+" "+in.Proto]++
		if sent != int64(job.Body) {
			out.WriteHeader(http.StatusBadRequest)
		}
		_, _ = io.WriteString(out, body)
	}))
	pool := x509.NewCertPool()
	pool.AddCert(ca.Cert)
	a.EnableHTTP2 = true
	a.TLS = &tls.Config{
		Certificates: []tls.Certificate{servers.Leaf("api", testpki.DNS("api.example.test")).TLS()},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool,
		VerifyConnection: func(c tls.ConnectionState) error {
			a.handshakes.Add(1)
			if c.DidResume {
				a.resumed.Add(1)
			}
			return nil
		},
	}
	a.TLS.SessionTicketsDisabled = job.Name == forgetful
	a.StartTLS()
	t.Cleanup(a.Close)
	job.Address, job.Name = a.Listener.Addr().String(), "api.example.test"
	job.Roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: servers.Cert.Raw})
	for i := range job.Clients {
		p := ca.Leaf(fmt.Sprintf("partner-%d", i))
		job.Clients[i].Certificate, job.Clients[i].Key = p.CertPEM(), p.KeyPEM()
	}
	job.Method, job.Path = "POST", "/"
	if job.Answer == 0 {
		job.Answer = len(body)
	}
	in, orders := io.Pipe()
	answers, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := Run(t.Context(), job, in, out)
		_ = out.Close()
		_ = in.Close()
		ended <- err
	}()
	lines := bufio.NewReader(answers)
	if line, err := lines.ReadString('\n'); err != nil || line != "ready\n" {
		return a, Result{}, <-ended
	}
	_, _ = io.WriteString(orders, "go\n")
	var result Result
	line, err := lines.ReadBytes('\n')
	if err != nil {
		return a, Result{}, <-ended
	}
	if err := json.Unmarshal(line, &result); err != nil {
		return a, Result{}, err
	}
	_ = orders.Close()
	return a, result, <-ended
}

func twoPartners() []Client {
	return []Client{{Tokens: []string{"a1", "a2"}}, {Tokens: []string{"b1", "b2", "b3"}}}
}

// The body of a request is the client's next form, and the answer may be longer than the least size.
func TestForms(t *testing.T) {
	t.Parallel()
	forms := []Client{{Tokens: []string{"client=1", "client=2"}}}
	a, r, err := drive(t, Job{Kind: Forms, Clients: forms, Connections: 2, Duration: 50 * time.Millisecond, Body: len("client=1"), Answer: len(body) - 1})
	if err != nil || r.Done == 0 || a.tokens[""] < r.Done {
		t.Errorf("result %+v, %v, want requests, all without Authorization: %v", r, err, a.tokens)
	}
	if _, _, err := drive(t, Job{Kind: Forms, Clients: forms, Connections: 1, Duration: time.Millisecond, Body: 1, Answer: 1}); err == nil {
		t.Error("no error for forms that the server refuses with 400")
	}
	if _, _, err := drive(t, Job{Kind: Forms, Clients: forms, Connections: 1, Duration: time.Millisecond, Body: len("client=1"), Answer: len(body) + 1}); err == nil {
		t.Error("no error for answers that are shorter than the least size")
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	a, r, err := drive(t, Job{Kind: Requests, Clients: twoPartners(), Connections: 4, Duration: 50 * time.Millisecond, Body: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	if r.Done == 0 || r.Elapsed < 50*time.Millisecond || r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P99 {
		t.Errorf("result %+v", r)
	}
	if a.handshakes.Load() != 4 {
		t.Errorf("%d handshakes for 4 connections", a.handshakes.Load())
	}
	for _, token := range []string{"a1", "a2", "b1", "b2", "b3"} {
		if a.tokens["Bearer "+token] == 0 {
			t.Errorf("the token %s was not used: %v", token, a.tokens)
		}
	}
	if a.certified["partner-0 HTTP/1.1"] == 0 || a.certified["partner-1 HTTP/1.1"] == 0 || len(a.certified) != 2 {
		t.Errorf("requests by %v", a.certified)
	}
}

// Each token except a client's first is used once, independent of the duration.
func TestOnce(t *testing.T) {
	t.Parallel()
	a, r, err := drive(t, Job{Kind: Requests, Clients: twoPartners(), Connections: 2, Once: true, WarmUp: 20 * time.Millisecond})
	if err != nil || r.Done != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	for token, n := range a.tokens {
		if first := strings.HasSuffix(token, "1"); !first && n != 1 {
			t.Errorf("%s was used %d times", token, n)
		}
	}
	if len(a.tokens) != 5 {
		t.Errorf("tokens: %v", a.tokens)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	a, r, err := drive(t, Job{Kind: Streams, Clients: twoPartners(), Connections: 2, Streams: 8, Duration: 50 * time.Millisecond, Body: 10})
	if err != nil || r.Done == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if a.handshakes.Load() != 2 || a.certified["partner-0 HTTP/2.0"] == 0 || a.certified["partner-1 HTTP/2.0"] == 0 {
		t.Errorf("%d handshakes, requests by %v", a.handshakes.Load(), a.certified)
	}
}

func TestHandshakes(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Full, Resumed} {
		resumed := kind == Resumed
		a, r, err := drive(t, Job{Kind: kind, Clients: twoPartners(), Connections: 2, Duration: 50 * time.Millisecond})
		if err != nil || r.Done == 0 {
			t.Fatalf("%s: %+v, %v", kind, r, err)
		}
		if n := int(a.resumed.Load()); resumed && n < r.Done || !resumed && n > 0 {
			t.Errorf("%s: %d of %d were resumed", kind, n, r.Done)
		}
		if int(a.handshakes.Load()) < r.Done || len(a.tokens) > 0 {
			t.Errorf("%s: %d handshakes at the server, %d done, requests %v", kind, a.handshakes.Load(), r.Done, a.tokens)
		}
	}
}

// Each connection sends a request when it is opened, and another when all are open.
func TestIdle(t *testing.T) {
	t.Parallel()
	a, r, err := drive(t, Job{Kind: Idle, Clients: twoPartners(), Connections: 7})
	requests := 0
	for _, n := range a.tokens {
		requests += n
	}
	if err != nil || r.Done != 7 || a.handshakes.Load() != 7 || requests != 14 {
		t.Errorf("%+v, %v, %d handshakes, %d requests", r, err, a.handshakes.Load(), requests)
	}
}

// While the server stalls, requests are still planned, and their waiting time counts.
func TestOpen(t *testing.T) {
	t.Parallel()
	job := Job{Kind: Open, Clients: []Client{{Tokens: []string{"a"}}}, Connections: 1, Rate: 100, Duration: 600 * time.Millisecond}
	_, r, err := drive(t, job)
	if err != nil || r.Done != 60 || r.Elapsed < 500*time.Millisecond {
		t.Errorf("%+v, %v", r, err)
	}
	job.Clients[0].Tokens = slices.Repeat([]string{"a"}, 50)
	job.Clients[0].Tokens[9] = "slow"
	_, r, err = drive(t, job)
	// The tenth request takes 400 ms, the next request is answered 390 ms after its planned time, the next
	// 380 ms and so on: most of the 60 requests wait, though the server answers all but one at once. A
	// generator that waits for answers would measure one slow request.
	if err != nil || r.Done != 60 || r.Latency.Max < stall || r.Latency.P50 < 50*time.Millisecond {
		t.Errorf("%+v, %v", r, err)
	}
}

// A measurement with a failed request or handshake has no result.
func TestFailures(t *testing.T) {
	t.Parallel()
	for _, job := range []Job{
		{Kind: Requests, Answer: 3},
		{Kind: Streams, Streams: 2, Answer: 3},
		{Kind: Requests, Groups: []tls.CurveID{0xffff}},
		{Kind: Resumed, Name: forgetful},
	} {
		job.Clients, job.Connections, job.Duration = twoPartners(), 2, time.Second
		if _, r, err := drive(t, job); err == nil {
			t.Errorf("%+v: no error, %+v", job, r)
		}
	}
}
