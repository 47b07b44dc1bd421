package registeredcerts

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/internal/reuse"
)

const (
	// fetchTimeout bounds one fetch, from name resolution to the last byte.
	fetchTimeout = 5 * time.Second
	// minRefreshInterval is the least time between the starts of two fetches. It is needed because
	// any peer can cause a fetch by sending an unknown certificate with a client's client_id.
	minRefreshInterval = 10 * time.Second
	// maxAge is how long a registered certificate is accepted after a fetch without a new fetch. So a
	// certificate that the client removes is accepted for this time.
	maxAge = 5 * time.Minute
	// maxStale is how long the result of the last successful fetch is used while fetches fail. Within
	// this time, a partner has a working day to repair its server.
	maxStale = 24 * time.Hour
)

// A remote has the certificates that are registered at a jwks_uri.
type remote struct {
	uri          *config.URL
	roots        *x509.CertPool // nil means the roots of the system
	client       *http.Client
	checkAddress func(netip.Addr) error // called for every address before a connection to it
	last         atomic.Pointer[snapshot]
	flight       singleflight.Group
	log          *slog.Logger
	now          func() time.Time
}

// A snapshot has the results of the fetches of a jwks_uri. It is immutable.
type snapshot struct {
	registered thumbprints // the result of the last successful fetch
	read       time.Time   // when the last successful fetch began; zero before the first successful fetch
	attempted  time.Time   // when the last fetch began
	err        error       // why the last fetch failed, or nil if it succeeded
}

// newRemote returns the remote for keys.JWKSURI and fetches nothing. Private addresses are allowed
// only if the configuration has trust anchors for the jwks_uri. An internal server has a certificate
// from an internal authority, so it needs anchors. A server with a certificate from a public
// authority should not have a private address.
func newRemote(keys config.ClientKeys, options Options) (*remote, error) {
	if keys.JWKSURI.Scheme != "https" {
		return nil, errors.New("jwks_uri must be an https URL")
	}
	roots, err := pemfile.ReadPool(keys.Trust)
	if err != nil {
		return nil, fmt.Errorf("jwks_uri: reading trust anchors: %w", err)
	}
	allowPrivate := len(keys.Trust) > 0
	r := &remote{
		uri:          keys.JWKSURI,
		roots:        roots,
		checkAddress: func(a netip.Addr) error { return checkAddress(a, allowPrivate) },
		log:          options.Log,
		now:          options.Now,
	}
	r.client = newClient(roots, func(a netip.Addr) error { return r.checkAddress(a) })
	r.last.Store(&snapshot{})
	return reuse.Acquire(options.Lease, options.Client, nil, func(previous *remote) (*remote, error) {
		if previous != nil && previous.uri.String() == r.uri.String() && previous.roots.Equal(roots) {
			r.last.Store(previous.last.Load())
		}
		return r, nil
	}, nil)
}

// has reports whether t is registered. See [Set.Has].
func (r *remote) has(ctx context.Context, t access.Thumbprint) (bool, error) {
	now, last := r.now(), r.last.Load()
	if last.registered[t] {
		age := now.Sub(last.read)
		if age <= maxAge {
			return true, nil
		}
		// A fetch has failed recently. While the server of the jwks_uri is unreachable, clients must
		// not wait for each fetch.
		if age <= maxStale && now.Sub(last.attempted) <= maxAge {
			r.refresh()
			return true, nil
		}
	}
	select {
	case <-ctx.Done():
		return false, fmt.Errorf("waiting for the jwks_uri: %w", context.Cause(ctx))
	case <-r.refresh():
	}
	last = r.last.Load()
	if r.now().Sub(last.read) > maxStale {
		return false, fmt.Errorf("the jwks_uri has not been fetched successfully: %w", last.err)
	}
	return last.registered[t], nil
}

// refresh fetches the jwks_uri, once for all concurrent callers. It fetches nothing if the last fetch
// began less than minRefreshInterval ago. The result channel receives a value when the fetch is done.
// The fetch continues if the callers stop waiting.
func (r *remote) refresh() <-chan singleflight.Result {
	return r.flight.DoChan("", func() (any, error) {
		start, last := r.now(), r.last.Load()
		if start.Sub(last.attempted) < minRefreshInterval {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
		defer cancel()
		next := &snapshot{registered: last.registered, read: last.read, attempted: start}
		if found, err := r.load(ctx); err == nil {
			next.registered, next.read = found, start
		} else {
			next.err = fmt.Errorf("reading the key set at %s: %w", r.uri.Host, err)
			r.log.WarnContext(ctx, "jwks_uri not fetched", "error", next.err)
		}
		r.last.Store(next)
		return nil, nil
	})
}

// load fetches the registered certificates. An empty set is valid, because a client can withdraw
// every certificate. The set is logged, because it may be empty by mistake.
func (r *remote) load(ctx context.Context) (thumbprints, error) {
	document, err := load(ctx, r.client, &r.uri.URL)
	if err != nil {
		return nil, err
	}
	found, skipped, err := parseKeySet(document)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		r.log.WarnContext(ctx, "jwks_uri registers no certificate", "url_host", r.uri.Host, "keys", len(skipped))
	}
	return found, nil
}
