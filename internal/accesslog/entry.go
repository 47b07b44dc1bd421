package accesslog

import (
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/policy"
)

// An Entry has the values in the log line and the metrics of a request that has ended. Host, Method and Target
// are as the client sent them, except that a served host is as the configuration has it.
type Entry struct {
	Decision    *access.Decision
	API, Route  string              // the values of the labels
	Caller      policy.Caller       // the holder of the certificate
	Certificate *access.Certificate // the accepted client certificate; nil for a preflight, or if none was accepted
	Presented   *access.Certificate // the client certificate of a refused request, accepted or not; nil if there was none
	Thumbprint  string              // the thumbprint of the client certificate; "" without a certificate
	RequestID   string
	// IDFromClient says that the client chose RequestID.
	IDFromClient  bool
	InteractionID string // the x-fapi-interaction-id; "" if not configured
	TraceID       string // the trace of the request; "" if no trace is recorded
	Host          string
	Method        string
	Target        string // the request target, whose query is not logged
	Remote        string // the client's address and port
	Started       time.Time
	Duration      time.Duration // from Started to the end of the response
	Overhead      time.Duration // the time until the decision, which is a part of Duration
	Status        int           // the status of the response; 499 if the client disconnected before the header was sent

	Failure       Failure
	FailureDetail error  // the error behind Failure; may be nil
	TerminatedBy  string // the label of the reason for which the gate ended the request, Stopping or UpstreamChanged; "" if it did not
	TerminatedFor error  // the error behind TerminatedBy; may be nil
}

// Values of TerminatedBy beside the labels of [access.Reason].
const (
	Stopping        = "stopping"         // the gate stops
	UpstreamChanged = "upstream_changed" // a reload gave the API another upstream
)

// ended reports whether the request was granted and has ended as its client and the upstream wanted.
func (e *Entry) ended() bool {
	return e.Decision.Reason == access.Granted && e.Failure == NoFailure && e.TerminatedBy == ""
}

// Partner returns the name of the caller's partner, or unknownPartner.
func (e *Entry) Partner() string {
	if e.Caller.Partner == "" {
		return unknownPartner
	}
	return e.Caller.Partner
}

// A Failure says what failed after a request was granted. It is not a decision, and has its own
// metric.
type Failure uint8

// The failures.
const (
	NoFailure Failure = iota
	ClientClosed
	ClientStalled
	ClientMalformed
	BodyTooLarge
	UpstreamUnreachable
	UpstreamTimeout
	UpstreamTLS
	UpstreamReset
)

var failureLabels = [...]string{
	NoFailure:           "",
	ClientClosed:        "client_closed",
	ClientStalled:       "client_stalled",
	ClientMalformed:     "client_malformed",
	BodyTooLarge:        "body_too_large",
	UpstreamUnreachable: "upstream_unreachable",
	UpstreamTimeout:     "upstream_timeout",
	UpstreamTLS:         "upstream_tls",
	UpstreamReset:       "upstream_reset",
}

// String returns the label of f in logs, metrics and responses.
func (f Failure) String() string { return failureLabels[f] }
