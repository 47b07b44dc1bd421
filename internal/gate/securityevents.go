package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/revocation"
	"github.com/tallygate/tallygate/revocation/securityevents"
	"github.com/tallygate/tallygate/validate"
)

// securityEvents has the receivers of the security events of other authorization servers, by issuer identifier. In a command
// that does not serve, nothing is received: only the revocations in the folders are known.
type securityEvents struct {
	serves    bool
	receivers map[string]*eventReceiver
	rules     *revocation.Rules
}

type eventReceiver struct {
	*securityevents.Receiver
	set *revocation.Set // nil if the issuer's state has the revocations
}

// makeSecurityEvents makes the receivers.
func (s *state) makeSecurityEvents(from buildOptions) error {
	s.events = &securityEvents{serves: from.streams != nil, receivers: make(map[string]*eventReceiver), rules: revocation.NewRules(s.cfg, "")}
	var errs []error
	for i := range s.cfg.AuthorizationServers {
		server := &s.cfg.AuthorizationServers[i]
		if server.SecurityEvents == nil {
			continue
		}
		r, err := s.makeEventReceiver(server, from)
		if err != nil {
			errs = append(errs, fmt.Errorf("security events of authorization server %q: %w", server.Name, err))
		} else {
			s.events.receivers[string(server.Issuer)] = r
		}
	}
	return errors.Join(errs...)
}

func (s *state) makeEventReceiver(server *config.AuthorizationServer, from buildOptions) (_ *eventReceiver, err error) {
	r := &eventReceiver{}
	remote, keys := s.Validator.Server(server.Name)
	options := securityevents.Options{Keys: keys, Remote: remote, Log: from.log, Metrics: from.events, Now: time.Now, Lease: s.lease}
	switch dir := string(server.SecurityEvents.State); {
	case s.Issuer != nil:
		issuer, id := s.Issuer, string(server.Issuer)
		options.Store = func(ctx context.Context, entries []revocation.Entry) error {
			return issuer.RevokeForeign(ctx, id, entries)
		}
	case s.events.serves:
		file, err := reuse.Acquire(s.lease, dir, true, func(*securityevents.File) (*securityevents.File, error) {
			return securityevents.Open(dir, time.Now)
		}, func(f *securityevents.File) { _ = f.Close() })
		if err != nil {
			return nil, err
		}
		r.set, options.Store = file.Set(), func(_ context.Context, entries []revocation.Entry) error { return file.Add(entries) }
	default:
		if r.set, err = securityevents.Read(dir); errors.Is(err, fs.ErrPermission) {
			r.set, err = revocation.NewSet(), nil // the command runs as another user than the gate
		}
		if err != nil {
			return nil, err
		}
	}
	r.Receiver, err = securityevents.New(*server, options)
	return r, err
}

// withSecurityEvents returns next extended by the revocations from security events. next may be nil.
func (s *state) withSecurityEvents(next func(*access.Unchecked) (validate.RevocationStatus, error)) func(*access.Unchecked) (validate.RevocationStatus, error) {
	for i := range s.cfg.AuthorizationServers {
		if s.cfg.AuthorizationServers[i].SecurityEvents != nil {
			return func(token *access.Unchecked) (validate.RevocationStatus, error) {
				status, err := validate.NotRevoked, error(nil)
				if next != nil {
					status, err = next(token)
				}
				return s.events.status(token, status, err)
			}
		}
	}
	return next
}

// status returns the status of a token. The parameters status and err are the result without security events, and are
// returned unless the token's server has revoked the token or its events may be missing.
func (e *securityEvents) status(token *access.Unchecked, status validate.RevocationStatus, err error) (validate.RevocationStatus, error) {
	r := e.receivers[token.Issuer]
	if r == nil || status == validate.Revoked {
		return status, err
	}
	var stale error
	if e.serves {
		stale = r.Current() // before the revocations are consulted
	}
	var now time.Time
	if token.IssuedAt.IsZero() { // otherwise the rules do not look at the clock
		now = time.Now()
	}
	if r.set != nil {
		if by := e.rules.RevokedBy(r.set, token, now); by != 0 {
			return statusBy(by, nil)
		}
	}
	if stale == nil || status == validate.RevocationUnknown {
		return status, err
	}
	switch r.WhenStale() {
	case config.ContinueRevocationsStale:
		return status, err
	case config.IntrospectRevocationsStale:
		return validate.Introspect, stale
	case config.RefuseRevocationsStale:
	}
	return validate.RevocationUnknown, stale
}

// start begins to poll.
func (e *securityEvents) start() {
	for _, r := range e.receivers {
		r.Start()
	}
}

// prefetch starts the polls, and returns when each receiver that may make the gate refuse tokens has polled once, unless
// the receiver of previous for the same server is stale too. The error names the servers for which ctx ended first.
func (e *securityEvents) prefetch(ctx context.Context, previous *securityEvents) error {
	e.start()
	var errs []error
	for issuer, r := range e.receivers {
		if before := previous.receivers[issuer]; before != nil && before.Current() != nil {
			continue
		}
		if r.WhenStale() == config.RefuseRevocationsStale {
			errs = append(errs, r.Synced(ctx))
		}
	}
	return errors.Join(errs...)
}

// ready returns nil unless the tokens of a required server are refused because its events may be missing.
func (e *securityEvents) ready(servers []config.AuthorizationServer) error {
	var errs []error
	for i := range servers {
		r := e.receivers[string(servers[i].Issuer)]
		if r != nil && servers[i].Required && r.WhenStale() == config.RefuseRevocationsStale {
			errs = append(errs, r.Current())
		}
	}
	return errors.Join(errs...)
}

// handler returns the handler of the issuer's listeners: the endpoints to which servers push events, and tokens for
// every other path.
func (e *securityEvents) handler(tokens http.Handler) http.Handler {
	pushed := make(map[string]http.Handler)
	for _, r := range e.receivers {
		if path := r.Path(); path != "" {
			pushed[path] = r
		}
	}
	if len(pushed) == 0 {
		return tokens
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := pushed[r.URL.EscapedPath()]; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		tokens.ServeHTTP(w, r)
	})
}
