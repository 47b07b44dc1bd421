package revocation

import (
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"github.com/tallygate/tallygate/access"
)

// MaxEntries bounds the entries of each kind in a [Set]: 2^21 are twice a million.
const MaxEntries = 1 << 21

// ErrFull means that a Set has no room for an entry. The set is then incomplete, and a gate that decides by it must refuse.
var ErrFull = errors.New("the limit of held revocations is reached")

// A Set has the revocations that a process knows. It only grows: an entry is never replaced by a weaker entry, and only [Set.Sweep] removes
// entries, after their Until. So the order in which entries are added does not matter, and an entry may be added
// twice. A Set is safe for concurrent use.
type Set struct {
	tokens        *table[[sha256.Size]byte] // until
	foreignTokens *table[[sha256.Size]byte] // until
	certificates  *table[access.Thumbprint] // never
	applications  *table[string]            // issued by
	partners      *table[string]            // issued by
	subjects      *table[foreignSubject]    // issued by
	limit         int64                     // bounds the entries of each kind
}

type foreignSubject struct{ iss, sub string }

// NewSet returns an empty set for MaxEntries entries of each kind.
func NewSet() *Set { return NewSetFor(MaxEntries) }

// NewSetFor returns an empty set for limit entries of each kind.
func NewSetFor(limit int) *Set {
	return &Set{
		limit:  int64(limit),
		tokens: newTable(sumPart[[sha256.Size]byte]), foreignTokens: newTable(sumPart[[sha256.Size]byte]),
		certificates: newTable(sumPart[access.Thumbprint]), applications: newTable(textPart),
		partners: newTable(textPart), subjects: newTable(subjectPart),
	}
}

// Add puts e into effect. The error is [ErrFull], or an error of [Entry.Check]. An entry of a subject that the set
// has already merges with it: the later IssuedBy and the later Until are kept.
func (s *Set) Add(e Entry) error {
	if err := e.Check(); err != nil {
		return err
	}
	until := int64(never)
	if !e.Until.IsZero() {
		until = e.Until.Unix()
	}
	added := false
	switch e.Kind {
	case Token:
		added = s.tokens.raise([sha256.Size]byte([]byte(e.Subject)), until, s.limit)
	case ForeignToken:
		added = s.foreignTokens.raise([sha256.Size]byte([]byte(e.Subject)), until, s.limit)
	case Certificate:
		thumbprint, _ := access.ParseThumbprint(e.Subject) // Check has parsed it
		added = s.certificates.raise(thumbprint, never, s.limit)
	case Application:
		added = s.applications.raise(e.Subject, e.IssuedBy.Unix(), s.limit)
	case Partner:
		added = s.partners.raise(e.Subject, e.IssuedBy.Unix(), s.limit)
	case ForeignSubject:
		iss, sub, _ := strings.Cut(e.Subject, "\x00")
		added = s.subjects.raise(foreignSubject{iss, sub}, e.IssuedBy.Unix(), s.limit)
	}
	if !added {
		return ErrFull
	}
	return nil
}

// Certificate reports whether the certificate with thumbprint t is revoked.
func (s *Set) Certificate(t access.Thumbprint) bool {
	_, ok := s.certificates.get(t)
	return ok
}

// Token reports whether the token of our own issuer whose jti has this SHA-256 is revoked.
func (s *Set) Token(sum [sha256.Size]byte) bool {
	_, ok := s.tokens.get(sum)
	return ok
}

// Has reports whether s has an entry for the subject of e, which may revoke less than e.
func (s *Set) Has(e *Entry) (ok bool) {
	switch e.Kind {
	case Token, ForeignToken:
		if len(e.Subject) != sha256.Size {
			return false
		}
		sums := s.tokens
		if e.Kind == ForeignToken {
			sums = s.foreignTokens
		}
		_, ok = sums.get([sha256.Size]byte([]byte(e.Subject)))
	case Certificate:
		thumbprint, err := access.ParseThumbprint(e.Subject)
		return err == nil && s.Certificate(thumbprint)
	case Application:
		_, ok = s.applications.get(e.Subject)
	case Partner:
		_, ok = s.partners.get(e.Subject)
	case ForeignSubject:
		iss, sub, _ := strings.Cut(e.Subject, "\x00")
		_, ok = s.subjects.get(foreignSubject{iss, sub})
	}
	return ok
}

// Sweep removes the revocations of tokens whose Until is before now, and the revocations of foreign subjects whose IssuedBy
// is more than [ForeignRetention] before now. The revocation of an application, partner or certificate is never removed.
func (s *Set) Sweep(now time.Time) {
	s.tokens.sweep(now.Unix())
	s.foreignTokens.sweep(now.Unix())
	s.subjects.sweep(now.Add(-ForeignRetention).Unix())
}

// Len returns the number of entries of a kind.
func (s *Set) Len(kind Kind) int {
	switch kind {
	case Token:
		return int(s.tokens.size.Load())
	case ForeignToken:
		return int(s.foreignTokens.size.Load())
	case Certificate:
		return int(s.certificates.size.Load())
	case Application:
		return int(s.applications.size.Load())
	case Partner:
		return int(s.partners.size.Load())
	case ForeignSubject:
		return int(s.subjects.size.Load())
	}
	return 0
}

// Each calls yield with every entry until yield returns false. Entries that are added during the call may be missing.
func (s *Set) Each(yield func(Entry) bool) {
	until := func(kind Kind, sum [sha256.Size]byte, end int64) bool {
		e := Entry{Kind: kind, Subject: string(sum[:])}
		if end != never {
			e.Until = time.Unix(end, 0)
		}
		return yield(e)
	}
	issuedBy := func(kind Kind, subject string, last int64) bool {
		return yield(Entry{Kind: kind, Subject: subject, IssuedBy: time.Unix(last, 0)})
	}
	_ = s.tokens.each(func(sum [sha256.Size]byte, end int64) bool { return until(Token, sum, end) }) &&
		s.foreignTokens.each(func(sum [sha256.Size]byte, end int64) bool { return until(ForeignToken, sum, end) }) &&
		s.certificates.each(func(t access.Thumbprint, _ int64) bool {
			return yield(Entry{Kind: Certificate, Subject: t.String()})
		}) &&
		s.applications.each(func(id string, last int64) bool { return issuedBy(Application, id, last) }) &&
		s.partners.each(func(name string, last int64) bool { return issuedBy(Partner, name, last) }) &&
		s.subjects.each(func(f foreignSubject, last int64) bool {
			return issuedBy(ForeignSubject, ForeignSubjectName(f.iss, f.sub), last)
		})
}
