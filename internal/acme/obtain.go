package acme

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"

	"github.com/tallygate/tallygate/config"
)

func (a *Manager) newClient(settings *managerSettings, storage certmagic.Storage, listener net.Addr) *certmagic.Config {
	host, port, _ := net.SplitHostPort(listener.String())
	number, _ := strconv.Atoi(port)
	byHTTP := settings.HTTPAddress != ""
	client := certmagic.New(a.cache, certmagic.Config{
		OnEvent: a.countAttempt,
		// An OCSP responder that is down must not delay handshakes. The authority announces
		// early renewals by RFC 9773.
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
		Storage: storage,
		Logger:  a.zap,
	})
	client.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(client, certmagic.ACMEIssuer{
		CA: settings.Directory.String(), TrustedRoots: settings.roots,
		Email: string(settings.Email), Agreed: true,
		// The Manager answers one kind of challenge, so certmagic must not ask the authority for
		// another kind.
		DisableHTTPChallenge: !byHTTP, DisableTLSALPNChallenge: byHTTP,
		ListenHost: host, AltHTTPPort: number, AltTLSALPNPort: number,
		// certmagic would otherwise write challenges to the storage, and answer challenges of other
		// processes.
		DisableDistributedSolvers: true,
		HTTPProxy:                 func(*http.Request) (*url.URL, error) { return nil, nil }, // no proxy, even if HTTPS_PROXY is set
		Logger:                    a.zap,
	})}
	return client
}

// obtain tries to get the certificate of domain, from the storage or the authority, until it succeeds. The
// cache of certmagic renews the certificate from then on.
func (a *Manager) obtain(ctx context.Context, domain string, storage *certmagic.FileStorage) {
	for failures, before := 0, false; ; failures++ {
		err := a.client.Load().ManageSync(ctx, []string{domain})
		if err == nil || ctx.Err() != nil {
			return
		}
		if unwritable := checkWritable(storage.Path); unwritable != nil { // certmagic sends no request if the storage is not writable
			err = unwritable
			a.attempts.WithLabelValues(domain, "failed").Inc()
		}
		shown := "nothing"
		if c := a.latest(config.Host(domain)); c != nil {
			shown = "a certificate until " + c.Leaf.NotAfter.Format(time.RFC3339)
		}
		refused := errors.As(err, new(acme.Problem))
		if refused != before {
			failures, before = 0, refused
		}
		wait := retryDelay(failures, refused)
		a.log.ErrorContext(ctx, "certificate not obtained, trying again", "domain", domain, "shown", shown, "wait", wait.String(), "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// retryDelay returns the delay after a failed attempt. failures is the number of failed attempts of the
// same kind directly before it. After attempts without a response of the authority, the delay is at
// most a minute. After refused attempts the delays are longer, because Let's Encrypt allows 5 failed
// validations of a name in an hour. With these delays there are 4 in an hour.
func retryDelay(failures int, refused bool) time.Duration {
	if refused {
		return min(time.Minute<<(2*min(failures, 3)), time.Hour) // 1, 4, 16, then 60 minutes
	}
	return min(time.Second<<min(failures, 6), time.Minute)
}

// countAttempt counts the results of attempts to obtain or renew a certificate.
func (a *Manager) countAttempt(_ context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		a.attempts.WithLabelValues(domain, "ok").Inc()
	case "cert_failed":
		a.attempts.WithLabelValues(domain, "failed").Inc()
	}
	return nil
}
