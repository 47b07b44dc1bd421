package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/revocation"
	"github.com/tallygate/tallygate/revocation/subscriber"
	"github.com/tallygate/tallygate/validate"
)

// makeRevocations makes the set of our own issuer, or the subscriber to the feed of an issuer in another process. It comes
// before the Trust is made, which needs the revoked certificates.
func (s *state) makeRevocations(from buildOptions) (err error) {
	switch {
	case s.cfg.Issuer != nil:
		s.revoked, err = reuse.Acquire(s.lease, "issuer", true, func(*revocation.Set) (*revocation.Set, error) {
			return revocation.NewSet(), nil
		}, nil)
		return err
	case s.cfg.Revocations == nil:
		return nil
	}
	settings := s.cfg.RevocationServer()
	remote, keys, err := validate.Connect(*settings, validate.Options{Log: from.log, Metrics: from.validation, Lease: s.lease})
	if err != nil {
		return errNoConnection // makeValidator reports the fault
	}
	s.subscriber, err = subscriber.New(s.cfg, subscriber.Options{
		Server: remote, Keys: keys, Log: from.log, Metrics: from.subscriber, Now: time.Now, Lease: s.lease,
	})
	if err != nil {
		return fmt.Errorf("revocations: %w", err)
	}
	s.revoked = s.subscriber.Set()
	return nil
}

var errNoConnection = errors.New("no connection to the server of revocations")

// revokedCertificates returns the certificates that an issuer has revoked, for the Trust. It is nil without an issuer.
func (s *state) revokedCertificates(from buildOptions) mtls.Revocations {
	switch {
	case from.own != nil:
		return from.own.Certificates
	case s.revoked != nil:
		return s.revoked
	}
	return nil
}

// causes says, for operators, by what kind of revocation a token is revoked.
var causes = map[revocation.Kind]error{
	revocation.Token:          errors.New("the issuer has revoked this token"),
	revocation.Application:    errors.New("the issuer has revoked the tokens of the application until a time after the token's iat"),
	revocation.Partner:        errors.New("the issuer has revoked the tokens of the partner until a time after the token's iat"),
	revocation.Certificate:    errors.New("the issuer has revoked the certificate that the token is bound to"),
	revocation.ForeignToken:   errors.New("the authorization server has revoked this token by a security event"),
	revocation.ForeignSubject: errors.New("the authorization server has revoked the tokens of the subject by a security event"),
}

// statusBy returns the status of a token: revoked by the kind by, or not revoked if by is 0 and unknown is nil. unknown
// says why revocations may be missing.
func statusBy(by revocation.Kind, unknown error) (validate.RevocationStatus, error) {
	if by != 0 {
		return validate.Revoked, causes[by]
	}
	return validate.StatusOf(false, unknown)
}

// RevocationsNote says which revocations a command that does not serve may lack, or is "" if such a command has all.
func (s *state) RevocationsNote() string {
	if s.subscriber == nil {
		return ""
	}
	known := s.subscriber.Status()
	switch {
	case known.Position.Epoch == "":
		return "the revocations of the feed are not known to this command: a running gate may refuse the token or the certificate as revoked"
	case known.LastSync.IsZero(): // the file of a running gate does not say when its revocations were complete
		return fmt.Sprintf("the revocations are from the folder %s: a running gate may know more of them", s.cfg.Revocations.State)
	}
	return fmt.Sprintf("the revocations are from the folder %s, as of %s: a running gate may know more of them",
		s.cfg.Revocations.State, known.LastSync.UTC().Format(time.RFC3339))
}

// feedStatus returns a function that returns the status of a token by the feed of revocations. In a command that does
// not serve, the feed is not followed: only the revocations in its state folder are known.
func (s *state) feedStatus(serves bool) func(*access.Unchecked) (validate.RevocationStatus, error) {
	subscriber, whenStale := s.subscriber, s.cfg.Revocations.WhenStale
	rules := revocation.NewRules(s.cfg, s.cfg.RevocationServer().Issuer)
	return func(token *access.Unchecked) (validate.RevocationStatus, error) {
		stale := subscriber.Current() // before the set is consulted
		var now time.Time
		if token.IssuedAt.IsZero() { // otherwise the rules do not look at the clock
			now = time.Now()
		}
		by := rules.RevokedBy(subscriber.Set(), token, now)
		switch {
		case by != 0:
			return statusBy(by, nil)
		case stale == nil, !serves, whenStale == config.ContinueRevocationsStale:
			return validate.NotRevoked, nil
		case whenStale == config.IntrospectRevocationsStale:
			return validate.Introspect, stale
		}
		return statusBy(0, stale)
	}
}

// introspectedWithin returns the greatest age of a cached introspection response while revocations are not known: the
// shortest max_staleness. So only the mode continue decides by older knowledge.
func (s *state) introspectedWithin() time.Duration {
	var all []time.Duration
	if s.cfg.Revocations != nil {
		all = append(all, s.cfg.Revocations.MaxStaleness)
	}
	for i := range s.cfg.AuthorizationServers {
		if e := s.cfg.AuthorizationServers[i].SecurityEvents; e != nil {
			all = append(all, e.MaxStaleness)
		}
	}
	if len(all) == 0 { // no token is introspected because of missing revocations
		return 0
	}
	return slices.Min(all)
}

// feedReady returns nil once all revocations have been known, if the gate needs to know them to be ready.
func (s *state) feedReady() error {
	if s.subscriber == nil || s.cfg.Revocations.ReadyBeforeSync || s.subscriber.Synced() {
		return nil
	}
	cause := s.subscriber.Status().Failure
	if cause == nil {
		cause = errors.New("the issuer has not sent all revocations yet")
	}
	return fmt.Errorf("revocations of authorization server %q: %w", s.cfg.Revocations.Server, cause)
}

// syncInterval is the time between two checks whether the feed of a new state has synced.
const syncInterval = 50 * time.Millisecond

// syncFeed starts the feed of s and waits until it has synced. Otherwise a reload that turns the feed on would
// make the gate refuse every token for a moment. It does not wait if the gate is ready without the first sync, or if the feed of current has not synced either.
func (s *state) syncFeed(ctx context.Context, current *state) error {
	if s.subscriber == nil || current.feedReady() != nil {
		return nil
	}
	// The key set of a new server is fetched in the background only after the reload.
	if err := s.Validator.FetchKeys(ctx, string(s.cfg.Revocations.Server)); err != nil && s.feedReady() != nil {
		return fmt.Errorf("revocations of authorization server %q: %w", s.cfg.Revocations.Server, err)
	}
	s.subscriber.Start()
	for s.feedReady() != nil {
		select {
		case <-ctx.Done():
			return s.feedReady()
		case <-time.After(syncInterval):
		}
	}
	return nil
}
