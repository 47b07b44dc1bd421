// Package registeredcerts knows the registered certificates of the clients that
// authenticate by self_signed_tls_client_auth: in come a client's configuration and
// the certificate that it showed, out comes whether that certificate is one of its
// own (RFC 8705 section 2.2). What a certificate chains to plays no part.
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
)

// Options is what a [Set] needs beside its configuration. Log must be set, and
// should say which client it is about.
type Options struct {
	Log *slog.Logger
	Now func() time.Time // nil: time.Now
	// Previous is the Set that the new one takes the place of; nil for none. What was
	// read from a jwks_uri that has not changed goes on counting.
	Previous *Set
}

// A Set is the registered certificates of one client. It is safe for concurrent use
// and needs no closing: a reading of a jwks_uri ends by itself within 5 seconds.
type Set struct {
	configured thumbprints // never changes
	remote     *remote     // nil without a jwks_uri
	now        func() time.Time
}

// thumbprints are those of registered certificates.
type thumbprints map[access.Thumbprint]bool

// New returns the certificates that keys and listed name together. Every certificate
// in a PEM file is registered, also where a file holds a chain. It reads files and
// inline key sets and reports every fault; a jwks_uri is read when it is needed. A
// client without any certificate and without a jwks_uri is an error.
func New(keys config.ClientKeys, listed []config.Thumbprint, options Options) (*Set, error) {
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

// Registered returns the thumbprints of the certificates that the configuration itself
// registers: those in PEM files, in an inline key set and in listed. It reads no jwks_uri.
// The gate reads them too, since it must not leave it to authorization servers whose
// certificate an application's is. It reports every fault; keys of the inline set that
// register no certificate are logged as warnings.
func Registered(keys config.ClientKeys, listed []config.Thumbprint, log *slog.Logger) (map[access.Thumbprint]bool, error) {
	configured := make(thumbprints)
	for _, t := range listed {
		configured[access.Thumbprint(t)] = true
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

// addInline registers the certificates of a key set in the configuration. Keys in it
// that do not count are logged, for the operator can mend them; that none is left is
// an error.
func (registered thumbprints) addInline(document string, log *slog.Logger) error {
	found, skipped, err := readKeySet([]byte(document))
	if err != nil {
		return fmt.Errorf("reading jwks: %w", err)
	}
	if len(found) == 0 {
		return fmt.Errorf("reading jwks: no key in it registers a certificate: %w", errors.Join(skipped...))
	}
	for _, err := range skipped {
		log.Warn("key registers no certificate", "err", err)
	}
	maps.Copy(registered, found)
	return nil
}

// Has reports whether leaf, which is not nil and whose key the client has proved to
// hold, is registered and within its validity period. Certificates are compared by
// the SHA-256 of their whole DER: a renewal of the same key is another certificate.
//
// An error means that it cannot be told: the jwks_uri has not been read yet or not
// for 24 hours, or ctx ended. Otherwise the last good reading answers. A certificate
// that is new at the jwks_uri counts within 10 seconds of being shown, and one that
// was removed stops to count within 5 minutes, or 5 minutes after the jwks_uri
// answers again, but 24 hours after the last good reading at the latest.
//
// Has waits for a reading, up to 5 seconds, when leaf is not known; so the time that
// it takes tells whoever names a client that the client has a jwks_uri. Neither that
// nor a certificate is secret.
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
