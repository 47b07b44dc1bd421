package validate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/authserver"
	"github.com/tallygate/tallygate/internal/cache"
	"github.com/tallygate/tallygate/internal/jwks"
	"github.com/tallygate/tallygate/introspect"
)

// newServer prepares one server: how it is reached, its keys, and how it is asked. Of the
// one that the previous Validator has under this name it keeps what has not changed. With an
// error comes what was made until then.
func (v *Validator) newServer(settings config.AuthorizationServer, options Options) (s *server, err error) {
	s = &server{
		name: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences,
		types: jwks.MediaTypes(settings.Types...), leeway: settings.Leeway, required: settings.Required,
		acceptsJWT: settings.TakesJWT(), alsoIntrospect: settings.AlsoIntrospect, settings: settings,
	}
	before := options.Previous.serverByName(s.name)
	local, own := options.Local[settings.Issuer]
	fetchesKeys := settings.NeedsKeys() && !own && settings.KeySet.File == "" && settings.KeySet.JWKS == ""
	s.needsMetadata = fetchesKeys && settings.KeySet.URL == nil || settings.Introspection != nil && settings.Introspection.Endpoint == nil
	if fetchesKeys || settings.Introspection != nil {
		if s.remote, err = authserver.New(settings, authserver.Options{
			Log: options.Log, Metrics: v.metrics.metadata, Now: v.now, Previous: before.remote,
		}); err != nil {
			return s, err
		}
	}
	if settings.NeedsKeys() {
		if s.keys, err = jwks.New(settings, jwks.Options{
			Local: local.KeySet, Remote: s.remote, Log: options.Log, Metrics: v.metrics.keySets, Now: v.now, Previous: before.keys,
		}); err != nil {
			return s, err
		}
	}
	if s.acceptsJWT {
		s.cache = v.newCache(s, before)
	}
	switch {
	case own && local.Introspect != nil:
		s.introspector = &localIntrospector{server: s.name, introspect: local.Introspect}
	case settings.Introspection != nil:
		if s.client, err = introspect.New(settings, introspect.Options{
			Remote: s.remote, Keys: s.keys, Memory: v.memory, Log: options.Log, Metrics: v.metrics.introspection, Now: v.now, Previous: before.client,
		}); err != nil {
			return s, err
		}
		s.introspector = s.client
	case s.alsoIntrospect || settings.TakesOpaque():
		return s, errors.New("nothing says how to ask it about tokens")
	}
	return s, nil
}

// named returns the server of that name, one without anything for none.
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

// newCache returns the cache of s: that of before, unless tokens were verified for another
// issuer or under other types. What was verified by other keys is found out when it is
// looked up.
func (v *Validator) newCache(s, before *server) *cache.Cache[*cachedToken] {
	if before.cache != nil && before.issuer == s.issuer && slices.Equal(before.types, s.types) &&
		before.settings.Cache == s.settings.Cache {
		return before.cache
	}
	return cache.New[*cachedToken](v.memory, s.settings.Cache.Entries, v.metrics.evictions)
}

// Start keeps metadata and key sets fresh until [Validator.Close]. What v shares with the
// Validator whose place it takes is not even interrupted. Each authorization server has its
// own loops, so that a slow one delays nobody else.
func (v *Validator) Start() {
	v.metrics.current.Store(v)
	for _, s := range v.servers {
		if s.client != nil {
			s.client.Start()
		}
	}
	v.loops.start(v.refreshers())
}

// readers returns what keeps itself fresh.
func (v *Validator) refreshers() []refresher {
	if v == nil {
		return nil
	}
	var all []refresher
	for _, s := range v.servers {
		if s.needsMetadata {
			all = append(all, s.remote)
		}
		if s.keys != nil {
			all = append(all, s.keys)
		}
		if s.client != nil {
			all = append(all, s.client)
		}
	}
	return all
}

// Prepare reads once what Run would keep fresh, for a Validator that judges one token
// and is not run. Its error says what could not be read; what it concerns is refused as
// [access.IssuerUnavailable].
func (v *Validator) RefreshOnce(ctx context.Context) error {
	var faults []error
	for _, s := range v.servers {
		if s.needsMetadata {
			faults = append(faults, s.remote.Refresh(ctx))
		}
		if s.keys != nil {
			faults = append(faults, s.keys.Refresh(ctx))
		}
	}
	return errors.Join(faults...)
}

// CheckCredentials asks each server that is introspected whether it takes the gate's
// credentials, by a token that nobody has. Its error names those that do not, or do not
// answer.
func (v *Validator) CheckCredentials(ctx context.Context) error {
	var faults []error
	for _, s := range v.servers {
		if s.client == nil {
			continue
		}
		if err := s.client.CheckCredentials(ctx); err != nil {
			faults = append(faults, fmt.Errorf("authorization server %q: introspection: %w", s.name, err))
		}
	}
	return errors.Join(faults...)
}

// ErrLost says that an authorization server's tokens could be judged before and cannot be
// now.
var ErrTokensUnverifiable = errors.New("its tokens could be judged before and cannot be now")

// Warm reads once what v needs for judging the tokens of servers of which before, whose
// place v is about to take, can judge them. It waits no longer than ctx. Its error wraps
// [ErrLost] and names the servers of which v still cannot; what failed and is not needed for
// that is none. Of a server that is new, or of no use to before, nothing is read. before may
// be running.
func (v *Validator) Prefetch(ctx context.Context, before *Validator) error {
	faults := make([]error, len(v.servers))
	var readings sync.WaitGroup
	for i, s := range v.servers {
		old, now := before.serverByName(s.name), v.now()
		if old.name == "" || old.ready(now) != nil || s.ready(now) == nil {
			continue
		}
		readings.Go(func() {
			cause := s.refreshChanged(ctx, old)
			if unready := s.ready(v.now()); unready != nil {
				faults[i] = fmt.Errorf("authorization server %q: %w: %w", s.name, ErrTokensUnverifiable, cmp.Or(cause, unready))
			}
		})
	}
	readings.Wait()
	return errors.Join(faults...)
}

// readAfter reads once what old, whose place s is about to take, does not keep fresh.
func (s *server) refreshChanged(ctx context.Context, old *server) error {
	var noMetadata, noKeys, noIntrospection error
	if s.needsMetadata && (s.remote != old.remote || !old.needsMetadata) { // it is unread, or old
		noMetadata = s.remote.Refresh(ctx)
	}
	if s.keys != nil && s.keys != old.keys {
		noKeys = s.keys.Refresh(ctx)
	}
	if s.client != nil && s.client != old.client {
		noIntrospection = s.client.CheckCredentials(ctx)
	}
	return cmp.Or(noMetadata, noKeys, noIntrospection) // without the one, there is rarely the other
}

// Close ends the readings and drops idle connections and, where heir is nil, ends the calls
// in the background. What is shared with heir, which has taken v's place, stays as it is;
// and a request that v still judges gets its answer.
func (v *Validator) Close(heir *Validator) {
	v.loops.end(except(v.refreshers(), heir.refreshers()))
	for _, s := range v.servers {
		after := heir.serverByName(s.name)
		if s.cache != after.cache {
			s.cache.Clear()
		}
		if s.client != nil && s.client != after.client {
			s.client.Retire(after.client)
		}
		if s.remote != nil && s.remote != after.remote {
			s.remote.Close()
		}
		switch {
		case heir != nil:
			v.metrics.forgetServer(s.name, after)
		case s.client != nil:
			s.client.Close()
		}
	}
}

// Ready returns nil when every authorization server that is required can be relied on:
// its keys are not older than its max_stale, it is known where to ask it, and it does not
// refuse the gate's own credentials. Otherwise
// the error names the others.
func (v *Validator) Ready() error {
	var faults []error
	now := v.now()
	for _, s := range v.servers {
		if !s.required {
			continue
		}
		if err := s.ready(now); err != nil {
			faults = append(faults, fmt.Errorf("authorization server %q: %w", s.name, err))
		}
	}
	return errors.Join(faults...)
}
