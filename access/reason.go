// Package access defines the types that all packages share: claims before and after the checks
// ([Unchecked], [Claims]), the client certificate of a connection ([Certificate]), and the
// verdict on a request ([Decision] with its [Reason] from a closed set). The package holds types
// and tables, imports no other package of tallygate and does no I/O.
package access

import "net/http"

// A Reason says why a request was forwarded or refused. The set is closed: HTTP answer, log line
// and metric label of a request come from its Reason. The zero value refuses.
type Reason uint8

// The reasons, in the order in which the checks run.
const (
	Undecided Reason = iota // no check reached a verdict: a bug, answered with 500
	Granted                 // every check passed, the request is forwarded

	// Reasons about the message, checked before the client is known.
	MalformedRequest
	PathNotCanonical
	Misdirected
	UpgradeNotAllowed
	BodyNotAllowed

	// Reasons about the certificate.
	NoCertificate
	UntrustedCertificate
	WrongUsage
	WeakCertificate
	ExpiredCertificate
	RevokedCertificate
	RevocationUnknown

	// Reasons about the token.
	NoToken
	MalformedToken
	UnsupportedAlgorithm
	WrongType
	UnknownKey
	BadSignature
	UnknownIssuer
	WrongAudience
	Expired
	NotYetValid
	Inactive
	Revoked

	// Reasons about the binding of a token to a certificate (RFC 8705 section 3) or to a key (RFC 9449).
	NotBound
	MalformedBinding
	WrongScheme
	BoundToOther
	BoundToPrevious
	InvalidDPoPProof
	DPoPNonceRequired
	BoundToOtherKey
	ReplayedDPoPProof
	BindingNotAccepted

	// Reasons about the partner.
	UnknownClient
	PartnerDisabled
	CertificateNotRegistered

	// Reasons about the API.
	APINotAllowed
	InsufficientScope
	PolicyDenied

	// Reasons about limits.
	BodyTooLarge
	RateLimited
	Overloaded

	// Reasons about dependencies.
	IssuerUnavailable
	RevocationsStale
)

// numReasons is an int, so that the exhaustive linter does not count it as a Reason.
const numReasons = int(RevocationsStale) + 1

// Error codes of RFC 6750 section 3.1, and of RFC 9449 sections 7.1 and 9.
const (
	invalidRequest    = "invalid_request"
	invalidToken      = "invalid_token"
	insufficientScope = "insufficient_scope"
	invalidDPoPProof  = "invalid_dpop_proof"
	useDPoPNonce      = "use_dpop_nonce"
)

var reasons = [numReasons]struct {
	stage       Stage  // the stage whose checks give the reason
	label       string // log value and metric label
	status      int    // HTTP status code; 0 for Granted, whose status is the upstream's
	code        string // error code of RFC 6750 section 3.1 or RFC 9449 in the answer
	description string // fixed text for people; only characters that RFC 6750 section 3 allows
}{
	Undecided: {"", "undecided", http.StatusInternalServerError, "", "The gate reached no verdict."},
	Granted:   {"", "granted", 0, "", ""},

	MalformedRequest:  {StageMessage, "malformed_request", http.StatusBadRequest, invalidRequest, "The request is malformed, or carries its token in more than one place."},
	PathNotCanonical:  {StageMessage, "path_not_canonical", http.StatusBadRequest, invalidRequest, "The path is not in canonical form; it is refused, not repaired."},
	Misdirected:       {StageMessage, "misdirected", http.StatusMisdirectedRequest, "", "This host is not served on this connection."},
	UpgradeNotAllowed: {StageMessage, "upgrade_not_allowed", http.StatusForbidden, "", "Switching protocols is not allowed here."},
	BodyNotAllowed:    {StageMessage, "body_not_allowed", http.StatusBadRequest, invalidRequest, "A request with this method may have no body here."},

	NoCertificate:        {StageCertificate, "no_certificate", http.StatusUnauthorized, invalidToken, "No client certificate came with the request."},
	UntrustedCertificate: {StageCertificate, "untrusted_certificate", http.StatusUnauthorized, invalidToken, "The client certificate has no valid chain to a trusted anchor."},
	WrongUsage:           {StageCertificate, "wrong_usage", http.StatusUnauthorized, invalidToken, "The client certificate may not be used for client authentication."},
	WeakCertificate:      {StageCertificate, "weak_certificate", http.StatusUnauthorized, invalidToken, "The client certificate, or an authority above it, has a key or a signature that is too weak."},
	ExpiredCertificate:   {StageCertificate, "expired_certificate", http.StatusUnauthorized, invalidToken, "The client certificate is outside its validity period."},
	RevokedCertificate:   {StageCertificate, "revoked_certificate", http.StatusUnauthorized, invalidToken, "The client certificate has been revoked."},
	RevocationUnknown:    {StageCertificate, "revocation_unknown", http.StatusServiceUnavailable, "", "The revocation status of the client certificate is unknown; try again later."},

	NoToken:              {StageToken, "no_token", http.StatusUnauthorized, "", "The request carries no access token in its Authorization header."},
	MalformedToken:       {StageToken, "malformed_token", http.StatusUnauthorized, invalidToken, "The access token is malformed."},
	UnsupportedAlgorithm: {StageToken, "unsupported_algorithm", http.StatusUnauthorized, invalidToken, "The access token is signed with an algorithm that is not accepted."},
	WrongType:            {StageToken, "wrong_type", http.StatusUnauthorized, invalidToken, "The token is not an access token."},
	UnknownKey:           {StageToken, "unknown_key", http.StatusUnauthorized, invalidToken, "The access token names no known key."},
	BadSignature:         {StageToken, "bad_signature", http.StatusUnauthorized, invalidToken, "The signature of the access token does not verify."},
	UnknownIssuer:        {StageToken, "unknown_issuer", http.StatusUnauthorized, invalidToken, "The access token comes from an authorization server that is not accepted."},
	WrongAudience:        {StageToken, "wrong_audience", http.StatusUnauthorized, invalidToken, "The access token is meant for another audience."},
	Expired:              {StageToken, "expired", http.StatusUnauthorized, invalidToken, "The access token has expired."},
	NotYetValid:          {StageToken, "not_yet_valid", http.StatusUnauthorized, invalidToken, "The access token is not valid yet."},
	Inactive:             {StageToken, "inactive", http.StatusUnauthorized, invalidToken, "The access token is not active."},
	Revoked:              {StageToken, "revoked", http.StatusUnauthorized, invalidToken, "The access token has been revoked."},

	NotBound:           {StageBinding, "not_bound", http.StatusUnauthorized, invalidToken, "The access token is not bound to a client certificate."},
	MalformedBinding:   {StageBinding, "malformed_binding", http.StatusUnauthorized, invalidToken, "The certificate confirmation in the access token is malformed."},
	WrongScheme:        {StageBinding, "wrong_scheme", http.StatusUnauthorized, invalidToken, "The access token needs another scheme in the Authorization header."},
	InvalidDPoPProof:   {StageBinding, "invalid_dpop_proof", http.StatusUnauthorized, invalidDPoPProof, "The DPoP proof is missing, malformed, expired, or made for another request."},
	DPoPNonceRequired:  {StageBinding, "dpop_nonce_required", http.StatusUnauthorized, useDPoPNonce, "The DPoP proof needs the nonce of the DPoP-Nonce header."},
	BoundToOtherKey:    {StageBinding, "bound_to_other_key", http.StatusUnauthorized, invalidToken, "The access token is bound to another key than that of the DPoP proof."},
	ReplayedDPoPProof:  {StageBinding, "replayed_dpop_proof", http.StatusUnauthorized, invalidDPoPProof, "The DPoP proof has been used before; each request needs a new proof."},
	BindingNotAccepted: {StageBinding, "binding_not_accepted", http.StatusUnauthorized, invalidToken, "This API does not accept access tokens with this kind of binding."},
	BoundToOther:       {StageBinding, "bound_to_other", http.StatusUnauthorized, invalidToken, "The access token is bound to another client certificate."},
	BoundToPrevious:    {StageBinding, "bound_to_previous", http.StatusUnauthorized, invalidToken, "The access token is bound to an earlier certificate of this client; fetch a new one."},

	UnknownClient:            {StagePartner, "unknown_client", http.StatusForbidden, "", "The client is not registered here."},
	PartnerDisabled:          {StagePartner, "partner_disabled", http.StatusForbidden, "", "The partner is disabled."},
	CertificateNotRegistered: {StagePartner, "certificate_not_registered", http.StatusForbidden, "", "The client certificate is not registered for this client."},

	APINotAllowed:     {StageAPI, "api_not_allowed", http.StatusForbidden, "", "The client may not make this call."},
	InsufficientScope: {StageAPI, "insufficient_scope", http.StatusForbidden, insufficientScope, "The access token lacks a scope that this call needs."},
	PolicyDenied:      {StageAPI, "policy_denied", http.StatusForbidden, "", "A policy refused this call."},

	BodyTooLarge: {StageLimits, "body_too_large", http.StatusRequestEntityTooLarge, "", "The request body is larger than the gate accepts."},
	RateLimited:  {StageLimits, "rate_limited", http.StatusTooManyRequests, "", "Too many requests; try again later."},
	Overloaded:   {StageLimits, "overloaded", http.StatusServiceUnavailable, "", "The gate is overloaded; try again later."},

	IssuerUnavailable: {StageToken, "issuer_unavailable", http.StatusServiceUnavailable, "", "The token cannot be checked now; try again later."},
	RevocationsStale:  {StageToken, "revocations_stale", http.StatusServiceUnavailable, "", "Revocations are out of date; try again later."},
}

// A Stage is a group of checks.
type Stage string

// The stages, in the order in which the checks run. A failing dependency, such as an
// authorization server, belongs to the stage that needs the dependency.
const (
	StageMessage     Stage = "message"
	StageCertificate Stage = "certificate"
	StageToken       Stage = "token"
	StageBinding     Stage = "binding"
	StagePartner     Stage = "partner"
	StageAPI         Stage = "api"
	StageLimits      Stage = "limits"
)

// Stages returns every stage, in the order in which their checks run.
func Stages() []Stage {
	return []Stage{StageMessage, StageCertificate, StageToken, StageBinding, StagePartner, StageAPI, StageLimits}
}

// Stage returns the stage of the check that refuses with r, "" for [Granted] and [Undecided].
func (r Reason) Stage() Stage { return reasons[r].stage }

// Reasons returns every reason, in the order in which the checks run.
func Reasons() []Reason {
	all := make([]Reason, numReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// String returns r's log value and metric label.
func (r Reason) String() string { return reasons[r].label }

// Status returns the HTTP status code of the answer to a request that is refused with r. It is 0
// for [Granted], because the upstream sets the status.
func (r Reason) Status() int { return reasons[r].status }

// Code returns r's error code of RFC 6750 section 3.1 or RFC 9449, or "" if r has no code.
func (r Reason) Code() string { return reasons[r].code }

// Description returns the fixed sentence in the answer to a request that is refused with r. The
// sentence has only characters that RFC 6750 section 3 allows, and never quotes the request.
func (r Reason) Description() string { return reasons[r].description }
