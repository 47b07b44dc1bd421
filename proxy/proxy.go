// Package proxy is the gate's HTTP handler. It runs the checks of packages mtls, validate and policy
// in order, and then forwards the request or answers with a refusal. Either way it writes one log line
// and counts one decision.
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
	// Lease shares with the Proxy of the previous configuration the connections to unchanged upstreams,
	// the counts and rates, and the key of assertions. It must be set. Its release closes idle connections
	// and removes the certificate metric of a partner that no Proxy has, so that no alert goes off for a
	// removed partner. Requests in progress go on.
	Lease *reuse.Lease
	// Streams are shared by the Proxies of all configurations. With nil the Proxy has its own.
	Streams *Streams
	// Overloaded reports whether a new request must be refused for lack of slots or memory; nil: never.
	Overloaded func() bool
	// SlotsLeft returns the number of free slots for concurrent requests; nil: without a limit.
	SlotsLeft func() int64
	// Closing reports whether each response must end its connection; nil: never.
	Closing func() bool
}

// Proxy is the gate's handler. It is safe for concurrent use.
type Proxy struct {
	steps          Steps
	upstreams      map[string]*upstream.Upstream // by API name
	partnerMetrics map[string]*partnerMetrics    // by partner name, and one for unknownPartner
	limits         partnerLimits
	headers        *headerRules
	asserter       *asserter // nil if no route needs assertions
	forwardedHost  bool      // front proxies name the host that the client called
	bodyBytes      int64
	stall          time.Duration
	samples        bool // true: one granted request a second is logged
	streams        *Streams
	metrics        *Metrics
	retired        atomic.Bool // set when the next configuration is in use
	log            *slog.Logger
	errorLog       *log.Logger // the log of ReverseProxy, for errors after the header of a response

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
	p.partnerMetrics[unknownPartner] = &partnerMetrics{partner: unknownPartner, routes: make(map[metricKey]*routeMetrics)}
	for _, partner := range cfg.Partners.List {
		name := string(partner.Name)
		p.partnerMetrics[name] = &partnerMetrics{partner: name, routes: make(map[metricKey]*routeMetrics)}
		lease.Hold("certificate metric of "+name, func() { p.metrics.clientCertificate.DeleteLabelValues(name) })
	}
	// Acquired after the metrics, and so released before them.
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

	x.decision = p.decide(x, p.overloaded)
	p.admit(x)
	p.addAssertion(x)
	x.decided = time.Now()
	if x.decision.Reason != access.Granted {
		if !p.steps.Trust.BehindProxy() && x.decision.Reason.Stage() == access.StageCertificate && x.decision.Reason.Status() == http.StatusUnauthorized {
			// Every request on this connection has the same certificate. After the removal of an anchor
			// this also closes the open connections.
			x.Header().Set("Connection", "close")
		}
		if x.decision.Reason == access.Overloaded && x.certificate == nil && r.ProtoMajor > 1 {
			writeOverloaded(x)
			return
		}
		writeRefusal(x, x.decision, x.request.Header["Authorization"] != nil)
		return
	}
	p.forward(x)
}

// RefuseMalformed answers, logs and counts a message that is not a valid HTTP/1.x request. fault says
// why. r has the addresses and the TLS state of the connection only. The caller must close the
// connection.
func (p *Proxy) RefuseMalformed(w http.ResponseWriter, r *http.Request, fault error) {
	x := p.newExchange(w, r)
	defer x.end()
	defer p.record(x)
	x.decision = access.Decision{Reason: access.MalformedRequest, Err: fault}
	x.decided = time.Now()
	writeRefusal(x, x.decision, false)
}

// addAssertion signs the assertion of a granted request if its route needs one. An error refuses the
// request as Undecided.
func (p *Proxy) addAssertion(x *exchange) {
	if x.decision.Reason != access.Granted || !x.decision.Asserted {
		return
	}
	var err error
	if x.assertion, err = p.asserter.sign(x, time.Now()); err != nil {
		x.decision.Reason, x.decision.Err = access.Undecided, err
	}
}

// Decide returns the decision of ServeHTTP about r, by the same checks, and the client certificate if
// it was accepted. It forwards, answers, logs and counts nothing, but may introspect the token. It
// takes no slot and no token of a rate limit, because an open stream already has its slot, and load by
// other clients must not end it. credentials are the credentials of the earlier decision about r, zero
// without one: a DPoP proof is checked once (RFC 9449 section 11.1).
func (p *Proxy) Decide(r *http.Request, credentials validate.Credentials) (access.Decision, *access.Certificate) {
	x := &exchange{proxy: p, request: r, credentials: credentials}
	return p.decide(x, orFalse(nil)), x.certificate
}

// decide runs the checks in the order of the reasons: message, certificate, token with its binding,
// partner, API, limits. The check for overload comes earlier, right after the message. Each check takes
// the result of the check before it, and the first refusal is the decision.
func (p *Proxy) decide(x *exchange, overloaded func() bool) access.Decision {
	r := x.request
	if r.ProtoMajor == 1 && r.ProtoMinor > 1 { // net/http accepts any 1.x; there is no 1.2
		return access.Decision{Reason: access.MalformedRequest}
	}
	target, err := p.steps.Table.ParseTarget(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if !p.steps.Table.Serves(target.Host) || !p.connectionServes(r.TLS, target.Host) {
		return access.Decision{Reason: access.Misdirected}
	}
	x.host = target.Host
	x.upgrade = asksForUpgrade(r)
	if x.upgrade && !asksForWebSocket(r) { // an upgrade to another protocol than WebSocket is refused on every route
		return access.Decision{Reason: access.UpgradeNotAllowed}
	}
	proved := x.credentials.Proof // at a recheck the DPoP proof of the first decision, otherwise nil
	credentials, noToken := p.steps.Validator.Credentials(r)
	switch {
	case proved != nil:
		credentials.Proof = proved
	case credentials.Proof != nil:
		credentials.Proof.Path = target.Path
	}
	x.credentials = credentials
	if noToken != nil && access.ReasonOf(noToken) == access.MalformedRequest {
		return access.DecisionOf(noToken)
	}

	// The check comes before the first signature is verified: until then no client is known, and no
	// client has a claim to that work.
	if overloaded() {
		return access.Decision{Reason: access.Overloaded}
	}
	if d, ok := p.decidePreflight(x, target); ok {
		return d
	}
	x.certificate, err = p.steps.Trust.Client(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if noToken != nil {
		return access.DecisionOf(noToken)
	}
	if credentials.Proof != nil && proved == nil && p.forwardedHost {
		credentials.Proof.Authority = forwardedHost(r)
	}
	claims, err := p.steps.Validator.Validate(r.Context(), credentials, x.certificate)
	if err != nil {
		d := access.DecisionOf(err)
		d.Partner = p.steps.Table.Partner(d.Server, d.ClientID)
		return d
	}
	d := p.steps.Table.Decide(r.Method, target, claims, x.certificate)
	p.checkGranted(x, &d)
	return d
}

// checkGranted refuses a granted request whose upgrade or body its route does not allow. Only a client
// that may call the route learns this.
func (p *Proxy) checkGranted(x *exchange, d *access.Decision) {
	r := x.request
	switch {
	case d.Reason != access.Granted:
	case x.upgrade && !d.WebSocket:
		d.Reason = access.UpgradeNotAllowed
	case hasBody(r) && !d.AnyBody && !definesBody(r.Method):
		d.Reason = access.BodyNotAllowed
	case r.ContentLength > p.bodyBytes:
		d.Reason = access.BodyTooLarge
	}
}

// hasBody reports whether r announces a body: by Content-Length, by Transfer-Encoding or, over HTTP/2,
// by a header without END_STREAM.
func hasBody(r *http.Request) bool { return r.ContentLength != 0 }

// definesBody reports whether method gives a meaning to a request body (RFC 9110 section 9.3, RFC
// 5789). Many servers answer a request with another method and leave its body on the connection. They
// then take the body for the next request, which the gate has not checked, with identity headers that
// the client chose.
func definesBody(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}

// connectionServes reports whether a connection with this TLS state may carry requests for host, which
// must be a served host (RFC 9110 section 7.4, RFC 9113 section 9.1.1). All hosts have the same policy
// for client certificates, so an SNI of any served host will do, and an SNI of another host will not. A
// front proxy may use an SNI of its own, and the gate does not know the SNI of the client.
func (p *Proxy) connectionServes(state *tls.ConnectionState, host string) bool {
	if p.steps.Trust.BehindProxy() || state == nil || state.ServerName == "" || strings.EqualFold(state.ServerName, host) {
		return true
	}
	return p.steps.Table.Serves(strings.ToLower(state.ServerName))
}
