// Package authorize decides about requests. It runs the checks of packages mtls, validate and policy in their order, and
// forwards, answers, logs and counts nothing.
package authorize

import (
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/tracing"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
	"github.com/tallygate/tallygate/validate"
)

// Checks are the checks of a request by one configuration. They are safe for concurrent use.
type Checks struct {
	Trust         *mtls.Trust
	Validator     *validate.Validator
	Table         *policy.Table
	ForwardedHost bool  // front proxies name the host that the client called
	BodyBytes     int64 // the largest body of a request
}

// New returns the Checks for cfg, from which trust, validator and table were made.
func New(cfg *config.Config, trust *mtls.Trust, validator *validate.Validator, table *policy.Table) *Checks {
	header := cfg.Listener.ClientCertificates.Header
	return &Checks{
		Trust: trust, Validator: validator, Table: table,
		ForwardedHost: header != nil && header.ForwardedHost, BodyBytes: int64(cfg.Listener.Limits.BodyBytes),
	}
}

// A Checked is a request and the results of its checks. If a check refuses the request, the fields that later
// checks set stay zero.
type Checked struct {
	Checks  *Checks
	Request *http.Request
	Host    string // the host of the request, as in policy.Target; "" until the host is known to be served
	Upgrade bool   // the request asks for an upgrade
	// Credentials are the credentials of Request. For a second decision about Request, they must be the
	// Credentials that the first decision has set, because a DPoP proof is checked only once (RFC 9449 section
	// 11.1).
	Credentials validate.Credentials
	Certificate *access.Certificate // the verified client certificate; nil before the check
	Decision    access.Decision
	Trace       *tracing.Request // nil if the request is not traced, and for a second decision

	thumbprint string // see Thumbprint
}

// Decide takes the decision about c.Request and sets the other fields of c. It may introspect the token. It
// takes no slot and no token of a rate limit. overloaded reports whether the gate can serve no more requests;
// nil means that it can.
func (c *Checked) Decide(overloaded func() bool) { c.Decision = c.decide(overloaded) }

// decide runs the checks in the order of the reasons: message, certificate, token with its binding,
// partner, API, limits. Only the check for overload comes earlier, right after the message. Each
// check uses the result of the check before it. The first refusal is the decision.
func (c *Checked) decide(overloaded func() bool) access.Decision {
	r, checks := c.Request, c.Checks
	if hasUnknownVersion(r) {
		return access.Decision{Reason: access.MalformedRequest}
	}
	target, err := checks.Table.ParseTarget(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if !checks.Table.Serves(target.Host) || !checks.connectionServes(r.TLS, target.Host) {
		return access.Decision{Reason: access.Misdirected}
	}
	c.Host = target.Host
	c.Upgrade = AsksForUpgrade(r)
	if c.Upgrade && !asksForWebSocket(r) { // an upgrade to another protocol than WebSocket is refused on every route
		return access.Decision{Reason: access.UpgradeNotAllowed}
	}
	proved := c.Credentials.Proof // at a recheck the DPoP proof of the first decision, and nil otherwise
	credentials, noToken := checks.Validator.Credentials(r)
	switch {
	case proved != nil:
		credentials.Proof = proved
	case credentials.Proof != nil:
		credentials.Proof.Path = target.Path
	}
	c.Credentials = credentials
	if noToken != nil && access.ReasonOf(noToken) == access.MalformedRequest {
		return access.DecisionOf(noToken)
	}

	// The check for overload comes before the first signature is verified. Until then no client is
	// known, so no client is entitled to the work of the verification.
	if overloaded != nil && overloaded() {
		return access.Decision{Reason: access.Overloaded}
	}
	if d, ok := c.decidePreflight(target); ok {
		return d
	}
	c.Certificate, err = checks.Trust.Client(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if noToken != nil {
		return access.DecisionOf(noToken)
	}
	if credentials.Proof != nil && proved == nil && checks.ForwardedHost {
		credentials.Proof.Authority = forwardedHost(r)
	}
	return c.decideClient(target, credentials)
}

// hasUnknownVersion reports whether r is a request of HTTP/1.2 or later. The gate's server refuses such requests
// itself, but http.ReadRequest, which tallygate explain uses, does not.
func hasUnknownVersion(r *http.Request) bool { return r.ProtoMajor == 1 && r.ProtoMinor > 1 }

// decideClient runs the checks that need the accepted certificate, c.Certificate: token with its binding,
// partner and API.
func (c *Checked) decideClient(target policy.Target, credentials validate.Credentials) access.Decision {
	r, checks := c.Request, c.Checks
	credentials.Calls = c.Trace.Calls()
	c.Trace.Begin(tracing.Token)
	claims, err := checks.Validator.Validate(r.Context(), credentials, c.Certificate)
	c.Trace.End(tracing.Token)
	if err != nil {
		d := access.DecisionOf(err)
		d.Partner = checks.Table.Partner(d.Server, d.ClientID)
		return d
	}
	c.Trace.Begin(tracing.Policy)
	d := checks.Table.Decide(r.Method, target, claims, c.Certificate)
	c.checkGranted(&d)
	c.Trace.End(tracing.Policy)
	return d
}

// checkGranted refuses a granted request if its route does not allow its upgrade or body. The check
// comes last, so only a client that may call the route learns what the route allows.
func (c *Checked) checkGranted(d *access.Decision) {
	r := c.Request
	switch {
	case d.Reason != access.Granted:
	case c.Upgrade && !d.WebSocket:
		d.Reason = access.UpgradeNotAllowed
	case HasBody(r) && !d.AnyBody && !definesBody(r.Method):
		d.Reason = access.BodyNotAllowed
	case r.ContentLength > c.Checks.BodyBytes:
		d.Reason = access.BodyTooLarge
	}
}

// HasBody reports whether r announces a body: by Content-Length, by Transfer-Encoding or, over HTTP/2,
// by a header without END_STREAM.
func HasBody(r *http.Request) bool { return r.ContentLength != 0 }

// definesBody reports whether method gives a meaning to a request body (RFC 9110 section 9.3, RFC
// 5789). When a request with another method has a body, many servers answer and leave the body unread
// on the connection. They then read the body as the next request. The gate has not checked this
// request, and the client could choose its identity headers.
func definesBody(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}

// connectionServes reports whether a connection with this TLS state may carry requests for host,
// which must be a served host (RFC 9110 section 7.4, RFC 9113 section 9.1.1). All hosts have the same
// policy for client certificates, so the SNI may be any served host. An SNI of another host is not
// accepted. Behind a front proxy the SNI is not checked: the front proxy may use an SNI of its own,
// and the gate does not know the client's SNI.
func (checks *Checks) connectionServes(state *tls.ConnectionState, host string) bool {
	if checks.Trust.BehindProxy() || state == nil || state.ServerName == "" || strings.EqualFold(state.ServerName, host) {
		return true
	}
	return checks.Table.Serves(strings.ToLower(state.ServerName))
}

// Thumbprint returns the thumbprint of the client certificate, even of a refused certificate. It
// returns "" if there is no certificate.
func (c *Checked) Thumbprint() string {
	if c.thumbprint == "" && c.Certificate != nil {
		c.thumbprint = c.Certificate.ThumbprintText()
	}
	if c.thumbprint == "" && !c.Decision.Preflight { // the certificate of a granted preflight is not checked
		if leaf := c.Checks.Trust.PeerCertificate(c.Request); leaf != nil {
			c.thumbprint = access.ThumbprintOf(leaf).String()
		}
	}
	return c.thumbprint
}

// Presented returns the client certificate of a refused request, even if it was not accepted.
// Without a client certificate, it returns nil. Its anchors are unknown in two cases, because finding them
// needs signature checks: if the gate is overloaded, and if the certificate has expired and the refusal has
// another cause. The chain of an expired certificate is verified for every request, so each malformed request
// would cost signature checks.
func (c *Checked) Presented() *access.Certificate {
	if c.Certificate != nil {
		return c.Certificate
	}
	leaf, stage := c.Checks.Trust.PeerCertificate(c.Request), c.Decision.Reason.Stage()
	switch {
	case leaf == nil:
		return nil
	case stage == access.StageCertificate, stage != access.StageLimits && time.Now().Before(leaf.NotAfter):
		return c.Checks.Trust.Presented(c.Request)
	}
	return access.NewCertificate(leaf)
}

// forwardedHost returns the host and port that the client called, according to a trusted front proxy:
// the value of X-Forwarded-Host, or the host of the request if it has no X-Forwarded-Host. If the
// header does not name exactly one host, forwardedHost returns "", which no proof matches.
func forwardedHost(r *http.Request) string {
	switch hosts := r.Header["X-Forwarded-Host"]; {
	case len(hosts) == 0:
		return r.Host
	case len(hosts) > 1 || strings.ContainsAny(hosts[0], ", /@?#"):
		return ""
	default:
		return hosts[0]
	}
}
