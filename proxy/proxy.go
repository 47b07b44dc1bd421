// Package proxy is the gate's HTTP handler: a request goes in, the steps of mtls,
// validate and policy are run in order, and out comes a forwarded request or an
// answer that says why not, with one log line and one count either way.
package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/upstream"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/validate"
)

// Steps are the checks that a request must pass, in the order of their running.
type Steps struct {
	Trust     *mtls.Trust
	Validator *validate.Validator
	Table     *policy.Table
}

// Options are what a [Proxy] needs beside its configuration and its steps.
type Options struct {
	Log     *slog.Logger // must be set
	Metrics *Metrics     // must be set
	// Previous is the Proxy that the new one takes the place of, nil for none. They share
	// the connections to upstreams that have not changed, and the key of assertions.
	Previous *Proxy
	// Streams are those of the gate; nil for a Proxy of which no other takes the place.
	Streams *Streams
	// Overloaded reports whether a request is one too many; nil: none is.
	Overloaded func() bool
	// Room returns how many more requests could be in hand; nil: any number.
	SlotsLeft func() int64
	// Parting reports whether answers are to end their connections; nil: they are not.
	Closing func() bool
}

// Proxy is the gate's handler. It is safe for concurrent use.
type Proxy struct {
	steps          Steps
	upstreams      map[string]*upstream.Upstream // by the API's name
	partnerMetrics map[string]*partnerMetrics    // by the name of those configured, and of nobody known
	limits         partnerLimits
	headers        *headerRules
	asserter       *asserter // nil where no route asks for assertions
	bodyBytes      int64
	stall          time.Duration
	samples        bool // granted requests are logged as samples
	streams        *Streams
	metrics        *Metrics
	retired        atomic.Bool // another has taken its place
	log            *slog.Logger
	errorLog       *log.Logger // of ReverseProxy, for what the client's answer no longer tells

	overloaded, closing func() bool
	slotsLeft           func() int64
}

// New returns the handler for cfg. It reads the files that the upstreams name, all faults of
// which are reported, and opens no connection; call Close when done with it.
func New(cfg *config.Config, steps Steps, options Options) (*Proxy, error) {
	prev := options.Previous
	if prev == nil {
		prev = &Proxy{}
	}
	asserter, err := newAsserter(cfg, prev.asserter)
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		steps:          steps,
		upstreams:      make(map[string]*upstream.Upstream, len(cfg.APIs)),
		partnerMetrics: make(map[string]*partnerMetrics, 1+len(cfg.Partners.List)),
		limits:         newPartnerLimits(cfg.Partners.List, prev.limits),
		headers:        newHeaderRules(cfg.IdentityHeaders, cfg.Listener.ClientCertificates.Header),
		asserter:       asserter,
		bodyBytes:      int64(cfg.Listener.Limits.BodyBytes),
		stall:          cfg.Listener.Limits.StallTimeout,
		samples:        cfg.Log.Granted == config.LogSample,
		streams:        options.Streams,
		metrics:        options.Metrics,
		log:            options.Log,
		errorLog:       slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),

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
	p.limits.apis = newAPILimits(cfg, prev.limits.apis)
	p.partnerMetrics[unknownPartner] = &partnerMetrics{partner: unknownPartner, routes: make(map[metricKey]*routeMetrics)}
	for _, partner := range cfg.Partners.List {
		name := string(partner.Name)
		p.partnerMetrics[name] = &partnerMetrics{partner: name, routes: make(map[metricKey]*routeMetrics)}
	}
	var faults []error
	for _, api := range cfg.APIs {
		name := string(api.Name)
		if p.upstreams[name], err = upstream.New(api.Upstream, prev.upstreams[name], options.Log); err != nil {
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

// Close drops the connections to the upstreams as they become idle, but for what is shared
// with heir, which has taken p's place; nil for none. Requests that run go on. When a partner
// is gone, so is the end of its certificate, for an alert would go off about nobody's.
func (p *Proxy) Close(next *Proxy) {
	for name, u := range p.upstreams {
		if next == nil || next.upstreams[name] != u {
			u.Retire()
		}
	}
	if next == nil {
		return
	}
	p.retired.Store(true)
	for name := range p.partnerMetrics {
		if next.partnerMetrics[name] == nil {
			p.metrics.clientCertificate.DeleteLabelValues(name)
		}
	}
}

// ServeHTTP decides about r and forwards it or answers it. Every request leaves
// through [Proxy.record], also one whose handling panics.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := p.newExchange(w, r)
	defer x.end() // runs last, also when the others panic
	defer p.record(x)
	defer x.recoverPanic(p.log)

	x.decision = p.decide(x, p.overloaded)
	p.admit(x)
	p.addAssertion(x)
	x.decided = time.Now()
	if x.decision.Reason != access.Granted {
		if !p.steps.Trust.BehindProxy() && x.decision.Reason.Stage() == access.StageCertificate && x.decision.Reason.Status() == http.StatusUnauthorized {
			// Another request on this connection would come with the same certificate. So
			// those end, too, whose anchors have been taken away.
			x.Header().Set("Connection", "close")
		}
		if x.decision.Reason == access.Overloaded && x.certificate == nil && r.ProtoMajor > 1 {
			writeOverloaded(x)
			return
		}
		writeRefusal(x, x.decision, x.id, x.request.Header["Authorization"] != nil)
		return
	}
	p.forward(x)
}

// RefuseMalformed answers, logs and counts a message that is no valid request of HTTP/1.1, for
// which fault is the reason. r tells where it came from, and nothing else. The connection must
// be closed afterwards.
func (p *Proxy) RefuseMalformed(w http.ResponseWriter, r *http.Request, fault error) {
	x := p.newExchange(w, r)
	defer x.end()
	defer p.record(x)
	x.decision = access.Decision{Reason: access.MalformedRequest, Err: fault}
	x.decided = time.Now()
	writeRefusal(x, x.decision, x.id, false)
}

// assert makes the assertion of a granted request whose route asks for one. Without it
// the request does not pass.
func (p *Proxy) addAssertion(x *exchange) {
	if x.decision.Reason != access.Granted || !x.decision.Asserted {
		return
	}
	var err error
	if x.assertion, err = p.asserter.sign(x, time.Now()); err != nil {
		x.decision.Reason, x.decision.Err = access.Undecided, err
	}
}

// Decide returns what ServeHTTP would decide about r, by the same checks, and the judged
// client certificate, nil unless that passed. It forwards, answers, logs and counts
// nothing; but a token may be introspected for it. It does not ask whether there is room,
// nor takes of any rate: a stream has its place, and others who come in great numbers must
// not end it.
func (p *Proxy) Decide(r *http.Request) (access.Decision, *access.Certificate) {
	x := &exchange{proxy: p, request: r}
	return p.decide(x, orFalse(nil)), x.certificate
}

// decide runs the checks in the order of the reasons: message, certificate, token
// with its binding, partner, API, limits; but whether there is room for the request at
// all comes right after the message. Each one's result is the next one's argument, and
// the first refusal ends it.
func (p *Proxy) decide(x *exchange, overloaded func() bool) access.Decision {
	r := x.request
	if r.ProtoMajor == 1 && r.ProtoMinor > 1 { // net/http takes any 1.x; there is none
		return access.Decision{Reason: access.MalformedRequest}
	}
	target, err := policy.ParseTarget(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if !p.steps.Table.Serves(target.Host) || !p.connectionServes(r.TLS, target.Host) {
		return access.Decision{Reason: access.Misdirected}
	}
	x.upgrade = asksForUpgrade(r)
	if x.upgrade && !asksForWebSocket(r) { // whatever the route
		return access.Decision{Reason: access.UpgradeNotAllowed}
	}
	raw, noToken := validate.Bearer(r)
	if noToken != nil && access.ReasonOf(noToken) == access.MalformedRequest {
		return access.DecisionOf(noToken)
	}

	// Before the first signature is verified, for nobody is known yet who would have a
	// better right than others to that work.
	if overloaded() {
		return access.Decision{Reason: access.Overloaded}
	}
	x.certificate, err = p.steps.Trust.Client(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if noToken != nil {
		return access.DecisionOf(noToken)
	}
	claims, err := p.steps.Validator.Validate(r.Context(), raw, x.certificate)
	if err != nil {
		d := access.DecisionOf(err)
		d.Partner = p.steps.Table.Partner(d.Server, d.ClientID)
		return d
	}
	d := p.steps.Table.Decide(r.Method, target, claims, x.certificate)
	switch {
	case d.Reason != access.Granted:
	case x.upgrade && !d.WebSocket: // said only to who may know of the route
		d.Reason = access.UpgradeNotAllowed
	case hasBody(r) && !d.AnyBody && !definesBody(r.Method): // likewise
		d.Reason = access.BodyNotAllowed
	case r.ContentLength > p.bodyBytes:
		d.Reason = access.BodyTooLarge
	}
	return d
}

// hasBody reports whether r announces a body: by a length, by a transfer coding or, over HTTP/2,
// by a stream that does not end with its header.
func hasBody(r *http.Request) bool { return r.ContentLength != 0 }

// definesBody reports whether a body has a meaning in a request with this method (RFC 9110
// section 9.3, RFC 5789). In any other it has none, and many servers that answer such a
// request leave its body on the connection, where they take it for the next request: one that
// the gate has not judged, with identity headers of its sender's choice.
func definesBody(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}

// opened reports whether a connection with this state may carry requests for host, which is
// served (RFC 9110 section 7.4, RFC 9113 section 9.1.1). All hosts are served by one policy
// for client certificates, so one that was opened for any of them may; one that was opened
// for somebody else may not. A front proxy may have a name of its own for the gate: what
// its client asked for is not known here.
func (p *Proxy) connectionServes(state *tls.ConnectionState, host string) bool {
	if p.steps.Trust.BehindProxy() || state == nil || state.ServerName == "" || strings.EqualFold(state.ServerName, host) {
		return true
	}
	return p.steps.Table.Serves(strings.ToLower(state.ServerName))
}
