package introspect

import (
	"context"
	"errors"
	"time"
)

// A failure is a failed request.
type failure struct {
	at  time.Time
	err error
}

// note remembers how a request ended. A request that its caller gave up says nothing about the server.
func (c *Client) note(err error) {
	switch {
	case err == nil:
		c.lastSuccess.Store(c.now().UnixNano())
	case !errors.Is(err, context.Canceled) && !callerFault(err):
		c.lastFailure.Store(&failure{c.now(), err})
	}
}

// Status is the state of introspection at one moment, for operators.
type Status struct {
	Suspended bool      // the circuit breaker is open after failures in a row
	Unready   error     // why no token can be introspected now; nil if the endpoint is known and the credentials are accepted
	Answered  time.Time // the last response; zero if there was none
	Failure   error     // why the last failed request failed; nil if none failed
	FailedAt  time.Time
}

// Status returns the state of c.
func (c *Client) Status() Status {
	s := Status{Suspended: c.suspended(), Unready: c.Ready()}
	if at := c.lastSuccess.Load(); at != 0 {
		s.Answered = time.Unix(0, at)
	}
	if f := c.lastFailure.Load(); f != nil {
		s.Failure, s.FailedAt = f.err, f.at
	}
	return s
}
