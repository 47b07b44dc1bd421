package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/tallygate/tallygate/access"
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

// writeRefusal sends the refusal d. credentials reports whether the request had an Authorization
// header. Without credentials, the challenge has no error code (RFC 6750 section 3.1).
func writeRefusal(w *responseWriter, d access.Decision, credentials bool) {
	writeRefusalAs(w, d.Reason.Status(), d, credentials)
}

// writeRefusalAs is writeRefusal with another status than that of the reason.
func writeRefusalAs(w *responseWriter, status int, d access.Decision, credentials bool) {
	reason := d.Reason
	switch {
	case status == http.StatusUnauthorized && !credentials:
		w.Header()["Www-Authenticate"] = w.checked.challenges("", "", nil)
	case status == http.StatusUnauthorized || reason.Code() != "":
		w.Header()["Www-Authenticate"] = w.checked.challenges(reason.Code(), reason.Description(), d.Scopes)
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	case status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", retryRate)
	}
	code := reason.Code()
	if code == "" {
		code = codes[status]
	}
	writeError(w, status, errorBody{Error: code, Description: reason.Description(), Reason: reason.String(), RequestID: w.checked.id})
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

// writeOverloaded refuses an HTTP/2 request as overloaded, without a body. A body would wait for the
// client's flow control window (RFC 9113 section 5.2) and use memory, of which there may already be
// too little.
func writeOverloaded(w http.ResponseWriter) {
	w.Header().Set("Retry-After", retryAfter)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(access.Overloaded.Status())
}

// writeError sends b with status.
func writeError(w http.ResponseWriter, status int, b errorBody) {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // marshalling four strings never fails
	}
	text = append(text, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // responseWriter records a failed write
}
