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

const (
	// renewalCheck is the interval at which the Manager looks for certificates to renew: certificates
	// with a third of their lifetime left, and earlier if the authority asks for an early renewal (RFC
	// 9773).
	renewalCheck = 10 * time.Minute
	// defaultStopTimeout bounds how long a stop waits for requests to the authority.
	defaultStopTimeout = 5 * time.Second
)

// A Manager obtains and renews the certificates of the listeners, one for each domain (RFC 8555). It has
// no fallback certificate. It is safe for concurrent use.
type Manager struct {
	log       *slog.Logger
	zap       *zap.Logger // writes certmagic's log lines to log
	attempts  *prometheus.CounterVec
	challenge *tls.Config
	every     time.Duration
	// stopTimeout bounds how long a stop, or the end of a domain, waits for requests under way.
	stopTimeout time.Duration

	settings atomic.Pointer[managerSettings]
	changed  chan struct{} // signals new settings to Run
	complete atomic.Bool   // true once each domain has had a certificate, see Ready

	cache  *certmagic.Cache // set before client
	client atomic.Pointer[certmagic.Config]
}

type managerSettings struct {
	*config.ACME
	roots *x509.CertPool
}

// New returns a Manager. The Manager has certificates only after calls of [Manager.Configure],
// [Manager.Open] and [Manager.Run]. onChallenge is called for each handshake that answers a challenge.
// registerer gets the count of attempts.
func New(log *slog.Logger, registerer prometheus.Registerer, onChallenge func(tls.ConnectionState)) *Manager {
	a := &Manager{
		log: log, zap: zap.New(slogCore{log.Handler()}).Named("acme"),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tallygate_acme_attempts_total",
			Help: "Attempts at obtaining or renewing a certificate by ACME, by domain and result: ok or failed.",
		}, []string{"domain", "result"}),
		every:       renewalCheck,
		stopTimeout: defaultStopTimeout,
		changed:     make(chan struct{}, 1),
	}
	a.challenge = a.challengeSettings(onChallenge)
	registerer.MustRegister(a.attempts)
	return a
}

// Configure sets the settings. A later call may change only the domains and the trust of the directory.
// roots, from [LoadDirectoryTrust], authenticate the directory.
func (a *Manager) Configure(settings *config.ACME, roots *x509.CertPool) {
	a.settings.Store(&managerSettings{settings, roots})
	select {
	case a.changed <- struct{}{}:
	default: // an earlier signal is still pending
	}
}

// LoadDirectoryTrust reads the anchors for an ACME directory; nil means the anchors of the system. A
// certificate that is not an authority must be the certificate of the directory.
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

// Open creates the folder of the storage, or checks the owner and the permissions of the folder and its
// files. It must have succeeded before [Manager.Run].
func (a *Manager) Open() error {
	if err := openStorage(string(a.settings.Load().Storage)); err != nil {
		return fmt.Errorf("opening listener.certificate.acme.storage: %w", err)
	}
	return nil
}

// Run loads the stored certificates, obtains missing certificates and renews all of them until ctx
// ends. After ctx has ended, [Manager.Certificate] still returns the certificates. listener is the
// address at which challenges arrive: the partners' listener or the HTTP-01 listener. The caller must
// have opened that listener, because certmagic would otherwise open a listener of its own.
func (a *Manager) Run(ctx context.Context, listener net.Addr) {
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return a.client.Load(), nil },
		RenewCheckInterval: a.every,
		Logger:             a.zap,
	})
	storage := &certmagic.FileStorage{Path: string(a.settings.Load().Storage)}
	managed := map[config.Host]*managedDomain{}
	defer a.stop(managed)
	var before *managerSettings
	for {
		now := a.settings.Load()
		if before == nil || !now.roots.Equal(before.roots) {
			a.client.Store(a.newClient(now, storage, listener))
		}
		for domain, t := range managed {
			if !slices.Contains(now.Domains, domain) {
				t.cancel()
				waitAtMost(a.stopTimeout, func() { <-t.done })
				delete(managed, domain)
				a.unmanage(string(domain))
			}
		}
		for _, domain := range now.Domains {
			if managed[domain] == nil {
				managed[domain] = a.manage(ctx, string(domain), storage)
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

// stop ends the renewal of certificates. The caller has canceled the contexts of the domains in
// managed. stop returns after a.stopTimeout even if a request to the authority or the storage still
// runs. Such a request continues until the process ends.
func (a *Manager) stop(managed map[config.Host]*managedDomain) {
	waitAtMost(a.stopTimeout, func() {
		for _, t := range managed {
			<-t.done
		}
		a.cache.Stop()
	})
	// An attempt that still runs holds lock files. CleanUpOwnLocks removes these files, because the
	// next start would wait until the lock files are 10 s old.
	certmagic.CleanUpOwnLocks(context.Background(), a.zap)
}

// waitAtMost runs do and waits until do returns, but not longer than limit. After limit, do continues
// in the background.
func waitAtMost(limit time.Duration, do func()) {
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

// A managedDomain is a domain whose certificate is obtained and renewed.
type managedDomain struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when obtain has returned
}

// manage obtains and renews the certificate of domain until ctx ends or the returned managedDomain is
// canceled.
func (a *Manager) manage(ctx context.Context, domain string, storage *certmagic.FileStorage) *managedDomain {
	for _, result := range []string{"ok", "failed"} {
		a.attempts.WithLabelValues(domain, result)
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &managedDomain{cancel, make(chan struct{})}
	go func() {
		defer close(t.done)
		a.obtain(ctx, domain, storage)
	}()
	return t
}

// unmanage ends the renewal of the certificate of domain. The storage keeps the certificate.
func (a *Manager) unmanage(domain string) {
	a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: domain}})
	a.attempts.DeletePartialMatch(prometheus.Labels{"domain": domain})
}
