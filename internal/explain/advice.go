package explain

import (
	"maps"
	"slices"

	"github.com/tallygate/tallygate/access"
)

// Advice says, for operators, whose fault an outcome usually is and what to do about it.
type Advice struct {
	Fault string `json:"fault"`
	Do    string `json:"do"`
}

// An Advised is an outcome in the log, by its label, with the advice for it.
type Advised struct {
	Label string
	Advice
}

// AllAdvice returns the advice for every reason, in the order of the checks, and then for every failure
// and termination whose label is no reason.
func AllAdvice() (all []Advised) {
	for _, r := range access.Reasons() {
		if r != access.Granted {
			all = append(all, Advised{r.String(), advice[r]})
		}
	}
	for _, more := range []map[string]Advice{failureAdvice, terminationAdvice} {
		for _, label := range slices.Sorted(maps.Keys(more)) {
			if _, reason := reasonNamed(label); !reason {
				all = append(all, Advised{label, more[label]})
			}
		}
	}
	return all
}

// AdviceFor returns the advice for requests that the gate refuses with r. It is empty for
// [access.Granted].
func AdviceFor(r access.Reason) Advice { return advice[r] }

// TerminationAdvice returns the advice for a stream that the gate ended, by the value of terminated_by in
// the log, and reports whether there is such a value.
func TerminationAdvice(by string) (a Advice, ok bool) {
	if r, named := reasonNamed(by); named {
		return advice[r], true
	}
	a, ok = terminationAdvice[by]
	return a, ok
}

// FailureAdvice returns the advice for the failure of a granted request, by the value of failure in the
// log, and reports whether there is such a failure.
func FailureAdvice(failure string) (a Advice, ok bool) {
	a, ok = failureAdvice[failure]
	return a, ok
}

const (
	partnerFault  = "the partner"
	operatorFault = "the configuration of the gate"
	serverFault   = "the authorization server"
	apiFault      = "the API"
	gateFault     = "the gate, or its machine"
)

var advice = map[access.Reason]Advice{
	access.Granted:   {},
	access.Undecided: {"the gate: this is a bug", "Report it with the log lines of this request id. The request was refused."},

	access.MalformedRequest:  {partnerFault, "The partner must repair the request; the detail says what is malformed. If several partners have it at once, look at the proxy in front of the gate."},
	access.PathNotCanonical:  {partnerFault, "The partner must send the path in its shortest form. If an identifier needs %2F or a semicolon, allow it with path_encoding of the API."},
	access.Misdirected:       {"the partner, or a host that is missing in the configuration", "Compare the host with apis[].hosts. If partners call a new host, add it."},
	access.UpgradeNotAllowed: {partnerFault, "If the API speaks WebSocket on this route, list it in upgrade of the route. No other protocol can be allowed."},
	access.BodyNotAllowed:    {partnerFault, "The partner must send no body with this method. If the API needs it, set body: allowed on the route."},

	access.NoCertificate:        {partnerFault, "The partner must configure its certificate and key in the client. If no partner's certificate arrives, a proxy in between ends TLS: see docs/load-balancers.md."},
	access.UntrustedCertificate: {partnerFault, "Compare the issuer of the certificate with trust of the partner. The partner must send its intermediates; if it has changed its authority, add the new anchor before you remove the old one."},
	access.WrongUsage:           {partnerFault, "The partner needs a certificate with the extended key usage clientAuth. usages of the application accepts serverAuth."},
	access.WeakCertificate:      {partnerFault, "The partner needs a certificate with a stronger key or signature; the detail says which is weak."},
	access.ExpiredCertificate:   {partnerFault, "The partner must renew its certificate and then fetch a new token. If the certificate is not valid yet, compare the clocks."},
	access.RevokedCertificate:   {"the partner, or an attacker with its key", "Ask the partner, by another channel, why its certificate was revoked: the detail says whether a revocation list or tallygate revoke names it. It needs a new certificate and a new token."},
	access.RevocationUnknown:    {"the authority that publishes the revocation list, or the way to it", "See tallygate_crl_next_update_timestamp_seconds and the lines about revocation lists. Replace the list, or repair the fetch from its URL."},

	access.NoToken:              {partnerFault, "The partner must send its token in the Authorization header, with the scheme Bearer."},
	access.MalformedToken:       {partnerFault, "The partner must send the access token as it got it. If all tokens of a server are malformed, compare its settings by tallygate configure-server."},
	access.UnsupportedAlgorithm: {operatorFault, "Compare alg with algorithms of the authorization server. An alg of none, or of HS256, is an attack."},
	access.WrongType:            {"the partner, or the configuration of the gate", "The partner must send the access token, not an ID token. If every token has this typ, set types, or profile, of the authorization server."},
	access.UnknownKey:           {"the authorization server, or an old token", "If every partner has it, the server has changed its keys and the gate cannot fetch them: see tallygate_jwks_last_success_timestamp_seconds. If one partner has it, the partner must fetch a new token."},
	access.BadSignature:         {"the partner, or an attacker", "The token was changed on its way, or forged. The partner must fetch a new one; if that is refused too, compare the keys of the server."},
	access.UnknownIssuer:        {"the partner, or the configuration of the gate", "Compare iss with issuer of the authorization servers, byte for byte. Often the token is from another environment."},
	access.WrongAudience:        {"the partner, or the configuration of the gate", "Compare aud with audiences of the authorization server. The partner must ask for this API as resource or audience."},
	access.Expired:              {partnerFault, "The partner must fetch a new token before exp. If new tokens are refused too, compare the clocks."},
	access.NotYetValid:          {"a clock", "Compare the clocks of the gate and of the authorization server; leeway of the server allows for a difference."},
	access.Inactive:             {partnerFault, "The token has ended, was revoked, or is from another server. The partner must fetch a new one."},
	access.Revoked:              {"no fault: the token was revoked", "The detail says what was revoked: the token, the tokens of the application or of the partner, or the certificate. tallygate revoke, the partner's client or a security event did it. A new token is accepted, unless the certificate was revoked."},

	access.NotBound:          {serverFault, "The server issued a plain bearer token. Let it bind tokens of this client to its certificate: see docs/authorization-servers.md. The partner must fetch the token over mutual TLS."},
	access.MalformedBinding:  {serverFault, "The server binds in a way that the gate cannot read; explain shows the cnf. See confirmation_claim of the server."},
	access.WrongScheme:       {partnerFault, "The partner must send DPoP, with a proof, for tokens with jkt, and Bearer for all others."},
	access.BoundToOther:      {"an attacker, or a partner that has renewed its certificate", "Find out whose certificate came. If it is another partner's, the token is stolen: revoke it, at its authorization server or with tallygate revoke, and call both partners. If it is a newer certificate of the same partner, the partner must fetch a new token with it."},
	access.BoundToPrevious:   {partnerFault, "The partner has renewed its certificate and must fetch a new token with it. It is no theft."},
	access.InvalidDPoPProof:  {partnerFault, "The partner must make a new proof for each request, for exactly its method and URL; the detail says what is wrong."},
	access.DPoPNonceRequired: {"no fault: each client gets it once", "The client must repeat the request with the nonce of the header DPoP-Nonce. Clients that never do need repair."},
	access.BoundToOtherKey:   {"an attacker, or a partner that has changed its key", "If the client has a new key, it must fetch a new token with it. If not, the token is stolen: revoke it."},
	access.ReplayedDPoPProof: {"the partner, or an attacker", "The partner must make a new proof, with a new jti, for each request and for each repetition."},
	access.BindingNotAccepted: {
		"the partner, or the configuration of the gate", "Compare binding of the API with what the authorization server binds its tokens to.",
	},

	access.UnknownClient:            {"the partner, or the configuration of the gate", "Register the client_id as an application, or let the partner use the one that is registered. If client_id is empty, set client_claim of the authorization server."},
	access.PartnerDisabled:          {"the operator, who disabled the partner", "Remove disabled of the partner, if its calls are to be accepted again."},
	access.CertificateNotRegistered: {"the partner, or a registration that was not updated", "Compare the names in the certificate with certificate of the application. Register the new certificate before the partner uses it."},

	access.APINotAllowed:     {"the partner, or the configuration of the gate", "Compare method and path with the routes, and the API with apis of the application. The partner cannot tell the two cases apart."},
	access.InsufficientScope: {partnerFault, "The partner must ask for the scopes of the route when it fetches its token, and the authorization server must grant them."},
	access.PolicyDenied:      {operatorFault, "An expression of the route refused the call; the detail names it."},

	access.BodyTooLarge: {partnerFault, "The partner must send less at once, or listener.limits.body_bytes must be larger."},
	access.RateLimited:  {partnerFault, "The partner must call less often, as Retry-After says; see rate_limit of its application."},
	access.Overloaded:   {gateFault, "See tallygate_requests_in_flight and the memory of the gate; a slow API fills the slots. If it is one partner alone, that partner uses its share of limits.requests."},

	access.IssuerUnavailable: {serverFault, "The gate cannot get the keys of the server, or cannot introspect. tallygate check --online says why. Partners are refused until the server answers."},
	access.RevocationsStale:  {"the issuer, its database, or the network", "The detail says since when revocations may be unknown. A gate with revocations: see tallygate_revocation_stream_connected and repair the stream; when_stale decides meanwhile. An issuer with a database: repair its connection, and compare the clocks."},
}

// failureAdvice has the advice by the value of failure in the log. Package proxy defines these values.
var failureAdvice = map[string]Advice{
	"upstream_unreachable": {apiFault, "The API accepts no connection at upstream.url: look whether it runs and listens there."},
	"upstream_timeout":     {apiFault, "The API did not answer within upstream.timeout, or stalled: look at the load of the API."},
	"upstream_tls":         {"the certificates between the gate and the API", "Compare the certificate of the API with upstream.tls; the detail says what fails."},
	"upstream_reset":       {apiFault, "The API ended the connection before its answer was complete: look at its log for this request id."},
	"client_closed":        {partnerFault, "The client ended the request before its answer was complete. If it happens after the same time each time, the client has a timeout that is shorter than the API's answer."},
	"client_stalled":       {partnerFault, "The client stopped sending its request body: stall_timeout ended the request."},
	"client_malformed":     {partnerFault, "The request body is not well-formed; the client, or a proxy before the gate, must be repaired."},
	"body_too_large":       {partnerFault, "The partner must send less at once, or listener.limits.body_bytes must be larger."},
}

// terminationAdvice has the advice by the values of terminated_by that are not reasons. Package proxy defines
// these values.
var terminationAdvice = map[string]Advice{
	"stopping":         {"no fault: the gate stopped", "The client must connect again; it reaches another gate, or this one after its start."},
	"upstream_changed": {"no fault: a reload changed the upstream of the API", "The client must connect again."},
}

// reasonNamed returns the reason with this label.
func reasonNamed(label string) (access.Reason, bool) {
	for _, r := range access.Reasons() {
		if r.String() == label {
			return r, true
		}
	}
	return access.Undecided, false
}
