// Package proxy is the gate's HTTP handler. It runs the checks of packages mtls, validate and policy
// in order, and then forwards the request or answers with a refusal. In both cases it writes one log
// line and counts one decision.
package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/upstream"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/validate"
)

// Steps are the checks of a request, in their order.
type Steps struct {
	Trust     *mtls.Trust
	Validator *validate.Validator
	Table     *policy.Table
}

// Options configure a [Proxy].
type Options struct {
	Log     *slog.Logger // must be set
	Metrics *Metrics     // must be set
	// Lease shares these values with the Proxy of the previous configuration: the connections to
	// unchanged upstreams, the counts and rates, and the key of assertions. It must be set. The
	// release of the Lease closes idle connections. It also removes the certificate metric of each
	// partner that no Proxy has, so that a removed partner causes no alert. Requests in progress
	// continue.
	Lease *reuse.Lease
	// The Proxies of all configurations share one Streams. If Streams is nil, the Proxy has its own.
	Streams *Streams
	// Overloaded reports whether a new request must be refused for lack of slots or memory. Nil means
	// never.
	Overloaded func() bool
	// SlotsLeft returns the number of free slots for concurrent requests. Nil means no limit.
	SlotsLeft func() int64
	// Closing reports whether each response must end its connection. Nil means never.
	Closing func() bool
}

// Proxy is the gate's handler. It is safe for concurrent use.
type Proxy struct {
	steps          Steps
	upstreams      map[string]*upstream.Upstream // by API name
	partnerMetrics map[string]*partnerMetrics    // by partner name, and also under unknownPartner
	limits         partnerLimits
	headers        *headerRules
	asserter       *asserter // nil if no route needs assertions
	forwardedHost  bool      // front proxies name the host that the client called
	bodyBytes      int64
	stall          time.Duration
	paths          config.LogPaths
	samples        bool // if true, the gate logs one granted request a second for each partner and route
	streams        *Streams
	metrics        *Metrics
	retired        atomic.Bool // set when the next configuration is in use
	log            *slog.Logger

	overloaded, closing func() bool
	slotsLeft           func() int64
}

// New returns the handler for cfg. It reads the files of the upstreams and returns all their faults in
// one error. It opens no connection.
func New(cfg *config.Config, steps Steps, options Options) (*Proxy, error) {
	lease := options.Lease
	asserter, err := newAsserter(lease, cfg)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		steps:          steps,
		upstreams:      make(map[string]*upstream.Upstream, len(cfg.APIs)),
		partnerMetrics: make(map[string]*partnerMetrics, 1+len(cfg.Partners.List)),
		limits:         newLimits(lease, cfg),
		headers:        newHeaderRules(cfg.IdentityHeaders, cfg.Listener.ClientCertificates.Header),
		asserter:       asserter,
		forwardedHost:  cfg.Listener.ClientCertificates.Header != nil && cfg.Listener.ClientCertificates.Header.ForwardedHost,
		bodyBytes:      int64(cfg.Listener.Limits.BodyBytes),
		stall:          cfg.Listener.Limits.StallTimeout,
		paths:          cfg.Log.Paths,
		samples:        cfg.Log.Granted == config.LogSample,
		streams:        options.Streams,
		metrics:        options.Metrics,
		log:            options.Log,

		overloaded: orFalse(options.Overloaded),
		closing:    orFalse(options.Closing),
		slotsLeft:  options.SlotsLeft,
	}
	if p.slotsLeft == nil {
		p.slotsLeft = unbounded
	}
	if p.streams == nil {
		p.streams = NewStreams(func() *Proxy { return p })
	}
	p.partnerMetrics[unknownPartner] = &partnerMetrics{partner: unknownPartner, routes: make(map[metricKey]*routeMetrics)}
	p.metrics.createSeries(cfg)
	for _, partner := range cfg.Partners.List {
		name := string(partner.Name)
		p.partnerMetrics[name] = &partnerMetrics{partner: name, routes: make(map[metricKey]*routeMetrics)}
		lease.Hold("certificate metric of "+name, func() { p.metrics.clientCertificate.DeleteLabelValues(name) })
	}
	// The Proxy is acquired after the metrics, so it is released before them.
	_, _ = reuse.Acquire(lease, "proxy", nil, func(*Proxy) (*Proxy, error) { return p, nil }, func(p *Proxy) { p.retired.Store(true) })
	var faults []error
	for _, api := range cfg.APIs {
		name := string(api.Name)
		if p.upstreams[name], err = upstream.New(lease, name, api.Upstream, options.Log); err != nil {
			faults = append(faults, fmt.Errorf("preparing the upstream of API %q: %w", name, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return p, nil
}

func orFalse(condition func() bool) func() bool {
	if condition == nil {
		return func() bool { return false }
	}
	return condition
}

// ServeHTTP decides about r, and forwards or refuses it. It logs and counts every request, even after
// a panic.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.newExchange(w, r)
	defer x.end() // end runs last, even if the other deferred calls panic
	defer p.record(x)
	defer x.recoverPanic(p.log)

	x.decision = p.decide(&x.checkedRequest, p.overloaded)
	p.admit(&x.decision, &x.slots)
	p.addAssertion(&x.checkedRequest)
	x.decided, x.overhead = true, time.Since(x.started)
	if x.decision.Reason != access.Granted {
		if !p.steps.Trust.BehindProxy() && x.decision.Reason.Stage() == access.StageCertificate && x.decision.Reason.Status() == http.StatusUnauthorized {
			// Every later request on this connection would have the same certificate, so the
			// connection is closed. In this way the removal of an anchor also closes open
			// connections.
			x.conn.closeAfter()
		}
		if x.decision.Reason == access.Overloaded && x.certificate == nil && r.ProtoMajor > 1 {
			writeOverloaded(&x.response)
			return
		}
		writeRefusal(&x.response, x.decision, x.request.Header["Authorization"] != nil)
		return
	}
	p.forward(x)
}

// RefuseMalformed answers, logs and counts a message that is not a valid HTTP/1.x request. fault says
// why it is not valid. r has only the addresses and the TLS state of the connection. The caller must
// close the connection.
func (p *Proxy) RefuseMalformed(w http.ResponseWriter, r *http.Request, fault http1.Error) {
	x := p.newExchange(w, r)
	defer x.end()
	defer p.record(x)
	x.decision = access.Decision{Reason: access.MalformedRequest, Err: fault}
	x.decided, x.overhead = true, time.Since(x.started)
	writeRefusalAs(&x.response, fault.Status(), x.decision, false)
}

// addAssertion signs the assertion of a granted request if its route needs an assertion. If signing fails,
// the request is refused as Undecided.
func (p *Proxy) addAssertion(c *checkedRequest) {
	if c.decision.Reason != access.Granted || !c.decision.Asserted {
		return
	}
	var err error
	if c.assertion, err = p.asserter.sign(c, time.Now()); err != nil {
		c.decision.Reason, c.decision.Err = access.Undecided, err
	}
}
