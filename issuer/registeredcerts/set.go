// Package registeredcerts has the registered certificates of clients with
// self_signed_tls_client_auth, and reports whether a client certificate is registered (RFC 8705
// section 2.2). This authentication method ignores certificate chains.
package registeredcerts

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
	"github.com/tallygate/tallygate/internal/reuse"
)

// Options configures a [Set]. Log must be set, and its attributes should name the client.
type Options struct {
	Log *slog.Logger
	Now func() time.Time // nil means time.Now
	// Lease shares the fetched certificates of Client's jwks_uri with the previous Set. It is
	// required if there is a jwks_uri.
	Lease  *reuse.Lease
	Client string
}

// A Set has the registered certificates of one client. It is safe for concurrent use. It need not be
// closed, because a fetch ends within 5 seconds.
type Set struct {
	configured thumbprints // immutable
	remote     *remote     // nil if there is no jwks_uri
	now        func() time.Time
}

// thumbprints is a set of certificates.
type thumbprints map[access.Thumbprint]bool

// New returns the Set of the certificates that keys and listed register. Every certificate in a PEM
// file is registered, including the issuers in a chain. New reads files and inline key sets and
// returns all errors. It does not fetch the jwks_uri. If keys and listed have neither a certificate
// nor a jwks_uri, New returns an error.
func New(keys config.ClientKeys, listed []access.Thumbprint, options Options) (*Set, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	s := &Set{now: options.Now}
	var configuredErr, remoteErr error
	s.configured, configuredErr = Registered(keys, listed, options.Log)
	if keys.JWKSURI != nil {
		s.remote, remoteErr = newRemote(keys, options)
	}
	if err := errors.Join(configuredErr, remoteErr); err != nil {
		return nil, err
	}
	if len(s.configured) == 0 && s.remote == nil {
		return nil, errors.New("no certificate is registered")
	}
	return s, nil
}

// Registered returns the thumbprints of the certificates that the configuration itself registers: in
// PEM files, in an inline key set and in listed. It does not fetch the jwks_uri. The gate calls it
// too, so that the gate need not trust authorization servers for the certificates of an application.
// Registered returns all errors, and logs a warning for each inline key that registers no
// certificate.
func Registered(keys config.ClientKeys, listed []access.Thumbprint, log *slog.Logger) (map[access.Thumbprint]bool, error) {
	configured := make(thumbprints)
	for _, t := range listed {
		configured[t] = true
	}
	var faults []error
	for _, file := range keys.Certificates {
		certificates, err := pemfile.ReadCertificates(string(file))
		if err != nil {
			faults = append(faults, fmt.Errorf("reading registered certificates: %w", err))
		}
		for _, c := range certificates {
			configured[access.ThumbprintOf(c.Certificate)] = true
		}
	}
	if keys.JWKS != "" {
		faults = append(faults, configured.addInline(keys.JWKS, log))
	}
	return configured, errors.Join(faults...)
}

// addInline adds the certificates of an inline key set. For each key without a usable certificate it
// logs a warning. If no key of the set has a usable certificate, it returns an error.
func (registered thumbprints) addInline(document string, log *slog.Logger) error {
	found, skipped, err := parseKeySet([]byte(document))
	if err != nil {
		return fmt.Errorf("reading jwks: %w", err)
	}
	if len(found) == 0 {
		if len(skipped) == 0 {
			skipped = []error{errors.New("the set is empty")}
		}
		return fmt.Errorf("reading jwks: no key registers a certificate: %w", errors.Join(skipped...))
	}
	for _, err := range skipped {
		log.Warn("key registers no certificate", "error", err)
	}
	maps.Copy(registered, found)
	return nil
}

// Has reports whether leaf is registered and within its validity period. leaf must not be nil, and
// the client must have proved possession of the private key. Certificates are compared by the SHA-256
// of their DER, so a renewed certificate with the same key is a different certificate.
//
// With an error it is unknown whether leaf is registered: the jwks_uri has never been fetched
// successfully, or not for 24 hours, or ctx ended. While fetches fail, the result of the last
// successful fetch is used for 24 hours. A certificate that is added at the jwks_uri is accepted
// within 10 seconds of its first use. A certificate that is removed is refused within 5 minutes. If
// the jwks_uri is unreachable, it is refused 5 minutes after the jwks_uri is reachable again, and 24
// hours after the last successful fetch at the latest.
//
// If leaf is unknown, Has waits up to 5 seconds for a fetch, so its duration reveals whether a client
// has a jwks_uri. This fact is not secret.
func (s *Set) Has(ctx context.Context, leaf *x509.Certificate) (bool, error) {
	now := s.now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return false, nil
	}
	t := access.ThumbprintOf(leaf)
	if s.configured[t] || s.remote == nil {
		return s.configured[t], nil
	}
	return s.remote.has(ctx, t)
}
