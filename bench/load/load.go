// Package load generates load for one server over mutual TLS and measures how fast it answers. It runs
// in a separate process, so that its CPU time does not count as the server's.
//
// The parent process reads the line "ready" when all connections are open and warm, writes "go", and
// reads a [Result]. The CPU time that the server uses between "go" and the result is the cost of the
// work. The connections stay open until the parent closes the generator's standard input.
package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/tallygate/tallygate/bench/stats"
)

// A Kind is a kind of load.
type Kind string

// The kinds.
const (
	Requests Kind = "requests" // HTTP/1.1; each connection sends the next request after the answer
	Streams  Kind = "streams"  // the same over HTTP/2
	Open     Kind = "open"     // HTTP/1.1; each request has a planned time (open loop)
	Full     Kind = "full"     // full TLS handshakes without requests
	Resumed  Kind = "resumed"  // TLS handshakes that resume a session, without requests
	Idle     Kind = "idle"     // connections that made requests and stay open
	Forms    Kind = "forms"    // as Requests, but POST of forms, which are the Tokens of the clients
)

// requestTimeout bounds the time of a request or handshake.
const requestTimeout = 20 * time.Second

// A Job describes a load.
type Job struct {
	Kind        Kind
	Address     string `json:"-"` // the server's address, host:port
	Name        string // the server's name, for SNI, its certificate and Host
	Roots       []byte // PEM anchors of its certificate
	Clients     []Client
	Connections int           // assigned to the clients in turn; for Full and Resumed, handshakes at a time
	Streams     int           // for Streams, requests at a time on each connection
	WarmUp      time.Duration // the least time of the warm-up, which also uses each token once unless Once is set
	Duration    time.Duration // the duration of the measurement; ignored with Once
	Once        bool          // measure until each token has been used once; a connection's first token is for the warm-up
	Rate        float64       // for Open, requests per second on all connections together
	Method      string
	Path        string
	Body        int           // bytes in the body of each request
	Answer      int           // bytes that the body of each answer must have; for Forms, the least number
	Groups      []tls.CurveID // key exchanges to offer; nil means Go's default
}

// A Client is a partner.
type Client struct {
	Certificate, Key []byte // PEM
	Tokens           []string
}

// A Result counts completed requests, handshakes or connections. The measurement fails unless every
// request was answered with 200 and the whole body, and every handshake succeeded.
type Result struct {
	Done    int           `json:"done"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Latency Latency       `json:"latency"`
	// Late is the 99th percentile of the delays between the planned time of a request in an open loop
	// and the time when its connection got it: the generator's part of the latency.
	Late time.Duration `json:"late_p99_ns,omitempty"`
}

// Latency has percentiles of the durations of requests or handshakes. In an open loop a duration starts
// at the planned time.
type Latency struct {
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Run runs the job. It writes to the parent process on out and reads from it on in.
func Run(ctx context.Context, job Job, in io.Reader, out io.Writer) error {
	workers, err := open(ctx, job)
	defer func() {
		for _, w := range workers {
			w.close()
		}
	}()
	if err != nil {
		return err
	}
	if job.Kind == Idle {
		err = visit(workers)
	} else {
		err = warm(job, workers)
	}
	if err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	orders := bufio.NewReader(in)
	if _, err := orders.ReadString('\n'); err != nil {
		return fmt.Errorf("waiting for the start: %w", err)
	}
	var result Result
	switch job.Kind {
	case Idle:
		result.Done = len(workers)
	case Open:
		result, err = onTime(job, workers)
	case Requests, Streams, Full, Resumed, Forms:
		result, err = closed(workers, job.Once, time.Now().Add(job.Duration))
	}
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(result); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, orders)
	return err
}

// A worker takes one step after another.
type worker struct {
	step   func(token string) error // one request or one handshake
	close  func()
	tokens []string // each step takes the next
	next   int
	took   []time.Duration
}

func (w *worker) token() string {
	token := w.tokens[w.next%len(w.tokens)]
	w.next++
	return token
}

// open returns the workers with open connections. With an error it returns the workers made so far.
func open(ctx context.Context, job Job) ([]*worker, error) {
	clients, err := configurations(job)
	if err != nil {
		return nil, err
	}
	var workers []*worker
	add := func(i int, step func(string) error, end func()) {
		c := job.Clients[i%len(clients)]
		// Connections of one client start with different tokens.
		workers = append(workers, &worker{step: step, close: end, tokens: c.Tokens, next: i / len(clients)})
	}
	for i := range job.Connections {
		config := clients[i%len(clients)].Clone()
		switch job.Kind {
		case Requests, Open, Idle, Forms:
			c, err := dial(ctx, job, config)
			if err != nil {
				return workers, err
			}
			add(i, c.call, c.close)
		case Streams:
			c := newClient(job, config)
			for range job.Streams {
				add(i, c.call, c.close)
			}
		case Full, Resumed:
			h := &handshaker{ctx: ctx, address: job.Address, configs: clients, next: i}
			if job.Kind == Resumed {
				config.ClientSessionCache = &ticket{}
				h.configs = []*tls.Config{config}
			}
			add(i, h.handshake, func() {})
		}
		if job.Kind == Idle { // Apache keeps a thread for each connection that has sent no request
			if err := visit(workers[i:]); err != nil {
				return workers, err
			}
		}
	}
	return workers, nil
}

// configurations returns a TLS configuration for each client.
func configurations(job Job) ([]*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(job.Roots) {
		return nil, errors.New("no anchors")
	}
	var configs []*tls.Config
	for _, c := range job.Clients {
		certificate, err := tls.X509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, err
		}
		configs = append(configs, &tls.Config{
			RootCAs: roots, ServerName: job.Name, Certificates: []tls.Certificate{certificate}, CurvePreferences: job.Groups, MinVersion: tls.VersionTLS13,
		})
	}
	return configs, nil
}

// visit sends one request on each connection in turn. When all connections are open, a request takes less
// than a millisecond, so all connections become idle within a second or two.
func visit(workers []*worker) error {
	for _, w := range workers {
		if err := w.step(w.token()); err != nil {
			return fmt.Errorf("request on an idle connection: %w", err)
		}
	}
	return nil
}

// warm runs the workers for the time of the warm-up and until each token has been used.
func warm(job Job, workers []*worker) error {
	until := time.Now().Add(job.WarmUp)
	return each(workers, func(w *worker) error {
		for i := 0; !job.Once && i < len(w.tokens) || time.Now().Before(until); i++ {
			token := w.tokens[0]
			if !job.Once {
				token = w.token()
			}
			if err := w.step(token); err != nil {
				return err
			}
		}
		if job.Once {
			w.next = 1
		}
		return nil
	})
}

// closed lets each worker take its next step as soon as the last step is done (closed loop).
func closed(workers []*worker, once bool, until time.Time) (Result, error) {
	started := time.Now()
	err := each(workers, func(w *worker) error {
		for now := started; once && w.next < len(w.tokens) || !once && now.Before(until); {
			if err := w.step(w.token()); err != nil {
				return err
			}
			then := time.Now()
			w.took = append(w.took, then.Sub(now))
			now = then
		}
		return nil
	})
	return summary(workers, time.Since(started)), err
}

// each runs do for all workers concurrently and returns the first worker's error, if any.
func each(workers []*worker, do func(*worker) error) error {
	var group sync.WaitGroup
	failures := make([]error, len(workers))
	for i, w := range workers {
		group.Go(func() { failures[i] = do(w) })
	}
	group.Wait()
	for _, err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func summary(workers []*worker, elapsed time.Duration) Result {
	var took []time.Duration
	for _, w := range workers {
		took = append(took, w.took...)
	}
	slices.Sort(took)
	return Result{Done: len(took), Elapsed: elapsed, Latency: Latency{
		P50:  stats.Percentile(took, 0.5),
		P99:  stats.Percentile(took, 0.99),
		P999: stats.Percentile(took, 0.999),
		Max:  stats.Percentile(took, 1),
	}}
}
