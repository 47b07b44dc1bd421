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
	// recheckAfter is the least time between two checks of the gate's credentials. While the
	// server refuses them it is the time until the next check.
	recheckAfter = 2 * time.Second
	// endpointPoll is how often a check looks whether the server's metadata has been read.
	endpointPoll = 250 * time.Millisecond
)

var (
	errCredentialsRefused   = errors.New("the server refuses the gate's own credentials")
	errCredentialsUnchecked = errors.New("it is not known yet whether the server takes the gate's credentials")
)

// A credentialCheck is what is known of whether the server takes the gate's credentials. It
// is told by questions about a token that nobody has, so that no caller's token has a say in
// whether the gate is ready.
type credentialCheck struct {
	interval time.Duration // recheckAfter, but for tests
	checked  atomic.Bool   // a check has ended, whatever it found
	refused  atomic.Bool   // the last check that found out found the credentials refused
	requests chan struct{} // of size 1: the answer about some token refused the credentials
}

// doubt asks for a check.
func (k *credentialCheck) request() {
	select {
	case k.requests <- struct{}{}:
	default: // one is asked for already
	}
}

// ready returns nil unless the credentials are refused or have never been checked.
func (k *credentialCheck) ready() error {
	switch {
	case k.refused.Load():
		return errCredentialsRefused
	case !k.checked.Load():
		return errCredentialsUnchecked
	}
	return nil
}

// Run checks the gate's credentials until ctx ends: at once, while the server refuses them,
// and when it has refused them in its answer about some token.
func (c *Client) Run(ctx context.Context) {
	for {
		pause := c.credentialCheck.interval
		if _, err := c.endpoint(); err != nil {
			pause = endpointPoll
		} else {
			_ = c.CheckCredentials(ctx) // logged there
		}
		timer := time.NewTimer(pause)
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

// CheckCredentials asks the server about a token that nobody has, as it asks about others,
// and returns an error when the server refuses the gate's own credentials or does not answer
// as RFC 7662 says. Only a refusal keeps the Client from being ready: whatever else goes
// wrong may be over when the next token comes.
func (c *Client) CheckCredentials(ctx context.Context) error {
	endpoint, err := c.endpoint()
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, c.settings.Timeout)
	defer cancel()
	_, err = c.requestWithRetry(asking, endpoint, rand.Text(), c.now())
	switch refused := errors.Is(err, errCredentialsRefused); {
	case ctx.Err() != nil:
		return err
	case refused && !c.credentialCheck.refused.Swap(true):
		c.log.ErrorContext(ctx, "introspection credentials refused", "issuer", c.server, "err", err)
	case err == nil && c.credentialCheck.refused.Swap(false):
		c.log.InfoContext(ctx, "introspection credentials accepted", "issuer", c.server)
	}
	c.credentialCheck.checked.Store(true)
	return err
}

// refuses reports whether an answer of this status says that the gate may not ask: RFC 6749
// section 5.2, RFC 6750 section 3.1.
func refusesCredentials(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}
