package proxy

import (
	"cmp"
	"encoding/json"
	"net/http"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/internal/http1"
)

// Values of Retry-After, in seconds.
const (
	retryAfter = "10" // for 503: key sets are fetched again after a cool-down, 10 s by default
	retryRate  = "1"  // for 429: the lowest rate limit is one request a second
)

// errorBody is the body of a refusal or failure. All texts are fixed except the request id.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Reason      string `json:"reason"`
	RequestID   string `json:"request_id"`
}

// refuse sends the refusal d. credentials reports whether the request had an Authorization header. Without
// credentials, the challenge has no error code (RFC 6750 section 3.1).
func (x *exchange) refuse(d access.Decision, credentials bool) {
	x.refuseAs(d.Reason.Status(), d, credentials)
}

// refuseAs refuses like refuse, with another status than the status of the reason.
func (x *exchange) refuseAs(status int, d access.Decision, credentials bool) {
	reason := d.Reason
	var fields []http1.Field
	switch {
	case status == http.StatusUnauthorized && !credentials:
		fields = x.appendChallenges(fields, "", "", nil)
	case status == http.StatusUnauthorized || reason.Code() != "":
		fields = x.appendChallenges(fields, reason.Code(), reason.Description(), d.Scopes)
	case status == http.StatusServiceUnavailable:
		fields = append(fields, http1.Field{Name: "Retry-After", Value: retryAfter})
	case status == http.StatusTooManyRequests:
		fields = append(fields, http1.Field{Name: "Retry-After", Value: retryRate})
	}
	x.sendError(status, fields, errorBody{Error: cmp.Or(reason.Code(), codes[status]), Description: reason.Description(), Reason: reason.String(), RequestID: x.id})
}

// codes are the values of the error member for statuses without a code in RFC 6750.
var codes = map[int]string{
	http.StatusBadRequest:            "invalid_request",
	http.StatusUnauthorized:          "unauthorized",
	http.StatusForbidden:             "access_denied",
	http.StatusRequestTimeout:        "request_timeout",
	http.StatusRequestEntityTooLarge: "content_too_large",
	http.StatusMisdirectedRequest:    "misdirected_request",
	http.StatusTooManyRequests:       "too_many_requests",
	http.StatusInternalServerError:   "server_error",
	http.StatusBadGateway:            "bad_gateway",
	http.StatusServiceUnavailable:    "temporarily_unavailable",
	http.StatusGatewayTimeout:        "gateway_timeout",
}

// refuseOverloaded refuses an HTTP/2 request as overloaded, without a body. A body would wait for the
// client's flow control window (RFC 9113 section 5.2) and use memory, of which there may already be
// too little.
func (x *exchange) refuseOverloaded() {
	fields := []http1.Field{{Name: "Retry-After", Value: retryAfter}, {Name: "Cache-Control", Value: "no-store"}}
	x.response.sendHeader(access.Overloaded.Status(), x.appendOwn(fields), http1.UntilClose)
}

// sendError sends b with status and fields.
func (x *exchange) sendError(status int, fields []http1.Field, b errorBody) {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // marshalling four strings never fails
	}
	text = append(text, '\n')
	fields = append(fields, http1.Field{Name: "Content-Type", Value: "application/json"}, http1.Field{Name: "Cache-Control", Value: "no-store"})
	x.response.sendHeader(status, x.appendOwn(fields), int64(len(text)))
	_, _ = x.response.Write(text) // responseWriter records a failed write
}

// appendOwn appends the fields that the gate adds to each answer.
func (x *exchange) appendOwn(fields []http1.Field) []http1.Field {
	fields = x.appendIDs(fields)
	if nonce := x.nonce(); nonce != "" {
		fields = append(fields, http1.Field{Name: dpopNonce, Value: nonce})
	}
	return fields
}
