package config

// Correlation configures the ids by which the logs of the caller, of the gate and of the API are compared.
type Correlation struct {
	RequestID RequestIDSource `yaml:"request_id"`
	// FAPIInteractionID says that every answer has an x-fapi-interaction-id (FAPI 1.0 part 1 section 6.2.1):
	// the id of the caller if it is a UUID, and a new UUID otherwise. The upstream gets the same id.
	FAPIInteractionID bool `yaml:"fapi_interaction_id"`
}

// RequestIDSource says where the id of a request comes from, the X-Request-Id.
type RequestIDSource string

// The values of [RequestIDSource].
const (
	NewRequestID    RequestIDSource = "new"    // the gate makes every id
	ClientRequestID RequestIDSource = "client" // the caller's X-Request-Id, if it is acceptable, and a new id otherwise
)

// TraceContext says what happens to traceparent and tracestate (W3C Trace Context) and to baggage (W3C
// Baggage) of a partner's requests.
type TraceContext string

// The values of [TraceContext].
const (
	NewTraceContext     TraceContext = "new"     // the fields are removed, and a trace begins at the gate
	TrustedTraceContext TraceContext = "trusted" // valid fields are passed on, and the trace of the caller goes on
)
