package validate

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/discovery"
	"github.com/tallygate/tallygate/facts"
	"github.com/tallygate/tallygate/introspect"
	"github.com/tallygate/tallygate/keyset"
)

// newServer prepares one server: how it is reached, its keys, and how it is asked.
func (v *Validator) newServer(settings config.AuthorizationServer, options Options) (s *server, err error) {
	s = &server{
		name: string(settings.Name), issuer: string(settings.Issuer), audiences: settings.Audiences,
		types: keyset.MediaTypes(settings.Types...), leeway: settings.Leeway, required: settings.Required,
		jwts: settings.TakesJWT(), alsoIntrospect: settings.AlsoIntrospect,
	}
	local, own := options.Local[settings.Issuer]
	fetchesKeys := settings.NeedsKeys() && !own && settings.KeySet.File == "" && settings.KeySet.JWKS == ""
	if fetchesKeys || settings.Introspection != nil {
		s.remote, err = discovery.New(settings, discovery.Options{Log: options.Log, Metrics: v.metrics.discovery, Now: v.now})
		if err != nil {
			return nil, err
		}
	}
	s.discovers = fetchesKeys && settings.KeySet.URL == nil || settings.Introspection != nil && settings.Introspection.Endpoint == nil
	if s.jwts {
		s.cache = facts.NewCache[*fact](settings.Cache.Entries, v.metrics.evictions)
	}
	if settings.NeedsKeys() {
		s.keys, err = keyset.New(settings, keyset.Options{
			Local: local.KeySet, Remote: s.remote, Log: options.Log, Metrics: v.metrics.keySets, Now: v.now,
		})
		if err != nil {
			return nil, err
		}
	}
	switch {
	case own && local.Introspect != nil:
		s.resolver = &ownTokens{server: s.name, introspect: local.Introspect}
	case settings.Introspection != nil:
		s.client, err = introspect.New(settings, introspect.Options{
			Remote: s.remote, Keys: s.keys, Log: options.Log, Metrics: v.metrics.introspection, Now: v.now,
		})
		s.resolver = s.client
	case s.alsoIntrospect || settings.TakesOpaque():
		return nil, errors.New("nothing says how to ask it about tokens")
	}
	return s, err
}

// Run keeps metadata and key sets fresh until ctx ends, and then returns nil. Each
// authorization server has its own loops, so that a slow one delays nobody else.
func (v *Validator) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for _, s := range v.servers {
		if s.discovers {
			loops.Go(func() { s.remote.Run(ctx) })
		}
		if s.keys != nil {
			loops.Go(func() { s.keys.Run(ctx) })
		}
	}
	<-ctx.Done()
	loops.Wait()
	v.Close()
	return nil
}

// Prepare reads once what Run would keep fresh, for a Validator that judges one token
// and is not run. Its error says what could not be read; what it concerns is refused as
// [access.IssuerUnavailable].
func (v *Validator) Prepare(ctx context.Context) error {
	var faults []error
	for _, s := range v.servers {
		if s.discovers {
			faults = append(faults, s.remote.Read(ctx))
		}
		if s.keys != nil {
			faults = append(faults, s.keys.Read(ctx))
		}
	}
	return errors.Join(faults...)
}

// Close ends calls in the background and drops idle connections. Run does it at its end.
func (v *Validator) Close() {
	for _, s := range v.servers {
		if s.client != nil {
			s.client.Close()
		}
		if s.remote != nil {
			s.remote.Close()
		}
	}
}

// Ready returns nil when every authorization server that is required can be relied on:
// its keys are not older than its max_stale, and it is known where to ask it. Otherwise
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
