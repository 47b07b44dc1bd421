package proxy

import (
	"crypto/tls"
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/validate"
)

// A checkedRequest is a request and the results of its checks. If a check refuses the request, the
// fields that later checks set stay zero.
type checkedRequest struct {
	steps          *Steps
	request        *http.Request
	id             string // the X-Request-Id in the response, the log and the request to the upstream; "" at a recheck
	idFromClient   bool   // id is the X-Request-Id of the client
	interactionID  string // the X-Fapi-Interaction-Id in the same places; "" if not configured
	host           string // the host of the request, as in policy.Target; "" until the host is known to be served
	upgrade        bool   // the request asks for an upgrade
	credentials    validate.Credentials
	certificate    *access.Certificate // the verified client certificate; nil before the check
	peerThumbprint string              // the thumbprint of the client certificate, verified or not; "" until thumbprint is called
	decision       access.Decision
	assertion      string // the JWT for the upstream; "" if the route needs no assertion
}

// Decide returns the decision that ServeHTTP would take about r, by the same checks. It also returns
// the client certificate if the certificate was accepted. Decide forwards, answers, logs and counts
// nothing, but may introspect the token. It takes no slot and no token of a rate limit, because an
// open stream already has its slot, and load by other clients must not end the stream. credentials
// are the credentials of the earlier decision about r, because a DPoP proof is checked only once (RFC
// 9449 section 11.1); they are zero if there was no earlier decision.
func (p *Proxy) Decide(r *http.Request, credentials validate.Credentials) (access.Decision, *access.Certificate) {
	c := &checkedRequest{steps: &p.steps, request: r, credentials: credentials}
	return p.decide(c, orFalse(nil)), c.certificate
}

// decide runs the checks in the order of the reasons: message, certificate, token with its binding,
// partner, API, limits. Only the check for overload comes earlier, right after the message. Each
// check uses the result of the check before it. The first refusal is the decision.
func (p *Proxy) decide(c *checkedRequest, overloaded func() bool) access.Decision {
	r := c.request
	if r.ProtoMajor == 1 && r.ProtoMinor > 1 { // the gate's server refuses HTTP/1.2 and later itself, but http.ReadRequest, which tallygate explain uses, does not
		return access.Decision{Reason: access.MalformedRequest}
	}
	target, err := p.steps.Table.ParseTarget(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if !p.steps.Table.Serves(target.Host) || !p.connectionServes(r.TLS, target.Host) {
		return access.Decision{Reason: access.Misdirected}
	}
	c.host = target.Host
	c.upgrade = asksForUpgrade(r)
	if c.upgrade && !asksForWebSocket(r) { // an upgrade to another protocol than WebSocket is refused on every route
		return access.Decision{Reason: access.UpgradeNotAllowed}
	}
	proved := c.credentials.Proof // at a recheck the DPoP proof of the first decision, and nil otherwise
	credentials, noToken := p.steps.Validator.Credentials(r)
	switch {
	case proved != nil:
		credentials.Proof = proved
	case credentials.Proof != nil:
		credentials.Proof.Path = target.Path
	}
	c.credentials = credentials
	if noToken != nil && access.ReasonOf(noToken) == access.MalformedRequest {
		return access.DecisionOf(noToken)
	}

	// The check for overload comes before the first signature is verified. Until then no client is
	// known, so no client is entitled to the work of the verification.
	if overloaded() {
		return access.Decision{Reason: access.Overloaded}
	}
	if d, ok := p.decidePreflight(c, target); ok {
		return d
	}
	c.certificate, err = p.steps.Trust.Client(r)
	if err != nil {
		return access.DecisionOf(err)
	}
	if noToken != nil {
		return access.DecisionOf(noToken)
	}
	if credentials.Proof != nil && proved == nil && p.forwardedHost {
		credentials.Proof.Authority = forwardedHost(r)
	}
	claims, err := p.steps.Validator.Validate(r.Context(), credentials, c.certificate)
	if err != nil {
		d := access.DecisionOf(err)
		d.Partner = p.steps.Table.Partner(d.Server, d.ClientID)
		return d
	}
	d := p.steps.Table.Decide(r.Method, target, claims, c.certificate)
	p.checkGranted(c, &d)
	return d
}

// checkGranted refuses a granted request if its route does not allow its upgrade or body. The check
// comes last, so only a client that may call the route learns what the route allows.
func (p *Proxy) checkGranted(c *checkedRequest, d *access.Decision) {
	r := c.request
	switch {
	case d.Reason != access.Granted:
	case c.upgrade && !d.WebSocket:
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
func (p *Proxy) connectionServes(state *tls.ConnectionState, host string) bool {
	if p.steps.Trust.BehindProxy() || state == nil || state.ServerName == "" || strings.EqualFold(state.ServerName, host) {
		return true
	}
	return p.steps.Table.Serves(strings.ToLower(state.ServerName))
}

// thumbprint returns the thumbprint of the client certificate, even of a refused certificate. It
// returns "" if there is no certificate.
func (c *checkedRequest) thumbprint() string {
	if c.peerThumbprint == "" && c.certificate != nil {
		c.peerThumbprint = c.certificate.ThumbprintText()
	}
	if c.peerThumbprint == "" && !c.decision.Preflight { // the certificate of a granted preflight is not checked
		if leaf := c.steps.Trust.PeerCertificate(c.request); leaf != nil {
			c.peerThumbprint = access.ThumbprintOf(leaf).String()
		}
	}
	return c.peerThumbprint
}

// ambiguous reports whether a front proxy may see the end of this request at another byte than the
// gate. A chunked request is ambiguous. Every HTTP/1.0 request is ambiguous too, because HTTP/1.0 has
// no chunks, and not every implementation has persistent connections. After CONNECT and a request for an
// upgrade, some front proxies pass all bytes of the client on unread, whatever the response is. Malformed
// requests are refused earlier. The connection of a front proxy carries requests of many clients, and the
// bytes after an ambiguous request could contain a certificate header that the client of that request
// chose. So the gate closes the connection after ambiguous requests, although they are well-formed (RFC
// 9112 sections 6.1 and 9.3).
func (c *checkedRequest) ambiguous() bool {
	r := c.request
	return r.ProtoMajor == 1 && c.steps.Trust.BehindProxy() &&
		(r.ProtoMinor == 0 || len(r.TransferEncoding) > 0 || r.Method == http.MethodConnect || asksForUpgrade(r))
}
