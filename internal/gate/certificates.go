package gate

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/reuse"
	"github.com/tallygate/tallygate/issuer/registeredcerts"
	"github.com/tallygate/tallygate/mtls"
	"github.com/tallygate/tallygate/policy"
)

// loadKeyPairs reads the certificate and key of each listener that has them in files. An issuer without
// a certificate of its own uses the certificate of the partners' listener.
func loadKeyPairs(cfg *config.Config) (map[string]tls.Certificate, error) {
	pairs := map[string]tls.Certificate{}
	var err error
	if shown := cfg.Listener.Certificate; shown.ACME == nil {
		var pair tls.Certificate
		pair, err = mtls.LoadKeyPair(shown.Files)
		pairs[PartnersListener] = pair
		if cfg.Issuer != nil {
			pairs[IssuerListener] = pair
		}
	}
	if cfg.Issuer == nil {
		return pairs, err
	}
	if files := cfg.Issuer.Certificate.Files; files != (config.KeyPair{}) {
		own, noOwn := mtls.LoadKeyPair(files)
		pairs[IssuerListener], err = own, errors.Join(err, noOwn)
	}
	return pairs, err
}

// loadTrust reads the anchors. If nothing has changed, the result is the previous Trust. A new Trust
// takes over, from the previous Trust, the connections with their judged certificates, and the
// revocation lists that are still valid. If only the anchor tells two partners apart, an anchor that
// both partners have is an error.
func loadTrust(cfg *config.Config, lease *reuse.Lease, options mtls.Options) (*mtls.Trust, error) {
	trust, err := reuse.Acquire(lease, "trust", nil, func(previous *mtls.Trust) (*mtls.Trust, error) {
		options.Previous = previous
		return mtls.LoadTrust(cfg, options)
	}, nil)
	if err != nil {
		return nil, err
	}
	return trust, policy.CheckAnchors(cfg, trust.Anchors())
}

// readRegistered reads the certificates that applications with self_signed_tls_client_auth register in
// files and in inline key sets. A certificate that two applications register is an error. The issuer
// reads the same keys and warns of keys without a certificate, so readRegistered logs this warning only
// if there is no issuer.
func readRegistered(cfg *config.Config, log *slog.Logger) (map[config.ClientID]map[access.Thumbprint]bool, error) {
	if cfg.Issuer != nil {
		log = slog.New(slog.DiscardHandler)
	}
	registered := make(map[config.ClientID]map[access.Thumbprint]bool)
	var faults []error
	for _, p := range cfg.Partners.List {
		for _, a := range p.Applications {
			if a.Authentication != config.SelfSignedTLSClientAuth {
				continue
			}
			read, err := registeredcerts.Registered(a.Keys, a.Certificate.Thumbprints, log.With("client_id", string(a.ClientID)))
			if err != nil {
				faults = append(faults, fmt.Errorf("client %s: %w", a.ClientID, err))
			}
			registered[a.ClientID] = read
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return registered, policy.CheckRegistered(cfg, registered)
}
