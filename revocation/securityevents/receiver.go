// Package securityevents receives revocations from other authorization servers as Security Event Tokens (RFC
// 8417): it polls a server's stream (RFC 8936), and serves the endpoint to which a server pushes (RFC 8935). A
// token is acknowledged after its revocations are durable. A server can revoke only its own tokens.
package securityevents

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/logsample"
	"github.com/tallygate/tallygate/internal/refresh"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/revocation"
)

// Options are the inputs of [New] besides the settings of the server. A field is required unless its comment says
// otherwise.
type Options struct {
	Keys   *jwks.Source
	Remote *authserver.Server // only for polls
	// Store returns nil once the revocations are durable and in effect.
	Store   func(ctx context.Context, entries []revocation.Entry) error
	Log     *slog.Logger
	Metrics *Metrics
	Now     func() time.Time
	Lease   *reuse.Lease // holds the receiver
}

// A Receiver receives the events of one authorization server. It is safe for concurrent use.
type Receiver struct {
	server    string // configured name
	issuer    string
	settings  config.SecurityEvents
	leeway    time.Duration
	keys      *jwks.Source
	remote    *authserver.Server
	store     func(ctx context.Context, entries []revocation.Entry) error
	state     *status
	unstored  *unstored       // pushed tokens that could not be stored
	pending   acknowledgement // what the next poll reports; only the poll task uses it
	verifying chan struct{}   // has an element for each pushed token that is being verified
	task      refresh.Task    // polls
	log       *slog.Logger
	refusals  logsample.Samplers // of log lines, because every client can send a token that is refused
	metrics   serverMetrics
	now       func() time.Time
}

// New returns the receiver for the server that settings describes. settings.SecurityEvents must not be nil. Leases share the
// receiver while the settings are unchanged. New sends no request.
func New(settings config.AuthorizationServer, options Options) (*Receiver, error) {
	r := &Receiver{
		server: string(settings.Name), issuer: string(settings.Issuer), settings: *settings.SecurityEvents, leeway: settings.Leeway,
		keys: options.Keys, remote: options.Remote, store: options.Store, state: &status{synced: make(chan struct{})}, unstored: new(unstored), verifying: make(chan struct{}, maxVerifying),
		log: options.Log, metrics: options.Metrics.forServer(options.Lease, string(settings.Name), settings.SecurityEvents.Poll != nil), now: options.Now,
	}
	if err := r.checkFiles(); err != nil {
		return nil, err
	}
	// The issuer is the name, so that a reload that renames the server keeps state and unstored.
	return reuse.Acquire(options.Lease, r.issuer, r.key(), func(previous *Receiver) (*Receiver, error) {
		if previous != nil && r.continues(previous) {
			r.state = previous.state
		}
		if previous != nil && r.settings.Push != nil && previous.settings.Push != nil { // the server may not send the tokens again soon
			r.unstored = previous.unstored
		}
		return r, nil
	}, (*Receiver).close)
}

// key returns the values that r is made from. It returns nil, which equals no other key, if the key set is not
// fetched: each reload must read this key set again.
func (r *Receiver) key() any {
	keys := r.keys.Key()
	if keys == nil {
		return nil
	}
	key := []any{r.server, r.settings, r.leeway, keys}
	if r.remote != nil {
		key = append(key, r.remote.Key())
	}
	return key
}

// continues reports whether r receives the stream that previous received, so that the time of the last poll
// remains valid. r must accept every anchor that previous accepted.
func (r *Receiver) continues(previous *Receiver) bool {
	now, before := &r.settings, &previous.settings
	return r.issuer == previous.issuer && now.Audience == before.Audience && now.Poll != nil && before.Poll != nil &&
		reflect.DeepEqual(now.Poll.Endpoint, before.Poll.Endpoint) && r.remote.CanReuse(previous.remote)
}

// checkFiles returns an error if a file with credentials is broken.
func (r *Receiver) checkFiles() error {
	var noPoll, noPush error
	if poll := r.settings.Poll; poll != nil {
		_, noPoll = authorization(&poll.Authentication)
	}
	if push := r.settings.Push; push != nil && push.AuthorizationFile != "" {
		_, noPush = authserver.ReadSecret(push.AuthorizationFile)
	}
	return errors.Join(noPoll, noPush)
}

// Start polls until no lease holds r, if polls are configured. It may be called more than once.
func (r *Receiver) Start() {
	if r.settings.Poll != nil {
		r.task.Start(r.run)
	}
}

func (r *Receiver) close() { r.task.Stop() }

// A verdict is the outcome of a Security Event Token.
type verdict struct {
	id     string // jti; "" if the token is refused
	fault  *fault // nil if the token may be acknowledged
	stored bool   // the token revokes, and its revocations are durable
}

// receive verifies tokens and stores their revocations. The verdicts are in the order of the tokens. With an error nothing
// may be acknowledged: the tokens cannot be judged now, or their revocations are not durable.
func (r *Receiver) receive(ctx context.Context, tokens []string) ([]verdict, error) {
	verdicts := make([]verdict, len(tokens))
	statements := make([]*statement, 0, len(tokens))
	var entries []revocation.Entry
	for i, raw := range tokens {
		s, err := r.verify(ctx, raw)
		if f, refused := isFault(err); refused {
			verdicts[i].fault = f
			r.metrics.count(invalid)
			r.logRefusal(ctx, f)
			continue
		}
		if err != nil {
			return nil, err
		}
		verdicts[i].id, verdicts[i].stored = s.id, len(s.entries) > 0
		statements, entries = append(statements, s), append(entries, s.entries...)
	}
	if len(entries) > 0 {
		if err := r.store(ctx, entries); err != nil {
			r.metrics.add(failed, len(statements))
			return nil, fmt.Errorf("storing revocations: %w", err)
		}
	}
	for _, s := range statements {
		r.metrics.count(s.result)
		r.logStatement(ctx, s)
	}
	return verdicts, nil
}

func (r *Receiver) logRefusal(ctx context.Context, f *fault) {
	if n := r.refusals.Add(f.Error(), r.now()); n > 0 {
		r.log.WarnContext(ctx, "security event refused", "issuer", r.server, "count", n, "error", f)
	}
}

// logStatement logs the types of the events and the result, never the subject.
func (r *Receiver) logStatement(ctx context.Context, s *statement) {
	level := slog.LevelInfo
	if s.result != applied {
		level = slog.LevelDebug
	}
	for _, t := range s.types {
		if t == shortType(streamUpdated) { // the server may have paused the stream
			level = slog.LevelWarn
		}
	}
	r.log.LogAttrs(ctx, level, "security event", slog.String("issuer", r.server), slog.String("event_types", strings.Join(s.types, " ")), slog.String("result", s.result.String()))
}
