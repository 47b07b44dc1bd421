package access

import (
	"errors"
	"fmt"
	"strings"
)

// A Decision is the verdict on one request. Package proxy answers, logs and counts from the
// Decision alone. The zero Decision refuses.
type Decision struct {
	Reason    Reason
	Asserted  bool     // the upstream gets an assertion (a JWT) about the client
	WebSocket bool     // the client may switch the connection to WebSocket, RFC 6455
	AnyBody   bool     // the request may have a body with any method
	Preflight bool     // the request is a CORS preflight, granted without a client and forwarded without identity
	Partner   string   // configured name; "" until the client is known
	Server    string   // configured name of the token's authorization server; "" until it is known
	ClientID  string   // client_id of the token, also of a refused token; "" until the token's origin is verified
	API       string   // configured name; "" until a route has matched
	Route     string   // path pattern of the matched route; "" without a match
	Rule      Rule     // indexes of the application and of the route in the configuration
	Claims    Claims   // zero unless the token passed every check
	Scopes    []string // scopes that the route needs, RFC 6750 section 3.1; set only for InsufficientScope
	Err       error    // detail for the log; never in the answer
}

// A Rule has indexes into the lists of the configuration. The application is
// partners.list[Partner].applications[Application]; both indexes are valid if [Decision.Partner] was
// set by a check of the partner or by a later check. The route is apis[API].routes[Route]; both
// indexes are valid if [Decision.Route] is set.
type Rule struct{ Partner, Application, API, Route int }

// A Denial is the error of a check that refuses a request.
type Denial struct {
	Reason   Reason
	Server   string // as in [Decision]
	ClientID string // as in [Decision]
	Err      error  // detail for the log; may be nil
}

// Error returns the reason's label and the detail. It is for the log only.
func (d *Denial) Error() string {
	if d.Err == nil {
		return d.Reason.String()
	}
	return d.Reason.String() + ": " + d.Err.Error()
}

// Unwrap returns the detail.
func (d *Denial) Unwrap() error { return d.Err }

// Denyf returns a Denial for reason, without Server and ClientID. format and args are the detail for
// the log; callers truncate each part of a token that they quote, and never quote its signature.
func Denyf(reason Reason, format string, args ...any) error {
	return &Denial{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// DecisionOf returns the Decision for err. An error that wraps no Denial, and a Denial with the
// reason Granted, are bugs and give [Undecided].
func DecisionOf(err error) Decision {
	var d *Denial
	if errors.As(err, &d) && d.Reason != Granted {
		return Decision{Reason: d.Reason, Server: d.Server, ClientID: d.ClientID, Err: d.Err}
	}
	return Decision{Reason: Undecided, Err: err}
}

// ReasonOf returns the reason of [DecisionOf](err).
func ReasonOf(err error) Reason { return DecisionOf(err).Reason }

// A Mismatch is the detail of a check that compares two values. Name is the compared value, such
// as a claim. Want comes from the configuration, the connection or the clock. Got comes from the
// request and must be truncated by [Truncate].
type Mismatch struct {
	Name, Want, Got string
}

func (m *Mismatch) Error() string { return m.Name + ": want " + m.Want + ", got " + m.Got }

// maxTruncated leaves room for the details that the checks write, such as two thumbprints or two
// times, and for the issuer and key identifiers that servers use.
const maxTruncated = 256

// Truncate shortens s to 256 bytes. s may come from a request, and a small request must not cause a
// large log line.
func Truncate(s string) string {
	if len(s) <= maxTruncated {
		return s
	}
	return strings.ToValidUTF8(s[:maxTruncated], "") + "…" // the cut may have split a character
}
