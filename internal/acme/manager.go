// Package acme obtains and renews the listeners' certificates by ACME (RFC 8555).
package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// The times of ACME.
const (
	// renewEvery is how often it is looked whether a certificate is due: when a third of
	// its life is left, or earlier where the authority asks for it (RFC 9773).
	renewEvery = 10 * time.Minute
	// ending is how long a stop waits for what is being asked of the authority.
	ending = 5 * time.Second
)

// A Manager obtains the certificates of a listener, one for each domain, and renews them
// (RFC 8555). It never shows any other in their place. It is safe for concurrent use.
type Manager struct {
	log       *slog.Logger
	zap       *zap.Logger // the same
	attempts  *prometheus.CounterVec
	challenge *tls.Config
	every     time.Duration

	settings atomic.Pointer[acmeSettings]
	changed  chan struct{} // the settings are others
	complete atomic.Bool   // each domain has had a certificate

	cache  *certmagic.Cache // there is one as soon as there is a client
	client atomic.Pointer[certmagic.Config]
}

type acmeSettings struct {
	*config.ACME
	roots *x509.CertPool
}

// New returns one that waits for [Manager.Follow] and [Manager.Run]. handshakes counts those
// that prove a domain, and attempts at certificates are counted in a series of its own, of
// registerer.
func New(log *slog.Logger, registerer prometheus.Registerer, onChallenge func(tls.ConnectionState)) *Manager {
	a := &Manager{
		log: log, zap: zap.New(slogCore{log.Handler()}).Named("acme"),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_acme_attempts_total",
			Help: "Attempts at obtaining or renewing a certificate by ACME, by domain and result: ok or failed.",
		}, []string{"domain", "result"}),
		every:   renewEvery,
		changed: make(chan struct{}, 1),
	}
	a.challenge = a.challengeSettings(onChallenge)
	registerer.MustRegister(a.attempts)
	return a
}

// Follow lets a go by settings from now on; only their domains may be others than before.
// roots, of [LoadDirectoryTrust], speak for the directory.
func (a *Manager) Follow(settings *config.ACME, roots *x509.CertPool) {
	a.settings.Store(&acmeSettings{settings, roots})
	select {
	case a.changed <- struct{}{}:
	default: // it is told already
	}
}

// LoadDirectoryTrust reads the anchors of an ACME directory; nil means the system's. One
// that is no authority is the directory's own certificate, and speaks for that alone.
func LoadDirectoryTrust(settings *config.ACME) (*x509.CertPool, error) {
	if settings == nil || len(settings.DirectoryTrust) == 0 {
		return nil, nil
	}
	pool, err := pemfile.ReadPool(settings.DirectoryTrust)
	if err != nil {
		return nil, fmt.Errorf("reading directory_trust: %w", err)
	}
	return pool, nil
}

// Open makes the folder of the storage, or checks that it and what is in it are ours
// alone. It must have succeeded before [Manager.Run].
func (a *Manager) Open() error {
	if err := openFolder(string(a.settings.Load().Storage)); err != nil {
		return fmt.Errorf("opening listener.certificate.acme.storage: %w", err)
	}
	return nil
}

// Run loads the certificates that are stored, obtains those that are missing and renews
// them until ctx ends; they are shown after that too. listener is where the challenges
// arrive: the partners' listener, or that for HTTP-01. It must be open already, or
// certmagic would open it.
func (a *Manager) Run(ctx context.Context, listener net.Addr) {
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.client.Load(), nil },
		RenewCheckInterval: a.every,
		Logger:             a.zap,
	})
	storage := newFolder(string(a.settings.Load().Storage))
	tended := map[config.Host]*tending{}
	defer a.end(tended)
	var before *acmeSettings
	for {
		now := a.settings.Load()
		if before == nil || !now.roots.Equal(before.roots) {
			a.client.Store(a.newClient(now, storage, listener))
		}
		for domain, t := range tended {
			if !slices.Contains(now.Domains, domain) {
				t.cancel()
				within(ending, func() { <-t.done })
				delete(tended, domain)
				a.forget(string(domain))
			}
		}
		for _, domain := range now.Domains {
			if tended[domain] == nil {
				tended[domain] = a.tend(ctx, string(domain), storage)
			}
		}
		before = now
		select {
		case <-a.changed:
		case <-ctx.Done():
			return
		}
	}
}

// end ends the upkeep of the certificates, of which those of tended have been told. What is
// being asked of the authority or the storage may keep it waiting, and then only the end of
// the process ends that.
func (a *Manager) end(tended map[config.Host]*tending) {
	within(ending, func() {
		for _, t := range tended {
			<-t.done
		}
		a.cache.Stop()
	})
}

// within waits for do, but no longer than limit. It may go on then.
func within(limit time.Duration, do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// A tending is the care for the certificate of one domain.
type tending struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

// tend takes care of a domain until it is cancelled or ctx ends.
func (a *Manager) tend(ctx context.Context, domain string, storage *folder) *tending {
	for _, result := range []string{"ok", "failed"} {
		a.attempts.WithLabelValues(domain, result)
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &tending{cancel, make(chan struct{})}
	go func() {
		defer close(t.done)
		a.obtain(ctx, domain, storage)
	}()
	return t
}

// forget ends the upkeep of the certificate of a domain. In the storage it stays.
func (a *Manager) forget(domain string) {
	a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: domain}})
	a.attempts.DeletePartialMatch(prometheus.Labels{"domain": domain})
}
