package access

import "errors"

// A Decision is the verdict on one request. proxy answers, logs and counts from
// it and from nothing else. The zero Decision refuses.
type Decision struct {
	Reason    Reason
	Asserted  bool     // the upstream gets a JWT of ours about the caller
	WebSocket bool     // the caller may switch the connection to WebSocket, RFC 6455
	AnyBody   bool     // the request may have a body whatever its method
	Partner   string   // configured name; "" until the client is known
	Server    string   // configured name of the authorization server whose token it is; "" until that is known
	ClientID  string   // of the token once its server has vouched for it, also where it was refused
	API       string   // configured name; "" until a route has matched
	Route     string   // the matched route's name, its API and its path pattern; "" when none matched
	Claims    Claims   // who asked; zero unless the token passed every check
	Scopes    []string // what the route needs; set with InsufficientScope, RFC 6750 section 3.1
	Err       error    // detail for the log; never sent to the client
}

// A Denial is the error of a check that turned a request down.
type Denial struct {
	Reason   Reason
	Server   string // as in [Decision]
	ClientID string // as in [Decision]
	Err      error  // detail for the log, may be nil
}

// Error returns the reason's label and the detail, for the log only.
func (d *Denial) Error() string {
	if d.Err == nil {
		return d.Reason.String()
	}
	return d.Reason.String() + ": " + d.Err.Error()
}

// Unwrap returns the detail.
func (d *Denial) Unwrap() error { return d.Err }

// Deny returns the Decision for err. An error that wraps no Denial is a bug and
// refuses as [Undecided]; so does a Denial that claims to grant.
func Deny(err error) Decision {
	var d *Denial
	if errors.As(err, &d) && d.Reason != Granted {
		return Decision{Reason: d.Reason, Server: d.Server, ClientID: d.ClientID, Err: d.Err}
	}
	return Decision{Reason: Undecided, Err: err}
}
