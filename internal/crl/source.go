package crl

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tallygate/tallygate/config"
)

// A source is a configured file or URL with its lists. After a reload, the new Checker shares the
// sources at URLs with the previous Checker, so each Checker uses the lists that the other Checker
// fetches.
type source struct {
	config.RevocationList
	current atomic.Pointer[index] // nil until lists have been read once

	mu       sync.Mutex
	etag     string
	tried    time.Time // the end of the last fetch, successful or not
	failures int       // failed fetches in a row
}

// An index has the lists of a source at one time. It is immutable.
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

// lists returns the current lists of s, which may be nil.
func (s *source) lists() []*list {
	if s == nil {
		return nil
	}
	if x := s.current.Load(); x != nil {
		return x.lists
	}
	return nil
}

// untried reports whether s is at a URL from which no fetch has been tried yet.
func (s *source) untried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.URL != nil && s.tried.IsZero()
}

// source returns the source with this setting; nil if c is nil or has no such source.
func (c *Checker) source(setting config.RevocationList) *source {
	if c == nil {
		return nil
	}
	i := slices.IndexFunc(c.sources, func(s *source) bool { return reflect.DeepEqual(s.RevocationList, setting) })
	if i < 0 {
		return nil
	}
	return c.sources[i]
}

// canReuse reports whether c may use s, which is a source of the previous Checker or nil. All signers
// of the lists of s must still be authorities. If c cannot reuse s, c fetches the lists from the URL
// again, and until then the status of the authority's certificates is unknown.
func (c *Checker) canReuse(s *source) bool {
	return s != nil && !slices.ContainsFunc(s.lists(), func(l *list) bool { return !c.isAuthority(l.signer) })
}

// readFile reads the lists in a file. previous is the source of the same file before a reload, or nil.
// If the file cannot be used, the lists of previous stay in force, so that a broken list of one
// authority does not keep a reload from loading the lists of other authorities.
func (c *Checker) readFile(setting config.RevocationList, previous *source) (*source, error) {
	s := &source{RevocationList: setting}
	lists, err := c.parseFile(setting.File, previous.lists())
	lists, err = c.dropForeign(s, lists, previous, err)
	if err == nil {
		err = rejectRollback(lists, previous.lists())
	}
	c.metrics.countFetch(s, err)
	switch {
	case err == nil:
		s.current.Store(indexOf(lists))
		return s, nil
	case previous.lists() != nil && c.canReuse(previous):
		c.log.Error("revocation list not read, the previous list stays in force", "list", s.String(), "error", err)
		return previous, nil
	}
	return s, fmt.Errorf("reading revocation list %q: %w", setting.File, err)
}

func (c *Checker) parseFile(file config.Path, known []*list) ([]*list, error) {
	data, err := readListFile(file)
	if err != nil {
		return nil, err
	}
	return c.parse(data, known)
}

// parse returns the lists in data, which may have maxEntries entries in total. A list that is also in
// known is not verified again if its signer is still an authority. If the error wraps errForeign, parse
// also returns the lists of the other signers. With any other error it returns no lists.
func (c *Checker) parse(data []byte, known []*list) (lists []*list, foreign error) {
	ders, err := splitPEM(data)
	if err != nil {
		return nil, err
	}
	remaining := maxEntries
	for _, der := range ders {
		sum := sha256.Sum256(der)
		if k := slices.IndexFunc(known, func(l *list) bool { return l.sum == sum }); k >= 0 && c.isAuthority(known[k].signer) {
			lists = append(lists, known[k])
			remaining -= len(known[k].revoked)
			continue
		}
		l, err := parseList(der, c.authorities, remaining)
		switch {
		case errors.Is(err, errForeign):
			foreign = errors.Join(foreign, err)
		case err != nil:
			return nil, err
		default:
			lists = append(lists, l)
			remaining -= len(l.revoked)
		}
	}
	return lists, foreign
}

// dropForeign handles an error that wraps errForeign, which means that the signer of a list is no
// authority of the configuration. This happens after a partner has been removed while a file or URL
// still has the list of the partner's authority. dropForeign ignores such lists with a warning and
// returns the other lists. previous has the lists in force until now, and may be nil.
//
// dropForeign returns the error in two cases:
//
//   - The signers of all previous lists are still authorities: a foreign list must not replace them.
//   - There are no previous lists and when_stale is accept: the gate would accept the certificates of
//     the signer, whose status is unknown. Without when_stale: accept it refuses them.
//
// With when_stale: accept, the previous lists of signers that are no longer authorities stay in force.
func (c *Checker) dropForeign(s *source, lists []*list, previous *source, err error) ([]*list, error) {
	known := previous.lists()
	switch {
	case !errors.Is(err, errForeign):
		return lists, err
	case known != nil && c.canReuse(previous), known == nil && c.acceptUnknown:
		return nil, err
	}
	c.log.Warn("revocation list ignored", "list", s.String(), "error", err)
	for _, l := range known {
		if c.acceptUnknown && !c.isAuthority(l.signer) {
			lists = append(lists, l)
		}
	}
	return lists, nil
}

// rejectRollback returns an error if any of lists is older than a list of the same signer and scope in
// previous. Without this check, an attacker on the network or a stale download could undo a revocation
// with an old list. rejectRollback ignores a list of previous that is missing in lists: the status of
// its certificates becomes unknown.
func rejectRollback(lists, previous []*list) error {
	for _, old := range previous {
		for _, l := range lists {
			same := l.signer == old.signer && l.users == old.users && l.authority == old.authority && slices.Equal(l.points, old.points)
			if same && (l.issued.Before(old.issued) || old.number != nil && (l.number == nil || l.number.Cmp(old.number) < 0)) {
				return fmt.Errorf("the list of %s is older than the list in force", old.issuer)
			}
		}
	}
	return nil
}
