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
	// minRefreshInterval is the least time between the starts of two fetches. Any peer can cause a
	// fetch by sending an unknown certificate with a client's client_id.
	minRefreshInterval = 10 * time.Second
	// maxAge is how old a fetch may be to confirm a registration: a certificate that the client
	// removes is accepted for this time.
	maxAge = 5 * time.Minute
	// maxStale is how long the last successful fetch is used while fetches fail. A partner has a
	// working day to repair its server.
	maxStale = 24 * time.Hour
)

// A remote holds the certificates registered at a jwks_uri.
type remote struct {
	uri          *config.URL
	roots        *x509.CertPool // nil means the system's roots
	client       *http.Client
	checkAddress func(netip.Addr) error // called for every address before the connection
	last         atomic.Pointer[snapshot]
	flight       singleflight.Group
	log          *slog.Logger
	now          func() time.Time
}

// A snapshot is the known state of a jwks_uri. It is immutable.
type snapshot struct {
	registered thumbprints // result of the last successful fetch
	read       time.Time   // start of the last successful fetch; zero before the first
	attempted  time.Time   // start of the last fetch
	err        error       // why the last fetch failed, nil if it succeeded
}

// newRemote returns the certificates at keys.JWKSURI without fetching them. Private addresses
// are allowed only with trust anchors in the configuration: an internal server has a certificate
// from an internal authority, and a server with a public certificate has no business at a
// private address.
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

// has reports whether t is registered, see [Set.Has].
func (r *remote) has(ctx context.Context, t access.Thumbprint) (bool, error) {
	now, last := r.now(), r.last.Load()
	if last.registered[t] {
		age := now.Sub(last.read)
		if age <= maxAge {
			return true, nil
		}
		// A fetch has failed recently. Clients must not wait for each fetch while their server is
		// unreachable.
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

// refresh fetches the jwks_uri, once for all concurrent callers, unless the last fetch is too
// recent. It sends on the channel when the fetch is done. The fetch continues if the callers
// stop waiting.
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
			r.log.WarnContext(ctx, "jwks_uri not fetched", "err", next.err)
		}
		r.last.Store(next)
		return nil, nil
	})
}

// load fetches the registered certificates. An empty set is valid, since a client can withdraw
// every certificate; it may be a mistake, so it is logged.
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
		r.log.WarnContext(ctx, "jwks_uri registers no certificate", "host", r.uri.Host, "keys", len(skipped))
	}
	return found, nil
}
