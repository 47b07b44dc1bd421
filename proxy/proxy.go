// Package proxy is the gate's HTTP handler. It has each request decided by package authorize, and then forwards
// the request or answers with a refusal. In both cases it records the request with package accesslog.
package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/accesslog"
	"github.com/tallygate/tallygate/internal/assertion"
	"github.com/tallygate/tallygate/internal/authorize"
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/limits"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/internal/tracing"
	"github.com/tallygate/tallygate/internal/upstream"
)

// Options configure a [Proxy].
type Options struct {
	Log     *slog.Logger       // must be set
	Metrics *accesslog.Metrics // must be set
	// Lease shares these values with the Proxy of the previous configuration: the connections to
	// unchanged upstreams, the counts and rates, and the key of assertions. It must be set. The
	// release of the Lease closes idle connections, and has the effect that
	// [accesslog.NewRecorder] describes. Requests in progress continue.
	Lease *reuse.Lease
	// The Proxies of all configurations share one Streams. If Streams is nil, the Proxy has its own.
	Streams *Streams
	Tracer  *tracing.Tracer // nil: no request is traced
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
	checks        *authorize.Checks
	upstreams     map[string]*upstream.Upstream // by API name
	recorder      *accesslog.Recorder
	limits        *limits.Limits
	headers       *headerRules
	tracer        *tracing.Tracer   // nil: no request is traced
	signer        *assertion.Signer // nil if no route needs assertions
	correlation   config.Correlation
	trustsContext map[string]bool // by partner name: the partner's trace context is passed on
	stall         time.Duration
	streams       *Streams
	log           *slog.Logger

	overloaded, closing func() bool
	slotsLeft           func() int64
}

// New returns the handler for cfg, from which checks were made. It reads the files of the upstreams and returns all their faults in
// one error. It opens no connection.
func New(cfg *config.Config, checks *authorize.Checks, options Options) (*Proxy, error) {
	lease := options.Lease
	signer, err := assertion.NewSigner(lease, cfg)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		checks:        checks,
		upstreams:     make(map[string]*upstream.Upstream, len(cfg.APIs)),
		recorder:      accesslog.NewRecorder(lease, cfg, options.Log, options.Metrics),
		limits:        limits.New(lease, cfg),
		headers:       newHeaderRules(cfg.IdentityHeaders, cfg.Listener.ClientCertificates.Header, cfg.Correlation),
		tracer:        options.Tracer,
		signer:        signer,
		correlation:   cfg.Correlation,
		trustsContext: trustedContexts(cfg),
		stall:         cfg.Listener.Limits.StallTimeout,
		streams:       options.Streams,
		log:           options.Log,

		overloaded: options.Overloaded,
		closing:    options.Closing,
		slotsLeft:  options.SlotsLeft,
	}
	if p.slotsLeft == nil {
		p.slotsLeft = func() int64 { return math.MaxInt64 }
	}
	if p.streams == nil {
		p.streams = NewStreams(func() *Proxy { return p })
	}
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

// ServeHTTP decides about r, and forwards or refuses it. It logs and counts every request, even after
// a panic.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.newExchange(w, r)
	defer x.end() // end runs last, even if the other deferred calls panic
	defer p.record(x)
	defer x.recoverPanic(p.log)

	x.Decide(p.overloaded)
	p.limits.Admit(&x.Decision, p.slotsLeft(), &x.slots) // a recheck does not call Admit, because its stream already has its slots
	p.addAssertion(&x.checkedRequest)
	x.decided, x.overhead = true, time.Since(x.started)
	if x.Decision.Reason != access.Granted {
		if !p.checks.Trust.BehindProxy() && x.Decision.Reason.Stage() == access.StageCertificate && x.Decision.Reason.Status() == http.StatusUnauthorized {
			// Every later request on this connection would have the same certificate, so the
			// connection is closed. In this way the removal of an anchor also closes open
			// connections.
			x.conn.closeAfter()
		}
		if x.Decision.Reason == access.Overloaded && x.Certificate == nil && r.ProtoMajor > 1 {
			x.refuseOverloaded()
			return
		}
		x.refuse(x.Decision, x.Request.Header["Authorization"] != nil)
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
	x.Decision = access.Decision{Reason: access.MalformedRequest, Err: fault}
	x.decided, x.overhead = true, time.Since(x.started)
	x.refuseAs(fault.Status(), x.Decision, false)
}

// AssertionKeys serves the key set with which upstreams verify assertions. It is nil if no route needs
// assertions.
func (p *Proxy) AssertionKeys() http.Handler {
	if p.signer == nil {
		return nil
	}
	return p.signer
}

// addAssertion signs the assertion of a granted request if its route needs an assertion. If signing fails,
// the request is refused as Undecided.
func (p *Proxy) addAssertion(c *checkedRequest) {
	if c.Decision.Reason != access.Granted || !c.Decision.Asserted {
		return
	}
	of := assertion.Subject{Decision: &c.Decision, Thumbprint: c.Thumbprint(), RequestID: c.id, ID: c.id}
	if c.idFromClient { // a client may use an id again
		of.ID = newID()
	}
	var err error
	if c.assertion, err = p.signer.Sign(&of, time.Now()); err != nil {
		c.Decision.Reason, c.Decision.Err = access.Undecided, err
	}
}
