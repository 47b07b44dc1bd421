package issuer

import (
	"encoding/json"
	"errors"
	"net/http"
)

// A fault is an error response. The set is closed: the status, code and description of every response
// come from the table below, and no response quotes the request or an internal error. The zero value
// is the response to a bug in the issuer.
type fault uint8

const (
	serverError fault = iota
	invalidRequest
	invalidClient
	invalidGrant
	invalidScope
	invalidTarget
	unauthorizedClient
	notSubscriber
	accessDenied
	invalidDPoPProof
	unsupportedGrantType
	tooManyRequests
	tooManyTokens
	temporarilyUnavailable
	notFound
	methodNotAllowed
	// The faults of operators over mutual TLS.
	forbidden
	malformedOperation
	unknownApplication
	unknownPartner
	badThumbprint
	badReason
)

var faults = [...]struct {
	code        string // the error code, from RFC 6749 section 5.2 if the RFC has a code for the fault
	status      int
	description string // error_description
}{
	serverError:    {"server_error", http.StatusInternalServerError, "The authorization server could not handle the request."},
	invalidRequest: {"invalid_request", http.StatusBadRequest, "The request lacks a parameter, repeats one, authenticates the client in another way than by its certificate, or is not a form in the body of a POST request."},
	// The response has no WWW-Authenticate header, because no scheme is registered for client
	// certificates, and a header with another scheme would be wrong.
	invalidClient:        {"invalid_client", http.StatusUnauthorized, "The client is unknown, or the client certificate of the connection is not the one registered for it."},
	invalidGrant:         {"invalid_grant", http.StatusBadRequest, "The token was issued to another client."},
	invalidScope:         {"invalid_scope", http.StatusBadRequest, "A requested scope is malformed or not registered for this client."},
	invalidTarget:        {"invalid_target", http.StatusBadRequest, "A requested resource is unknown, malformed or not open to this client."}, // RFC 8707 section 2
	unauthorizedClient:   {"unauthorized_client", http.StatusBadRequest, "The client may not use this grant type."},
	notSubscriber:        {"unauthorized_client", http.StatusForbidden, "The client may not subscribe to the feed of revocations."},
	accessDenied:         {"access_denied", http.StatusBadRequest, "A rule of the authorization server refuses the request."},
	invalidDPoPProof:     {"invalid_dpop_proof", http.StatusBadRequest, "The DPoP proof is malformed, expired, or made for another request."}, // RFC 9449 section 5
	tooManyRequests:      {"temporarily_unavailable", http.StatusTooManyRequests, "Too many requests; try again later."},                      // RFC 6585 section 4
	tooManyTokens:        {"temporarily_unavailable", http.StatusTooManyRequests, "The client holds as many unexpired tokens as it may; use them again, or wait until some have expired."},
	unsupportedGrantType: {"unsupported_grant_type", http.StatusBadRequest, "The grant type is not client_credentials."},
	// A client that gets this response must assume that the token is still valid, RFC 7009 section
	// 2.2.1.
	temporarilyUnavailable: {"temporarily_unavailable", http.StatusServiceUnavailable, "The request cannot be handled now; try again later."},
	notFound:               {"not_found", http.StatusNotFound, "There is no such endpoint."},
	methodNotAllowed:       {"method_not_allowed", http.StatusMethodNotAllowed, "The endpoint does not offer this method."},

	forbidden:          {"insufficient_permission", http.StatusForbidden, "The operator lacks the permission for this."},
	malformedOperation: {"invalid_request", http.StatusBadRequest, "The request is not what the endpoint expects: the JSON of a revocation with exactly one of token, application, partner and thumbprint, or the parameters of a list."},
	unknownApplication: {"unknown_application", http.StatusUnprocessableEntity, "The issuer's configuration has no application with this client_id."},
	unknownPartner:     {"unknown_partner", http.StatusUnprocessableEntity, "The issuer's configuration has no partner with this name."},
	badThumbprint:      {"invalid_thumbprint", http.StatusUnprocessableEntity, "The thumbprint is not the SHA-256 of a certificate in base64url."},
	badReason:          {"invalid_reason", http.StatusUnprocessableEntity, "The reason is longer than 200 bytes, or not printable text."},
}

// retryAfter is the Retry-After header of temporary errors, in seconds.
const retryAfter = "5"

// retryTokens is the Retry-After header, in seconds, for a client that has too many stored tokens.
// Expired tokens are removed every minute.
const retryTokens = "60"

// A refusal is the error of a step that refuses a request.
type refusal struct {
	fault fault
	err   error // detail for the log; never sent to clients
}

func (r *refusal) Error() string { return faults[r.fault].code + ": " + r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

func refuse(f fault, detail string) error { return &refusal{f, errors.New(detail)} }

// faultOf returns the error response for err. If err wraps no refusal and no mistake, it is a bug.
func faultOf(err error) fault {
	var r *refusal
	if errors.As(err, &r) {
		return r.fault
	}
	var m *mistake
	if errors.As(err, &m) {
		return m.fault
	}
	return serverError
}

// writeFault writes the error response f. Error responses must not be stored (RFC 6749 section
// 5.2).
func writeFault(w http.ResponseWriter, f fault) {
	row := faults[f]
	switch f { //nolint:exhaustive // a retry does not help with the other faults
	case temporarilyUnavailable, tooManyRequests:
		w.Header().Set("Retry-After", retryAfter)
	case tooManyTokens:
		w.Header().Set("Retry-After", retryTokens)
	}
	noStore(w)
	writeJSON(w, row.status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}{row.code, row.description})
}

// noStore tells caches not to store the response (RFC 6749 section 5.1).
func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

// writeJSON writes v. It ignores write errors, because they mean that the client has disconnected.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
