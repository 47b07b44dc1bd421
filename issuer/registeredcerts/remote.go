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
)

const (
	// fetchTimeout bounds one reading, from the look-up of the name to the last byte.
	fetchTimeout = 5 * time.Second
	// minRefreshInterval lies at least between the beginnings of two readings. Anybody can ask
	// for one by showing a certificate of his own under a client's name.
	minRefreshInterval = 10 * time.Second
	// maxAge is how old a reading may be when it says that a certificate is
	// registered: so long does one count that the client has removed.
	maxAge = 5 * time.Minute
	// maxStale is how long the last good reading stands in for those that fail. A
	// partner has a working day to repair its server.
	maxStale = 24 * time.Hour
)

// A remote is the registered certificates at a jwks_uri.
type remote struct {
	uri          *config.URL
	roots        *x509.CertPool // nil: the system's
	client       *http.Client
	checkAddress func(netip.Addr) error // asked for every address before it is connected to
	last         atomic.Pointer[snapshot]
	flight       singleflight.Group
	log          *slog.Logger
	now          func() time.Time
}

// A reading is what is known of a jwks_uri. It is never changed.
type snapshot struct {
	registered thumbprints // by the last good reading
	read       time.Time   // when that began; zero before the first
	attempted  time.Time   // when the last reading began, good or not
	err        error       // why the last reading failed; nil if it did not
}

// newRemote returns the certificates at keys.JWKSURI, which is not read yet. Private
// addresses are dialled only where the operator has named anchors: a server inside a
// network is vouched for by an authority inside it, and a jwks_uri that every
// authority of the world can vouch for has no business there.
func newRemote(keys config.ClientKeys, options Options) (*remote, error) {
	if keys.JWKSURI.Scheme != "https" {
		return nil, errors.New("jwks_uri must be an https URL")
	}
	roots, err := pemfile.ReadPool(keys.Trust)
	if err != nil {
		return nil, fmt.Errorf("jwks_uri: reading trust anchors: %w", err)
	}
	private := len(keys.Trust) > 0
	r := &remote{
		uri:          keys.JWKSURI,
		roots:        roots,
		checkAddress: func(a netip.Addr) error { return checkAddress(a, private) },
		log:          options.Log,
		now:          options.Now,
	}
	r.client = newClient(roots, func(a netip.Addr) error { return r.checkAddress(a) })
	r.last.Store(&snapshot{})
	if p := options.Previous; p != nil && p.remote != nil && p.remote.uri.String() == r.uri.String() && p.remote.roots.Equal(roots) {
		r.last.Store(p.remote.last.Load())
	}
	return r, nil
}

// has reports whether t is registered, see [Set.Has].
func (r *remote) has(ctx context.Context, t access.Thumbprint) (bool, error) {
	now, last := r.now(), r.last.Load()
	if last.registered[t] {
		age := now.Sub(last.read)
		if age <= maxAge {
			return true, nil
		}
		// A reading has failed since, and lately. Not to wait for each one that will
		// keeps a client going whose server is out of reach.
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
		return false, fmt.Errorf("no good reading of the jwks_uri: %w", last.err)
	}
	return last.registered[t], nil
}

// refresh reads the jwks_uri once for all who ask meanwhile, unless the cool-down
// bars it, and then sends on the channel. The reading goes on when those who asked
// for it are gone.
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
			r.log.WarnContext(ctx, "jwks_uri not read", "err", next.err)
		}
		r.last.Store(next)
		return nil, nil
	})
}

// load returns the certificates that are registered at the jwks_uri now. None at all
// is a good answer, by which a client withdraws all that it had; but it may be a
// mistake, so it is logged.
func (r *remote) load(ctx context.Context) (thumbprints, error) {
	document, err := fetch(ctx, r.client, r.uri.String())
	if err != nil {
		return nil, err
	}
	found, skipped, err := readKeySet(document)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		r.log.WarnContext(ctx, "jwks_uri registers no certificate", "host", r.uri.Host, "keys", len(skipped))
	}
	return found, nil
}
