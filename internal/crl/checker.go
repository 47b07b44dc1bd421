// Package crl keeps revocation lists (RFC 5280 section 5) and tells the status of certificates.
package crl

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/access"
	"github.com/tallygate/tallygate/config"
	"github.com/tallygate/tallygate/internal/pemfile"
)

// A Checker tells what revocation lists say. It is safe for concurrent use.
type Checker struct {
	accept      bool // go by what is known where something is not
	refresh     time.Duration
	authorities []*x509.Certificate // whose lists count
	exempt      map[signer]bool     // those that publish no list
	sources     []*source
	added       []*source // those at URLs that nobody else has
	log         *slog.Logger
	metrics     *Metrics
}

// A source is one place of lists. Who takes another's place has the same: what either reads
// counts for both at once.
type source struct {
	config.RevocationList
	current atomic.Pointer[index] // nil: not read yet

	mu     sync.Mutex
	etag   string
	tried  time.Time // when it was read last, well or not
	failed int       // readings in a row
}

// An index is the lists of a source at a moment. It does not change.
type index struct {
	lists []*list
	by    map[signer][]*list
}

func indexOf(lists []*list) *index {
	x := &index{lists: lists, by: make(map[signer][]*list)}
	for _, l := range lists {
		x.by[l.signer] = append(x.by[l.signer], l)
	}
	return x
}

// Why the status of a certificate cannot be told.
var (
	errUnread     = errors.New("a revocation list has yet to be read, and it may be that of the certificate's authority")
	errUnlistable = errors.New("no revocation list can hold its serial number")
	errUncovered  = errors.New("there is no revocation list of the certificate's authority for it; name that, or the authority in revocation.exempt")
)

// Check returns nil when no certificate of a way is known to be revoked, and all that is to
// be known is. It costs a look-up for each certificate of the way in each source, whatever
// the length of the lists.
func (r *Checker) Check(way []Certificate, now time.Time) error {
	var unknown error
	for i := range way {
		if err := r.status(&way[i], now); err != nil {
			if access.ReasonOf(err) == access.RevokedCertificate {
				return err
			}
			unknown = err
		}
	}
	if r.accept {
		return nil
	}
	return unknown
}

// status returns what the lists say of one certificate.
func (r *Checker) status(l *Certificate, now time.Time) error {
	var stale *list
	covered, unread := false, false
	for _, s := range r.sources {
		x := s.current.Load()
		if x == nil {
			unread = true
			continue
		}
		for _, one := range x.by[l.by] {
			if _, revoked := one.revoked[l.number]; revoked && l.listable {
				return &access.Denial{Reason: access.RevokedCertificate, Err: fmt.Errorf("serial number %x is on the list of %s of %s", l.number, one.issuer, one.issued.UTC().Format(time.RFC3339))}
			}
			switch {
			case !one.inScope(l):
			case now.After(one.next):
				stale = one
			default:
				covered = true
			}
		}
	}
	switch {
	case covered && !l.listable:
		return unknown(errUnlistable)
	case covered:
		return nil
	case stale != nil:
		return unknown(fmt.Errorf("the list of %s was to be updated by %s", stale.issuer, stale.next.UTC().Format(time.RFC3339)))
	case r.exempt[l.by]:
		return nil
	case unread:
		return unknown(errUnread)
	}
	return unknown(errUncovered)
}

func unknown(err error) error { return &access.Denial{Reason: access.RevocationUnknown, Err: err} }

// Options are what [Load] needs beside its settings.
type Options struct {
	Previous *Checker // the Checker before a reload; nil at the start
	Log      *slog.Logger
	Metrics  *Metrics
}

// Load reads the lists in the files that settings name; those at a URL are left
// for run. authorities are the anchors. Of previous, which may be nil, lists are taken over
// that have not changed and whose signer still counts. It returns nil when no list is named.
func Load(settings *config.Revocation, authorities []*x509.Certificate, options Options) (*Checker, error) {
	if len(settings.Lists) == 0 {
		return nil, nil
	}
	r := &Checker{
		accept: settings.WhenStale == config.AcceptStale, refresh: settings.Refresh, authorities: slices.Clone(authorities),
		log: options.Log, metrics: options.Metrics,
	}
	var faults []error
	for _, file := range settings.Authorities {
		more, err := readAuthorities(file)
		faults = append(faults, err)
		r.authorities = append(r.authorities, more...)
	}
	r.exempt = make(map[signer]bool)
	for _, file := range settings.Exempt {
		spared, err := readAuthorities(file)
		faults = append(faults, err)
		for _, a := range spared {
			r.exempt[signerOf(a)] = true
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, place := range settings.Lists {
		s := options.Previous.source(place)
		if place.URL == nil {
			s, err := r.readFile(place, s)
			faults = append(faults, err)
			r.sources = append(r.sources, s)
			continue
		}
		if s == nil || !r.canReuse(s) && !r.accept { // see readFile
			s = &source{RevocationList: place}
			r.added = append(r.added, s)
		}
		r.sources = append(r.sources, s)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return r, nil
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

// source returns the source of that place, nil for none.
func (r *Checker) source(place config.RevocationList) *source {
	if r == nil {
		return nil
	}
	i := slices.IndexFunc(r.sources, func(s *source) bool { return reflect.DeepEqual(s.RevocationList, place) })
	if i < 0 {
		return nil
	}
	return r.sources[i]
}

// known returns the lists of s, which may be nil.
func (s *source) known() []*list {
	if s == nil {
		return nil
	}
	if x := s.current.Load(); x != nil {
		return x.lists
	}
	return nil
}

// canReuse reports whether what was read from the URL of s, nil for none, counts for r
// too: the authorities that signed it are still there. Otherwise another's list is to be
// read, and until then nothing is known of his certificates.
func (r *Checker) canReuse(s *source) bool {
	return s != nil && !slices.ContainsFunc(s.known(), func(l *list) bool { return !r.knows(l.signer) })
}

func (r *Checker) knows(by signer) bool {
	return slices.ContainsFunc(r.authorities, func(a *x509.Certificate) bool { return signerOf(a) == by })
}

// readFile reads the lists in a file. before is the source of the same file in the previous
// configuration, nil for none: its lists stay in force when the file cannot be used, so that
// an authority that publishes nonsense does not disable the revocations of others.
func (r *Checker) readFile(place config.RevocationList, before *source) (*source, error) {
	s := &source{RevocationList: place}
	lists, err := r.readLists(place.File, before.known())
	lists, err = r.dropForeign(s, lists, before, err)
	if err == nil {
		err = rejectRollback(lists, before.known())
	}
	r.metrics.read(s, err)
	switch {
	case err == nil:
		s.current.Store(indexOf(lists))
		return s, nil
	case before.known() != nil && r.canReuse(before):
		r.log.Error("revocation list not read, the one before goes on", "list", s.String(), "err", err)
		return before, nil
	}
	return s, fmt.Errorf("reading revocation list %q: %w", place.File, err)
}

// dropForeign decides about lists whose issuer is no authority of the configuration, which err
// then wraps as errForeign. They may be those of a partner who has been removed while the
// place still holds them, so they are left out with a warning. before is the source until
// now, nil for none.
//
//   - A place all of whose issuers were known and still are is not to lose their lists to a
//     foreign one: the error stays.
//   - Certificates of a left-out list have no status, and are refused. With when_stale:
//     accept they would be accepted. The error stays then at a start, and later the lists in
//     force whose authority is gone stay in force.
func (r *Checker) dropForeign(s *source, lists []*list, before *source, err error) ([]*list, error) {
	known := before.known()
	switch {
	case !errors.Is(err, errForeign):
		return lists, err
	case known != nil && r.canReuse(before), known == nil && r.accept:
		return nil, err
	}
	r.log.Warn("revocation list left out", "list", s.String(), "err", err)
	for _, l := range known {
		if r.accept && !r.knows(l.signer) {
			lists = append(lists, l)
		}
	}
	return lists, nil
}

func (r *Checker) readLists(file config.Path, known []*list) ([]*list, error) {
	data, err := readListFile(file)
	if err != nil {
		return nil, err
	}
	return r.parse(data, known)
}

// maxLists bounds the lists of one place. Each costs a look-up for each certificate of each
// request, and anybody who can answer for a URL can say one again and again.
const maxLists = 256

var errManyLists = fmt.Errorf("it holds more than %d lists", maxLists)

// parse returns the lists in data, which have maxEntries entries at most together. Lists among known are not verified again if the
// authorities that signed them are still there. An error that wraps errForeign comes with
// the lists of the other issuers; any other error comes without lists.
func (r *Checker) parse(data []byte, known []*list) (lists []*list, foreign error) {
	ders, err := splitPEM(data)
	if err != nil {
		return nil, err
	}
	room := maxEntries
	for _, der := range ders {
		sum := sha256.Sum256(der)
		if k := slices.IndexFunc(known, func(l *list) bool { return l.sum == sum }); k >= 0 && r.knows(known[k].signer) {
			lists = append(lists, known[k])
			room -= len(known[k].revoked)
			continue
		}
		l, err := parseList(der, r.authorities, room)
		switch {
		case errors.Is(err, errForeign):
			foreign = errors.Join(foreign, err)
		case err != nil:
			return nil, err
		default:
			lists = append(lists, l)
			room -= len(l.revoked)
		}
	}
	return lists, foreign
}

// rejectRollback returns an error if one of lists is older than that of the same signer, about the
// same certificates, in before. Whoever can answer in the publisher's place, or whatever
// fetches a file for us, could otherwise take a revocation back with a list of yesterday. A
// list that is gone leaves its certificates uncovered.
func rejectRollback(lists, before []*list) error {
	for _, old := range before {
		for _, l := range lists {
			same := l.signer == old.signer && l.users == old.users && l.authority == old.authority && slices.Equal(l.points, old.points)
			if same && (l.issued.Before(old.issued) || old.number != nil && (l.number == nil || l.number.Cmp(old.number) < 0)) {
				return fmt.Errorf("its list of %s is older than that in force", old.issuer)
			}
		}
	}
	return nil
}

// Equal reports whether r says what other does, and goes on to.
func (r *Checker) Equal(other *Checker) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.accept == other.accept && r.refresh == other.refresh &&
		slices.EqualFunc(r.authorities, other.authorities, (*x509.Certificate).Equal) && maps.Equal(r.exempt, other.exempt) &&
		slices.EqualFunc(r.sources, other.sources, func(a, b *source) bool {
			return reflect.DeepEqual(a.RevocationList, b.RevocationList) && slices.Equal(a.known(), b.known())
		})
}
