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

func (a *Manager) newClient(settings *acmeSettings, storage certmagic.Storage, listener net.Addr) *certmagic.Config {
	host, port, _ := net.SplitHostPort(listener.String())
	number, _ := strconv.Atoi(port)
	byHTTP := settings.HTTPAddress != ""
	client := certmagic.New(a.cache, certmagic.Config{
		OnEvent: a.count,
		// Nothing is shown later because a responder does not answer; that a certificate
		// is to be replaced, the authority says by RFC 9773.
		OCSP:    certmagic.OCSPConfig{DisableStapling: true},
		Storage: storage,
		Logger:  a.zap,
	})
	client.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(client, certmagic.ACMEIssuer{
		CA: settings.Directory.String(), TrustedRoots: settings.roots,
		Email: string(settings.Email), Agreed: true,
		// Exactly one kind of challenge, which our own listener answers.
		DisableHTTPChallenge: !byHTTP, DisableTLSALPNChallenge: byHTTP,
		ListenHost: host, AltHTTPPort: number, AltTLSALPNPort: number,
		// Only what this process asked for is answered, and from memory.
		DisableDistributedSolvers: true,
		HTTPProxy:                 func(*http.Request) (*url.URL, error) { return nil, nil }, // also not from the environment
		Logger:                    a.zap,
	})}
	return client
}

// obtain tries until the certificate of domain is there, from the storage or from the
// authority. From then on the cache renews it.
func (a *Manager) obtain(ctx context.Context, domain string, storage *folder) {
	for failures, before := 0, false; ; failures++ {
		err := a.client.Load().ManageSync(ctx, []string{domain})
		if err == nil || ctx.Err() != nil {
			return
		}
		if unwritable := storage.check(); unwritable != nil { // and so nothing was asked
			err = unwritable
			a.attempts.WithLabelValues(domain, "failed").Inc()
		}
		shown := "nothing"
		if c := a.newest(config.Host(domain)); c != nil {
			shown = "a certificate until " + c.Leaf.NotAfter.Format(time.RFC3339)
		}
		refused := errors.As(err, new(acme.Problem))
		if refused != before {
			failures, before = 0, refused
		}
		wait := pause(failures, refused)
		a.log.ErrorContext(ctx, "certificate not obtained, trying again", "domain", domain, "shown", shown, "wait", wait.String(), "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// pause returns how long to wait after a failure that follows so many of its kind. What
// does not answer is asked again within a minute. An authority that has refused is asked
// rarely: it counts what fails. Let's Encrypt takes 5 failed validations of a name in an
// hour; these are 4.
func pause(failures int, refused bool) time.Duration {
	if refused {
		return min(time.Minute<<(2*min(failures, 3)), time.Hour) // 1, 4, 16 and then 60 minutes
	}
	return min(time.Second<<min(failures, 6), time.Minute)
}

// count counts what became of an attempt, also at renewing.
func (a *Manager) count(_ context.Context, event string, data map[string]any) error {
	domain, _ := data["identifier"].(string)
	switch event {
	case "cert_obtained":
		a.attempts.WithLabelValues(domain, "ok").Inc()
	case "cert_failed":
		a.attempts.WithLabelValues(domain, "failed").Inc()
	}
	return nil
}
