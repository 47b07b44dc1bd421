package introspect

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	// recheckAfter is the minimum time between two checks of the gate's credentials, and the time
	// between checks while the server refuses the credentials.
	recheckAfter = 2 * time.Second
	// endpointPoll is the time between attempts to get the endpoint from the server's metadata.
	endpointPoll = 250 * time.Millisecond
)

var (
	errCredentialsRefused   = errors.New("the server refuses the gate's own credentials")
	errCredentialsUnchecked = errors.New("the gate's credentials have not been checked yet")
)

// A credentialCheck records whether the server accepts the gate's credentials. The check introspects
// a random token, so that no client's token can affect readiness.
type credentialCheck struct {
	interval time.Duration // recheckAfter, except in tests
	checked  atomic.Bool   // at least one check has ended, with any result
	refused  atomic.Bool   // the server refused the credentials in the last conclusive check
	requests chan struct{} // capacity 1: a value asks Run for a check, because the server refused the credentials at an introspection of a client's token
}

// request requests a check from Run.
func (k *credentialCheck) request() {
	select {
	case k.requests <- struct{}{}:
	default: // a check is already requested
	}
}

// ready returns nil if the credentials have been checked and are not refused.
func (k *credentialCheck) ready() error {
	switch {
	case k.refused.Load():
		return errCredentialsRefused
	case !k.checked.Load():
		return errCredentialsUnchecked
	}
	return nil
}

// Run checks the gate's credentials until ctx ends: at once, repeatedly while the server refuses
// them, and after the server refused them in its response about a client's token.
func (c *Client) Run(ctx context.Context) {
	for {
		delay := c.credentialCheck.interval
		if _, err := c.endpoint(); err != nil {
			delay = endpointPoll
		} else {
			_ = c.CheckCredentials(ctx) // CheckCredentials logs errors
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if c.credentialCheck.ready() != nil {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-c.credentialCheck.requests:
		}
	}
}

// CheckCredentials introspects a random token. It returns an error if the server refuses the gate's
// credentials or its response does not comply with RFC 7662. Only refused credentials make the client
// unready, because other errors may be temporary.
func (c *Client) CheckCredentials(ctx context.Context) error {
	endpoint, err := c.endpoint()
	if err != nil {
		return err
	}
	withTimeout, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	_, err = c.requestWithRetry(withTimeout, endpoint, rand.Text(), c.now())
	switch refused := errors.Is(err, errCredentialsRefused); {
	case ctx.Err() != nil:
		return err
	case refused && !c.credentialCheck.refused.Swap(true):
		c.log.ErrorContext(ctx, "introspection credentials refused", "issuer", c.server, "error", err)
	case err == nil && c.credentialCheck.refused.Swap(false):
		c.log.InfoContext(ctx, "introspection credentials accepted", "issuer", c.server)
	}
	c.credentialCheck.checked.Store(true)
	return err
}

// refusesCredentials reports whether a response with status refuses the gate's credentials, RFC
// 6749 section 5.2 and RFC 6750 section 3.1.
func refusesCredentials(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}
