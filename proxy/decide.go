package proxy

import (
	"crypto/tls"
	"net/http"
	"strings"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/validate"
)

// A checkedRequest is a request with what the checks find out about it. The fields that later checks
// set stay zero if an earlier check refuses the request.
type checkedRequest struct {
	steps          *Steps
	request        *http.Request
	id             string // the X-Request-Id of response, log and upstream; "" at a recheck
	host           string // the host of the request, as in policy.Target; "" until the host is known to be served
	upgrade        bool   // the request asks for an upgrade
	credentials    validate.Credentials
	certificate    *access.Certificate // the verified client certificate; nil before the check
	peerThumbprint string              // the thumbprint of the client certificate, verified or not; "" until thumbprint is called
	decision       access.Decision
	assertion      string // the JWT for the upstream; "" if the route needs no assertion
}

// Decide returns the decision of ServeHTTP about r, by the same checks, and the client certificate if
// it was accepted. It forwards, answers, logs and counts nothing, but may introspect the token. It
// takes no slot and no token of a rate limit, because an open stream already has its slot, and load by
// other clients must not end it. credentials are the credentials of the earlier decision about r, zero
// without one: a DPoP proof is checked once (RFC 9449 section 11.1).
func (p *Proxy) Decide(r *http.Request, credentials validate.Credentials) (access.Decision, *access.Certificate) {
	c := &checkedRequest{steps: &p.steps, request: r, credentials: credentials}
	return p.decide(c, orFalse(nil)), c.certificate
}

// decide runs the checks in the order of the reasons: message, certificate, token with its binding,
// partner, API, limits. The check for overload comes earlier, right after the message. Each check takes
// the result of the check before it, and the first refusal is the decision.
func (p *Proxy) decide(c *checkedRequest, overloaded func() bool) access.Decision {
	r := c.request
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
	c.host = target.Host
	c.upgrade = asksForUpgrade(r)
	if c.upgrade && !asksForWebSocket(r) { // an upgrade to another protocol than WebSocket is refused on every route
		return access.Decision{Reason: access.UpgradeNotAllowed}
	}
	proved := c.credentials.Proof // at a recheck the DPoP proof of the first decision, otherwise nil
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

	// The check comes before the first signature is verified: until then no client is known, and no
	// client has a claim to that work.
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

// checkGranted refuses a granted request whose upgrade or body its route does not allow. Only a client
// that may call the route learns this.
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

// partner returns the name of the client's partner, or unknownPartner.
func (c *checkedRequest) partner() string {
	if c.decision.Partner == "" {
		return unknownPartner
	}
	return c.decision.Partner
}

// thumbprint returns the thumbprint of the client certificate, even if the certificate was refused, or
// "" without a certificate.
func (c *checkedRequest) thumbprint() string {
	if c.peerThumbprint == "" && c.certificate != nil {
		c.peerThumbprint = c.certificate.Thumbprint.String()
	}
	if c.peerThumbprint == "" && !c.decision.Preflight { // the certificate of a granted preflight is not checked
		if leaf := c.steps.Trust.PeerCertificate(c.request); leaf != nil {
			c.peerThumbprint = access.ThumbprintOf(leaf).String()
		}
	}
	return c.peerThumbprint
}

// ambiguous reports whether a front proxy may see the end of this request elsewhere. A chunked
// request is ambiguous. So is every HTTP/1.0 request, because that version has no chunks and not
// everywhere persistent connections. Malformed requests are refused earlier. The connection of a
// front proxy carries requests of many clients, so the gate closes it after these well-formed
// requests too (RFC 9112 sections 6.1 and 9.3): the bytes after the request could carry a
// certificate header that its client chose.
func (c *checkedRequest) ambiguous() bool {
	r := c.request
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0) && c.steps.Trust.BehindProxy()
}
