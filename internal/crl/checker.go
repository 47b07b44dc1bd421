// Package crl keeps revocation lists (RFC 5280 section 5) and returns the status of certificates.
package crl

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// A Checker has the revocation lists of a configuration. It is safe for concurrent use.
type Checker struct {
	acceptUnknown bool // true for the setting when_stale: accept
	interval      time.Duration
	authorities   []*x509.Certificate // authorities whose lists are accepted
	exempt        map[signer]bool     // authorities without lists, whose certificates are not checked
	sources       []*source
	added         []*source // the sources at URLs that the previous Checker did not have
	log           *slog.Logger
	metrics       *Metrics
}

// Options are the inputs of [Load] besides its settings.
type Options struct {
	Previous *Checker // the Checker before a reload; nil at the start
	Log      *slog.Logger
	Metrics  *Metrics
}

// Load reads the lists in the files that settings name; FetchAdded and Run fetch the lists at URLs.
// anchors are the anchors of the configuration. Lists of options.Previous are reused if they have not
// changed and their signer is still an authority. Load returns nil if settings name no list.
func Load(settings *config.Revocation, anchors []*x509.Certificate, options Options) (*Checker, error) {
	if len(settings.Lists) == 0 {
		return nil, nil
	}
	c := &Checker{
		acceptUnknown: settings.WhenStale == config.AcceptStale, interval: settings.Refresh, authorities: slices.Clone(anchors),
		log: options.Log, metrics: options.Metrics,
	}
	var faults []error
	for _, file := range settings.Authorities {
		more, err := readAuthorities(file)
		faults = append(faults, err)
		c.authorities = append(c.authorities, more...)
	}
	c.exempt = make(map[signer]bool)
	for _, file := range settings.Exempt {
		exempt, err := readAuthorities(file)
		faults = append(faults, err)
		for _, a := range exempt {
			c.exempt[signerOf(a)] = true
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, setting := range settings.Lists {
		s := options.Previous.source(setting)
		if setting.URL == nil {
			s, err := c.readFile(setting, s)
			faults = append(faults, err)
			c.sources = append(c.sources, s)
			continue
		}
		if s == nil || !c.canReuse(s) && !c.acceptUnknown { // see dropForeign for the reason
			s = &source{RevocationList: setting}
			c.added = append(c.added, s)
		}
		c.sources = append(c.sources, s)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return c, nil
}

func readAuthorities(file config.Path) ([]*x509.Certificate, error) {
	read, err := pemfile.ReadAuthorities(string(file))
	if err != nil {
		return nil, fmt.Errorf("reading anchors: %w", err)
	}
	certificates := make([]*x509.Certificate, len(read))
	for i, c := range read {
		certificates[i] = c.Certificate
	}
	return certificates, nil
}

// The reasons why the status of a certificate is unknown.
var (
	errUnread     = errors.New("a revocation list has not been fetched yet, and it may be the list of the certificate's authority")
	errUnlistable = errors.New("the serial number of the certificate is not one that a revocation list can have")
	errUncovered  = errors.New("no revocation list of the certificate's authority covers it; configure a list, or the authority in revocation.exempt")
)

// Check returns nil if the status of each certificate of a chain is known and not revoked. With
// when_stale: accept, certificates of unknown status pass too. The error wraps [*access.Denial] with
// the reason RevokedCertificate if a certificate is revoked, and with RevocationUnknown otherwise.
// Check makes one look-up for each certificate in each source, whatever the length of the lists, and
// does not allocate if it returns nil.
func (c *Checker) Check(chain []Certificate, now time.Time) error {
	var unknown error
	for i := range chain {
		if err := c.status(&chain[i], now); err != nil {
			if access.ReasonOf(err) == access.RevokedCertificate {
				return err
			}
			unknown = err
		}
	}
	if c.acceptUnknown {
		return nil
	}
	return unknown
}

// status returns the error of Check for one certificate. It does not consider acceptUnknown.
func (c *Checker) status(certificate *Certificate, now time.Time) error {
	var stale *list
	covered, unread := false, false
	for _, s := range c.sources {
		x := s.current.Load()
		if x == nil {
			unread = true
			continue
		}
		for _, l := range x.by[certificate.by] {
			if _, revoked := l.revoked[certificate.number]; revoked && certificate.listable {
				return &access.Denial{Reason: access.RevokedCertificate, Err: fmt.Errorf("serial number %x is on the list of %s of %s", certificate.number, l.issuer, l.issued.UTC().Format(time.RFC3339))}
			}
			switch {
			case !l.inScope(certificate):
			case now.After(l.next):
				stale = l
			default:
				covered = true
			}
		}
	}
	switch {
	case covered && !certificate.listable:
		return unknown(errUnlistable)
	case covered:
		return nil
	case stale != nil:
		return unknown(fmt.Errorf("the next update of the list of %s was due at %s", stale.issuer, stale.next.UTC().Format(time.RFC3339)))
	case c.exempt[certificate.by]:
		return nil
	case unread:
		return unknown(errUnread)
	}
	return unknown(errUncovered)
}

func unknown(err error) error { return &access.Denial{Reason: access.RevocationUnknown, Err: err} }

// Ready returns nil once a fetch of every list has been tried. With when_stale: accept it returns nil
// at once.
func (c *Checker) Ready() error {
	if c.acceptUnknown {
		return nil
	}
	for _, s := range c.sources {
		if s.untried() {
			return errUnread
		}
	}
	return nil
}

// isAuthority reports whether the Checker accepts lists of the authority by.
func (c *Checker) isAuthority(by signer) bool {
	return slices.ContainsFunc(c.authorities, func(a *x509.Certificate) bool { return signerOf(a) == by })
}

// Equal reports whether c and other have the same settings and the same lists. Either may be nil.
func (c *Checker) Equal(other *Checker) bool {
	if c == nil || other == nil {
		return c == other
	}
	return c.acceptUnknown == other.acceptUnknown && c.interval == other.interval &&
		slices.EqualFunc(c.authorities, other.authorities, (*x509.Certificate).Equal) && maps.Equal(c.exempt, other.exempt) &&
		slices.EqualFunc(c.sources, other.sources, func(a, b *source) bool {
			return reflect.DeepEqual(a.RevocationList, b.RevocationList) && slices.Equal(a.lists(), b.lists())
		})
}
