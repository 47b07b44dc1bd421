// Package proxy is the gate's HTTP handler. It runs the checks of packages mtls, validate and policy
// in order, and then forwards the request or answers with a refusal. In both cases it writes one log
// line and counts one decision.
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
	"github.com/tallygate/tallygate/internal/http1"
	"github.com/tallygate/tallygate/internal/limits"
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
	Log     *slog.Logger       // must be set
	Metrics *accesslog.Metrics // must be set
	// Lease shares these values with the Proxy of the previous configuration: the connections to
	// unchanged upstreams, the counts and rates, and the key of assertions. It must be set. The
	// release of the Lease closes idle connections, and has the effect that
	// [accesslog.NewRecorder] describes. Requests in progress continue.
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
	steps         Steps
	upstreams     map[string]*upstream.Upstream // by API name
	recorder      *accesslog.Recorder
	limits        *limits.Limits
	headers       *headerRules
	asserter      *asserter // nil if no route needs assertions
	forwardedHost bool      // front proxies name the host that the client called
	correlation   config.Correlation
	trustsContext map[string]bool // by partner name: the partner's trace context is passed on
	bodyBytes     int64
	stall         time.Duration
	streams       *Streams
	log           *slog.Logger

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
		steps:         steps,
		upstreams:     make(map[string]*upstream.Upstream, len(cfg.APIs)),
		recorder:      accesslog.NewRecorder(lease, cfg, options.Log, options.Metrics),
		limits:        limits.New(lease, cfg),
		headers:       newHeaderRules(cfg.IdentityHeaders, cfg.Listener.ClientCertificates.Header, cfg.Correlation),
		asserter:      asserter,
		forwardedHost: cfg.Listener.ClientCertificates.Header != nil && cfg.Listener.ClientCertificates.Header.ForwardedHost,
		correlation:   cfg.Correlation,
		trustsContext: trustedContexts(cfg),
		bodyBytes:     int64(cfg.Listener.Limits.BodyBytes),
		stall:         cfg.Listener.Limits.StallTimeout,
		streams:       options.Streams,
		log:           options.Log,

		overloaded: orFalse(options.Overloaded),
		closing:    orFalse(options.Closing),
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
	p.limits.Admit(&x.decision, p.slotsLeft(), &x.slots) // a recheck does not call Admit, because its stream already has its slots
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
