// Package load drives one server over mutual TLS and says how fast it answered. It runs as a
// process of its own, so that its own work is not the server's.
//
// The process that starts it reads a line "ready" when all connections stand and are warm,
// sends "go", and reads a [Result]. The connections stay open until it closes the
// generator's standard input: what the server spends between "go" and the result is what the
// work cost, and nothing else.
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

// A Kind is a way to drive a server.
type Kind string

// The kinds.
const (
	Requests Kind = "requests" // HTTP/1.1, the next request as soon as the answer is there
	Streams  Kind = "streams"  // the same over HTTP/2
	Open     Kind = "open"     // HTTP/1.1, each request at its planned time
	Full     Kind = "full"     // TLS handshakes, nothing else
	Resumed  Kind = "resumed"  // the same from a session ticket
	Idle     Kind = "idle"     // connections that made one request and stay
)

// patience is how long one step may take.
const patience = 20 * time.Second

// A Job says what to do.
type Job struct {
	Kind        Kind
	Address     string `json:"-"` // of the server, host:port
	Name        string // of the server: in SNI, in its certificate and in Host
	Roots       []byte // PEM anchors of its certificate
	Clients     []Client
	Connections int           // in turn for each of the clients; for handshakes, how many at a time
	Streams     int           // for Streams, how many requests at a time on each connection
	WarmUp      time.Duration // at least; and at least once through all tokens, unless Once
	Duration    time.Duration // of what is measured; with Once until all tokens are used
	Once        bool          // use no token twice, but the first of each connection, which warms it up
	Rate        float64       // for Open, requests a second over all connections
	Method      string
	Path        string
	Body        int           // bytes that each request carries
	Answer      int           // bytes that each answer must have
	Groups      []tls.CurveID // key exchanges to offer; none: Go's own choice
}

// A Client is one partner.
type Client struct {
	Certificate, Key []byte // PEM
	Tokens           []string
}

// A Result says how it went. Every request was answered with 200 and the whole body, and
// every handshake completed, or else there is no result.
type Result struct {
	Done    int           `json:"done"` // requests or handshakes
	Elapsed time.Duration `json:"elapsed_ns"`
	Latency Latency       `json:"latency"`
	// Late is by how much the 99th percentile of requests of an open loop were handed to
	// their connections after their planned time: what of the latency is the generator's.
	Late time.Duration `json:"late_p99_ns,omitempty"`
}

// Latency has the percentiles of the times that requests or handshakes took; in an open
// loop from the time at which they were planned.
type Latency struct {
	P50  time.Duration `json:"p50_ns"`
	P99  time.Duration `json:"p99_ns"`
	P999 time.Duration `json:"p999_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Run does the job, speaking with the process that started it over in and out.
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
	if job.Kind != Idle {
		if err := warm(job, workers); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
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
	case Requests, Streams, Full, Resumed:
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

// A worker makes one step after the other.
type worker struct {
	step   func(token string) error // one request or one handshake
	close  func()
	tokens []string // of which each step takes the next
	next   int
	took   []time.Duration
}

func (w *worker) token() string {
	token := w.tokens[w.next%len(w.tokens)]
	w.next++
	return token
}

// open makes the workers, with connections that stand. What it made before an error is
// returned too.
func open(ctx context.Context, job Job) ([]*worker, error) {
	clients, err := configurations(job)
	if err != nil {
		return nil, err
	}
	var workers []*worker
	add := func(i int, step func(string) error, end func()) {
		c := job.Clients[i%len(clients)]
		// Connections of one client begin at different tokens.
		workers = append(workers, &worker{step: step, close: end, tokens: c.Tokens, next: i / len(clients)})
	}
	for i := range job.Connections {
		config := clients[i%len(clients)].Clone()
		switch job.Kind {
		case Requests, Open, Idle:
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
		if job.Kind == Idle {
			w := workers[i]
			if err := w.step(w.token()); err != nil {
				return workers, fmt.Errorf("connection %d: %w", i, err)
			}
		}
	}
	return workers, nil
}

// configurations returns the TLS configuration of each client.
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

// warm lets the workers run for the time of the warm-up, and through all their tokens.
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

// closed lets each worker make its next step as soon as the last is done.
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

// each runs do for all workers at once and returns their first error.
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
