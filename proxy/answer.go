package proxy

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/tallygate/tallygate/access"
)

// What callers are told to wait, in seconds.
const (
	// When the gate cannot decide. Key sets are read again within a cool-down, 10 seconds
	// by default.
	retryAfter = "10"
	// When they are over a rate, of which none is less than one in a second.
	retryRate = "1"
)

// realm names the protection space, RFC 9110 section 11.5. A challenge must have at
// least one parameter (RFC 6750 section 3).
const realm = "tallygate"

// body is the answer to a refused request. Every text in it is fixed but the
// request id.
type errorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
	Reason      string `json:"reason"`
	RequestID   string `json:"request_id"`
}

// answer tells the client that its request was refused. credentials says whether
// it sent any: without, the challenge carries no error code (RFC 6750 section 3.1).
func writeRefusal(w http.ResponseWriter, d access.Decision, id string, credentials bool) {
	reason := d.Reason
	status := reason.Status()
	switch {
	case status == http.StatusUnauthorized && !credentials:
		w.Header().Set("WWW-Authenticate", challenge("", "", nil))
	case status == http.StatusUnauthorized || reason.Code() != "":
		w.Header().Set("WWW-Authenticate", challenge(reason.Code(), reason.Description(), d.Scopes))
	case status == http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", retryAfter)
	case status == http.StatusTooManyRequests:
		w.Header().Set("Retry-After", retryRate)
	}
	code := reason.Code()
	if code == "" {
		code = codes[status]
	}
	writeError(w, status, errorBody{Error: code, Description: reason.Description(), Reason: reason.String(), RequestID: id})
}

// codes are the error members of answers for which RFC 6750 has no code.
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

// challenge is the value of WWW-Authenticate, RFC 6750 section 3. Its parts are
// fixed texts and configured scopes, none of which needs quoting.
func challenge(code, description string, scopes []string) string {
	var b strings.Builder
	b.WriteString(`Bearer realm="` + realm + `"`)
	if code != "" {
		b.WriteString(`, error="` + code + `", error_description="` + description + `"`)
	}
	if len(scopes) > 0 {
		b.WriteString(`, scope="` + strings.Join(scopes, " ") + `"`)
	}
	return b.String()
}

// shed answers a request over HTTP/2 for which the gate has no room, by a header alone. A body
// waits until the client grants a window for it (RFC 9113 section 5.2), and takes memory that is
// short.
func writeOverloaded(w http.ResponseWriter) {
	w.Header().Set("Retry-After", retryAfter)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(access.Overloaded.Status())
}

func writeError(w http.ResponseWriter, status int, b errorBody) {
	text, err := json.Marshal(b)
	if err != nil {
		panic(err) // four strings always marshal
	}
	text = append(text, '\n')
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text) // a client that has gone is noted by the exchange
}
