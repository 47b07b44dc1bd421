package validate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/facts"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/introspect"
)

// newServer prepares the connections, keys and introspection of a server. Parts whose settings have not
// changed are taken from the previous Validator through the lease. After an error the lease holds the
// parts that newServer has made.
func (v *Validator) newServer(settings config.AuthorizationServer, options Options) (s *server, err error) {
	s = &server{
		name: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences,
		types: jwks.MediaTypes(settings.Types...), leeway: settings.Leeway, required: settings.Required,
		mapping: facts.NewMapping(&settings), acceptsJWT: settings.TakesJWT(), alsoIntrospect: settings.AlsoIntrospect, settings: settings,
		mtlsPoP: settings.SendsMTLSPoP(), dpop: v.dpop,
	}
	local, isLocal := options.Local[settings.Issuer]
	if s.remote, s.keys, s.needsMetadata, err = connect(settings, options); err != nil {
		return nil, err
	}
	if s.acceptsJWT {
		s.cache = v.newCache(s, options.Lease)
	}
	switch {
	case isLocal && local.Introspect != nil:
		s.introspector = &localIntrospector{server: s.name, introspect: local.Introspect, now: v.now}
	case settings.Introspection != nil:
		if s.client, err = introspect.New(settings, introspect.Options{
			Remote: s.remote, Keys: s.keys, Memory: v.memory, Log: options.Log, Metrics: v.metrics.introspection, Now: v.now, Lease: options.Lease,
		}); err != nil {
			return nil, err
		}
		s.introspector = s.client
	case s.alsoIntrospect || settings.TakesOpaque():
		return nil, errors.New("introspection is not configured for the server")
	}
	return s, nil
}

// connect returns the connections to a server, its key set, and whether its metadata is needed. The first two are nil
// if the gate does not need them. options must have Log, Metrics and Now.
func connect(settings config.AuthorizationServer, options Options) (remote *authserver.Server, keys *jwks.Source, needsMetadata bool, err error) {
	local, isLocal := options.Local[settings.Issuer]
	fetchesKeys := settings.NeedsKeys() && !isLocal && settings.KeySet.File == "" && settings.KeySet.JWKS == ""
	needsMetadata = fetchesKeys && settings.KeySet.URL == nil || settings.Introspection != nil && settings.Introspection.Endpoint == nil
	// A client certificate without introspection is for the feed of revocations.
	if fetchesKeys || settings.Introspection != nil || settings.Polls() || !isLocal && settings.Connection.Certificate != (config.KeyPair{}) {
		if remote, err = authserver.New(settings, authserver.Options{
			Log: options.Log, Metrics: options.Metrics.metadata, Now: options.Now, Metadata: needsMetadata, Lease: options.Lease,
		}); err != nil {
			return nil, nil, false, err
		}
	}
	if settings.NeedsKeys() {
		if keys, err = jwks.New(settings, jwks.Options{
			Local: local.KeySet, Remote: remote, Log: options.Log, Metrics: options.Metrics.keySets, Now: options.Now, Lease: options.Lease,
		}); err != nil {
			return nil, nil, false, err
		}
	}
	return remote, keys, needsMetadata, nil
}

// Connect returns the connections and the key set of a server before there is a Validator. A Validator that
// [New] makes with the same options shares them, and [Validator.Start] keeps them fresh. options must have Log and Metrics.
func Connect(settings config.AuthorizationServer, options Options) (*authserver.Server, *jwks.Source, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	remote, keys, _, err := connect(settings, options)
	return remote, keys, err
}

// serverByName returns the server with that name, or an empty server.
func (v *Validator) serverByName(name string) *server {
	if v != nil {
		for _, s := range v.servers {
			if s.name == name {
				return s
			}
		}
	}
	return &server{}
}

// Server returns the connections to an authorization server and its key set, for packages that use the server
// for more than one token at a time, such as the revocation feed. Each is nil if v does not need it.
func (v *Validator) Server(name config.Name) (*authserver.Server, *jwks.Source) {
	s := v.serverByName(string(name))
	return s.remote, s.keys
}

// newCache returns the cache of s. Leases share the cache while the issuer, the accepted types, the
// meaning of claims and the size are the same. The key set need not be the same: lookup removes
// tokens that a removed key verified.
func (v *Validator) newCache(s *server, lease *reuse.Lease) *cache.Cache[*cachedToken] {
	tokens, _ := reuse.Acquire(lease, s.name, []any{s.issuer, s.types, s.settings.Profile, s.mapping, s.settings.Cache},
		func(*cache.Cache[*cachedToken]) (*cache.Cache[*cachedToken], error) {
			return cache.New[*cachedToken](v.memory, s.settings.Cache.Entries, v.metrics.evictions), nil
		}, (*cache.Cache[*cachedToken]).Clear)
	return tokens
}

// Start keeps metadata, key sets and the check of the gate's credentials fresh until the lease is
// released. Background work that v shares with the previous Validator continues. Each authorization
// server has its own background work, so that a slow server delays no other server.
func (v *Validator) Start() {
	v.metrics.current.Store(v)
	for _, s := range v.servers {
		if s.needsMetadata {
			s.remote.Start()
		}
		if s.keys != nil {
			s.keys.Start()
		}
		if s.client != nil {
			s.client.Start()
		}
	}
}

// RefreshOnce fetches metadata and key sets once. It is for a Validator that is not started and
// checks a single token. The error lists the failed fetches. The tokens of a server with a failed
// fetch are refused with [access.IssuerUnavailable].
func (v *Validator) RefreshOnce(ctx context.Context) error {
	var errs []error
	for _, s := range v.servers {
		if s.needsMetadata {
			errs = append(errs, s.remote.Refresh(ctx))
		}
		if s.keys != nil {
			errs = append(errs, s.keys.Refresh(ctx))
		}
	}
	return errors.Join(errs...)
}

// CheckCredentials checks the gate's credentials at each introspected server with a random token.
// The error names the servers that refuse the credentials or do not respond.
func (v *Validator) CheckCredentials(ctx context.Context) error {
	var errs []error
	for _, s := range v.servers {
		if s.client == nil {
			continue
		}
		if err := s.client.CheckCredentials(ctx); err != nil {
			errs = append(errs, fmt.Errorf("authorization server %q: introspection: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}

// ErrTokensUnverifiable is returned when a reload would leave an authorization server without the
// keys, metadata or credentials that its tokens need.
var ErrTokensUnverifiable = errors.New("tokens that could be checked before cannot be checked any more")

// Prefetch fetches what v needs to check the tokens of each server whose tokens previous can check.
// It returns when ctx ends, at the latest. The error wraps [ErrTokensUnverifiable] and names the
// servers whose tokens v still cannot check; a failed fetch is ignored if its result is not needed.
// Servers that are new, or whose tokens previous cannot check, are skipped. previous may be in use
// during the call.
func (v *Validator) Prefetch(ctx context.Context, previous *Validator) error {
	errs := make([]error, len(v.servers))
	var fetches sync.WaitGroup
	for i, s := range v.servers {
		old, now := previous.serverByName(s.name), v.now()
		if old.name == "" || old.ready(now) != nil || s.ready(now) == nil {
			continue
		}
		fetches.Go(func() {
			cause := s.refreshChanged(ctx, old)
			if unready := s.ready(v.now()); unready != nil {
				errs[i] = fmt.Errorf("authorization server %q: %w: %w", s.name, ErrTokensUnverifiable, cmp.Or(cause, unready))
			}
		})
	}
	fetches.Wait()
	return errors.Join(errs...)
}

// FetchKeys fetches the key set of the server with that name once, unless v has a usable key set of the server. It is for a
// Validator that is not started, before the keys verify something else than tokens.
func (v *Validator) FetchKeys(ctx context.Context, name string) error {
	s := v.serverByName(name)
	if s.keys == nil {
		return nil
	}
	if _, err := s.keys.Usable(v.now()); err == nil {
		return nil
	}
	if s.needsMetadata {
		if err := s.remote.Refresh(ctx); err != nil {
			return err
		}
	}
	return s.keys.Refresh(ctx)
}

// refreshChanged fetches, once, each document that previous does not keep fresh.
func (s *server) refreshChanged(ctx context.Context, previous *server) error {
	var noMetadata, noKeys, noIntrospection error
	if s.needsMetadata && s.remote != previous.remote { // the metadata is missing, or is older than the settings
		noMetadata = s.remote.Refresh(ctx)
	}
	if s.keys != nil && s.keys != previous.keys {
		noKeys = s.keys.Refresh(ctx)
	}
	if s.client != nil && s.client != previous.client {
		noIntrospection = s.client.CheckCredentials(ctx)
	}
	return cmp.Or(noMetadata, noKeys, noIntrospection) // a missing document is the likely cause of later errors
}

// CancelRequests cancels the background requests. It is called at the end of the process.
func (v *Validator) CancelRequests() {
	for _, s := range v.servers {
		if s.client != nil {
			s.client.CancelRequests()
		}
	}
}

// Ready returns nil if every required authorization server is usable: its keys are not older than
// max_stale, its introspection endpoint is known, and it does not refuse the gate's credentials.
// The error names the servers that are not usable.
func (v *Validator) Ready() error {
	var errs []error
	now := v.now()
	for _, s := range v.servers {
		if !s.required {
			continue
		}
		if err := s.ready(now); err != nil {
			errs = append(errs, fmt.Errorf("authorization server %q: %w", s.name, err))
		}
	}
	return errors.Join(errs...)
}
